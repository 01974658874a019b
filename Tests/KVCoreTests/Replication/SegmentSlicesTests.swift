// What is done to long segments in slices: encoding while they are made, giving them up.

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
        while !builder.isFinished { _ = builder.advance(store, budget: 500, bugs: []) }
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
        let segments = (0..<Replica.discardedMax + 6).map { _ in parts.build(store, 0, 200) }
        for segment in segments { replica.discard(segment) }
        #expect(replica.discarded.count == Replica.discardedMax)
        replica.discarded.removeAll()
    }

    @Test func aFrameTakesTheMemoryOfOneThatIsOutAndLeavesOthersAlone() {
        var spare: [UInt8] = []
        var onTheirWay: [[UInt8]] = []
        var fresh: [[UInt8]] = []
        for (i, size) in [30_000, 29_000, 31_000, 100, 30_000, 30_500, 30_400].enumerated() {
            let entries = [UInt8](repeating: UInt8(i + 1), count: size)
            fresh.append(frame(entries) { $0.finish() })
            let place = spare.withUnsafeBytes { $0.baseAddress }
            let reused = frame(entries) { $0.finish(reusing: &spare) }
            #expect(reused == fresh[i])
            // The last one found the one before let go.
            if i == 6 { #expect(reused.withUnsafeBytes { $0.baseAddress } == place) }
            if i < 5 { onTheirWay.append(reused) }
            spare = reused
        }
        #expect(onTheirWay == Array(fresh[..<5]))
    }

    private func frame(
        _ entries: [UInt8], _ finish: (inout FrameWriter) -> (bytes: [UInt8], buffer: OutputBuffer)
    ) -> [UInt8] {
        var writer = FrameWriter(buffer: OutputBuffer(), table: OriginTable())
        writer.head(FrameHead(), cluster: 7)
        return entries.withUnsafeBytes { bytes in
            let cut = bytes.count / 3
            let runs = [bytes[..<cut], bytes[cut...]].map { UnsafeRawBufferPointer(rebasing: $0) }
            let chunk = ChunkHead(
                session: 1, number: 0, isLast: false, everything: false, start: VersionVector(),
                frontier: VersionVector())
            writer.block(Block(kind: .chunk(chunk), count: 1, millisMax: 1), runs: runs)
            let (frame, buffer) = finish(&writer)
            buffer.deallocate()
            return frame
        }
    }
}
