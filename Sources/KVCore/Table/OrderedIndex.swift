// The keys of the live records in byte order, for LIST, KEYS and paging. One thread.

import KVBase

/// A sorted array: insertion is O(n).
struct OrderedIndex {
    private var keys: [Bytes] = []

    var count: Int { keys.count }
    var bytes: Int { keys.count * 32 }

    func checkInvariants(_ table: HashTable, _ hasher: KeyHasher) {}

    private func lowerBound(_ key: Bytes) -> Int {
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Brings the index in line with the table for the key hashes given: keys with a live record are in it, others are not.
    mutating func reconcile(_ hashes: UnsafeBufferPointer<UInt64>, _ table: HashTable, _ hasher: KeyHasher) {
        for hash in hashes {
            table.forEachSlot(fragment: UInt32(truncatingIfNeeded: hash &>> 32)) { slot in
                let record = slot.record
                guard hasher.hash(record) == hash else { return true }
                let key = Bytes(record.key)
                let at = lowerBound(key)
                let present = at < keys.count && keys[at] == key
                if present && record.isTombstone { keys.remove(at: at) }
                if !present && !record.isTombstone { keys.insert(key, at: at) }
                return true
            }
        }
    }

    /// Collects up to `limit` records in key order: keys that start with `prefix` and are greater than `after`.
    func list(
        prefix: UnsafeRawBufferPointer, after: UnsafeRawBufferPointer?, limit: Int, _ table: HashTable,
        _ hasher: KeyHasher, into page: inout PageBuffer
    ) {
        let prefix = Bytes(prefix)
        var at = lowerBound(prefix)
        if let after {
            let after = Bytes(after)
            var low = lowerBound(after)
            if low < keys.count && keys[low] == after { low += 1 }
            at = max(at, low)
        }
        while at < keys.count, page.count < limit, keys[at].hasPrefix(prefix) {
            keys[at].withBytes { key in
                var none: UInt8 = 0
                withUnsafePointer(to: &none) { empty in
                    let start = key.baseAddress ?? UnsafeRawPointer(empty)
                    page.append(table.find(start, key.count, hasher.hash(start, key.count))!.record)
                }
            }
            at += 1
        }
    }
}
