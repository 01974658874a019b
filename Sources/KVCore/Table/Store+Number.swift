// Numbers for records that fit a double-precision integer: cursors of range scans. One thread.

import KVBase

extension Store {
    /// Highest bit of a number, so that it is never 0; numbers stay below 2^53, which every client's SCAN cursor can
    /// hold.
    private static let numberFlag: UInt64 = 1 << 52

    /// 52 bits of the key's hash. Two keys of ten million share them with a probability of about one in a hundred
    /// thousand.
    package func number(_ record: Record) -> UInt64 {
        Store.numberFlag | state.pointee.hasher.place(of: record) &>> 12
    }

    /// The record, live or tombstone, with this number and a key that `accepts` takes; nil once it has been
    /// collected. O(1).
    package func record(numbered number: UInt64, where accepts: (UnsafeRawBufferPointer) -> Bool) -> Record? {
        let bits = number & (Store.numberFlag - 1)
        let hasher = state.pointee.hasher
        var found: Record?
        state.pointee.table.forEachSlot(fragment: UInt32(truncatingIfNeeded: bits &>> 20)) { slot in
            let record = slot.record
            guard hasher.place(of: record) &>> 12 == bits, accepts(record.key) else {
                return true
            }
            found = record
            return false
        }
        return found
    }
}
