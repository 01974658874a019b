// Larger stores: growth and shrinking of table and index, cursors across them, digests, journal, tombstone sweeps.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct StoreGrowthTests {
    static func makeStore(_ own: ActorUID = ActorUID(server: 2, index: 1), seed: UInt64 = 11, journal: Int = 4096)
        -> Store
    {
        Store(StoreConfig(hashSeed: seed, digestKey: 4, own: own, origins: OriginTable(), journalCapacity: journal))
    }

    static func key(_ number: Int, _ shape: Int) -> Bytes {
        switch shape {
        case 0: return Bytes("key:" + String(repeating: "0", count: 8 - String(number).count) + String(number))
        case 1:
            var random = PRNG(seed: UInt64(number))
            return Bytes((0..<16).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        default:
            return Bytes("a/very/long/common/prefix/of/more/than/forty-eight/bytes/in/all/\(number % 97)/x/\(number)")
        }
    }

    @Test(arguments: 0...2) func growsAndShrinksInRandomOrder(shape: Int) {
        var random = PRNG(seed: UInt64(shape))
        let store = StoreGrowthTests.makeStore()
        var numbers = Array(0..<20_000).shuffled(using: &random)
        for number in numbers { _ = store.put(StoreGrowthTests.key(number, shape), "v", now: 5) }
        store.checkInvariants()
        #expect(store.count == 20_000)
        let sorted = numbers.map { StoreGrowthTests.key($0, shape) }.sorted(by: ModelledStore.precedes)
        #expect(store.listing(pageLimit: 333) == sorted)
        numbers.shuffle(using: &random)
        for (i, number) in numbers.enumerated() {
            let key = StoreGrowthTests.key(number, shape)
            _ = store.delete(key, now: 5)
            if i % 2 == 0 { #expect(store.dropTombstone(key)) }
            if i == 15_000 || i == 19_990 { store.checkInvariants() }
        }
        #expect(store.sweepTombstones(budget: 40_000) { _ in true } == 10_000)
        store.checkInvariants()
        #expect(store.count == 0 && store.tombstoneCount == 0 && store.recordBytes == 0 && store.digestAll == 0)
        #expect(store.listing().isEmpty && store.indexBytes < 40_000, "\(store.indexBytes)")
        _ = store.put("again", "v", now: 6)
        #expect(store.listing() == ["again"])
        store.destroy()
    }

    @Test(arguments: [false, true]) func keysInOrderFillLeavesDensely(descending: Bool) {
        let store = StoreGrowthTests.makeStore()
        for i in 0..<30_000 { _ = store.put(StoreGrowthTests.key(descending ? 29_999 - i : i, 0), "v", now: 5) }
        store.checkInvariants()
        #expect(store.listing().count == 30_000)
        #expect(store.indexBytes < 30_000 * 26, "\(store.indexBytes)")
        store.destroy()
    }

    /// Every key present during a whole walk is visited, though the table grows and loses keys meanwhile.
    @Test(arguments: 1...4) func walksSurviveGrowth(seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let store = StoreGrowthTests.makeStore()
        let stable = (0..<800).map { StoreGrowthTests.key($0, 0) }
        for key in stable { _ = store.put(key, "v", now: 5) }
        var next = 1_000_000
        func disturb() {
            for _ in 0..<random.below(300) {
                _ = store.put(StoreGrowthTests.key(next, 0), "v", now: 5)
                next += 1
                if random.chance(0.3) {
                    let gone = StoreGrowthTests.key(1_000_000 + random.below(next - 1_000_000), 0)
                    if store.delete(gone, now: 5) != nil { _ = store.dropTombstone(gone) }
                }
            }
            for _ in 0..<5 { _ = store.put(stable[random.below(800)], Bytes("value \(next)"), now: 6) }
        }
        var walked: Set<Bytes> = []
        for slice in 0..<3 {
            var position = WalkCursor(slice: slice, of: 3)
            while !position.isDone {
                store.walk(&position, budget: 400) { walked.insert(Bytes($0.key)) }
                if store.count < 40_000 { disturb() }
            }
        }
        #expect(walked.isSuperset(of: stable), "seed \(seed)")
        store.checkInvariants()
        store.destroy()
    }

    @Test func equalContentHasEqualDigestsInDifferentProcesses() {
        // Another hash seed, another origin table filled in another order, another order of arrival.
        let uids = (0..<5).map { ActorUID(server: UInt64($0) * 77, index: UInt16($0)) }
        let a = StoreGrowthTests.makeStore(uids[0], seed: 1)
        let b = StoreGrowthTests.makeStore(uids[1], seed: 2)
        let versions = (0..<500).map { Version(ms: Millis($0 / 3), uid: uids[$0 % 5], seq: UInt64($0)) }
        for i in 0..<500 { _ = a.merge(Bytes("k\(i % 200)"), i % 7 == 0 ? nil : Bytes("v\(i)"), versions[i]) }
        for i in (0..<500).reversed() {
            _ = b.merge(Bytes("k\(i % 200)"), i % 7 == 0 ? nil : Bytes("v\(i)"), versions[i])
        }
        #expect(a.digest == b.digest && a.digestAll == b.digestAll && a.digest != a.digestAll)
        let before = a.digestAll
        _ = a.merge("k1", "v", Version(ms: 9999, uid: uids[2], seq: 1))
        #expect(a.digestAll != before)
        _ = b.merge("k1", "w", Version(ms: 9999, uid: uids[2], seq: 1))
        #expect(a.digestAll != b.digestAll, "same version, another value")
        a.destroy()
        b.destroy()
    }

    @Test func theJournalNamesEveryOwnWriteUntilTrimmed() {
        let store = StoreGrowthTests.makeStore(journal: 20_000)
        var hashes: [UInt64] = []
        for i in 0..<10_000 {
            let key = StoreGrowthTests.key(i % 3000, 0)
            hashes.append(key.withView { store.hash($0) })
            _ = i % 5 == 4 ? store.delete(key, now: 7) ?? store.put(key, "v", now: 7) : store.put(key, "v", now: 7)
        }
        #expect(store.ownSeq == 10_000 && store.journalFirstSeq == 1)
        #expect((1...10_000).allSatisfy { store.journalHash(UInt64($0)) == hashes[$0 - 1] })
        store.trimJournal(through: 6000)
        #expect(store.journalFirstSeq == 6001 && store.journalHash(6001) == hashes[6000])
        var found: [Bytes] = []
        store.records(store.journalHash(7000)) { found.append(Bytes($0.key)) }
        #expect(found == [StoreGrowthTests.key(6999 % 3000, 0)])
        store.trimJournal(through: 10_000)
        #expect(store.journalFirstSeq == 10_001 && store.journalBytes < 1000)
        for i in 0..<100_000 { _ = store.put(StoreGrowthTests.key(i % 10, 0), "v", now: 7) }
        #expect(store.ownSeq == 110_000 && store.journalFirstSeq > 10_001)
        #expect(store.ownSeq - store.journalFirstSeq >= 19_999 && store.journalBytes < 40_000 * 8)
        let key = StoreGrowthTests.key(9, 0)
        #expect(store.journalHash(110_000) == key.withView { store.hash($0) })
        store.checkInvariants()
        store.destroy()
    }

    @Test func sweepsSeeEachTombstoneOncePerRoundAndForgetStaleOnes() {
        let store = StoreGrowthTests.makeStore()
        for i in 0..<1000 {
            _ = store.put(StoreGrowthTests.key(i, 0), "v", now: 7)
            _ = store.delete(StoreGrowthTests.key(i, 0), now: Millis(100 + i))
        }
        for i in 0..<300 { _ = store.put(StoreGrowthTests.key(i, 0), "again", now: 7) }
        var seen: [Bytes] = []
        #expect(
            store.sweepTombstones(budget: 1000) {
                seen.append(Bytes($0.key)); return $0.ms < 500
            } == 100)
        #expect(Set(seen).count == 700 && seen.count == 700 && store.gcFloor == 499)
        // One key deleted and put again very often does not fill the queue.
        for _ in 0..<20_000 {
            _ = store.put("hot", "v", now: 7)
            _ = store.delete("hot", now: 7)
        }
        var rounds = 0
        while store.tombstoneCount > 0, rounds < 40 {
            store.sweepTombstones(budget: 100) { _ in true }
            rounds += 1
        }
        #expect(store.tombstoneCount == 0, "the queue held \(rounds * 100) entries or more")
        store.checkInvariants()
        store.destroy()
    }

    /// Tombstones that are all too young go behind the others without a look at each.
    @Test func youngTombstonesArePassedOver() {
        let store = StoreGrowthTests.makeStore()
        for i in 0..<2000 {
            _ = store.put(StoreGrowthTests.key(i, 0), "v", now: 7)
            _ = store.delete(StoreGrowthTests.key(i, 0), now: i < 100 ? 100 : 1000)
        }
        // The first of them are among those at the front.
        #expect(store.passOverYoungTombstones(than: 500, chunksMax: 100) == 0)
        var looked = 0
        #expect(
            store.sweepTombstones(budget: 300) {
                looked += 1; return $0.ms <= 500
            } == 100)
        #expect(looked == 300)
        // Some 250 at a time, and every one of them once.
        let passed = store.passOverYoungTombstones(than: 500, chunksMax: 2)
        #expect((2...600).contains(passed), "\(passed)")
        #expect(store.passOverYoungTombstones(than: 500, chunksMax: 100) >= 1900)
        #expect(store.passOverYoungTombstones(than: 999, chunksMax: 100) >= 1900)
        // None is lost, and one as old as that is looked at.
        #expect(store.passOverYoungTombstones(than: 1000, chunksMax: 100) == 0)
        var seen: Set<Bytes> = []
        #expect(
            store.sweepTombstones(budget: 1900) {
                seen.insert(Bytes($0.key)); return true
            } == 1900)
        #expect(seen.count == 1900 && store.tombstoneCount == 0)
        // Of a single chunk, and of none.
        _ = store.put("k", "v", now: 2000)
        _ = store.delete("k", now: 2000)
        #expect(store.passOverYoungTombstones(than: 1500, chunksMax: 9) == 1)
        #expect(store.sweepTombstones(budget: 9) { _ in true } == 1)
        #expect(store.passOverYoungTombstones(than: 1500, chunksMax: 9) == 0)
        store.checkInvariants()
        store.destroy()
    }

    @Test func listingFollowsEveryPutAtOnce() {
        let store = StoreGrowthTests.makeStore()
        for i in 0..<2000 {
            let key = StoreGrowthTests.key(i &* 7919 % 2000, 0)
            _ = store.put(key, "v", now: 5)
            let page = key.withBytes { store.list(prefix: $0, limit: 5, now: 0) }
            #expect(page.count == 1 && Bytes(page[0].key) == key)
        }
        store.destroy()
    }
}
