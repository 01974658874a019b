// A round puts own writes into segments, in slices, and hands them over; frames are made on the bench.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct OutgoingRoundTests {
    private let parts = ReplicationPartsTests()

    private var limits: FrameLimits {
        FrameLimits(
            ReplicaConfig(clusterId: 1, server: 1, actorIndex: 0, actorCount: 1, address: Bytes("a:1"), joining: false))
    }

    @Test func aRoundBringsWhatWasWrittenBeforeItOpened() throws {
        let (store, _) = parts.store()
        defer { store.destroy() }
        for i in 0..<100 { parts.put(store, "k\(i)", "v") }
        var round = OutgoingRound()
        round.open(through: store.ownSeq)
        for i in 0..<10 { parts.put(store, "late\(i)", "v") }
        #expect(round.isOpen && round.isLogBehind && !round.isBuilding)
        round.begin(from: 0, limits, dotsMax: 60, encodes: true)
        var slices = 0
        while true {
            let step = round.advance(store, budget: 25, planted: [])
            slices += 1
            if step.isFinished { break }
        }
        #expect(slices == 3)
        let first = round.take(store, cut: VersionVector())
        #expect(first.segment?.to == 60 && !first.isOverrun && round.logged == 60 && round.isLogBehind)
        round.begin(from: 60, limits, dotsMax: 60, encodes: false)
        #expect(round.advance(store, budget: 100, planted: []).looked == 40)
        #expect(round.take(store, cut: VersionVector()).segment?.to == 100 && !round.isLogBehind)
        #expect(round.segment(from: 0, limits)?.section != nil && round.segment(from: 60, limits)?.section == nil)
        #expect(round.segment(from: 61, limits) == nil)
        round.close()
        #expect(round.takeMade().count == 2 && round.segment(from: 0, limits) == nil)
        round.checkInvariants(ownSeq: store.ownSeq)
    }

    /// A server that missed a cut stands elsewhere than the siblings, and is told all that it missed at once: few keys
    /// stand for many writes.
    @Test(arguments: [1, 2]) func manyWritesToFewKeysAreOneSectionAfterACut(actors: Int) {
        let cluster = TestCluster()
        let padding = String(repeating: ".", count: 60)
        let a = cluster.start(actors: actors, journal: 1 << 18)
        cluster.run(200)
        let others = (0..<2).map { _ in cluster.start(actors: 1, joining: a) }
        cluster.run(4_000)
        for (i, b) in others.enumerated() {
            cluster.drops = { from, to in from.server == b.id || to.server == b.id }
            var n = 0
            cluster.run(2_000) {
                for _ in 0..<50 {
                    a.actors[0].put("key:\(n % 50)", "\(i) \(n)" + padding, cluster.moment(a))
                    n += 1
                }
            }
            cluster.drops = { _, _ in false }
            cluster.sent.removeAll()
            #expect(cluster.run(until: { cluster.isConverged }, within: 10_000))
            let own = a.actors[0].replica.uid
            let sections = cluster.sent.count { $0.from == own && $0.to.server == b.id && $0.bytes > 1_000 }
            #expect((1...3).contains(sections))
        }
    }

    @Test func whatTheJournalLostIsSkippedAndSaid() {
        let (store, _) = parts.store(journal: 4096)
        defer { store.destroy() }
        for i in 0..<20_000 { parts.put(store, "k\(i)", "v") }
        #expect(store.journalFirstSeq > 1)
        var round = OutgoingRound()
        round.open(through: store.ownSeq)
        round.begin(from: 0, limits, dotsMax: 1 << 20, encodes: false)
        #expect(round.advance(store, budget: 10, planted: []).isFinished)
        let lost = round.take(store, cut: VersionVector())
        #expect(lost.segment == nil && lost.isOverrun && round.logged == store.journalFirstSeq - 1)
        round.close()
        round.checkInvariants(ownSeq: store.ownSeq)
    }

    /// The same blocks, encoded on the bench or before, in one piece or as a seal, are the same frame.
    @Test func aFrameIsTheSameHoweverItIsMade() throws {
        let (store, origins) = parts.store()
        defer { store.destroy() }
        for i in 0..<3_000 { parts.put(store, "k\(i)", String(repeating: "v", count: 60)) }
        var bench = FrameBench(origins: origins, cluster: 7)
        defer { bench.deallocate() }
        var head = FrameHead()
        head.sender = ActorUID(server: 1, index: 0)
        var frames: [[UInt8]] = []
        for slices in [true, false] {
            var round = OutgoingRound()
            round.open(through: store.ownSeq)
            round.begin(from: 0, limits, dotsMax: 1 << 20, encodes: true)
            _ = round.advance(store, budget: 3_000, planted: [])
            let segment = try #require(round.take(store, cut: VersionVector()).segment)
            let section = try #require(round.segment(from: 0, limits)?.section)
            for isEncodedBefore in [true, false] {
                bench.begin()
                let block = isEncodedBefore ? bench.block(segment, section) : bench.encode(segment)
                #expect(block.block.count == 3_000 && block.byteCount > FrameSlice.bytes)
                switch bench.make(head, [block], slices: slices) {
                case .bytes(let bytes):
                    #expect(!slices)
                    frames.append(bytes)
                case .seal(let seal):
                    #expect(slices)
                    frames.append(seal.finish())
                }
                bench.checkInvariants()
            }
        }
        #expect(frames.count == 4 && frames.allSatisfy { $0 == frames[0] })
    }
}
