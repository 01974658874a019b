// What has taken effect: the vector moves over closed gaps only, and what lies beyond is remembered within bounds.

import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct SeenTests {
    @Test func theVectorStopsAtAGapAndLeapsWhenItIsFilled() {
        var seen = Seen(own: 0)
        #expect(seen.advance(1, 0, 10) && seen[1] == 10)
        let closed = [seen.advance(1, 20, 30), seen.advance(1, 40, 50)]
        #expect(closed == [false, false])
        #expect(seen[1] == 10 && seen.islands.count == 2 && !seen.isTight)
        #expect(seen.hole(1, upTo: 60) == RepairAsk(origin: 1, from: 10, to: 20))
        #expect(seen.advance(1, 5, 20) && seen[1] == 30)
        #expect(seen.hole(1, upTo: 60) == RepairAsk(origin: 1, from: 30, to: 40))
        #expect(seen.advance(1, 30, 41) && seen[1] == 50 && seen.islands.isEmpty && seen.isTight)
        seen.checkInvariants()
    }

    @Test func islandsThatMeetBecomeOne() {
        var seen = Seen(own: 0)
        _ = seen.advance(1, 20, 30)
        _ = seen.advance(1, 40, 50)
        _ = seen.advance(2, 25, 45)
        _ = seen.advance(1, 30, 40)
        #expect(
            seen.islands == [Island(origin: 2, from: 25, to: 45), Island(origin: 1, from: 20, to: 50)])
        seen.checkInvariants()
    }

    /// The oldest is forgotten, of this origin and of no other.
    @Test func islandsOfOneOriginAreBounded() {
        var seen = Seen(own: 0)
        _ = seen.advance(2, 5, 6)
        for i in 1...UInt64(Seen.islandsMax + 3) { _ = seen.advance(1, 10 * i, 10 * i + 5) }
        let mine = seen.islands.filter { $0.origin == 1 }
        #expect(mine.count == Seen.islandsMax && mine.first?.from == 40)
        #expect(seen.islands.contains { $0.origin == 2 })
        seen.checkInvariants()
    }

    @Test func ownWritesAreTheStoresToCount() {
        var seen = Seen(own: 0)
        #expect(seen.advance(0, 0, 10) && seen[0] == 0)
        var start = VersionVector()
        start.set(0, 99)
        start.set(1, 7)
        start.set(2, VersionVector.retired)
        seen.prove(start)
        #expect(seen[0] == 0 && seen[1] == 7 && seen[2] == 0)
        #expect(seen.vector(ownSeq: 3)[0] == 3)
        seen.checkInvariants()
    }

    @Test func aScanConnectsWhatLayBeyondAGap() {
        var seen = Seen(own: 0)
        _ = seen.advance(1, 20, 30)
        var start = VersionVector()
        start.set(1, 22)
        seen.prove(start)
        #expect(seen[1] == 30 && seen.islands.isEmpty)
    }

    @Test func looseEntriesAreToldFromCoveredOnes() {
        var seen = Seen(own: 0)
        _ = seen.advance(1, 0, 10)
        seen.noteLoose(1, 10)
        #expect(!seen.isLoose(1) && seen.isTight)
        seen.noteLoose(1, 12)
        #expect(seen.isLoose(1) && !seen.isTight)
        seen.forgetLoose(1)
        #expect(!seen.isLoose(1) && seen.isTight && seen[1] == 10)
    }

    @Test func aRetiredOriginCoversEverythingUntilItIsReopened() {
        var seen = Seen(own: 0)
        _ = seen.advance(1, 0, 10)
        _ = seen.advance(1, 20, 30)
        seen.noteLoose(1, 30)
        #expect(seen.retire(1) == 10)
        #expect(seen.isRetired(1) && seen.covers(1, 1_000_000) && seen.isTight && seen.islands.isEmpty)
        _ = seen.advance(1, 10, 20)
        #expect(seen.isRetired(1))
        seen.reopen(1, at: 10)
        #expect(!seen.isRetired(1) && seen[1] == 10)
        seen.checkInvariants()
    }
}
