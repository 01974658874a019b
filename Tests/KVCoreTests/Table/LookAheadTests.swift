// Prefetching: which look-ups need the third step, and that each has had its steps before its turn.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct LookAheadTests {
    private func filled(_ keys: Int) -> Store {
        let store = StoreGrowthTests.makeStore()
        for i in 0..<keys { _ = store.put(StoreGrowthTests.key(i, 1), "v", now: 5) }
        return store
    }

    /// Keys that overflowed out of their first bucket, and no others, need the third step; one in twenty or so.
    @Test func theThirdStepIsForKeysThatAreNotInTheirFirstBucket() {
        let store = filled(20_000)
        defer { store.destroy() }
        let table = store.state.pointee.table
        var overflowed = 0
        for i in 0..<20_000 {
            StoreGrowthTests.key(i, 1).withView { key in
                let place = store.place(store.hash(key))
                guard let slot = table.find(key, place) else {
                    Issue.record("key \(i) is missing")
                    return
                }
                let segment = table.segment(place)
                let isInFirst = slot.bucket == segment.bucket(segment.home(HashTable.part(place)))
                #expect(table.prefetchRecord(place) == isInFirst)
                if !isInFirst {
                    overflowed += 1
                    table.prefetchOverflow(place)
                }
            }
        }
        #expect(overflowed > 600 && overflowed < 4_000, "\(overflowed)")
    }

    /// Keys that are not there end the walk at a bucket that has not overflowed.
    @Test func absentKeysNeedNoMoreThanTheirBuckets() {
        let store = filled(5_000)
        defer { store.destroy() }
        for i in 5_000..<10_000 {
            StoreGrowthTests.key(i, 1).withView { view in
                let key = store.key(view)
                if !store.prefetchRecord(key.hash) { store.prefetchOverflow(key.hash) }
                #expect(store.get(key, now: 0) == nil)
            }
        }
    }

    /// Batches of any length, some entries without a key, prepared in any number of parts.
    @Test(arguments: 0..<20) func everyCommandsMemoryIsAskedForBeforeItsTurn(_ seed: Int) {
        let store = filled(3_000)
        defer { store.destroy() }
        var random = PRNG(seed: UInt64(seed))
        let count = 1 + random.below(128)
        let keys = (0..<count).map { _ in StoreGrowthTests.key(random.below(4_000), 1) }
        let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: 16 * count)
        var ahead = LookAhead(capacity: count)
        defer {
            bytes.deallocate()
            ahead.deallocate()
        }
        for i in 0..<count {
            keys[i].withBytes {
                UnsafeMutableRawPointer(bytes + 16 * i).copyMemory(from: $0.baseAddress!, byteCount: 16)
            }
            ahead.keys[i].view = ByteView(bytes + 16 * i, random.below(8) == 0 ? -1 : 16)
        }
        // The second time around, as if never used before.
        for _ in 0..<2 {
            ahead.reset()
            while ahead.count < count { store.prepare(&ahead, to: min(count, ahead.count + 1 + random.below(40))) }
            for i in 0..<count {
                if ahead.isDue(i) { store.look(&ahead) }
                // A lone key is looked up at once.
                #expect(ahead.records > i && ahead.records <= count || count == 1)
                #expect(ahead.buckets >= ahead.records && ahead.buckets <= count)
                guard ahead.keys[i].view.count > 0 else { continue }
                #expect(ahead.keys[i].hash == store.hash(ahead.keys[i].view))
            }
        }
    }

    @Test func aSetOfLookUpsTellsEachOnce() {
        var overflowed = OverflowSet()
        for i in 0..<200 {
            overflowed.note(i, isDone: i % 3 != 0)
            if i >= 40 {
                let (first, second) = (overflowed.take(i - 40), overflowed.take(i - 40))
                #expect(first == ((i - 40) % 3 == 0))
                #expect(!second)
            }
        }
    }
}
