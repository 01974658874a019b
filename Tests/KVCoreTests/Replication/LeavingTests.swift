// Leaving, connections that wait for their server, and servers that were removed.

import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct LeavingTests {
    private func vector(_ seqs: UInt64...) -> VersionVector {
        var vector = VersionVector()
        for (i, seq) in seqs.enumerated() { vector.set(OriginIndex(i), seq) }
        return vector
    }

    @Test func whatWasSeenBeforeLeavingIsOwedToTheOthers() {
        var leaving = Leaving()
        leaving.begin(seen: vector(0, 10, VersionVector.retired))
        #expect(leaving.isCovered(by: vector(0, 10, 20)) { _ in 20 })
        #expect(!leaving.isCovered(by: vector(0, 9, 20)) { _ in 20 })
        #expect(!leaving.isCovered(by: vector(0, 10, 19)) { _ in 20 })
        #expect(leaving.isCovered(by: vector(5, 11, VersionVector.retired)) { _ in 20 })
    }

    @Test func theLastGoodByeEndsIt() {
        var leaving = Leaving()
        leaving.begin(seen: VersionVector())
        leaving.noteSaidFlushed()
        leaving.noteGoodBye(of: 2)
        #expect(leaving.hasSaidFlushed && !leaving.hasLeft)
        leaving.noteGoodBye(of: 2)
        #expect(leaving.hasLeft)
        leaving.checkInvariants()
    }

    @Test func aConnectionWaitsForItsServerAndTheNewestCounts() {
        var links = LinkBook()
        links.note(7, session: 1)
        links.note(7, session: 2)
        links.note(8, session: 3)
        links.lose(7, session: 1)
        #expect(links.take(7) == 2 && links.take(7) == nil)
        links.lose(8, session: 0)
        #expect(links.take(8) == nil)
        for i in UInt64(1)...1_100 { links.note(i, session: i) }
        #expect(links.take(76) == nil && links.take(77) == 77)
        links.checkInvariants()
    }

    @Test func aGreetingIsTakenOnce() {
        var links = LinkBook()
        links.noteGreeting(5, at: 1_000, to: 12)
        #expect(links.isGreeted(5) && !links.isGreeted(6))
        #expect(links.takeGreeting(5)?.to == 12 && links.takeGreeting(5) == nil)
        for i in UInt64(1)...1_100 { links.noteGreeting(i, at: 0, to: 0) }
        #expect(!links.isGreeted(76) && links.isGreeted(77))
        links.checkInvariants()
    }

    @Test func aGreetingWithWritesHoldsCollectingForAMinuteOrUntilItIsKnownWhoHasThem() {
        var links = LinkBook()
        links.noteGreeting(4, at: 1_000, to: 0)
        #expect(!links.isHoldingCollection(1_000), "it brought no writes")
        links.noteGreeting(5, at: 1_000, to: 12)
        #expect(links.isHoldingCollection(60_999) && !links.isHoldingCollection(61_000))
        _ = links.takeGreeting(5)
        #expect(!links.isHoldingCollection(1_001))
    }

    @Test func anOutcastIsToldOnceInAWhile() {
        var outcasts = Outcasts()
        let answers = [0, 499, 500, 999].map { outcasts.tell(7, at: $0, every: 500) }
        #expect(answers == [true, false, true, false])
        outcasts.note(8, at: 700)
        #expect(outcasts.lastTold { $0 == 7 } == 500 && outcasts.lastTold { _ in true } == 700)
        #expect(outcasts.lastTold { $0 == 9 } == nil)
        for i in UInt64(10)..<100 { outcasts.note(i, at: 1_000) }
        let isTold = outcasts.tell(7, at: 999, every: 500)
        #expect(isTold, "forgotten: the list is bounded")
        outcasts.checkInvariants()
    }
}
