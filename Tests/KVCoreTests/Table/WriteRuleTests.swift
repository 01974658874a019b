// The write rule: an actor's write always wins over everything it could see, whatever the clocks say.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct WriteRuleTests {
    static let low = ActorUID(server: 1, index: 1)
    static let own = ActorUID(server: 5, index: 1)
    static let high = ActorUID(server: 9, index: 1)

    static func makeStore() -> Store {
        Store(StoreConfig(hashSeed: 1, digestKey: 2, own: own, origins: OriginTable(), journalCapacity: 4096))
    }

    @Test func aFreshKeyIsStampedWithNow() {
        let store = WriteRuleTests.makeStore()
        #expect(store.put("k", "v", now: 1000)?.ms == 1000)
        store.destroy()
    }

    @Test func ownWritesWithinOneMillisecondKeepItAndWinBySeq() {
        let store = WriteRuleTests.makeStore()
        var last: Version?
        for _ in 0..<10_000 {
            let version = store.put("k", "v", now: 1000)!.version(store.origins)
            #expect(version.ms == 1000 && last.map { version > $0 } ?? true)
            last = version
        }
        store.destroy()
    }

    /// Room for the zero that somebody else counts with; in a loop 2 s at once, then as fast as time passes.
    @Test func aWriteOverADeleteIsTwoMillisecondsLater() {
        let store = WriteRuleTests.makeStore()
        store.put("k", "v", now: 1000)
        #expect(store.delete("k", now: 1000)!.ms == 1000)
        #expect(store.put("k", "w", now: 1000)!.ms == 1002)
        var last: Millis = 0
        for _ in 0..<10_000 {
            store.delete("k", now: 1000)
            last = store.put("k", "w", now: 1000)!.ms
        }
        #expect(last == 3000)
        store.delete("k", now: 1001)
        #expect(store.put("k", "w", now: 1001)!.ms == 3000)
        store.delete("k", now: 1002)
        #expect(store.put("k", "w", now: 1002)!.ms == 3002)
        store.delete("k", now: 4000)
        #expect(store.put("k", "w", now: 4001)!.ms == 4002)
        store.delete("k", now: 5000)
        #expect(store.put("k", "w", now: 5007)!.ms == 5007)
        store.destroy()
    }

    /// Whatever the value is: one equal to its key once cancelled the key's part of the digest.
    @Test(arguments: [
        "", "k", "a key of some length", String(repeating: "x", count: 40), String(repeating: "x", count: 999),
    ])
    func everyWriteChangesTheDigest(_ text: String) {
        let store = WriteRuleTests.makeStore()
        let bytes = Bytes(text)
        var seen: Set<UInt64> = [store.digest]
        for round in 0..<20 {
            _ = store.put(bytes, bytes, now: 1000 + Millis(round))
            #expect(seen.insert(store.digest).inserted)
        }
        store.destroy()
    }

    /// In place or not, short or with its hash kept, in whatever place and length.
    @Test(arguments: [31, 64, 1000, 1024, 1087, 5000]) func everyByteOfAValueCountsInTheDigest(count: Int) {
        let origins = OriginTable()
        var seen: Set<UInt64> = []
        for at in stride(from: 0, through: count, by: 7) {
            var value = [UInt8](repeating: 9, count: count)
            if at < count { value[at] ^= 1 }
            for first in [count, 3, 2000] {
                let store = MergeTests.makeStore(origins)
                let uid = MergeTests.uids[0]
                _ = store.merge("k", Bytes([UInt8](repeating: 1, count: first)), Version(ms: 1, uid: uid, seq: 1))
                _ = store.merge("k", Bytes(value), Version(ms: 2, uid: uid, seq: 2))
                store.checkInvariants()
                #expect(seen.insert(store.digest).inserted == (first == count), "of what was there before, nothing")
                store.destroy()
            }
        }
    }

    @Test func aClockThatWentBackIsIgnored() {
        let store = WriteRuleTests.makeStore()
        _ = store.put("k", "v", now: 1000)
        #expect(store.put("k", "w", now: 400)?.ms == 1000)
        #expect(store.put("other", "w", now: 400)?.ms == 400)
        store.destroy()
    }

    @Test func anotherActorsVersionOfTheSameMillisecondIsPassedByUIDOrByOneMillisecond() {
        let store = WriteRuleTests.makeStore()
        _ = store.merge("low", "v", Version(ms: 1000, uid: WriteRuleTests.low, seq: 77))
        _ = store.merge("high", "v", Version(ms: 1000, uid: WriteRuleTests.high, seq: 77))
        #expect(store.put("low", "w", now: 1000)?.ms == 1000)
        #expect(store.put("high", "w", now: 1000)?.ms == 1001)
        _ = store.merge("far", "v", Version(ms: 99_000, uid: WriteRuleTests.high, seq: 1))
        #expect(store.put("far", "w", now: 1000)?.ms == 99_001)
        store.destroy()
    }

    @Test func aFloorIsPassed() {
        let store = WriteRuleTests.makeStore()
        #expect(store.put("k", "v", now: 1000, floor: 5000)?.ms == 5001)
        #expect(store.put("k", "v", now: 1000, floor: 10)?.ms == 5001)
        store.destroy()
    }

    @Test func aFloorBeyondWhatARecordHoldsIsRefusedAndWritesNothing() {
        let store = WriteRuleTests.makeStore()
        for floor in [Version.msMax, .max] { #expect(store.put("k", "v", now: 1000, floor: floor) == nil) }
        #expect(store.put("k", "v", now: Version.msMax + 1) == nil)
        #expect(store.count == 0 && store.ownSeq == 0)
        _ = store.merge("k", "v", Version(ms: Version.msMax, uid: WriteRuleTests.high, seq: 1))
        #expect(store.put("k", "w", now: 1) == nil && store.delete("k", now: 1) == nil)
        #expect(store.value("k") == "v")
        store.destroy()
    }

    @Test func aDeleteWinsOverWhatItSawAndAPutOverTheDelete() {
        let store = WriteRuleTests.makeStore()
        _ = store.merge("k", "v", Version(ms: 9000, uid: WriteRuleTests.high, seq: 1))
        #expect(store.delete("k", now: 1000)?.ms == 9001)
        #expect(store.value("k") == nil && store.count == 0 && store.tombstoneCount == 1)
        // However far the other clock is ahead.
        #expect(store.put("k", "w", now: 1000)?.ms == 9003)
        #expect(store.value("k") == "w" && store.tombstoneCount == 0)
        store.checkInvariants()
        store.destroy()
    }

    @Test func deletingAnAbsentKeyWritesNothing() {
        let store = WriteRuleTests.makeStore()
        #expect(store.delete("k", now: 1) == nil && store.ownSeq == 0 && store.tombstoneCount == 0)
        _ = store.put("k", "v", now: 1)
        _ = store.delete("k", now: 1)
        #expect(store.delete("k", now: 1) == nil && store.ownSeq == 2)
        store.destroy()
    }

    @Test func writesAfterACollectedTombstoneAreAboveIt() {
        let store = WriteRuleTests.makeStore()
        _ = store.put("k", "v", now: 8000)
        _ = store.delete("k", now: 8000)
        #expect(store.dropTombstone("k") && store.gcFloor == 8000 && store.tombstoneCount == 0)
        #expect(store.put("k", "w", now: 100)?.ms == 8001)
        #expect(store.put("unrelated", "w", now: 100)?.ms == 8001)
        store.raiseGCFloor(to: 10_000)
        store.raiseGCFloor(to: 3)
        #expect(store.gcFloor == 10_000 && store.put("k", "x", now: 9)?.ms == 10_001)
        #expect(!store.dropTombstone("k") && !store.dropTombstone("never"))
        store.checkInvariants()
        store.destroy()
    }

    @Test(arguments: 1...5) func everyWriteIsGreaterThanEverythingSeen(seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let store = WriteRuleTests.makeStore()
        var seen: [Bytes: Version] = [:]
        for _ in 0..<3000 {
            let key = Bytes("k\(random.below(8))")
            let now = Millis(1000 + random.below(50))
            if random.chance(0.5) {
                let uid = random.chance(0.5) ? WriteRuleTests.low : WriteRuleTests.high
                let version = Version(ms: Millis(1000 + random.below(80)), uid: uid, seq: UInt64(random.below(1 << 30)))
                if store.merge(key, "m", version) == .applied { seen[key] = version }
            } else {
                let record = random.chance(0.3) ? store.delete(key, now: now) : store.put(key, "p", now: now)
                guard let version = record?.version(store.origins) else { continue }
                #expect(seen[key].map { version > $0 } ?? true, "seed \(seed)")
                seen[key] = version
            }
        }
        store.destroy()
    }
}
