// Frames as bytes. Pure; encode on the sending actor, decode on the receiving one.

import KVBase

/// Layout: magic 4, version 1, CRC32C of everything after it 4, cluster id 8, the head, the blocks. Little-endian;
/// integers as LEB128; a server is named by its id on first use and by a small number after.
enum FrameFormat {
    static let magic: UInt32 = 0x4644_564B  // "KVDF"
    static let version: UInt8 = 4
    static let headerBytes = 17
    /// Where the checksum is, and the first byte it is made of.
    static let crcAt = 5
    static let summedFrom = 9
    static let rowsMax = 4096
    static let addressBytesMax = 300
    static let nameBytesMax = 255

    /// It stands between blanks and commas where it is shown.
    static func isWord(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.allSatisfy { (33..<127).contains($0) && $0 != UInt8(ascii: ",") && $0 != UInt8(ascii: "=") }
    }
    /// Islands, repair asks, servers that are level, servers that are retired: far above what any cluster has.
    static let listMax = 65_536
    static let blocksMax = 4096

    static let hasReport: UInt8 = 1
    static let hasScanAsk: UInt8 = 2
    static let isSettled: UInt8 = 4
    static let isServing: UInt8 = 8
    /// The report is of what is on a disk. Who does not know this passes over it.
    static let isOnDisk: UInt8 = 16

    static let sectionKind: UInt8 = 0
    static let chunkKind: UInt8 = 1
    static let chunkIsLast: UInt8 = 1
    static let chunkIsEverything: UInt8 = 2
}

/// Builds one frame in a reused buffer.
struct FrameWriter {
    private var out: OutputBuffer
    private var servers: [UInt64] = []
    private let table: OriginTable
    /// Entries that belong into the frame at these places of `out`: copied once, into the finished frame.
    private var runs: [(at: Int, entries: [UnsafeRawBufferPointer])] = []

    init(buffer: OutputBuffer, table: OriginTable) {
        out = buffer
        out.count = 0
        self.table = table
    }

    private mutating func server(_ id: UInt64) {
        if let code = servers.firstIndex(of: id) {
            out.appendVarint(UInt64(code) + 1)
        } else {
            servers.append(id)
            out.append(0)
            out.appendFixed64(id)
        }
    }

    private mutating func origin(_ origin: OriginIndex) {
        let uid = table.uid(origin)
        server(uid.server)
        out.appendVarint(UInt64(uid.index))
    }

    private mutating func vector(_ vector: VersionVector) {
        var present = 0
        for seq in vector.seqs where seq != 0 && seq != VersionVector.retired { present += 1 }
        out.appendVarint(UInt64(present))
        for (i, seq) in vector.seqs.enumerated() where seq != 0 && seq != VersionVector.retired {
            origin(OriginIndex(i))
            out.appendVarint(seq)
        }
    }

    mutating func head(_ head: FrameHead, cluster: UInt64) {
        out.appendFixed32(FrameFormat.magic)
        out.append(FrameFormat.version)
        out.appendFixed32(0)
        out.appendFixed64(cluster)
        server(head.sender.server)
        out.appendVarint(UInt64(head.sender.index))
        server(head.toServer)
        out.appendZigzag(head.steady)
        out.appendZigzag(head.wall)
        out.appendZigzag(head.echo)
        out.appendZigzag(head.echoHold)
        vector(head.vector)
        out.appendFixed64(head.digest)
        out.appendVarint(UInt64(head.floor))
        out.appendVarint(head.sentTo)
        out.appendVarint(UInt64(head.islands.count))
        for island in head.islands { interval(island.origin, island.from, island.to) }
        out.appendFixed64(head.rowsHash)
        out.appendVarint(UInt64(head.rows.count))
        for row in head.rows { self.row(row) }
        out.append(
            (head.report == nil ? 0 : FrameFormat.hasReport) | (head.scanAsk == nil ? 0 : FrameFormat.hasScanAsk)
                | (head.isSettled ? FrameFormat.isSettled : 0) | (head.serving != 0 ? FrameFormat.isServing : 0)
                | (head.report?.isOnDisk ?? false ? FrameFormat.isOnDisk : 0))
        if head.serving != 0 { out.appendVarint(UInt64(head.serving)) }
        if let report = head.report { self.report(report) }
        out.appendVarint(UInt64(head.asks.count))
        for ask in head.asks { interval(ask.origin, ask.from, ask.to) }
        if let ask = head.scanAsk {
            out.appendVarint(UInt64(ask.session))
            out.appendVarint(ask.next)
            out.appendVarint(ask.credit)
            out.append(ask.everything ? 1 : 0)
            vector(ask.vector)
        }
    }

    private mutating func interval(_ origin: OriginIndex, _ from: UInt64, _ to: UInt64) {
        self.origin(origin)
        out.appendVarint(from)
        out.appendVarint(to &- from)
    }

    private mutating func row(_ row: MemberRow) {
        server(row.server)
        out.appendVarint(UInt64(row.incarnation))
        out.append(row.status.rawValue)
        out.appendVarint(UInt64(row.actorCount))
        out.appendVarint(UInt64(row.address.count))
        row.address.withBytes { out.append($0) }
        out.appendVarint(UInt64(row.name.count))
        row.name.withBytes { out.append($0) }
        out.append(row.isNamed ? 1 : 0)
    }

    private mutating func report(_ report: StabilityReport) {
        out.appendZigzag(report.stamp)
        vector(report.least)
        out.appendVarint(UInt64(report.heads.count))
        for head in report.heads { out.appendVarint(head) }
        out.appendVarint(UInt64(report.level.count))
        for id in report.level { server(id) }
        out.appendVarint(UInt64(report.retired.count))
        for mark in report.retired { out.appendFixed64(mark) }
        out.appendZigzag(report.clock)
    }

    /// Appends a block whose entries are already encoded and stay where they are until `finish`. The head must be
    /// complete.
    mutating func block(_ block: Block, entries: UnsafeRawBufferPointer) { self.block(block, runs: [entries]) }

    /// The same with entries in several pieces.
    mutating func block(_ block: Block, runs entries: [UnsafeRawBufferPointer]) {
        switch block.kind {
        case .section(let origin, let from, let to):
            out.append(FrameFormat.sectionKind)
            interval(origin, from, to)
        case .chunk(let chunk):
            out.append(FrameFormat.chunkKind)
            out.appendVarint(UInt64(chunk.session))
            out.appendVarint(chunk.number)
            out.append(
                (chunk.isLast ? FrameFormat.chunkIsLast : 0) | (chunk.everything ? FrameFormat.chunkIsEverything : 0))
            out.append(chunk.percent)
            vector(chunk.start)
            vector(chunk.frontier)
        }
        out.appendVarint(UInt64(block.count))
        out.appendVarint(UInt64(block.millisMax))
        out.appendVarint(UInt64(entries.reduce(0) { $0 + $1.count }))
        runs.append((out.count, entries))
    }

    /// Of the finished frame.
    var byteCount: Int { runs.reduce(out.count) { $1.entries.reduce($0) { $0 + $1.count } } }

    private var pieces: [UnsafeRawBufferPointer] {
        var pieces: [UnsafeRawBufferPointer] = []
        var from = 0
        for run in runs {
            pieces.append(UnsafeRawBufferPointer(rebasing: out.bytes[from..<run.at]))
            pieces += run.entries
            from = run.at
        }
        pieces.append(UnsafeRawBufferPointer(rebasing: out.bytes[from...]))
        return pieces
    }

    /// Seals the frame and gives the buffer back for reuse. O(bytes).
    mutating func finish() -> (bytes: [UInt8], buffer: OutputBuffer) {
        let bytes = FrameSeal(pieces).finish()
        out.count = 0
        runs.removeAll()
        return (bytes, out)
    }

    /// Leaves copying and summing up to the seal, which takes over the buffer and what else the entries lie in.
    func seal(holding sections: [EncodedSection], _ buffers: [OutputBuffer]) -> FrameSeal {
        FrameSeal(pieces, sections: sections, buffers: buffers + [out])
    }
}

/// Takes a frame apart. Nothing is believed before the checksum holds, and no length is trusted even then.
struct FrameReader {
    private var reader: VarintReader
    private var servers: [UInt64] = []
    private let table: OriginTable
    private let writers: KnownWriters
    /// Writers were named that are not known: they were left out.
    private var leftOut = false

    private init(_ bytes: UnsafeRawBufferPointer, _ table: OriginTable, _ writers: KnownWriters) {
        reader = VarintReader(bytes, from: FrameFormat.headerBytes)
        (self.table, self.writers) = (table, writers)
    }

    enum Result {
        /// `isPartial`: writers are named that `writers` does not know.
        case frame(FrameHead, [Block], isPartial: Bool)
        case fault(FrameFault)
    }

    /// `crc` is that of `bytes` if a `FrameCheck` has computed it already. What the frame says of writers that are not
    /// known is left out.
    static func decode(
        _ bytes: UnsafeRawBufferPointer, crc computed: UInt32? = nil, cluster: UInt64, _ table: OriginTable,
        writers: KnownWriters = .all
    ) -> Result {
        guard bytes.count >= FrameFormat.headerBytes else { return .fault(.length) }
        var header = VarintReader(bytes)
        guard header.fixed32() == FrameFormat.magic else { return .fault(.magic) }
        guard header.byte() == FrameFormat.version else { return .fault(.version) }
        let crc = header.fixed32()
        let summed = UnsafeRawBufferPointer(rebasing: bytes[FrameFormat.summedFrom...])
        guard computed ?? crc32c(summed) == crc else { return .fault(.checksum) }
        guard header.fixed64() == cluster else { return .fault(.cluster) }
        var frame = FrameReader(bytes, table, writers)
        let head = frame.head()
        guard !frame.reader.failed else { return .fault(.malformed) }
        let blocks = frame.blocks()
        return frame.reader.failed ? .fault(.malformed) : .frame(head, blocks, isPartial: frame.leftOut)
    }

    private mutating func server() -> UInt64 {
        let code = reader.varint()
        if code == 0 {
            let id = reader.fixed64()
            servers.append(id)
            return id
        }
        guard code <= UInt64(servers.count) else {
            reader.failed = true
            return 0
        }
        return servers[Int(code) - 1]
    }

    private mutating func origin() -> OriginIndex {
        let id = server()
        let index = reader.varint()
        guard !reader.failed, index < UInt64(Limits.actorsMax), servers.count <= EntryDecoder.originsMax else {
            reader.failed = true
            return OriginTable.unknown
        }
        let origin = writers.origin(ActorUID(server: id, index: UInt16(index)), table)
        if origin == OriginTable.unknown { leftOut = true }
        return origin
    }

    private mutating func vector() -> VersionVector {
        var vector = VersionVector()
        for _ in 0..<reader.count(bytesEach: 3) {
            let origin = origin()
            let seq = reader.varint()
            guard !reader.failed, seq <= Version.seqMax else {
                reader.failed = true
                break
            }
            if origin != OriginTable.unknown { vector.set(origin, seq) }
        }
        return vector
    }

    private mutating func interval() -> (OriginIndex, UInt64, UInt64) {
        let origin = origin()
        let from = reader.varint()
        let length = reader.varint()
        guard from <= Version.seqMax, length <= Version.seqMax else {
            reader.failed = true
            return (origin, 0, 0)
        }
        return (origin, from, from + length)
    }

    private mutating func millis() -> Millis {
        let value = reader.varint()
        if value > UInt64(Version.msMax) { reader.failed = true }
        return reader.failed ? 0 : Millis(value)
    }

    /// A reading of either clock, or a difference of two: small enough that sums of a few cannot overflow.
    private mutating func clock() -> Millis {
        let value = reader.zigzag()
        if value.magnitude > UInt64(Version.msMax) { reader.failed = true }
        return reader.failed ? 0 : value
    }

    private mutating func listCount(bytesEach: Int) -> Int {
        let count = reader.count(bytesEach: bytesEach)
        if count > FrameFormat.listMax { reader.failed = true }
        return reader.failed ? 0 : count
    }

    private mutating func head() -> FrameHead {
        var head = FrameHead()
        let id = server()
        let index = reader.varint()
        if index >= UInt64(Limits.actorsMax) { reader.failed = true }
        head.sender = ActorUID(server: id, index: UInt16(truncatingIfNeeded: index))
        head.toServer = server()
        head.steady = clock()
        head.wall = clock()
        head.echo = clock()
        head.echoHold = clock()
        head.vector = vector()
        head.digest = reader.fixed64()
        head.floor = millis()
        head.sentTo = reader.varint()
        if head.sentTo > Version.seqMax { reader.failed = true }
        for _ in 0..<listCount(bytesEach: 4) {
            let (origin, from, to) = interval()
            if reader.failed { return head }
            if origin != OriginTable.unknown { head.islands.append(Island(origin: origin, from: from, to: to)) }
        }
        head.rowsHash = reader.fixed64()
        for _ in 0..<min(reader.count(bytesEach: 7), FrameFormat.rowsMax) {
            head.rows.append(row())
            if reader.failed { return head }
        }
        let flags = reader.byte()
        head.isSettled = flags & FrameFormat.isSettled != 0
        if flags & FrameFormat.isServing != 0 { head.serving = UInt32(truncatingIfNeeded: reader.varint()) }
        if flags & FrameFormat.hasReport != 0 {
            head.report = report()
            head.report?.isOnDisk = flags & FrameFormat.isOnDisk != 0
        }
        for _ in 0..<listCount(bytesEach: 4) {
            let (origin, from, to) = interval()
            if reader.failed { return head }
            if origin != OriginTable.unknown { head.asks.append(RepairAsk(origin: origin, from: from, to: to)) }
        }
        if flags & FrameFormat.hasScanAsk != 0 {
            let session = UInt32(truncatingIfNeeded: reader.varint())
            let next = reader.varint()
            let credit = reader.varint()
            let everything = reader.byte() != 0
            head.scanAsk = ScanAsk(
                session: session, next: next, credit: credit, vector: vector(), everything: everything)
        }
        return head
    }

    private mutating func row() -> MemberRow {
        let id = server()
        let incarnation = reader.varint()
        let status = MemberStatus(rawValue: reader.byte())
        let actors = reader.varint()
        let address = reader.run(reader.count(bytesEach: 1))
        let name = reader.run(reader.count(bytesEach: 1))
        let isNamed = reader.byte()
        guard !reader.failed, let status, incarnation <= UInt64(UInt32.max), actors >= 1,
            actors <= UInt64(Limits.actorsMax), address.count <= FrameFormat.addressBytesMax,
            name.count <= FrameFormat.nameBytesMax, isNamed <= 1, FrameFormat.isWord(address), FrameFormat.isWord(name)
        else {
            reader.failed = true
            return MemberRow(server: 0, status: .up, actorCount: 1, address: "")
        }
        return MemberRow(
            server: id, incarnation: UInt32(incarnation), status: status, actorCount: Int(actors),
            address: Bytes(address), name: Bytes(name), isNamed: isNamed == 1)
    }

    private mutating func report() -> StabilityReport {
        var report = StabilityReport(stamp: reader.zigzag(), least: vector(), heads: [], level: [], retired: [])
        for _ in 0..<min(reader.count(bytesEach: 1), Limits.actorsMax) { report.heads.append(reader.varint()) }
        for _ in 0..<listCount(bytesEach: 1) {
            report.level.append(server())
            if reader.failed { break }
        }
        for _ in 0..<listCount(bytesEach: 8) { report.retired.append(reader.fixed64()) }
        report.clock = clock()
        return report
    }

    private mutating func blocks() -> [Block] {
        var blocks: [Block] = []
        while reader.remaining > 0, !reader.failed {
            guard blocks.count < FrameFormat.blocksMax else {
                reader.failed = true
                break
            }
            let kind: BlockKind
            switch reader.byte() {
            case FrameFormat.sectionKind:
                let (origin, from, to) = interval()
                kind = .section(origin: origin, from: from, to: to)
            case FrameFormat.chunkKind:
                let session = UInt32(truncatingIfNeeded: reader.varint())
                let number = reader.varint()
                let flags = reader.byte()
                let percent = reader.byte()
                if percent > 100 { reader.failed = true }
                kind = .chunk(
                    ChunkHead(
                        session: session, number: number, isLast: flags & FrameFormat.chunkIsLast != 0,
                        everything: flags & FrameFormat.chunkIsEverything != 0, percent: percent, start: vector(),
                        frontier: vector()))
            default:
                reader.failed = true
                return blocks
            }
            let count = reader.varint()
            let millisMax = millis()
            let length = reader.count(bytesEach: 1)
            let from = reader.at
            _ = reader.run(length)
            // An entry takes at least two bytes, so a count cannot promise more than the bytes hold.
            if count > UInt64(length / 2) { reader.failed = true }
            blocks.append(
                Block(
                    kind: kind, count: Int(truncatingIfNeeded: count), millisMax: millisMax, from: from,
                    to: from + length))
        }
        return blocks
    }
}
