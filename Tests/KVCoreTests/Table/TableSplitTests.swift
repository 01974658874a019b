// Splits of the hash table: by the slots' own bits of the hash, and by the record's where a slot has none left.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct TableSplitTests {
    /// A slot's three bits come out highest first, and its address and place stay what they were.
    @Test func aSlotsBitsAheadAreUsedUpOneByOne() {
        let hash: UInt64 = 0b1011_0010 << 56
        let slot: UInt64 = 0xABCD_0000_1234_5670 | HashTable.SplitBits.bits(of: hash, depth: 2)
        var word = slot
        for bit in [1, 1, 0] as [UInt64] {
            #expect(!HashTable.SplitBits.isEmpty(word))
            #expect(HashTable.SplitBits.next(word) == bit)
            word = HashTable.SplitBits.withoutNext(word)
            #expect(word & ~HashTable.SplitBits.mask == slot & ~HashTable.SplitBits.mask)
        }
        #expect(HashTable.SplitBits.isEmpty(word))
    }

    /// As the table grows through several splits of every segment: all keys are found, and few slots would make the
    /// next split read their records.
    @Test func fewSlotsOfAGrowingTableHaveNoBitsLeft() {
        let store = StoreGrowthTests.makeStore()
        defer { store.destroy() }
        var shares: [Double] = []
        for i in 0..<200_000 {
            _ = store.put(StoreGrowthTests.key(i, 1), "v", now: 5)
            if i == 49_999 || i == 99_999 || i == 199_999 { shares.append(emptyShare(store.state.pointee.table)) }
        }
        store.checkInvariants()
        // 1 of 16 of those that have waited for nothing yet, 1 of 15 of all, right behind a split twice as many.
        #expect(shares.allSatisfy { $0 > 0 && $0 < 0.14 }, "\(shares)")
    }

    /// The share of slots without bits of splits.
    private func emptyShare(_ table: HashTable) -> Double {
        var empty = 0
        var i = 0
        while i < 1 << Int(table.depth) {
            let segment = HashTable.Segment(word: table.directory[i])
            for index in 0..<segment.buckets {
                var used = HashTable.tags(segment.bucket(index)) & HashTable.tagBits
                while used != 0 {
                    let slot = HashTable.Slot(bucket: segment.bucket(index), index: HashTable.first(used))
                    if HashTable.SplitBits.isEmpty(slot.pointer.pointee) { empty += 1 }
                    used &= used - 1
                }
            }
            i += 1 << Int(table.depth - segment.depth)
        }
        return Double(empty) / Double(table.count)
    }
}
