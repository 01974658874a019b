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
