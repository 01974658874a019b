// Reads a data directory into the stores of a server that starts. Main thread, before the loops run.

import Glibc
import KVBase
import KVCore
import KVRuntime
import Logging

/// What a start found.
struct Recovered {
    var found: DirectoryState
    var nanos: Nanos

    var state: RecoveredState {
        get { found.state }
        set { found.state = newValue }
    }
    var bytes: Int { found.bytes }
    var logBytes: Int { found.logBytes }
    var entries: Int { found.entries }
    /// Names of files of which something is missing.
    var damaged: [String] { Set(found.damages.map(\.file)).sorted() }
}

enum Recoverer {
    /// Damage is told and, unless `repairs` or other servers are known that have what is missing, refused.
    static func run(
        _ directory: DataDirectory, _ manifest: Manifest, into stores: [Store], repairs: Bool,
        progress: LoadingProgress, log: Logger
    ) throws(StartFailure) -> Recovered {
        let began = Machine.monotonicNanos
        let names = directory.names()
        progress.begin(
            total: Int(manifest.snapshot?.bytes ?? 0) + directory.bytes(of: manifest.neededLogs(among: names)))
        let found: DirectoryState
        do throws(DirectoryFault) {
            found = try DirectoryRecovery.run(
                manifest, FilesReader(directory: directory, progress: progress), into: stores,
                now: Machine.wallMillis, repairs: repairs)
        } catch {
            throw StartFailure(description: "\(directory.path)/\(error)")
        }
        for text in found.torn { log.notice("\(text)") }
        for text in found.unwritten { log.warning("\(text)") }
        for damage in found.damages {
            let rest = found.knowsOthers ? "; what is missing is fetched from the other servers" : ""
            log.error(
                "\(directory.path)/\(damage); it is set aside, the start goes on with what is intact\(rest)")
        }
        return Recovered(found: found, nanos: Machine.monotonicNanos - began)
    }
}

private struct FilesReader: DirectoryReader {
    let directory: DataDirectory
    let progress: LoadingProgress

    func noteMerged(_ bytes: Int) { progress.note(bytes) }

    func names() -> [String] { directory.names() }

    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes {
        do throws(DiskError) {
            let file = try ReadFile(name, in: directory.descriptor)
            if syncs { try file.sync() }
            return file
        } catch {
            if error.code == ENOENT { throw .missing(name) }
            throw DirectoryFault(name, error.description)
        }
    }
}

extension ReadFile: DirectoryBytes {}
