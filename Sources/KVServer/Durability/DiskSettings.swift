// What is kept on disk, and when it must be there. Values, any thread.

import KVBase

/// When a write that was answered is on the disk, whatever happens to the machine. In the log it is at once.
package enum AppendPolicy: String, Sendable, CaseIterable {
    /// Before it is answered.
    case always
    /// Within a second.
    case everysec
    /// When the kernel likes.
    case no
}

package struct DiskSettings: Sendable {
    /// Nil: memory only.
    package var directory: String?
    package var policy = AppendPolicy.everysec
    /// A snapshot is made when logs have grown by so much since the last; nil: by as much as that takes, and 64 MiB.
    package var saveAfterBytes: Int?
    /// Starts with what is intact of a damaged directory.
    package var repairs = false

    package init() {}

    /// The least growth after which a snapshot is made by itself.
    static let saveAfterBytesMin = 64 * 1024 * 1024
}
