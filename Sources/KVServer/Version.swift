// What this program calls itself. Values; any thread.

package enum ServerVersion {
    package static let kvd = "0.1.0"
    /// The Redis whose replies and error texts are followed.
    package static let redis = "7.0.15"
}
