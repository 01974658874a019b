// Reads a data directory into the stores of a server that starts. Main thread, before the loops run.

import Glibc
import KVBase
import KVCore
import KVRuntime
import Logging

/// What a start found.
struct Recovered {
    var state: RecoveredState
    /// Bytes of the files that were read.
    var bytes: Int
    var logBytes: Int
    var entries: Int
    var nanos: Nanos
}

enum Recoverer {
    /// Nil in a new directory. Damage is told and, unless `repairs` or other servers are known that have what is
    /// missing, refused.
    static func run(
        _ directory: DataDirectory, into stores: [Store], repairs: Bool, log: Logger
    ) throws(StartFailure) -> Recovered? {
        guard let manifest = directory.manifest else { return nil }
        let began = Machine.monotonicNanos
        let recovery = Recovery(stores: stores, now: Machine.wallMillis)
        var (bytes, logBytes) = (0, 0)
        var damages: [StartFailure] = []
        if let snapshot = manifest.snapshot {
            let name = DataDirectory.snapshotName(snapshot.number)
            bytes += try read(name, directory) { file throws(DiskFault) in try recovery.readSnapshot(file.bytes) }
        }
        for life in manifest.lives {
            for actor in 0..<life.actors where life.firstLogs[actor] > 0 {
                logBytes += try readLog(
                    life.server, actor, from: life.firstLogs[actor], recovery, directory, repairs: repairs, &damages,
                    log)
            }
        }
        var state = recovery.finish(lineage: manifest.lives.map(\.server))
        for life in manifest.lives where !state.rows.contains(where: { $0.server == life.server }) {
            state.rows.append(
                MemberRow(server: life.server, status: .forgotten, actorCount: life.actors, address: ""))
        }
        let hasOthers = state.rows.contains { $0.status.isMember }
        if let first = damages.first, !repairs, !hasOthers {
            throw StartFailure(description: first.description + "; --repair starts with what is intact")
        }
        for damage in damages {
            log.error("\(damage); started with what is intact\(hasOthers ? ", other servers have the rest" : "")")
        }
        let nanos = Machine.monotonicNanos - began
        return Recovered(
            state: state, bytes: bytes + logBytes, logBytes: logBytes, entries: recovery.entryCount, nanos: nanos)
    }

    private static func failure(_ directory: DataDirectory, _ name: String, _ reason: String) -> StartFailure {
        StartFailure(description: "\(directory.path)/\(name): \(reason)")
    }

    private static func read(
        _ name: String, _ directory: DataDirectory, _ body: (ReadFile) throws(DiskFault) -> Void
    ) throws(StartFailure) -> Int {
        let file: ReadFile
        do throws(DiskError) { file = try ReadFile(name, in: directory.descriptor) } catch {
            throw failure(directory, name, error.description)
        }
        do throws(DiskFault) { try body(file) } catch { throw failure(directory, name, error.description) }
        return file.bytes.count
    }

    private static func readLog(
        _ server: UInt64, _ actor: Int, from first: UInt64, _ recovery: Recovery, _ directory: DataDirectory,
        repairs: Bool, _ damages: inout [StartFailure], _ log: Logger
    ) throws(StartFailure) -> Int {
        let names = directory.logs().filter { $0.server == server && $0.actor == actor && $0.number >= first }
        guard names.first?.number == first || repairs else {
            throw failure(
                directory, DataDirectory.logName(server, actor, first),
                "it is missing; --repair starts with what is left")
        }
        var files: [ReadFile] = []
        var parts: [LogFileBytes] = []
        for name in names {
            do throws(DiskError) {
                let file = try ReadFile(name.name, in: directory.descriptor)
                // Read from the page cache perhaps: what is claimed from now on must be on the disk.
                try file.sync()
                files.append(file)
            } catch { throw failure(directory, name.name, error.description) }
            do throws(DiskFault) {
                let bytes = files.last!.bytes
                parts.append(LogFileBytes(header: try DiskHeader(reading: bytes), bytes: bytes))
            } catch {
                guard repairs, error == .header else { throw failure(directory, name.name, error.description) }
                log.error("\(directory.path)/\(name.name): \(error.description); left out")
            }
        }
        let findings: [LogFinding]
        do throws(DiskFault) { findings = try recovery.readLog(parts) } catch {
            throw failure(directory, DataDirectory.logName(server, actor, first), error.description)
        }
        for finding in findings {
            func name(_ file: UInt64) -> String { DataDirectory.logName(server, actor, file) }
            switch finding {
            case .torn(let file, let at):
                log.notice("\(name(file)): its end, from \(at) on, was not written whole; nobody was told of it")
            case .unwritten(let file, let at):
                log.warning(
                    "\(name(file)): bytes are missing at \(at) that the machine had not written when it stopped")
            case .damaged(let file, let at):
                damages.append(failure(directory, name(file), "damaged at offset \(at)"))
            }
        }
        return files.reduce(0) { $0 + $1.bytes.count }
    }
}
