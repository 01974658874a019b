// Bytes of a data directory in, the state of a server out: a snapshot, then all logs, in any order. Pure. One thread.

package import KVBase

/// What a server that starts knows from its directory, beside what its stores hold.
package struct RecoveredState: Sendable {
    /// What has taken effect, as far as intact chunks prove it. Entries of retired servers stand where they were.
    package var vector = VersionVector()
    /// Greatest number of each writer among the entries, covered or not.
    package var newest = VersionVector()
    package var frontier = VersionVector()
    package var floor: Millis = 0
    /// Servers that it knew, and its own earlier lives as they were then.
    package var rows: [MemberRow] = []

    package init() {}
}

/// A file of a log.
package struct LogFileBytes {
    package var header: DiskHeader
    package var bytes: UnsafeRawBufferPointer

    package init(header: DiskHeader, bytes: UnsafeRawBufferPointer) { (self.header, self.bytes) = (header, bytes) }
}

/// What is wrong with a log.
package enum LogFinding: Equatable, Sendable {
    /// The last file ends within a chunk: what was being written when the process ended was never acknowledged.
    case torn(file: UInt64, at: Int)
    /// Something is missing that was never said to be on the disk: the machine stopped before it was written. What
    /// comes behind was taken, without what it proves.
    case unwritten(file: UInt64, at: Int)
    /// Something is damaged or missing that was on the disk. What comes behind was taken, without what it proves.
    case damaged(file: UInt64, at: Int)
}

/// Merges by version, so that logs may be read one after the other. All stores end up equal: they share the records.
package final class Recovery {
    private let stores: [Store]
    private let groups: MergeGroups
    private let origins: OriginTable
    private let hasher: KeyHasher
    private var state = RecoveredState()
    /// What the snapshot covers: what it covers and has not got was deleted and collected.
    private var base = VersionVector()
    /// By origin.
    private var intervals: [[LogInterval]] = []
    private var proofs: [LogProof] = []
    private var rows: [UInt64: MemberRow] = [:]
    /// Entries read, of the snapshot and of logs.
    package private(set) var entryCount = 0

    private var isLoading = false
    private let planted: PlantedMistakes
    /// Is told how many more bytes have been merged.
    private let onBytes: (Int) -> Void

    /// The stores are empty, and share origins and hash seed. Until `finish` nobody else looks at them. With a `crew`
    /// what was read is merged beside the reading of what follows.
    package init(
        stores: [Store], now: Millis, crew: (any RecoveryCrew)? = nil, planted: PlantedMistakes = [],
        onBytes: @escaping (Int) -> Void = { _ in }
    ) {
        precondition(!stores.isEmpty)
        (self.stores, self.planted, self.onBytes) = (stores, planted, onBytes)
        (origins, hasher) = (stores[0].origins, stores[0].hasher)
        groups = MergeGroups(stores, crew)
        for store in stores { store.noteClock(now) }
    }

    private func beginLoading(_ count: Int = 0) {
        guard !isLoading else { return }
        isLoading = true
        for store in stores { store.beginLoading(count) }
    }

    // MARK: Snapshot

    /// Reads a whole snapshot; before any log. Throws, with the stores in between, if it is not intact. O(bytes).
    package func readSnapshot(_ bytes: UnsafeRawBufferPointer) throws(DiskFault) {
        let header = try DiskHeader(reading: bytes)
        guard header.kind == .snapshot else { throw .header }
        beginLoading(ChunkReader.entries(in: bytes))
        var reader = ChunkReader(bytes, header, planted: planted)
        var end: SnapshotEnd?
        var counted = 0
        defer { onBytes(bytes.count - counted) }
        while let body = reader.next() {
            guard end == nil else { throw .damaged(at: reader.at) }
            var sections = SectionReader(body, own: stores[0].ownOrigin, origins)
            while let section = try sections.next() {
                switch section {
                case .entries(let decoder, _): try merge(decoder, body)
                case .rows(let found): take(found)
                case .end(let found): end = found
                default: throw .damaged(at: reader.at)
                }
            }
            onBytes(reader.at - counted)
            counted = reader.at
        }
        guard reader.end() == .clean else { throw .damaged(at: reader.at) }
        guard let end, end.records == UInt64(entryCount) else { throw .short }
        base = end.vector
        groups.begin(beside: base)
        state.frontier = end.frontier
        state.floor = max(state.floor, end.floor)
    }

    // MARK: Logs

    /// Reads the files of one log, in the order of their numbers. Returns what is wrong with it. `isWhole`: none is
    /// missing before the first: else it proves nothing. O(bytes).
    package func readLog(_ files: [LogFileBytes], isWhole: Bool = true) throws(DiskFault) -> [LogFinding] {
        beginLoading()
        var reading = LogReading()
        reading.lacksBeginning = !isWhole
        for (index, file) in files.enumerated() {
            var reader = ChunkReader(file.bytes, file.header, planted: planted)
            var counted = 0
            defer { onBytes(file.bytes.count - counted) }
            reading.begin(file.header.number)
            while true {
                while let body = reader.next() {
                    try take(body, of: file.header, at: reader.at - body.count, &reading)
                    reading.chunks += 1
                    onBytes(reader.at - counted)
                    counted = reader.at
                }
                let end = reader.end()
                if case .hole(let at, let next) = end {
                    reading.breaks(LogPlace(file: file.header.number, chunks: reader.number), at: at)
                    reader.skip(to: next)
                    continue
                }
                guard case .torn(let at) = end else { break }
                let isLast = index == files.count - 1
                if isLast {
                    reading.tear = .torn(file: file.header.number, at: at)
                } else {
                    reading.breaks(LogPlace(file: file.header.number, chunks: reader.number), at: at)
                }
                break
            }
        }
        return reading.findings
    }

    private func take(
        _ body: UnsafeRawBufferPointer, of header: DiskHeader, at: Int, _ reading: inout LogReading
    ) throws(DiskFault) {
        let uid = ActorUID(server: header.server, index: UInt16(header.actor))
        guard let own = origins.intern(uid) else { throw .damaged(at: at) }
        var sections = SectionReader(body, own: own, origins)
        do throws(DiskFault) {
            while let section = try sections.next() {
                switch section {
                case .entries(let decoder, let interval):
                    try merge(decoder, body)
                    if let interval, reading.isWhole || planted(.damageProves) { note(interval) }
                case .proof(let proof):
                    state.floor = max(state.floor, proof.floor)
                    if reading.isWhole || planted(.damageProves) { proofs.append(proof) }
                case .rows(let found): take(found)
                case .synced(let place): reading.synced = max(reading.synced, place)
                case .follows(let place): reading.follows(place)
                case .abandoned(let file): reading.abandon(file)
                case .end: throw DiskFault.damaged(at: 0)
                }
            }
        } catch {
            if case .damaged(let within) = error { throw .damaged(at: at + within) }
            throw error
        }
    }

    private func take(_ found: [MemberRow]) {
        for row in found { rows[row.server] = rows[row.server]?.merged(with: row) ?? row }
    }

    private func note(_ interval: LogInterval) {
        let place = Int(interval.origin)
        while intervals.count <= place { intervals.append([]) }
        if let last = intervals[place].last, last.from <= interval.from, interval.from <= last.to {
            intervals[place][intervals[place].count - 1].to = max(last.to, interval.to)
        } else {
            intervals[place].append(interval)
        }
    }

    // MARK: Entries

    private func merge(_ decoder: EntryDecoder, _ body: UnsafeRawBufferPointer) throws(DiskFault) {
        var decoder = decoder
        let (hasher, origins) = (hasher, origins)
        let total = decoder.left
        while decoder.left > 0 {
            let group = groups.current
            let (records, hashes) = (group.records, group.hashes)
            let first = group.count
            var count = first
            while count < MergeGroup.countMax, decoder.left > 0, let record = decoder.next(body, origins) {
                records[count] = record
                hashes[count] = hasher.hash(record.keyView)
                count &+= 1
            }
            group.count = count
            noteNewest(records + first, count - first)
            if count == MergeGroup.countMax { groups.merge() } else { break }
        }
        entryCount += total - decoder.left
        guard decoder.isComplete else { throw .damaged(at: decoder.at) }
    }

    private func noteNewest(_ records: UnsafePointer<Record>, _ count: Int) {
        var at = 0
        while at < count {
            let origin = records[at].origin
            var seq: UInt64 = 0
            while at < count, records[at].origin == origin {
                seq = max(seq, records[at].seq)
                at &+= 1
            }
            state.newest.raise(origin, to: seq)
        }
    }

    /// What was read is in the stores, and nobody works on them any more.
    package func settle() { groups.settle() }

    // MARK: The end

    /// What all that was read amounts to. `lineage`: this server's earlier lives, which are over.
    package func finish(lineage: [UInt64]) -> RecoveredState {
        var vector = base
        repeat {
            for (place, found) in intervals.enumerated() {
                let origin = OriginIndex(place)
                for interval in found.sorted(by: { $0.from < $1.from }) where interval.from <= vector[origin] {
                    vector.raise(origin, to: interval.to)
                }
            }
        } while proveMore(&vector)
        state.vector = vector
        state.rows = rows.values.sorted { $0.server < $1.server }.map { row in
            var row = row
            if lineage.contains(row.server) { row.status = max(row.status, .forgotten) }
            return row
        }
        let floor = state.floor
        groups.finish { store in
            store.raiseGCFloor(to: floor)
            store.endLoading()
        }
        return state
    }

    /// Takes the step of each scan whose filter the vector covers. False if there was none.
    private func proveMore(_ vector: inout VersionVector) -> Bool {
        let count = proofs.count
        for proof in proofs where vector.dominates(proof.asked) {
            vector.join(proof.start)
            state.frontier.join(proof.frontier)
        }
        proofs.removeAll { vector.dominates($0.asked) }
        return proofs.count < count
    }
}

/// How far one log was read, and what was missing.
private struct LogReading {
    var synced = LogPlace(file: 0, chunks: 0)
    var chunks: UInt32 = 0
    var tear: LogFinding?
    private var file: UInt64 = 0
    private var gaps: [(place: LogPlace, at: Int)] = []

    /// Nothing was missing so far.
    var isWhole: Bool { gaps.isEmpty && !lacksBeginning }
    var lacksBeginning = false

    mutating func begin(_ number: UInt64) {
        // A file is missing, if `follows` does not say otherwise.
        if file != 0, number != file + 1 { breaks(LogPlace(file: file + 1, chunks: 0), at: 0) }
        before = number == file + 1 ? LogPlace(file: file, chunks: chunks) : LogPlace(file: 0, chunks: 0)
        (file, chunks) = (number, 0)
    }

    /// The file before the one that is read, as it was found.
    private var before = LogPlace(file: 0, chunks: 0)

    mutating func follows(_ place: LogPlace) {
        // Of the first file that is here nothing is known: those before it were no longer needed.
        guard before.file != 0, place != before else { return }
        breaks(before, at: 0)
    }

    mutating func breaks(_ place: LogPlace, at: Int) { gaps.append((place, at)) }

    private var abandoned: Set<UInt64> = []

    mutating func abandon(_ file: UInt64) {
        abandoned.insert(file)
        if !gaps.contains(where: { $0.place.file == file }) {
            breaks(LogPlace(file: file, chunks: before.chunks), at: 0)
        }
    }

    var findings: [LogFinding] {
        gaps.map { gap in
            synced > gap.place && !abandoned.contains(gap.place.file)
                ? .damaged(file: gap.place.file, at: gap.at) : .unwritten(file: gap.place.file, at: gap.at)
        } + (tear.map { [$0] } ?? [])
    }
}
