// Memory for a batch of look-ups, asked for a little ahead of each. One thread.

import CIntrinsics
import KVBase

/// Keys to be looked up one after the other, their hashes, and how far ahead of the look-up that is made the memory of
/// the next ones has been asked for: first their buckets, then the records those name, then, for the one key in twenty
/// that overflowed, the next bucket. Freed by `deallocate()`.
///
/// All the time and a few at a time: a processor keeps some twenty cache misses under way, and drops prefetches beyond
/// them: of 32 lines asked for at once a seventh never came (`kvd-micro machine prefetch`, Zen 4).
@usableFromInline package struct LookAhead {
    /// The views set before `Store.prepare` (a count below 0 stands for no key), the hashes by it.
    package let keys: UnsafeMutablePointer<HashedKey>
    /// Keys that are prepared.
    package private(set) var count = 0

    /// Keys whose buckets, and whose records, have been asked for.
    private(set) var buckets = 0
    @usableFromInline package private(set) var records = 0
    /// Of the last step, from key `overflowedFrom` on: a bit for each whose record is not in its first bucket.
    private var overflowed: UInt64 = 0
    private var overflowedFrom = 0

    /// Records are asked for so many look-ups before their turn, buckets as many before that.
    @inlinable package static var distance: Int { 12 }
    private static let step = 4
    /// Buckets of keys up to this one are asked for while keys are hashed.
    private static let bucketsAtOnce = 2 * distance

    /// For `capacity` keys at most.
    package init(capacity: Int) {
        keys = .allocate(capacity: capacity)
    }

    package func deallocate() {
        keys.deallocate()
    }

    /// Forgets the keys.
    @inline(__always)
    package mutating func reset() { (count, buckets, records, overflowed) = (0, 0, 0, 0) }

    /// Whether `Store.look` is to be called before key `i` is looked up.
    @inlinable @inline(__always)
    package func isDue(_ i: Int) -> Bool { i &+ LookAhead.distance > records }

    fileprivate mutating func prepare(to end: Int, _ table: HashTable, _ hasher: KeyHasher) {
        for i in count..<end where keys[i].view.count >= 0 {
            let hash = hasher.hash(keys[i].view)
            keys[i].hash = hash
            if i < LookAhead.bucketsAtOnce { table.prefetchBucket(hasher.place(hash)) }
        }
        count = end
        buckets = min(end, LookAhead.bucketsAtOnce)
    }

    fileprivate mutating func advance(_ table: HashTable, _ hasher: KeyHasher) {
        while overflowed != 0 {
            table.prefetchOverflow(hasher.place(keys[overflowedFrom &+ overflowed.trailingZeroBitCount].hash))
            overflowed &= overflowed &- 1
        }
        overflowedFrom = records
        let to = min(count, records == 0 ? 2 * LookAhead.step : records &+ LookAhead.step)
        while records < to {
            if keys[records].view.count >= 0, !table.prefetchRecord(hasher.place(keys[records].hash)) {
                overflowed |= 1 &<< UInt64(records &- overflowedFrom)
            }
            records &+= 1
        }
        let bucketsTo = min(count, records &+ LookAhead.distance)
        while buckets < bucketsTo {
            if keys[buckets].view.count >= 0 { table.prefetchBucket(hasher.place(keys[buckets].hash)) }
            buckets &+= 1
        }
    }
}

extension Store {
    /// First step for the keys behind those prepared before, up to the one at `end`: hashes them and starts loading the
    /// first buckets.
    package func prepare(_ ahead: inout LookAhead, to end: Int) {
        ahead.prepare(to: end, state.pointee.table, state.pointee.hasher)
    }

    /// The next step, to be called before a look-up for which `isDue`. A lone key's memory is loaded when it is looked
    /// up.
    package func look(_ ahead: inout LookAhead) {
        if ahead.count > 1 { ahead.advance(state.pointee.table, state.pointee.hasher) }
    }
}
