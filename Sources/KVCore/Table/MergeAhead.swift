// Memory for a run of shared entries that are merged one after the other, asked for ahead of each. One thread.

import CIntrinsics

/// All the time, not group by group: then no group waits for its first. `entry` gives the entry at a place.
struct MergeAhead {
    /// How many entries before its turn a key's record is asked for; its bucket and the entry itself twice as many.
    private static let distance = 16

    private var overflowed = OverflowSet()

    /// Before the first of `count` entries.
    @inline(__always)
    mutating func begin(_ store: Store, count: Int, _ entry: (Int) -> (record: Record, hash: UInt64)) {
        for i in 0..<min(2 * MergeAhead.distance, count) { MergeAhead.load(store, entry(i)) }
        for i in 0..<min(MergeAhead.distance, count) { overflowed.note(i, isDone: store.prefetchRecord(entry(i).hash)) }
    }

    /// Before entry `i` is merged.
    @inline(__always)
    mutating func step(_ store: Store, _ i: Int, count: Int, _ entry: (Int) -> (record: Record, hash: UInt64)) {
        let (far, middle) = (i &+ 2 &* MergeAhead.distance, i &+ MergeAhead.distance)
        let near = i &+ MergeAhead.distance / 2
        if far < count { MergeAhead.load(store, entry(far)) }
        if middle < count { overflowed.note(middle, isDone: store.prefetchRecord(entry(middle).hash)) }
        if near < count, overflowed.take(near) { store.prefetchOverflow(entry(near).hash) }
    }

    /// Starts loading what a merge reads first: the entry itself and its key's bucket.
    @inline(__always)
    private static func load(_ store: Store, _ entry: (record: Record, hash: UInt64)) {
        store.prefetchSlot(entry.hash)
        ci_prefetch(entry.record.raw)
        ci_prefetch(entry.record.raw + 64)
    }
}
