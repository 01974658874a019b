// What others said of a writer that is heard again: when it is confirmed, and when it ends.

import Testing

@testable import KVCore

@Suite struct HearsayTests {
    /// Others said that it wrote 1,000; it says 300 from `now` on, looked at twice a second.
    private func contradict(_ hearsay: inout Hearsay, from now: Millis, for millis: Millis) -> UInt64? {
        var last: UInt64?
        for at in stride(from: now, through: now + millis, by: 500) {
            last = last ?? hearsay.compare(3, seen: 1_000, said: 300, at)
        }
        return last
    }

    @Test func whatTheWriterSaysTooIsConfirmed() {
        var hearsay = Hearsay()
        hearsay.noteTold(3, 1_000)
        #expect(hearsay.isDoubtful(3, 1) && !hearsay.isSettled(1_000))
        #expect(hearsay.compare(3, seen: 300, said: 300, 2_000) == nil)
        #expect(!hearsay.isDoubtful(3, 300) && hearsay.isSettled(2_000))
    }

    @Test func itGoesBackAfterTenSecondsOfContradiction() {
        var hearsay = Hearsay()
        #expect(hearsay.compare(3, seen: 200, said: 200, 0) == nil)
        hearsay.noteTold(3, 1_000)
        #expect(contradict(&hearsay, from: 2_000, for: 10_000) == nil)
        #expect(hearsay.compare(3, seen: 1_000, said: 300, 12_500) == 200)
        #expect(!hearsay.isDoubtful(3, 900))
    }

    /// One that is heard for some seconds at a time is heard too.
    @Test func silenceInBetweenTakesNothingAway() {
        var hearsay = Hearsay()
        hearsay.noteTold(3, 0)
        for round in 0..<3 {
            let now = Millis(round) * 60_000
            #expect(contradict(&hearsay, from: now, for: 3_000) == nil)
            // Silence itself does not count.
            #expect(hearsay.compare(3, seen: 1_000, said: nil, now + 3_500) == nil)
            #expect(!hearsay.isSettled(now + 15_000))
        }
        #expect(contradict(&hearsay, from: 200_000, for: 1_500) == 0)
    }

    /// Equal vectors prove nothing while the writer says less.
    @Test func nothingIsSettledWhileItIsContradicted() {
        var hearsay = Hearsay()
        hearsay.noteTold(3, 0)
        #expect(hearsay.isSettled(25_000))
        #expect(hearsay.compare(3, seen: 1_000, said: 300, 25_500) == nil)
        #expect(!hearsay.isSettled(30_000) && hearsay.isSettled(46_000))
    }
}
