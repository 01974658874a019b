// What is kept on disk, and when it must be there. Values, any thread.

import KVBase
package import KVCore
package import KVFiles

package struct DiskSettings: Sendable {
    /// Nil: memory only.
    package var directory: String?
    package var policy = AppendPolicy.everysec
    /// A snapshot is made when logs have grown by so much since the last; nil: by as much as that takes, and 64 MiB.
    package var saveAfterBytes: Int?
    /// Starts with what is intact of a damaged directory.
    package var repairs = false
    /// A backup that a new directory begins with, and how.
    package var restores: String?
    package var restoreMode: RestoreMode?

    package init() {}

    func check() throws(ConfigError) {
        guard restores != nil || restoreMode != nil else { return }
        guard restores != nil else { throw ConfigError("--mode goes with --restore FILE") }
        guard restoreMode != nil else {
            throw ConfigError("--restore needs --mode rejoin, import or new-epoch; kvd --help says what they are")
        }
        guard directory != nil else { throw ConfigError("--restore needs --dir DIR, a new or an empty directory") }
    }

    /// The least growth after which a snapshot is made by itself.
    static let saveAfterBytesMin = 64 * 1024 * 1024
}
