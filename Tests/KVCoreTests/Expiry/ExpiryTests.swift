// Deadlines in one store: with the value, apart from it, kept, passed, forgotten.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ExpiryTests {
    static func store(_ server: UInt64 = 5, _ origins: OriginTable = OriginTable(), mask: UInt64 = .max) -> Store {
        Store(
            StoreConfig(
                hashSeed: 1, digestKey: 2, own: ActorUID(server: server, index: 0), origins: origins,
                journalCapacity: 1 << 16, hashMask: mask))
    }

    private func withStore(_ body: (Store) throws -> Void) rethrows {
        let store = ExpiryTests.store()
        defer { store.destroy() }
        try body(store)
        store.checkInvariants()
    }

    @Test(arguments: ["", "v", String(repeating: "x", count: 250), String(repeating: "y", count: 5_000)])
    func aValueIsShownUntilItsDeadline(_ value: String) {
        withStore { store in
            store.set("k", value, .at(2_000), now: 1_000)
            #expect(store.shown("k", now: 1_999) == value && store.shown("k", now: 2_000) == nil)
            #expect(store.deadline("k", now: 1_999) == .at(2_000) && store.deadline("k", now: 2_000) == nil)
            #expect(store.keys(now: 1_999) == ["k"] && store.keys(now: 2_000) == [])
            #expect(store.count == 1 && store.volatileCount == 1 && store.averageTimeToLive(now: 1_500) == 500)
            store.expireAll(now: 2_064)
            #expect(store.count == 0 && store.volatileCount == 0 && store.expiredTotal == 1)
            #expect(store.expiredKeptCount == 1 && store.tombstoneCount == 0)
        }
    }

    @Test func aPlainSetTakesTheDeadlineAway() {
        withStore { store in
            store.set("k", "v", .at(2_000), now: 1_000)
            store.set("k", "w", now: 1_100)
            #expect(store.deadline("k", now: 1_200) == .never && store.shown("k", now: 9_000) == "w")
            store.expire("k", at: 3_000, now: 1_200)
            store.set("k", "x", now: 1_300)
            #expect(store.deadline("k", now: 1_400) == .never && store.volatileCount == 0)
        }
    }

    @Test func aDeadlineSetApartCountsUntilTheNextOne() {
        withStore { store in
            #expect(store.expire("k", at: 2_000, now: 1_000) == .absent)
            store.set("k", "v", now: 1_000)
            #expect(store.persist("k", now: 1_000) == .unchanged)
            #expect(store.expire("k", at: 2_000, now: 1_000) == .done)
            #expect(store.deadline("k", now: 1_500) == .at(2_000))
            #expect(store.expire("k", at: 3_000, now: 1_500) == .done)
            #expect(store.shown("k", now: 2_500) == "v" && store.shown("k", now: 3_000) == nil)
            #expect(store.persist("k", now: 2_500) == .done)
            #expect(store.deadline("k", now: 9_000) == .never && store.shown("k", now: 9_000) == "v")
            #expect(store.keys(now: 9_000) == ["k"] && store.count == 1)
            #expect(store.expire("k", at: 9_000, now: 9_000) == .deleted && store.shown("k", now: 9_000) == nil)
            #expect(store.tombstoneCount == 1)
        }
    }

    /// An expired value is not there for whoever reads before it writes.
    @Test func whatHasExpiredIsAbsent() {
        withStore { store in
            store.set("k", "7", .at(2_000), now: 1_000)
            #expect(!store.remove("k", now: 2_000))
            #expect(store.expire("k", at: 5_000, now: 2_000) == .absent)
            #expect(store.persist("k", now: 2_000) == .absent)
            #expect(store.increment("k", now: 2_000) == .value(1))
            #expect(store.deadline("k", now: 2_000) == .never)
            store.set("old", "v", .at(2_000), now: 1_000)
            store.set("old", "w", .keep, now: 2_000)
            #expect(store.deadline("old", now: 2_000) == .never && store.shown("old", now: 99_000) == "w")
        }
    }

    @Test func keepingADeadlineKeepsItsVersionToo() {
        withStore { store in
            store.set("k", "v", .at(5_000), now: 1_000)
            let first = store.shownVersion("k")
            store.set("k", "w", .keep, now: 2_000)
            #expect(store.shown("k", now: 4_999) == "w" && store.shown("k", now: 5_000) == nil)
            let register = Bytes("k").withBytes { store.deadlineVersion(of: store.key($0), now: 2_000) }
            #expect(register?.version == first && register?.deadline == .at(5_000))
            // Also that of a deadline set apart, and that there is none.
            store.expire("k", at: 6_000, now: 2_500)
            store.set("k", "x", .keep, now: 3_000)
            #expect(store.deadline("k", now: 3_000) == .at(6_000))
            store.persist("k", now: 3_100)
            store.set("k", "y", .keep, now: 3_200)
            #expect(store.deadline("k", now: 3_200) == .never && store.shown("k", now: 99_000) == "y")
        }
    }

    @Test func incrementsKeepTheDeadlineAndRefuseWhatIsNoInteger() {
        withStore { store in
            store.set("n", "41", .at(5_000), now: 1_000)
            #expect(store.increment("n", now: 1_000) == .value(42) && store.deadline("n", now: 1_000) == .at(5_000))
            #expect(store.increment("n", by: -50, now: 1_000) == .value(-8) && store.shown("n", now: 1_000) == "-8")
            for text in ["", "-", "-0", "00", "1 ", "+1", "1a", "9223372036854775808", "92233720368547758070"] {
                store.set("t", text, now: 1_000)
                #expect(store.increment("t", now: 1_000) == .notAnInteger, "\(text)")
            }
            store.set("most", "9223372036854775807", now: 1_000)
            #expect(
                store.increment("most", now: 1_000) == .overflow && store.increment("most", by: 0, now: 1) != .overflow)
            store.set("least", "-9223372036854775808", now: 1_000)
            #expect(store.increment("least", by: -1, now: 1_000) == .overflow)
            #expect(store.increment("least", by: 1, now: 1_000) == .value(-9_223_372_036_854_775_807))
        }
    }

    /// A page is filled with what is shown, over any number of companions and expired keys, and ends.
    @Test func listingsPassOverWhatIsNotShown() {
        withStore { store in
            var expected: [String] = []
            for i in 0..<6_000 {
                let key = "k\(10_000 + i)"
                if i % 100 == 0 {
                    store.set(key, "v", .at(9_000), now: 1_000)
                    expected.append(key)
                } else {
                    store.set(key, "v", .at(2_000), now: 1_000)
                }
                if i % 3 == 0, i % 100 != 0 { store.expire(key, at: 2_500, now: 1_000) }
            }
            #expect(store.keys(now: 3_000) == expected && store.keys(limit: 1_000, now: 3_000) == expected)
            store.expireAll(now: 3_000)
            #expect(store.count == expected.count && store.keys(prefix: "k", now: 3_000) == expected)
            // Behind the companions are the keys of other databases.
            Bytes([0xFF, 0x01, 0x61]).withBytes { key in
                _ = store.put(store.key(key), value: ByteView(key), now: 3_000)
            }
            #expect(store.keys(limit: 70, now: 3_000).count == expected.count + 1)
        }
    }

    /// Deadlines close and far, in any order, are counted out neither early nor late.
    @Test(arguments: [UInt64.max, 0xFFFF_0000_0000_0000]) func theWheelMeetsEveryDeadline(_ mask: UInt64) {
        let store = ExpiryTests.store(mask: mask)
        defer { store.destroy() }
        var random = PRNG(seed: 7)
        var deadlines: [Millis] = []
        let start: Millis = 1_780_000_000_000
        let spans: [Int] = [100, 5_000, 300_000, 20_000_000, 1_000_000_000, 100_000_000_000]
        for i in 0..<600 {
            let deadline = start + Millis(random.below(spans[i % spans.count])) + 1
            deadlines.append(deadline)
            store.set("k\(i)", "v", .at(deadline), now: start)
        }
        store.set("far", "v", .at(RecordExtension.deadlineMax), now: start)
        deadlines.sort()
        var now = start
        while now < deadlines.last! {
            now += max(1, Millis(random.below(Int(now - start) / 3 + 200)))
            store.expireAll(now: now, slice: 1 + random.below(40))
            let passed = deadlines.count { $0 + 64 <= now }
            let most = deadlines.count { $0 <= now }
            #expect((passed...most).contains(Int(store.expiredTotal)))
            #expect(store.count == deadlines.count + 1 - Int(store.expiredTotal))
        }
        store.checkInvariants()
        store.expireAll(now: deadlines.last! + 64)
        #expect(store.count == 1 && store.volatileCount == 1)
    }

    /// A deadline that has passed by a clock that is then set back.
    @Test func theWheelKeepsWhatArrivesTooLate() {
        withStore { store in
            store.noteClock(1_000_000)
            store.set("k", "v", .at(980_000), now: 1_000_000)
            store.expireAll(now: 970_000)
            #expect(store.count == 1)
            store.expireAll(now: 980_064)
            #expect(store.count == 0 && store.expiredTotal == 1)
        }
    }

    /// A clock that is set to another year and back counts the same keys out, each once.
    @Test func theWheelFollowsAClockThatIsSet() {
        withStore { store in
            let (start, year): (Millis, Millis) = (1_780_000_000_000, 365 * 24 * 3_600_000)
            for clock in [start, 1_000, start + 30 * year, start - 3_600_000] {
                store.noteClock(clock)
                for i in 0..<200 { store.set("\(clock):\(i)", "v", .at(clock + 1_000 + Millis(i)), now: clock) }
                store.expireAll(now: clock + 999)
                #expect(store.count >= 200)
                store.expireAll(now: clock + 2_000)
                #expect(
                    !store.keys(prefix: "\(clock):", now: clock).isEmpty
                        && store.deadline("\(clock):1", now: clock) != nil)
            }
            store.expireAll(now: start + 31 * year)
            #expect(store.count == 0 && store.expiredTotal == 800)
        }
    }

    /// A key whose deadline is moved a million times does not leave a million entries.
    @Test func theWheelStaysSmall() {
        withStore { store in
            for i in 0..<50_000 {
                store.set("a", "v", .at(100_000 + Millis(i % 2) * 5_000), now: 1_000)
                store.set("b", "v", now: 1_000)
                store.expire("b", at: 200_000 + Millis(i), now: 1_000)
            }
            #expect(store.wheelCount < 4_300 && store.leftoverCount < 200)
            store.expireAll(now: 99_000)
            #expect(store.count == 2)
            store.expireAll(now: 300_000)
            #expect(store.count == 0 && store.expiredTotal == 2)
        }
    }

    @Test func whatHasExpiredIsForgottenWithAllThatBelongsToIt() {
        withStore { store in
            for i in 0..<200 {
                store.set("k\(i)", "v", .at(2_000), now: 1_000)
                if i % 2 == 0 { store.expire("k\(i)", at: 3_000, now: 1_000) }
                if i % 4 == 0 { store.set("k\(i)", "w", now: 1_100) }
            }
            store.expireAll(now: 4_000)
            #expect(store.count == 50 && store.storedCount == 300)
            #expect(store.sweepLeftovers(budget: 1_000) { _, why in why != .withoutEffect } == 200)
            #expect(store.storedCount == 100)
            #expect(store.sweepLeftovers(budget: 1_000) { _, _ in true } == 50)
            #expect(store.storedCount == 50 && store.count == 50 && store.leftoverCount == 0)
            #expect(store.gcFloor == 1_000)
            // Whatever is written next is above it.
            #expect(store.set("k1", "again", now: 10)?.ms == 1_001)
        }
    }

    /// A tombstone takes the deadline of its key with it.
    @Test func aTombstoneIsForgottenWithItsCompanion() {
        withStore { store in
            store.set("k", "v", now: 1_000)
            store.expire("k", at: 9_000, now: 1_100)
            #expect(store.remove("k", now: 1_200) && store.storedCount == 1)
            #expect(store.sweepTombstones(budget: 10) { $0.isTombstone } == 0)
            #expect(store.sweepTombstones(budget: 10) { _ in true } == 1)
            #expect(store.storedCount == 0 && store.tombstoneCount == 0)
        }
    }

    // MARK: Written again above a floor

    /// Whether the floor is above the deadline's version or below, the value stays below what others write over it.
    @Test(arguments: [0, 9_000] as [Millis], [1_100, 5_000] as [Millis])
    func aValueWrittenAgainKeepsTheDeadlineSetApart(_ end: Millis, _ floor: Millis) {
        let origins = OriginTable()
        let (a, b) = (ExpiryTests.store(3, origins), ExpiryTests.store(8, origins))
        a.set("k", "v", .at(2_000), now: 1_000)
        a.copy(to: b)
        if end == 0 { b.persist("k", now: 1_200) } else { b.expire("k", at: end, now: 1_200) }
        b.copy(to: a)
        a.raiseGCFloor(to: floor)
        a.raise(own: 1) { _, new in #expect(new.ms == floor + 1) }
        for order in [[a, b], [b, a]] {
            let third = ExpiryTests.store(11, origins)
            for one in order { one.copy(to: third) }
            #expect(third.shown("k", now: 6_000) == "v")
            #expect(third.deadline("k", now: 6_000) == (end == 0 ? .never : .at(end)))
            third.checkInvariants()
            third.destroy()
        }
        a.checkInvariants()
        a.destroy()
        b.destroy()
    }

    @Test func aDeadlineThatWasBeatenIsNotWrittenAgain() {
        let origins = OriginTable()
        let (a, b) = (ExpiryTests.store(3, origins), ExpiryTests.store(8, origins))
        a.set("k", "v", now: 1_000)
        a.expire("k", at: 9_000, now: 1_001)
        a.set("own", "v", now: 1_000)
        a.expire("own", at: 9_000, now: 1_001)
        a.copy(to: b)
        b.set("k", "w", now: 6_000)
        b.copy(to: a)
        a.raiseGCFloor(to: 5_000)
        var again = 0
        for seq in 1...a.ownSeq { a.raise(own: seq) { _, _ in again += 1 } }
        #expect(again == 2 && a.shown("k", now: 7_000) == "w" && a.deadline("k", now: 7_000) == .never)
        #expect(a.shown("own", now: 7_000) == "v" && a.deadline("own", now: 7_000) == .at(9_000))
        a.checkInvariants()
        a.destroy()
        b.destroy()
    }
}

extension Store {
    fileprivate func shownVersion(_ key: String) -> Version? {
        Bytes(key).withBytes { find(self.key($0))?.version(origins) }
    }
    fileprivate var wheelCount: Int { state.pointee.wheel.count }
}
