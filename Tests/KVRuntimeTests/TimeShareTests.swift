// How much of the time strangers may take.

import KVBase
import Testing

@testable import KVRuntime

@Suite struct TimeShareTests {
    @Test func aQuarterOfTheTimeAndSoMuchAtOnce() {
        var share = TimeShare(of: 4, atOnce: 1_000)
        var (now, taken): (Nanos, Nanos) = (50, 0)
        while share.mayTake(at: now) {
            share.take(300)
            taken += 300
        }
        // The last one begins with what is left.
        #expect(taken == 1_200)
        for _ in 0..<4_000 {
            now += 10
            if share.mayTake(at: now) {
                share.take(300)
                taken += 300
            }
        }
        #expect((10_900...11_400).contains(taken))
    }

    @Test func whatIsNotTakenIsNotSavedUp() {
        var share = TimeShare(of: 4, atOnce: 1_000)
        let looks: [Nanos] = [0, 1_000_000_000]
        #expect(looks.map { share.mayTake(at: $0) } == [true, true])
        share.take(1_000)
        let later: [Nanos] = [1_000_000_003, 1_000_000_004]
        #expect(later.map { share.mayTake(at: $0) } == [false, true])
    }

    @Test func aClockThatIsLookedAtOftenLosesNothing() {
        var share = TimeShare(of: 4, atOnce: 10)
        let isFull = share.mayTake(at: 0)
        share.take(11)
        // A nanosecond at a time: each is less than a part.
        var now: Nanos = 0
        while !share.mayTake(at: now) { now += 1 }
        #expect(isFull && now == 8)
    }
}
