// Memory for a batch of look-ups, asked for a little ahead of each. One thread.

import CIntrinsics
import KVBase

/// How far ahead of the command that is run the memory of the next ones has been asked for: first their buckets, then
/// the records those name, then, for the one key in ten that overflowed, the next bucket.
///
/// All the time and a few at a time: a processor keeps some twenty cache misses under way, and drops prefetches beyond
/// them: of 32 lines asked for at once a seventh never came (`kvd-micro machine prefetch`, Zen 4).
package struct LookAhead {
    /// Commands whose buckets, and whose records, have been asked for.
    var buckets = 0
    package private(set) var records = 0
    /// Of the last step, from command `behindFrom` on: a bit for each whose record is not in its first bucket.
    private var behind: UInt64 = 0
    private var behindFrom = 0

    /// Records are asked for so many commands before their turn, buckets as many before that.
    @inlinable package static var distance: Int { 12 }
    private static let step = 4

    package init() {}

    /// Before command `i` runs: nothing to do if false.
    @inline(__always)
    package func isDue(_ i: Int) -> Bool { i &+ LookAhead.distance > records }

    /// Buckets of commands up to this one are asked for while keys are hashed.
    static let bucketsAtOnce = 2 * distance

    mutating func advance(
        _ keys: UnsafePointer<KeyView>, _ hashes: UnsafePointer<UInt64>, count: Int, _ table: HashTable,
        _ hasher: KeyHasher
    ) {
        while behind != 0 {
            table.prefetchBehind(hasher.place(hashes[behindFrom &+ behind.trailingZeroBitCount]))
            behind &= behind &- 1
        }
        behindFrom = records
        let to = min(count, records == 0 ? 2 * LookAhead.step : records &+ LookAhead.step)
        while records < to {
            if keys[records].count >= 0, !table.prefetchRecord(hasher.place(hashes[records])) {
                behind |= 1 &<< UInt64(records &- behindFrom)
            }
            records &+= 1
        }
        let bucketsTo = min(count, records &+ LookAhead.distance)
        while buckets < bucketsTo {
            if keys[buckets].count >= 0 { table.prefetchBucket(hasher.place(hashes[buckets])) }
            buckets &+= 1
        }
    }
}

extension Store {
    /// First step for the keys `from ..< to` of a batch: hashes them and starts loading the first buckets. Entries
    /// without a key (count below 0) are left out.
    package func prepare(
        _ keys: UnsafePointer<KeyView>, _ hashes: UnsafeMutablePointer<UInt64>, _ from: Int, _ to: Int,
        _ ahead: inout LookAhead
    ) {
        let hasher = state.pointee.hasher
        let table = state.pointee.table
        for i in from..<to where keys[i].count >= 0 {
            let hash = hasher.hash(keys[i].start, keys[i].count)
            hashes[i] = hash
            if i < LookAhead.bucketsAtOnce { table.prefetchBucket(hasher.place(hash)) }
        }
        ahead.buckets = min(to, LookAhead.bucketsAtOnce)
    }

    /// The next step, to be called before a command runs for which `isDue`; `count` commands are prepared.
    package func look(
        _ ahead: inout LookAhead, _ keys: UnsafePointer<KeyView>, _ hashes: UnsafePointer<UInt64>, count: Int
    ) {
        ahead.advance(keys, hashes, count: count, state.pointee.table, state.pointee.hasher)
    }
}
