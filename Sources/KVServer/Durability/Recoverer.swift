// Reads a data directory into the stores of a server that starts. Main thread, before the loops run.

import KVBase
import KVCore
import KVRuntime
import Logging

/// What a start found.
struct Recovered {
    var found: DirectoryState
    var nanos: Nanos

    var state: RecoveredState { found.state }
    var bytes: Int { found.bytes }
    var logBytes: Int { found.logBytes }
    var entries: Int { found.entries }
}

enum Recoverer {
    /// Nil in a new directory. Damage is told and, unless `repairs` or other servers are known that have what is
    /// missing, refused.
    static func run(
        _ directory: DataDirectory, into stores: [Store], repairs: Bool, log: Logger
    ) throws(StartFailure) -> Recovered? {
        guard let manifest = directory.manifest else { return nil }
        let began = Machine.monotonicNanos
        let found: DirectoryState
        do throws(DirectoryFault) {
            found = try DirectoryRecovery.run(
                manifest, FilesReader(directory: directory), into: stores, now: Machine.wallMillis, repairs: repairs)
        } catch {
            throw StartFailure(description: "\(directory.path)/\(error)")
        }
        for remark in found.remarks { log.notice("\(remark)") }
        for damage in found.damages {
            let rest = found.knowsOthers ? ", other servers have the rest" : ""
            log.error("\(directory.path)/\(damage); started with what is intact\(rest)")
        }
        return Recovered(found: found, nanos: Machine.monotonicNanos - began)
    }
}

private struct FilesReader: DirectoryReader {
    let directory: DataDirectory

    func names() -> [String] { directory.names() }

    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes {
        do throws(DiskError) {
            let file = try ReadFile(name, in: directory.descriptor)
            if syncs { try file.sync() }
            return file
        } catch { throw DirectoryFault(name, error.description, isDamage: false) }
    }
}

extension ReadFile: DirectoryBytes {}
