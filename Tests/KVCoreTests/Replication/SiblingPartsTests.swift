// What is known of a sibling: its last batch, and the two streams of items.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct SiblingPartsTests {
    private func batch(_ vector: VersionVector, floor: Millis = 0, rowsHash: UInt64 = 0) -> LocalBatch {
        LocalBatch(
            fromIndex: 1, vector: vector, digest: 0, floor: floor, firstItem: 1, items: [], ackedItem: 0, news: [],
            rowsHash: rowsHash, rows: [], tellers: [], votes: [], asks: [], scanAsk: nil, scanChunk: nil,
            isFlushed: false, isSettled: true, hasGreeted: false, isAdopting: false, level: [], retired: [])
    }

    private func vector(_ seqs: UInt64...) -> VersionVector {
        var vector = VersionVector()
        for (i, seq) in seqs.enumerated() { vector.set(OriginIndex(i), seq) }
        return vector
    }

    @Test func itemsAreTakenOnceAndAHoleIsRemembered() {
        var stream = SiblingStream()
        let first = [1, 2, 2, 3, 1].map { stream.queue($0) }
        #expect(first == [true, true, false, true, false])
        #expect(stream.receive(from: 4) == false && stream.receive(from: 2) == false)
        #expect(stream.isWhole(since: 1))
        let isHole = stream.receive(from: 9)
        #expect(isHole && stream.queue(9) && stream.enqueued == 9)
        #expect(!stream.isWhole(since: 8) && stream.isWhole(since: 9) && stream.isWhole(since: 12))
        stream.noteMerged(9)
        stream.noteRefused(9)
        #expect(!stream.isWhole(since: 9) && stream.isWhole(since: 10) && stream.appliedTo == 9)
        stream.checkInvariants()
    }

    @Test func acknowledgementsNeverGoBackOrBeyondTheLastItem() {
        var stream = SiblingStream()
        stream.acknowledge(5, of: 8)
        stream.acknowledge(3, of: 8)
        #expect(stream.acked == 5)
        stream.acknowledge(20, of: 8)
        #expect(stream.acked == 8)
    }

    /// It may go back: a retired server is taken up again, or what was told of a silent one is given up.
    @Test func theLastBatchSaysWhatASiblingHas() {
        var view = SiblingView()
        #expect(!view.isHeard)
        #expect(view.take(batch(vector(5, VersionVector.retired), floor: 10, rowsHash: 7)) == true)
        #expect(view.take(batch(vector(3, 4), floor: 8, rowsHash: 7)) == false)
        #expect(view.isHeard && view.vector == vector(3, 4) && view.floor == 10)
        view.checkInvariants()
    }

    /// A vector that waits is not replaced by newer ones, or it would wait for ever.
    @Test func aVectorCountsOnceItsActorsWritesArrived() {
        var view = SiblingView()
        view.promote { _ in true }
        #expect(view.usable == nil, "never heard")
        _ = view.take(batch(vector(5)))
        view.promote { $0[0] <= 4 }
        #expect(view.usable == nil)
        _ = view.take(batch(vector(9)))
        view.promote { $0[0] <= 5 }
        #expect(view.usable?.vector == vector(5))
        view.promote { $0[0] <= 9 }
        #expect(view.usable?.vector == vector(9))
    }

    @Test func forwardedRequestsAreBounded() {
        let sibling = Sibling(index: 1, origin: 1)
        let ask = ForwardedAsk(server: 7, ask: RepairAsk(origin: 1, from: 0, to: 1))
        let taken = (0..<20).map { _ in sibling.add(ask) }
        #expect(taken.count(where: { $0 }) == RepairQueue.asksMax)
        #expect(sibling.takeAsks().count == RepairQueue.asksMax && sibling.takeAsks().isEmpty)
        sibling.checkInvariants()
    }
}
