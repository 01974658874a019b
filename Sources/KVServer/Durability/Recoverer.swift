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
    /// Names of files of which something is missing.
    var damaged: [String] = []
}

/// Something is missing that was on the disk.
private struct Damage {
    var file: String
    var failure: StartFailure
}

enum Recoverer {
    /// Damage is told and, unless `repairs` or other servers are known that have what is
    /// missing, refused.
    static func run(
        _ directory: DataDirectory, _ manifest: Manifest, into stores: [Store], repairs: Bool, log: Logger
    ) throws(StartFailure) -> Recovered {
        let began = Machine.monotonicNanos
        let recovery = Recovery(stores: stores, now: Machine.wallMillis)
        var (bytes, logBytes) = (0, 0)
        var damages: [Damage] = []
        if let snapshot = manifest.snapshot {
            bytes += try readSnapshot(DataDirectory.snapshotName(snapshot.number), directory, recovery, &damages)
        }
        for life in manifest.lives {
            for actor in 0..<life.actors where life.firstLogs[actor] > 0 {
                logBytes += try readLog(
                    life.server, actor, from: life.firstLogs[actor], recovery, directory, &damages, log)
            }
        }
        var state = recovery.finish(lineage: manifest.lives.map(\.server))
        for life in manifest.lives where !state.rows.contains(where: { $0.server == life.server }) {
            state.rows.append(
                MemberRow(server: life.server, status: .forgotten, actorCount: life.actors, address: ""))
        }
        let hasOthers = state.rows.contains { $0.status.isMember }
        if let first = damages.first, !repairs, !hasOthers {
            throw StartFailure(description: first.failure.description + "; --repair starts with what is intact")
        }
        for damage in damages {
            let rest = hasOthers ? "; what is missing is fetched from the other servers" : ""
            log.error("\(damage.failure.description); it is set aside, the start goes on with what is intact\(rest)")
        }
        let nanos = Machine.monotonicNanos - began
        return Recovered(
            state: state, bytes: bytes + logBytes, logBytes: logBytes, entries: recovery.entryCount, nanos: nanos,
            damaged: Set(damages.map(\.file)).sorted())
    }

    private static func failure(_ directory: DataDirectory, _ name: String, _ reason: String) -> StartFailure {
        StartFailure(description: "\(directory.path)/\(name): \(reason)")
    }

    /// What is intact of a damaged one counts as entries, and proves nothing.
    private static func readSnapshot(
        _ name: String, _ directory: DataDirectory, _ recovery: Recovery, _ damages: inout [Damage]
    ) throws(StartFailure) -> Int {
        let file: ReadFile
        do throws(DiskError) { file = try ReadFile(name, in: directory.descriptor) } catch {
            guard error.code == ENOENT else { throw failure(directory, name, error.description) }
            damages.append(Damage(file: name, failure: failure(directory, name, "it is missing")))
            return 0
        }
        do throws(DiskFault) { try recovery.readSnapshot(file.bytes) } catch {
            if case .newer = error { throw failure(directory, name, error.description) }
            damages.append(Damage(file: name, failure: failure(directory, name, error.description)))
        }
        return file.bytes.count
    }

    private static func readLog(
        _ server: UInt64, _ actor: Int, from first: UInt64, _ recovery: Recovery, _ directory: DataDirectory,
        _ damages: inout [Damage], _ log: Logger
    ) throws(StartFailure) -> Int {
        let names = directory.logs().filter { $0.server == server && $0.actor == actor && $0.number >= first }
        var isWhole = true
        if names.first?.number != first {
            let name = DataDirectory.logName(server, actor, first)
            damages.append(Damage(file: name, failure: failure(directory, name, "it is missing")))
            isWhole = false
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
                guard error == .header else { throw failure(directory, name.name, error.description) }
                damages.append(Damage(file: name.name, failure: failure(directory, name.name, error.description)))
            }
        }
        let findings: [LogFinding]
        do throws(DiskFault) { findings = try recovery.readLog(parts, isWhole: isWhole) } catch {
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
                damages.append(
                    Damage(file: name(file), failure: failure(directory, name(file), "damaged at offset \(at)")))
            }
        }
        return files.reduce(0) { $0 + $1.bytes.count }
    }
}
