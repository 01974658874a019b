// What others said of a writer that is heard again: when it is confirmed, and when it ends.

import KVBase
import Testing

@testable import KVCore

/// A writer of whom others said that it wrote 1,000.
private struct Spoken {
    var hearsay = Hearsay()

    /// It says 300 from `now` on, looked at twice a second. Where its entry goes back to, if it does.
    mutating func contradict(from now: Millis, for millis: Millis) -> UInt64? {
        var last: UInt64?
        for at in stride(from: now, through: now + millis, by: 500) where last == nil {
            last = look(said: 300, at)
        }
        return last
    }

    mutating func look(seen: UInt64 = 1_000, said: UInt64?, _ now: Millis) -> UInt64? {
        hearsay.compare(3, seen: seen, said: said, now)
    }
}

@Suite struct HearsayTests {
    @Test func whatTheWriterSaysTooIsConfirmed() {
        var spoken = Spoken()
        spoken.hearsay.noteTold(3, 1_000)
        #expect(spoken.hearsay.isDoubtful(3, 1) && !spoken.hearsay.isSettled(1_000))
        let last = spoken.look(seen: 300, said: 300, 2_000)
        #expect(last == nil && !spoken.hearsay.isDoubtful(3, 300) && spoken.hearsay.isSettled(2_000))
    }

    @Test func itGoesBackAfterTenSecondsOfContradiction() {
        var spoken = Spoken()
        _ = spoken.look(seen: 200, said: 200, 0)
        spoken.hearsay.noteTold(3, 1_000)
        let early = spoken.contradict(from: 2_000, for: 10_000)
        let last = spoken.look(said: 300, 12_500)
        #expect(early == nil && last == 200 && !spoken.hearsay.isDoubtful(3, 900))
    }

    /// One that is heard for some seconds at a time is heard too.
    @Test func silenceInBetweenTakesNothingAway() {
        var spoken = Spoken()
        spoken.hearsay.noteTold(3, 0)
        for round in 0..<3 {
            let now = Millis(round) * 60_000
            let last = spoken.contradict(from: now, for: 3_000)
            // Silence itself does not count.
            let silent = spoken.look(said: nil, now + 3_500)
            #expect(last == nil && silent == nil && !spoken.hearsay.isSettled(now + 15_000))
        }
        let last = spoken.contradict(from: 200_000, for: 1_500)
        #expect(last == 0)
    }

    /// A process that was stopped for a minute heard nobody meanwhile.
    @Test func standingStillIsNoHearing() {
        var spoken = Spoken()
        spoken.hearsay.noteTold(3, 0)
        let before = spoken.contradict(from: 1_000, for: 3_000)
        let after = spoken.contradict(from: 64_000, for: 5_500)
        #expect(before == nil && after == nil)
        let last = spoken.contradict(from: 70_000, for: 1_000)
        #expect(last == 0)
    }

    /// Equal vectors prove nothing while the writer says less.
    @Test func nothingIsSettledWhileItIsContradicted() {
        var spoken = Spoken()
        spoken.hearsay.noteTold(3, 0)
        #expect(spoken.hearsay.isSettled(25_000))
        _ = spoken.look(said: 300, 25_500)
        #expect(!spoken.hearsay.isSettled(30_000) && spoken.hearsay.isSettled(46_000))
    }
}
