// Frames: what goes in comes out, and nothing broken gets in.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct FrameCodecTests {
    static let sampleRow = MemberRow(
        server: 22, incarnation: 2, status: .joining, actorCount: 4, address: "h:1", name: "kvd-1", isNamed: true)

    /// A frame with every part present.
    static func sample(_ table: OriginTable, entries: Int = 20) -> [UInt8] {
        let a = table.intern(ActorUID(server: 11, index: 0))!
        let b = table.intern(ActorUID(server: 22, index: 3))!
        var vector = VersionVector()
        vector.set(a, 300)
        vector.set(b, 70_000)
        var head = FrameHead()
        head.sender = ActorUID(server: 11, index: 0)
        head.toServer = 33
        (head.steady, head.wall, head.echo, head.echoHold) = (5_000, 1_780_000_000_000, 4_800, 17)
        head.vector = vector
        head.digest = 0xDEAD_BEEF_0000_1111
        (head.floor, head.sentTo, head.rowsHash) = (123, 456, 789)
        head.islands = [Island(origin: b, from: 5, to: 9)]
        head.rows = [sampleRow]
        head.report = StabilityReport(stamp: 77, least: vector, heads: [1, 2], level: [99], retired: [77])
        head.report?.isOnDisk = true
        head.asks = [RepairAsk(origin: a, from: 1, to: 2)]
        head.scanAsk = ScanAsk(session: 3, next: 4, credit: 5, vector: vector, everything: true)
        var out = OutputBuffer()
        var encoder = EntryEncoder()
        var records: [Record] = []
        for i in 0..<entries {
            let key = Bytes("key:\(i)")
            let value = Bytes(String(repeating: "x", count: i * 40))
            records.append(
                key.withBytes { key in
                    value.withBytes { value in
                        Record.create(
                            key: ByteView(key), value: ByteView(value),
                            ms: 1_780_000_000_000 + Millis(i % 3), origin: i % 5 == 0 ? b : a, seq: UInt64(i * 2 + 1),
                            isTombstone: value.count == 0)
                    }
                })
            encoder.encode(records[i], table, into: &out)
        }
        var writer = FrameWriter(buffer: OutputBuffer(), table: table)
        writer.head(head, cluster: 7)
        writer.block(
            Block(kind: .section(origin: a, from: 3, to: 40), count: encoder.count, millisMax: encoder.millisMax),
            entries: out.bytes)
        let chunk = ChunkHead(
            session: 3, number: 1, isLast: true, everything: false, percent: 62, start: vector, frontier: vector)
        writer.block(
            Block(kind: .chunk(chunk), count: encoder.count, millisMax: encoder.millisMax), entries: out.bytes)
        let (bytes, buffer) = writer.finish()
        buffer.deallocate()
        out.deallocate()
        for record in records { record.release() }
        return bytes
    }

    /// What a head lists has a bound of its own, whatever a frame may hold.
    @Test func listsBeyondAnyClusterAreRefused() {
        let table = OriginTable()
        let a = table.intern(ActorUID(server: 11, index: 0))!
        for (count, isTaken) in [(FrameFormat.listMax, true), (FrameFormat.listMax + 1, false)] {
            var head = FrameHead()
            head.sender = ActorUID(server: 11, index: 0)
            head.asks = [RepairAsk](repeating: RepairAsk(origin: a, from: 1, to: 2), count: count)
            var writer = FrameWriter(buffer: OutputBuffer(), table: table)
            writer.head(head, cluster: 7)
            let (bytes, buffer) = writer.finish()
            buffer.deallocate()
            if case .frame = FrameCodecTests.decode(bytes, table) {
                #expect(isTaken)
            } else {
                #expect(!isTaken)
            }
        }
    }

    /// Names and addresses stand between blanks and commas where they are shown.
    @Test func rowsOfOtherThanWordsAreRefused() {
        for (address, name, isTaken) in [
            ("h:1", "a", true), ("", "", true), ("h:1", "a b", false), ("h:1", "a,b", false), ("h:1", "a=b", false),
            ("h 1", "a", false), ("h:1", "\u{1B}[2J", false), ("h:1", "é", false),
            ("h:1", String(repeating: "n", count: FrameFormat.nameBytesMax), true),
            ("h:1", String(repeating: "n", count: FrameFormat.nameBytesMax + 1), false),
        ] {
            var head = FrameHead()
            head.sender = ActorUID(server: 11, index: 0)
            head.rows = [
                MemberRow(server: 22, status: .up, actorCount: 1, address: Bytes(address), name: Bytes(name))
            ]
            let table = OriginTable()
            var writer = FrameWriter(buffer: OutputBuffer(), table: table)
            writer.head(head, cluster: 7)
            let (bytes, buffer) = writer.finish()
            buffer.deallocate()
            if case .frame = FrameCodecTests.decode(bytes, table) {
                #expect(isTaken, "\(address) \(name)")
            } else {
                #expect(!isTaken, "\(address) \(name)")
            }
        }
    }

    static func decode(_ bytes: [UInt8], _ table: OriginTable, cluster: UInt64 = 7) -> FrameReader.Result {
        bytes.withUnsafeBytes { FrameReader.decode($0, cluster: cluster, table) }
    }

    @Test func aFrameSurvivesTheRoundTripBetweenProcesses() throws {
        let bytes = FrameCodecTests.sample(OriginTable())
        let table = OriginTable()
        _ = table.intern(ActorUID(server: 5, index: 5))
        guard case .frame(let head, let blocks, _) = FrameCodecTests.decode(bytes, table) else {
            Issue.record("not decoded")
            return
        }
        let a = try #require(table.index(of: ActorUID(server: 11, index: 0)))
        let b = try #require(table.index(of: ActorUID(server: 22, index: 3)))
        #expect(head.sender == ActorUID(server: 11, index: 0) && head.toServer == 33 && head.steady == 5_000)
        #expect(head.vector[a] == 300 && head.vector[b] == 70_000 && head.digest == 0xDEAD_BEEF_0000_1111)
        #expect(head.islands == [Island(origin: b, from: 5, to: 9)] && head.rows == [FrameCodecTests.sampleRow])
        guard case .chunk(let chunk) = blocks[1].kind else {
            Issue.record("not a chunk")
            return
        }
        #expect(chunk.percent == 62 && chunk.isLast && chunk.start == head.vector)
        #expect(
            head.report?.heads == [1, 2] && head.report?.level == [99] && head.report?.retired == [77]
                && head.report?.least == head.vector && head.report?.isOnDisk == true)
        #expect(head.asks == [RepairAsk(origin: a, from: 1, to: 2)] && head.scanAsk?.everything == true)
        #expect(blocks.count == 2)
        for block in blocks {
            var decoder = EntryDecoder(from: block.from, to: block.to, count: block.count, millisMax: block.millisMax)
            for i in 0..<20 {
                let record = try #require(bytes.withUnsafeBytes { decoder.next($0, table) })
                #expect(String(decoding: record.key, as: UTF8.self) == "key:\(i)")
                #expect(
                    record.valueCount == i * 40 && record.isTombstone == (i == 0) && record.seq == UInt64(i * 2 + 1))
                #expect(record.origin == (i % 5 == 0 ? b : a) && record.ms == 1_780_000_000_000 + Millis(i % 3))
                record.release()
            }
            #expect(decoder.isComplete)
        }
    }

    @Test func everySingleCorruptedByteIsRefused() {
        let table = OriginTable()
        var bytes = FrameCodecTests.sample(table, entries: 4)
        for i in bytes.indices {
            for bit in [UInt8(1), 0x80] {
                bytes[i] ^= bit
                if case .frame = FrameCodecTests.decode(bytes, table) { Issue.record("byte \(i) went unnoticed") }
                bytes[i] ^= bit
            }
        }
        guard case .fault(.cluster) = FrameCodecTests.decode(bytes, table, cluster: 8) else {
            Issue.record("another cluster's frame")
            return
        }
    }

    @Test func everyTruncationIsRefused() {
        let table = OriginTable()
        let bytes = FrameCodecTests.sample(table, entries: 4)
        for count in 0..<bytes.count {
            if case .frame = FrameCodecTests.decode(Array(bytes[..<count]), table) { Issue.record("cut at \(count)") }
        }
    }

    /// Mutated frames with a checksum that fits: the decoder must neither trap nor read outside.
    @Test func hostileFramesAreSurvived() {
        var random = PRNG(seed: 42)
        let table = OriginTable()
        let original = FrameCodecTests.sample(table, entries: 6)
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = original
            for _ in 0...random.below(4) { bytes[9 + random.below(bytes.count - 9)] = UInt8(random.below(256)) }
            if random.chance(0.2) { bytes.removeLast(random.below(bytes.count - 20)) }
            let crc = bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[9...])) }
            for i in 0..<4 { bytes[5 + i] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * i)) }
            guard case .frame(_, let blocks, _) = FrameCodecTests.decode(bytes, table) else { continue }
            accepted += 1
            for block in blocks {
                var decoder = EntryDecoder(
                    from: block.from, to: block.to, count: block.count, millisMax: block.millisMax)
                while decoder.left > 0, let record = bytes.withUnsafeBytes({ decoder.next($0, table) }) {
                    record.release()
                }
            }
        }
        #expect(accepted > 0)
    }

    @Test func aReplicaRefusesWhatIsNotMeantForIt() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 1)
        let replica = server.actors[0].replica
        var effects = ReplicaEffects()
        let at = cluster.moment(server)
        let digest = replica.digest
        #expect(replica.receive(frame: [], at, into: &effects) == .rejected(.length))
        #expect(replica.receive(frame: [UInt8](repeating: 0, count: 64), at, into: &effects) == .rejected(.magic))
        let foreign = FrameCodecTests.sample(OriginTable())
        #expect(replica.receive(frame: foreign, at, into: &effects) == .rejected(.cluster))
        #expect(replica.statistics.framesRejected == 3 && replica.digest == digest && effects.isEmpty)
    }
}
