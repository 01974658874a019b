// A counter that is added to again and again: the short way comes to what the long one does, whatever happens between.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct LastCounterTests {
    private static func pair(_ origins: OriginTable) -> (hot: Store, cold: Store, other: Store) {
        (ExpiryTests.store(3, origins), ExpiryTests.store(4, origins), ExpiryTests.store(8, origins))
    }

    /// The cold store counts at another key in between, so it never goes the short way.
    private func add(_ key: String, _ step: Int64, _ hot: Store, _ cold: Store, _ now: Millis) {
        cold.increment("between", now: now)
        let (a, b) = (hot.increment(key, by: step, now: now), cold.increment(key, by: step, now: now))
        #expect(a == b, "\(key) by \(step) at \(now)")
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>) func theShortWayComesToTheSame(_ seed: UInt64) {
        let (hot, cold, unused) = LastCounterTests.pair(OriginTable())
        var (random, now) = (PRNG(seed: seed), 100_000 as Millis)
        for step in 0..<2_000 {
            let key = ["n", "m", "k"][random.below(8) / 3]
            switch random.below(24) {
            case 0: for store in [hot, cold] { store.set(key, "\(step)", now: now) }
            case 1: for store in [hot, cold] { store.set(key, "\(step)", .at(now + 50), now: now) }
            case 2: for store in [hot, cold] { store.set(key, "text", .keep, now: now) }
            case 3: for store in [hot, cold] { store.remove(key, now: now) }
            case 4:
                let deadline = now + Millis(random.below(60))
                for store in [hot, cold] { store.expire(key, at: deadline, now: now) }
            case 5: for store in [hot, cold] { store.persist(key, now: now) }
            case 6: now += Millis(random.below(80))
            case 7: for store in [hot, cold] { store.expireAll(now: now) }
            case 8: add(key, .max - Int64(random.below(3)), hot, cold, now)
            default: for _ in 0...random.below(4) { add(key, Int64(random.below(9)) - 4, hot, cold, now) }
            }
            #expect(hot.shown(key, now: now) == cold.shown(key, now: now))
            #expect(hot.deadline(key, now: now) == cold.deadline(key, now: now))
            if step % 200 == 0 { hot.checkInvariants() }
        }
        hot.checkInvariants()
        for store in [hot, cold, unused] { store.destroy() }
    }

    /// Others count at the same key, take it and delete it, and hold this actor's part meanwhile.
    @Test(arguments: 1...40 as ClosedRange<UInt64>) func whatOthersDoMeanwhileCounts(_ seed: UInt64) {
        let origins = OriginTable()
        let (hot, unused, other) = LastCounterTests.pair(origins)
        var (random, now, sum) = (PRNG(seed: seed), 100_000 as Millis, 0 as Int64)
        for step in 0..<500 {
            now += Millis(random.below(3))
            switch random.below(12) {
            case 0:
                hot.copy(to: other)
                other.copy(to: hot)
            case 1:
                other.increment("n", by: 100, now: now)
                other.copy(to: hot)
                hot.copy(to: other)
                sum = Int64(hot.shown("n", now: now)!)!
                #expect(other.shown("n", now: now) == "\(sum)")
            case 2 where step % 5 == 0:
                hot.copy(to: other)
                other.set("n", "7", now: now)
                other.copy(to: hot)
                sum = 7
            case 3 where step % 7 == 0:
                hot.copy(to: other)
                other.remove("n", now: now)
                other.copy(to: hot)
                sum = 0
            default:
                sum += 1
                #expect(hot.increment("n", now: now) == .value(sum))
            }
            let third = ExpiryTests.store(11, origins)
            hot.copy(to: third)
            #expect(third.shown("n", now: now) == hot.shown("n", now: now))
            third.destroy()
        }
        hot.checkInvariants()
        other.checkInvariants()
        for store in [hot, unused, other] { store.destroy() }
    }

    /// Keys whose hashes are the same are told apart.
    @Test func keysOfOneHashAreTwoCounters() {
        let store = ExpiryTests.store(mask: 0)
        for i in 1...20 {
            #expect(store.increment("a", now: 1_000) == .value(Int64(i)))
            #expect(store.increment("b", by: 2, now: 1_000) == .value(Int64(2 * i)))
            #expect(store.increment("b", by: 0, now: 1_000) == .value(Int64(2 * i)))
        }
        store.checkInvariants()
        store.destroy()
    }

    /// A value with a deadline is written in place where nobody else holds it: figures, digest and wheel follow.
    @Test(arguments: 1...10 as ClosedRange<UInt64>) func aDeadlineWrittenInPlaceIsCounted(_ seed: UInt64) {
        let origins = OriginTable()
        let (hot, cold, other) = LastCounterTests.pair(origins)
        var (random, now) = (PRNG(seed: seed), 100_000 as Millis)
        for _ in 0..<3_000 {
            now += Millis(random.below(30))
            let key = "\(random.below(20))"
            let (deadline, value) = (now + 1 + Millis(random.below(2_000)), ["a", "bc", ""][random.below(3)])
            switch random.below(10) {
            case 0: for store in [hot, cold] { store.expireAll(now: now) }
            case 1: for store in [hot, cold] { store.remove(key, now: now) }
            case 2: hot.copy(to: other)
            default:
                hot.set(key, value, .at(deadline), now: now)
                // Never in place: there is nothing there, or no deadline.
                cold.remove(key, now: now)
                cold.set(key, value, .at(deadline), now: now)
            }
            #expect(hot.shown(key, now: now) == cold.shown(key, now: now))
            #expect(hot.deadline(key, now: now) == cold.deadline(key, now: now))
        }
        hot.checkInvariants()
        now += 10_000
        for store in [hot, cold] { store.expireAll(now: now) }
        #expect(hot.keys(now: now).isEmpty && hot.count == 0 && hot.volatileCount == 0)
        for store in [hot, cold, other] { store.destroy() }
    }
}
