// Values stored in pieces: the same result as in one go, whatever happens to the key meanwhile.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct LargeWriteTests {
    private static func value(_ seed: UInt64, _ count: Int) -> Bytes {
        var random = PRNG(seed: seed)
        return Bytes((0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) })
    }

    private static func begin(_ store: Store, _ key: Bytes, _ count: Int) -> LargeWrite {
        key.withView { store.beginLarge(store.key($0), valueCount: count) }
    }

    private static func fill(_ store: Store, _ write: inout LargeWrite, _ value: Bytes, piece: Int) {
        value.withBytes { bytes in
            while !write.isReady { store.advance(&write, from: bytes.baseAddress!, bytes: piece) }
        }
    }

    @Test(arguments: [1024, 1025, 1055, 1087, 1088, 5000, 100_000]) func inPiecesOrInOneGoIsTheSame(count: Int) {
        let pieces = StoreGrowthTests.makeStore()
        let whole = StoreGrowthTests.makeStore()
        defer {
            pieces.destroy()
            whole.destroy()
        }
        // A new key, then over a value of another length, then over a tombstone.
        for (round, length) in [count, count + 33, count].enumerated() {
            let value = LargeWriteTests.value(UInt64(round), length)
            var write = LargeWriteTests.begin(pieces, "key", length)
            LargeWriteTests.fill(pieces, &write, value, piece: 1 + round * 4096)
            #expect(pieces.finish(write, now: 7)?.valueCount == length)
            _ = whole.put("key", value, now: 7)
            pieces.checkInvariants()
            #expect(pieces.digest == whole.digest && pieces.recordBytes == whole.recordBytes)
            if round == 1 {
                _ = pieces.delete("key", now: 7)
                _ = whole.delete("key", now: 7)
            }
        }
    }

    @Test func writesThatComeBetweenAreOvertaken() {
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        _ = store.put("key", LargeWriteTests.value(1, 5000), now: 5)
        let value = LargeWriteTests.value(2, 3000)
        var first = LargeWriteTests.begin(store, "key", 3000)
        var second = LargeWriteTests.begin(store, "key", 3000)
        let forgotten = LargeWriteTests.begin(store, "key", 3000)
        LargeWriteTests.fill(store, &first, value, piece: 100)
        _ = store.put("key", LargeWriteTests.value(3, 5000), now: 6)
        LargeWriteTests.fill(store, &second, value, piece: 100)
        _ = store.put("other", "x", now: 6)
        let one = store.finish(first, now: 6)
        #expect(one?.ms == 6 && one?.seq == 4)
        store.checkInvariants()
        _ = store.delete("key", now: 8)
        let two = store.finish(second, now: 7)
        #expect(two?.ms == 10, "it wins over the tombstone it can see")
        store.abandon(forgotten)
        store.checkInvariants()
        #expect(store.count == 2)
    }

    @Test func whatCannotBeStampedLeavesNothingBehind() {
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        var write = LargeWriteTests.begin(store, "key", 1500)
        LargeWriteTests.fill(store, &write, LargeWriteTests.value(1, 1500), piece: 64)
        #expect(store.finish(write, now: .max) == nil)
        #expect(store.count == 0 && store.ownSeq == 0)
    }
}
