// The version of everything in this package: the library's, and what every program prints for --version. Any thread.

package enum ProductVersion {
    package static let text = "0.2.0"
}
