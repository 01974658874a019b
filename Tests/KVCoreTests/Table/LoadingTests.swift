// A store that is filled at once: its keys are in order afterwards, and it goes on as any.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct LoadingTests {
    /// Keys that share much, that end within others, that differ late, and that differ in zeros at their end.
    private static func key(_ random: inout PRNG, _ shape: Int) -> Bytes {
        switch shape {
        case 0, 1, 2: return StoreGrowthTests.key(random.below(20_000), shape)
        case 3: return Bytes((0...random.below(20)).map { _ in UInt8(random.below(2)) })
        case 4: return Bytes(String(repeating: "same", count: random.below(300)) + "\(random.below(3))")
        default:
            return Bytes(
                [UInt8](repeating: 7, count: 8 + random.below(3)) + [UInt8](repeating: 0, count: random.below(9)))
        }
    }

    @Test(arguments: 0...5) func whatIsLoadedIsInOrder(shape: Int) {
        var random = PRNG(seed: UInt64(shape + 40))
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        store.beginLoading(shape % 2 == 0 ? 6_000 : 0)
        var keys: Set<Bytes> = []
        for _ in 0..<6_000 {
            let key = LoadingTests.key(&random, shape)
            keys.insert(key)
            _ = store.put(key, "value", now: 5)
            // Deleted ones are in the table, and not in order.
            if random.below(20) == 0 {
                keys.remove(key)
                _ = store.delete(key, now: 6)
            }
        }
        store.endLoading()
        store.checkInvariants()
        #expect(store.listing(pageLimit: 100) == keys.sorted(by: ModelledStore.precedes))
        for _ in 0..<6_000 {
            let key = LoadingTests.key(&random, shape)
            if random.below(3) == 0 {
                keys.remove(key)
                _ = store.delete(key, now: 7)
            } else {
                keys.insert(key)
                _ = store.put(key, "another", now: 7)
            }
        }
        store.checkInvariants()
        #expect(store.listing(pageLimit: 100) == keys.sorted(by: ModelledStore.precedes))
    }

    @Test func nothingLoadedIsAnEmptyStore() {
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        store.beginLoading(10)
        store.endLoading()
        store.checkInvariants()
        #expect(store.listing().isEmpty)
        _ = store.put("key", "v", now: 5)
        #expect(store.listing() == ["key"])
    }

    @Test(arguments: [300, 5_000, 40_000]) func aTableOfKnownSizeDoesNotGrow(count: Int) {
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        store.beginLoading(count)
        let before = store.indexBytes
        for i in 0..<count { _ = store.put(StoreGrowthTests.key(i, 0), "v", now: 5) }
        // A few of many segments may get more than their share.
        #expect(Double(store.indexBytes) < Double(before) * 1.05, "\(before) \(store.indexBytes)")
        #expect(before < count * 14 + 1_000, "\(before)")
        store.endLoading()
        store.checkInvariants()
    }
}
