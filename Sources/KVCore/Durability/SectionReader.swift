// What the sections of a chunk say. Nothing of it is believed because its checksum is right. Pure, any thread.

import KVBase

/// A place in a log: a number of chunks of one of its files.
struct LogPlace: Comparable {
    var file: UInt64
    var chunks: UInt32

    static func < (a: LogPlace, b: LogPlace) -> Bool { a.file != b.file ? a.file < b.file : a.chunks < b.chunks }
}

/// An interval of one writer's writes.
struct LogInterval: Equatable {
    var origin: OriginIndex
    var from: UInt64
    var to: UInt64
}

struct LogProof {
    var asked: VersionVector
    var start: VersionVector
    var frontier: VersionVector
    var floor: Millis
}

enum Section {
    case entries(EntryDecoder, LogInterval?)
    case proof(LogProof)
    case rows([MemberRow])
    case end(SnapshotEnd)
    case synced(LogPlace)
    case follows(LogPlace)
    case abandoned(file: UInt64)
}

struct SectionReader {
    private let body: UnsafeRawBufferPointer
    private var reader: VarintReader
    private let table: OriginTable
    /// The actor whose log it is.
    private let own: OriginIndex

    init(_ body: UnsafeRawBufferPointer, own: OriginIndex, _ table: OriginTable) {
        (self.body, self.own, self.table) = (body, own, table)
        reader = VarintReader(body)
    }

    /// The next section; nil at the end. Throws where bytes make no sense, or are of a later release that says that
    /// they cannot be left out.
    mutating func next() throws(DiskFault) -> Section? {
        while reader.remaining > 0 {
            let at = reader.at
            let kind = reader.byte()
            let length = Int(reader.fixed32())
            guard !reader.failed, length <= reader.remaining else { throw .damaged(at: at) }
            let end = reader.at + length
            defer { reader = VarintReader(body, from: end) }
            guard let known = SectionKind(rawValue: kind & ~SectionKind.optional) else {
                if kind & SectionKind.optional != 0 { continue }
                throw .newer(reader: DiskHeader.version + 1)
            }
            var content = VarintReader(body, from: reader.at, to: end)
            let section = read(known, &content)
            guard !content.failed else { throw .damaged(at: at) }
            return section
        }
        return nil
    }

    private func read(_ kind: SectionKind, _ content: inout VarintReader) -> Section {
        switch kind {
        case .own:
            let interval = interval(own, &content)
            return entries(&content, interval, first: own)
        case .interval:
            let origin = origin(&content)
            let interval = interval(origin, &content)
            return entries(&content, interval)
        case .page: return entries(&content, nil)
        case .proof:
            return .proof(
                LogProof(
                    asked: vector(&content), start: vector(&content), frontier: vector(&content),
                    floor: millis(&content)))
        case .rows:
            var rows: [MemberRow] = []
            for _ in 0..<min(content.count(bytesEach: 13), FrameFormat.rowsMax) where !content.failed {
                rows.append(row(&content))
            }
            return .rows(rows)
        case .end:
            return .end(
                SnapshotEnd(
                    vector: vector(&content), frontier: vector(&content), floor: millis(&content),
                    records: content.varint()))
        case .synced: return .synced(place(&content))
        case .follows: return .follows(place(&content))
        case .abandoned: return .abandoned(file: place(&content).file)
        }
    }

    private func entries(
        _ content: inout VarintReader, _ interval: LogInterval?, first: OriginIndex? = nil
    ) -> Section {
        let count = Int(content.fixed32())
        // An entry takes at least two bytes.
        if count > content.remaining / 2 { content.failed = true }
        let decoder = EntryDecoder(
            from: content.at, to: content.end, count: count, millisMax: Version.msMax, first: first)
        return .entries(decoder, interval)
    }

    private func place(_ content: inout VarintReader) -> LogPlace {
        LogPlace(file: content.varint(), chunks: UInt32(truncatingIfNeeded: content.varint()))
    }

    private func origin(_ content: inout VarintReader) -> OriginIndex {
        let server = content.fixed64()
        let index = content.varint()
        guard !content.failed, index < UInt64(Limits.actorsMax),
            let origin = table.intern(ActorUID(server: server, index: UInt16(index)))
        else {
            content.failed = true
            return 0
        }
        return origin
    }

    private func interval(_ origin: OriginIndex, _ content: inout VarintReader) -> LogInterval {
        let from = content.varint()
        let length = content.varint()
        guard from <= Version.seqMax, length <= Version.seqMax - from else {
            content.failed = true
            return LogInterval(origin: origin, from: 0, to: 0)
        }
        return LogInterval(origin: origin, from: from, to: from + length)
    }

    private func vector(_ content: inout VarintReader) -> VersionVector {
        var vector = VersionVector()
        for _ in 0..<content.count(bytesEach: 10) {
            let origin = origin(&content)
            let seq = content.varint()
            if seq > Version.seqMax { content.failed = true }
            if content.failed { break }
            vector.set(origin, seq)
        }
        return vector
    }

    private func millis(_ content: inout VarintReader) -> Millis {
        let value = content.varint()
        if value > UInt64(Version.msMax) { content.failed = true }
        return content.failed ? 0 : Millis(value)
    }

    private func row(_ content: inout VarintReader) -> MemberRow {
        let server = content.fixed64()
        let incarnation = content.varint()
        let status = MemberStatus(rawValue: content.byte())
        let actors = content.varint()
        let address = content.run(content.count(bytesEach: 1))
        let name = content.run(content.count(bytesEach: 1))
        let isNamed = content.byte()
        guard !content.failed, let status, incarnation <= UInt64(UInt32.max),
            (1...UInt64(Limits.actorsMax)).contains(actors)
        else {
            content.failed = true
            return MemberRow(server: 0, status: .up, actorCount: 1, address: "")
        }
        return MemberRow(
            server: server, incarnation: UInt32(incarnation), status: status, actorCount: Int(actors),
            address: Bytes(address), name: Bytes(name), isNamed: isNamed == 1)
    }
}
