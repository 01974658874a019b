// The way back from the files that a manifest names: which are read, in what order, and what is refused. Pure but for
// `DirectoryReader`. One thread.

package import KVBase

/// A file's bytes, for as long as the value lives.
package protocol DirectoryBytes: AnyObject {
    var bytes: UnsafeRawBufferPointer { get }
}

package protocol DirectoryReader {
    /// All names in the directory.
    func names() -> [String]
    /// A whole file; `syncs`: on the disk from now on, for it may have been in the page cache only.
    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes
}

/// Why a directory is not started with: a file of it, and what is wrong.
package struct DirectoryFault: Error, Equatable, CustomStringConvertible {
    package var file: String
    package var reason: String
    /// The bytes are wrong; else the system does not give them.
    package var isDamage: Bool

    package init(_ file: String, _ reason: String, isDamage: Bool = true) {
        (self.file, self.reason, self.isDamage) = (file, reason, isDamage)
    }

    package var description: String { "\(file): \(reason)" }
}

/// What a start found.
package struct DirectoryState: Sendable {
    package var state = RecoveredState()
    /// Bytes of the files that were read, and of those of logs.
    package var bytes = 0
    package var logBytes = 0
    package var entries = 0
    /// What was damaged, and left out.
    package var damages: [DirectoryFault] = []
    /// What is missing and was never promised, or is not needed: for people.
    package var remarks: [String] = []

    /// Other servers were members when this one ended.
    package var knowsOthers: Bool { state.rows.contains { $0.status.isMember } }
}

package struct DirectoryRecovery<Reader: DirectoryReader> {
    private let reader: Reader
    private let repairs: Bool
    private let names: [DiskNames.Log]
    private let recovery: Recovery
    private var found = DirectoryState()

    /// Fills the empty stores. Damage is refused unless `repairs`, or other servers are known that have what is
    /// missing; a damaged header and a missing file in any case unless `repairs`.
    package static func run(
        _ manifest: Manifest, _ reader: Reader, into stores: [Store], now: Millis, repairs: Bool,
        planted: PlantedMistakes = []
    ) throws(DirectoryFault) -> DirectoryState {
        var work = DirectoryRecovery(
            reader: reader, repairs: repairs, names: DiskNames.logs(among: reader.names()),
            recovery: Recovery(stores: stores, now: now, planted: planted))
        return try work.run(manifest)
    }

    private mutating func run(_ manifest: Manifest) throws(DirectoryFault) -> DirectoryState {
        if let snapshot = manifest.snapshot {
            let name = DiskNames.snapshot(snapshot.number)
            let file = try reader.read(name, syncs: false)
            do throws(DiskFault) { try recovery.readSnapshot(file.bytes) } catch {
                throw DirectoryFault(name, error.description)
            }
            found.bytes += file.bytes.count
        }
        for life in manifest.lives {
            for actor in 0..<life.actors where life.firstLogs[actor] > 0 {
                try readLog(life.server, actor, from: life.firstLogs[actor])
            }
        }
        found.state = recovery.finish(lineage: manifest.lives.map(\.server))
        for life in manifest.lives where !found.state.rows.contains(where: { $0.server == life.server }) {
            found.state.rows.append(
                MemberRow(server: life.server, status: .forgotten, actorCount: life.actors, address: ""))
        }
        found.bytes += found.logBytes
        found.entries = recovery.entryCount
        if let first = found.damages.first, !repairs, !found.knowsOthers {
            throw DirectoryFault(first.file, first.reason + "; --repair starts with what is intact")
        }
        return found
    }

    private mutating func readLog(_ server: UInt64, _ actor: Int, from first: UInt64) throws(DirectoryFault) {
        let names = names.filter { $0.server == server && $0.actor == actor && $0.number >= first }
        guard names.first?.number == first || repairs else {
            throw DirectoryFault(
                DiskNames.log(server, actor, first), "it is missing; --repair starts with what is left")
        }
        var files: [any DirectoryBytes] = []
        var parts: [LogFileBytes] = []
        for name in names {
            let file = try reader.read(name.name, syncs: true)
            files.append(file)
            do throws(DiskFault) {
                parts.append(LogFileBytes(header: try DiskHeader(reading: file.bytes), bytes: file.bytes))
            } catch {
                guard repairs, error == .header else { throw DirectoryFault(name.name, error.description) }
                found.damages.append(DirectoryFault(name.name, error.description + "; left out"))
            }
        }
        let findings: [LogFinding]
        do throws(DiskFault) { findings = try recovery.readLog(parts) } catch {
            throw DirectoryFault(DiskNames.log(server, actor, first), error.description)
        }
        for finding in findings { note(finding) { DiskNames.log(server, actor, $0) } }
        found.logBytes += files.reduce(0) { $0 + $1.bytes.count }
    }

    private mutating func note(_ finding: LogFinding, _ name: (UInt64) -> String) {
        switch finding {
        case .torn(let file, let at):
            found.remarks.append(
                "\(name(file)): its end, from \(at) on, was not written whole; nobody was told of it")
        case .unwritten(let file, let at):
            found.remarks.append(
                "\(name(file)): bytes are missing at \(at) that the machine had not written when it stopped")
        case .damaged(let file, let at):
            found.damages.append(DirectoryFault(name(file), "damaged at offset \(at)"))
        }
    }
}
