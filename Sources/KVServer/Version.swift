// What this program calls itself. Values; any thread.

import KVBase

package enum ServerVersion {
    package static let kvd = ProductVersion.text
    /// The Redis whose replies and error texts are followed.
    package static let redis = "7.0.15"
}
