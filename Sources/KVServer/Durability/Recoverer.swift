// Reads a data directory into the stores of a server that starts. Main thread, before the loops know the stores.

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
        let crew = RecoveryThreads(stores: stores.count)
        defer { crew?.finish() }
        do throws(DirectoryFault) {
            found = try DirectoryRecovery.run(
                manifest, FilesReader(directory: directory, progress: progress), into: stores,
                now: Machine.wallMillis, repairs: repairs, crew: crew)
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

private final class FilesReader: DirectoryReader {
    private let directory: DataDirectory
    private let progress: LoadingProgress
    /// What the disk has begun with.
    private var syncing: [SyncUnderWay] = []
    private static let syncingMax = 64

    init(directory: DataDirectory, progress: LoadingProgress) {
        (self.directory, self.progress) = (directory, progress)
    }

    func noteMerged(_ bytes: Int) { progress.note(bytes) }

    func names() -> [String] { directory.names() }

    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes {
        do throws(DiskError) {
            let file = try ReadFile(name, in: directory.descriptor)
            if syncs { syncing.append(try file.beginSync()) }
            if syncing.count == FilesReader.syncingMax { try finishSyncs() }
            return file
        } catch {
            if error.code == ENOENT { throw .missing(name) }
            throw DirectoryFault(name, error.description)
        }
    }

    func settle() throws(DirectoryFault) {
        do throws(DiskError) { try finishSyncs() } catch { throw DirectoryFault(directory.path, error.description) }
    }

    private func finishSyncs() throws(DiskError) {
        for file in syncing { try file.finish() }
        syncing = []
    }
}

extension ReadFile: DirectoryBytes {}
