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

    // MARK: Early writes that are written again above the floor

    /// Returns the names of what store `a` writes again.
    @discardableResult
    private static func raise(_ a: Store, to floor: Millis) -> [String] {
        var again: [String] = []
        a.raiseGCFloor(to: floor)
        for seq in 1...a.ownSeq {
            a.raise(own: seq) { _, new in again.append(String(decoding: new.key, as: UTF8.self)) }
        }
        a.checkInvariants()
        return again
    }

    /// A deadline that others have written over stays beaten: the value of the other actor is neither ended by it nor,
    /// where it has expired, brought back.
    @Test(arguments: [DeadlineChoice.none, .at(30_000)]) func aBeatenDeadlineIsNotWrittenAgain(
        _ deadline: DeadlineChoice
    ) {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        a.set("k", "early", .at(40_000), now: 1_000)
        if case .none = deadline { a.expire("k", at: 20_000, now: 1_001) } else { a.persist("k", now: 1_001) }
        a.copy(to: b)
        b.set("k", "new", deadline, now: 3_000)
        b.copy(to: a)
        #expect(TouchRaceTests.raise(a, to: 10_000) == [])
        TouchRaceTests.both(a, b, now: 35_000) { third in
            if case .none = deadline {
                #expect(third.shown("k", now: 35_000) == "new" && third.deadline("k", now: 35_000) == .never)
            } else {
                #expect(third.shown("k", now: 35_000) == nil && third.deadline("k", now: 29_000) == .at(30_000))
            }
        }
    }

    /// A value that is written again has the deadline that its key had, whoever set it, and loses to what others have
    /// written over it before they heard of that deadline.
    @Test(arguments: [true, false], [0, 50_000] as [Millis]) func aValueWrittenAgainKeepsItsDeadline(
        _ isOwn: Bool, _ end: Millis
    ) {
        let (a, b) = TouchRaceTests.pair()
        let c = ExpiryTests.store(9, a.origins)
        defer { for store in [a, b, c] { store.destroy() } }
        a.set("k", "early", .at(40_000), now: 1_000)
        for store in [b, c] { a.copy(to: store) }
        let (who, now) = isOwn ? (a, 2_000 as Millis) : (b, 25_000)
        if end == 0 { who.persist("k", now: now) } else { who.expire("k", at: end, now: now) }
        b.copy(to: a)
        #expect(TouchRaceTests.raise(a, to: 10_000).first == "k")
        Bytes("k").withBytes { #expect(a.find(a.key($0))?.ms == 10_001) }
        TouchRaceTests.both(a, b, now: 30_000) { third in
            #expect(third.deadline("k", now: 30_000) == (end == 0 ? .never : .at(end)))
        }
        c.set("k", "over", now: 20_000)
        TouchRaceTests.both(a, c, now: 30_000) { #expect($0.shown("k", now: 30_000) == "over") }
    }

    /// A deadline for another actor's value is written again as long as it is in effect.
    @Test func aDeadlineInEffectIsWrittenAgain() {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        b.set("k", "v", now: 1_000)
        b.copy(to: a)
        a.expire("k", at: 50_000, now: 2_000)
        #expect(TouchRaceTests.raise(a, to: 10_000).count == 1)
        // Above what others have collected, if they have the value again from somewhere.
        b.set("k", "again", .at(60_000), now: 9_000)
        TouchRaceTests.both(a, b, now: 30_000) { #expect($0.deadline("k", now: 30_000) == .at(50_000)) }
    }

    /// The zero that counting began with has the deadline that somebody set for it.
    @Test func aZeroWrittenAgainKeepsItsDeadline() {
        let (a, b) = TouchRaceTests.pair()
        defer {
            a.destroy()
            b.destroy()
        }
        b.set("n", "5", now: 1_000)
        b.expire("n", at: 90_000, now: 20_000)
        b.remove("n", now: 20_001)
        b.copy(to: a)
        a.beginProvisionalZeros()
        a.increment("n", by: 3, now: 21_000)
        a.copy(to: b)
        #expect(b.deadline("n", now: 22_000) == .never)
        b.expire("n", at: 70_000, now: 22_000)
        b.copy(to: a)
        a.raiseGCFloor(to: 21_500)
        var again = 0
        a.settleZeros(isLast: true) { _, _ in again += 1 }
        #expect(again == 1 && a.deadline("n", now: 23_000) == .at(70_000))
        TouchRaceTests.both(a, b, now: 23_000) { third in
            #expect(third.deadline("n", now: 23_000) == .at(70_000) && third.shown("n", now: 23_000) == "3")
        }
    }
}
