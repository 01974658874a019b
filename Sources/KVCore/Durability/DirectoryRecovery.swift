// The way back from the files that a manifest names: which are read, in what order, and what is refused. Pure but for
// `DirectoryReader` and `RecoveryCrew`. One thread.

package import KVBase

/// A file's bytes, for as long as the value lives.
package protocol DirectoryBytes: AnyObject {
    var bytes: UnsafeRawBufferPointer { get }
}

package protocol DirectoryReader {
    /// All names in the directory.
    func names() -> [String]
    /// A whole file; `syncs`: on the disk once `settle` has returned, for it may have been in the page cache only.
    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes
    func settle() throws(DirectoryFault)
    /// So many more bytes of files have been merged, or hold nothing.
    func noteMerged(_ bytes: Int)
}

extension DirectoryReader {
    package func settle() throws(DirectoryFault) {}
    package func noteMerged(_ bytes: Int) {}
}

/// Why a directory is not started with: a file of it, and what is wrong.
package struct DirectoryFault: Error, Equatable, CustomStringConvertible {
    package var file: String
    package var reason: String
    package var isMissing: Bool

    package init(_ file: String, _ reason: String, isMissing: Bool = false) {
        (self.file, self.reason, self.isMissing) = (file, reason, isMissing)
    }

    package static func missing(_ file: String) -> DirectoryFault {
        DirectoryFault(file, "it is missing", isMissing: true)
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
    /// Files that are damaged or missing. What is intact of them counts as entries, and proves nothing.
    package var damages: [DirectoryFault] = []
    /// What is missing and was never promised: ends that were not written whole, and what a power cut took. For people.
    package var torn: [String] = []
    package var unwritten: [String] = []

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
    /// missing. What a later release wrote is refused in any case. A `crew` merges beside the reading.
    package static func run(
        _ manifest: Manifest, _ reader: Reader, into stores: [Store], now: Millis, repairs: Bool,
        crew: (any RecoveryCrew)? = nil, planted: PlantedMistakes = []
    ) throws(DirectoryFault) -> DirectoryState {
        var work = DirectoryRecovery(
            reader: reader, repairs: repairs, names: DiskNames.logs(among: reader.names()),
            recovery: Recovery(stores: stores, now: now, crew: crew, planted: planted) { reader.noteMerged($0) })
        // Whoever gets an error may do away with the stores.
        defer { work.recovery.settle() }
        return try work.run(manifest)
    }

    private mutating func run(_ manifest: Manifest) throws(DirectoryFault) -> DirectoryState {
        if let snapshot = manifest.snapshot {
            try readSnapshot(DiskNames.snapshot(snapshot.number))
        }
        for life in manifest.lives {
            for actor in 0..<life.actors where life.firstLogs[actor] > 0 {
                try readLog(life.server, actor, from: life.firstLogs[actor])
            }
        }
        try reader.settle()
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

    private mutating func readSnapshot(_ name: String) throws(DirectoryFault) {
        let file: any DirectoryBytes
        do throws(DirectoryFault) { file = try reader.read(name, syncs: false) } catch {
            guard error.isMissing else { throw error }
            return found.damages.append(error)
        }
        do throws(DiskFault) { try recovery.readSnapshot(file.bytes) } catch {
            if case .newer = error { throw DirectoryFault(name, error.description) }
            found.damages.append(DirectoryFault(name, error.description))
        }
        found.bytes += file.bytes.count
    }

    private mutating func readLog(_ server: UInt64, _ actor: Int, from first: UInt64) throws(DirectoryFault) {
        let names = names.filter { $0.server == server && $0.actor == actor && $0.number >= first }
        let isWhole = names.first?.number == first
        if !isWhole { found.damages.append(.missing(DiskNames.log(server, actor, first))) }
        var files: [any DirectoryBytes] = []
        var parts: [LogFileBytes] = []
        for name in names {
            let file = try reader.read(name.name, syncs: true)
            files.append(file)
            do throws(DiskFault) {
                parts.append(LogFileBytes(header: try DiskHeader(reading: file.bytes), bytes: file.bytes))
            } catch {
                guard error == .header else { throw DirectoryFault(name.name, error.description) }
                found.damages.append(DirectoryFault(name.name, error.description))
            }
        }
        let findings: [LogFinding]
        do throws(DiskFault) { findings = try recovery.readLog(parts, isWhole: isWhole) } catch {
            throw DirectoryFault(DiskNames.log(server, actor, first), error.description)
        }
        for finding in findings { note(finding) { DiskNames.log(server, actor, $0) } }
        found.logBytes += files.reduce(0) { $0 + $1.bytes.count }
    }

    private mutating func note(_ finding: LogFinding, _ name: (UInt64) -> String) {
        switch finding {
        case .torn(let file, let at):
            found.torn.append(
                "\(name(file)): its end, from \(at) on, was not written whole; nobody was told of it")
        case .unwritten(let file, let at):
            found.unwritten.append(
                "\(name(file)): bytes are missing at \(at) that the machine had not written when it stopped")
        case .damaged(let file, let at):
            found.damages.append(DirectoryFault(name(file), "damaged at offset \(at)"))
        }
    }
}
