// --restore: a directory is made of a backup before the server starts from it. Main thread.

import KVFiles
import KVRuntime
import Logging

enum Restorer {
    /// Once: a server that starts again with the same flags goes on with what it has.
    static func run(_ config: Config, _ log: Logger) throws(StartFailure) {
        guard let backup = config.disk.restores, let mode = config.disk.restoreMode,
            let folder = config.disk.directory
        else { return }
        do throws(FileFault) {
            if try DataRestore.isDone(backup, into: folder, mode) {
                return log.notice("--restore was done before: \(folder) has gone on since")
            }
            let made = try DataRestore(
                backup, into: folder, mode, cluster: config.cluster, nowMillis: Machine.wallMillis,
                random: { Machine.random() })
            log.notice("\(folder) was made of \(backup), \(made.bytes) bytes, --mode \(mode.rawValue)")
        } catch { throw StartFailure(description: "--restore \(backup): \(error)") }
    }
}
