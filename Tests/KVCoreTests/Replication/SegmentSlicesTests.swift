// What is done in slices: encoding long segments while they are made, giving them up, sealing and checking large
// frames.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct SegmentSlicesTests {
    private let parts = ReplicationPartsTests()

    private func filled(_ keys: Int, valueBytes: Int = 80) -> (Store, OriginTable) {
        let (store, origins) = parts.store(journal: 1 << 17)
        for i in 0..<keys { parts.put(store, "key:\(i)", String(repeating: "v", count: valueBytes), 1_000 + Millis(i)) }
        return (store, origins)
    }

    @Test func aSectionEncodedInSlicesIsWhatEncodingTheSegmentGives() {
        let (store, origins) = filled(9_000)
        defer { store.destroy() }
        var builder = SegmentBuilder(from: 0, target: 9_000, bytesMax: 1 << 24, dotsMax: 1 << 20, encodes: true)
        while !builder.isFinished { _ = builder.advance(store, budget: 500, planted: []) }
        let segment = builder.finish(origin: store.ownOrigin, cut: VersionVector())
        guard let section = builder.takeSection() else {
            Issue.record("no section")
            return
        }
        var whole = OutputBuffer()
        var encoder = EntryEncoder()
        for entry in segment.entries { encoder.encode(entry.record, origins, into: &whole) }
        #expect(section.runs.flatMap { Array($0) } == Array(whole.bytes))
        #expect(section.byteCount == whole.count && section.count == encoder.count)
        #expect(section.millisMax == encoder.millisMax && section.runs.count > 1)
        whole.deallocate()
    }

    @Test func aSegmentGivenUpInSlicesLeavesNoReferenceBehind() {
        let (store, _) = filled(1_000)
        defer { store.destroy() }
        var records: [Record] = []
        do {
            let segment = parts.build(store, 0, 1_000)
            records = segment.entries.map { $0.record.retained() }
            #expect(records.allSatisfy { $0.referenceCount == 3 })
            #expect(segment.release(upTo: 400))
            #expect(records.count { $0.referenceCount == 2 } == 400)
            #expect(!segment.release(upTo: 600))
        }
        #expect(records.allSatisfy { $0.referenceCount == 2 })
        for record in records { record.release() }
    }

    @Test func whatWaitsToBeGivenUpHasAnEnd() {
        let (store, _) = filled(200)
        defer { store.destroy() }
        let cluster = TestCluster()
        let replica = cluster.start(actors: 1).actors[0].replica
        let segments = (0..<Discards.segmentsMax + 6).map { _ in parts.build(store, 0, 200) }
        for segment in segments { replica.discard(segment) }
        #expect(replica.discards.count == Discards.segmentsMax)
        replica.discards = Discards()
    }

    /// The memory its pieces lie in is the seal's: what was done to the buffers since changes nothing.
    @Test(arguments: [1, 8, 9, 1_000, 30_000, Int.max]) func aFrameSealedInSlicesIsWhatFinishingItGives(_ slice: Int) {
        for size in [1, 100, 30_000] {
            let entries = [UInt8](repeating: UInt8(truncatingIfNeeded: size), count: size)
            let whole = frame(entries) { writer, buffer in
                defer { buffer.deallocate() }
                let (bytes, head) = writer.finish()
                head.deallocate()
                return bytes
            }
            let sealed = frame(entries) { writer, buffer in
                let seal = writer.seal(holding: [], [buffer])
                #expect(seal.byteCount == whole.count)
                var slices = 1
                while !seal.advance(budget: slice) { slices += 1 }
                #expect(slices == (whole.count - 1) / slice + 1)
                #expect(seal.advance(budget: slice))
                return seal.finish()
            }
            #expect(sealed == whole)
        }
    }

    @Test func aFrameCheckedInSlicesIsTakenOnlyIfIntact() {
        let table = OriginTable()
        let bytes = FrameCodecTests.sample(table)
        for (damaged, slice) in [(false, 100), (false, .max), (true, 100), (true, .max)] {
            var bytes = bytes
            if damaged { bytes[bytes.count / 2] ^= 1 }
            var check = FrameCheck(bytes)
            while !check.advance(budget: slice) {}
            let result = bytes.withUnsafeBytes { FrameReader.decode($0, crc: check.crc, cluster: 7, table) }
            switch result {
            case .frame: #expect(!damaged)
            case .fault(let fault): #expect(damaged && fault == .checksum)
            }
        }
        for short in [[], [UInt8](repeating: 0, count: 5)] {
            var check = FrameCheck(short)
            let isDone = check.advance(budget: 1)
            #expect(isDone)
        }
    }

    /// A frame with one chunk of these entries in two runs, made by `finish`, which takes the buffer they lie in over.
    private func frame(
        _ entries: [UInt8], _ finish: (inout FrameWriter, OutputBuffer) -> [UInt8]
    ) -> [UInt8] {
        var buffer = OutputBuffer()
        entries.withUnsafeBytes { buffer.append($0) }
        var writer = FrameWriter(buffer: OutputBuffer(), table: OriginTable())
        writer.head(FrameHead(), cluster: 7)
        let cut = entries.count / 3
        let runs = [buffer.bytes[..<cut], buffer.bytes[cut...]].map { UnsafeRawBufferPointer(rebasing: $0) }
        let chunk = ChunkHead(
            session: 1, number: 0, isLast: false, everything: false, start: VersionVector(),
            frontier: VersionVector())
        writer.block(Block(kind: .chunk(chunk), count: 1, millisMax: 1), runs: runs)
        return finish(&writer, buffer)
    }
}
