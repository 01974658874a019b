// Deadlines set apart at one store while another one writes or deletes the key, merged in both orders.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct TouchRaceTests {
    /// Two stores that share a table of writers but no hash places.
    private static func pair() -> (Store, Store) {
        let origins = OriginTable()
        return (ExpiryTests.store(3, origins), ExpiryTests.store(8, origins))
    }

    /// What a third store shows after both, in both orders.
    private static func both(_ a: Store, _ b: Store, now: Millis, _ check: (Store) -> Void) {
        for order in [[a, b], [b, a]] {
            let third = ExpiryTests.store(11, a.origins)
            for one in order { one.copy(to: third) }
            third.checkInvariants()
            check(third)
            third.destroy()
        }
    }

    /// Clocks an hour apart, either way: the touch is newer or older than the write.
    @Test(arguments: [-3_600_000, 0, 3_600_000] as [Millis]) func aTouchUndoesNoSet(_ skew: Millis) {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        let start: Millis = 10_000_000
        a.set("k", "old", now: start)
        a.copy(to: b)
        a.expire("k", at: start + 50_000, now: start + 1_000)
        b.set("k", "new", .at(start + 90_000), now: start + 1_001 + skew)
        TouchRaceTests.both(a, b, now: start) { third in
            #expect(third.shown("k", now: start) == "new")
            let deadline: Millis = skew < 0 ? 50_000 : 90_000
            #expect(third.deadline("k", now: start) == .at(start + deadline))
        }
    }

    @Test(arguments: [-3_600_000, 0, 3_600_000] as [Millis]) func aTouchRevivesNoDelete(_ skew: Millis) {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        let start: Millis = 10_000_000
        a.set("k", "old", .at(start + 20_000_000), now: start)
        a.copy(to: b)
        a.expire("k", at: start + 50_000_000, now: start + 1_000)
        b.remove("k", now: start + 1_001 + skew)
        TouchRaceTests.both(a, b, now: start) { third in
            #expect(third.shown("k", now: start) == nil && third.count == 0 && third.keys(now: start) == [])
            // And neither does the value written next get that deadline.
            third.set("k", "next", now: start)
            #expect(third.deadline("k", now: start) == .never)
            third.checkInvariants()
        }
    }

    /// A value that has expired at one store is there again when a late extension arrives.
    @Test func aLateExtensionFindsTheValue() {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        a.set("k", "v", .at(2_000), now: 1_000)
        a.copy(to: b)
        a.expire("k", at: 9_000, now: 1_500)
        b.expireAll(now: 3_000)
        #expect(b.count == 0 && b.shown("k", now: 3_000) == nil)
        a.copy(to: b)
        #expect(b.shown("k", now: 3_000) == "v" && b.count == 1 && b.volatileCount == 1)
        b.checkInvariants()
        b.expireAll(now: 9_100)
        #expect(b.count == 0)
        b.checkInvariants()
    }

    /// Of a PERSIST and an EXPIRE the later one counts, whichever arrives first.
    @Test(arguments: [-1, 1] as [Millis]) func theLaterTouchCounts(_ skew: Millis) {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        a.set("k", "v", .at(90_000), now: 1_000)
        a.copy(to: b)
        a.persist("k", now: 5_000)
        b.expire("k", at: 50_000, now: 5_000 + skew)
        TouchRaceTests.both(a, b, now: 6_000) { third in
            #expect(third.deadline("k", now: 6_000) == (skew < 0 ? .never : .at(50_000)))
        }
    }

    /// KEEPTTL writes the value alone: an extension made elsewhere meanwhile is not lost, though it is older.
    @Test func keepingADeadlineLosesNoExtension() {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        a.set("k", "v", .at(90_000), now: 1_000)
        a.copy(to: b)
        b.expire("k", at: 200_000, now: 5_000)
        a.set("k", "w", .keep, now: 9_000)
        TouchRaceTests.both(a, b, now: 10_000) { third in
            #expect(third.shown("k", now: 10_000) == "w" && third.deadline("k", now: 10_000) == .at(200_000))
        }
        // An older one that it had not seen does not beat a newer one that it kept.
        a.expire("k", at: 300_000, now: 12_000)
        a.set("k", "x", .keep, now: 13_000)
        TouchRaceTests.both(a, b, now: 14_000) { third in
            #expect(third.deadline("k", now: 14_000) == .at(300_000))
        }
    }

    /// A deadline may come before the value that it belongs to.
    @Test func aDeadlineWaitsForItsValue() {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        a.set("k", "v", now: 1_000)
        a.expire("k", at: 9_000, now: 1_500)
        var cursor = WalkCursor()
        var touch: Record?
        while !cursor.isDone { a.walk(&cursor, budget: 10) { if $0.isCompanion { touch = $0 } } }
        b.merge(touch!)
        #expect(b.count == 0 && b.keys(now: 2_000) == [] && b.shown("k", now: 2_000) == nil)
        b.checkInvariants()
        a.copy(to: b)
        #expect(b.shown("k", now: 2_000) == "v" && b.deadline("k", now: 2_000) == .at(9_000))
        b.checkInvariants()
        #expect(a.digest == b.digest && a.steadyDigest == b.steadyDigest)
    }
}
