// Reading a range of the ordered index: LIST, KEYS and pages of SCAN. One thread, only through Store.

import CIntrinsics
import KVBase

/// Entries of one leaf that a listing reads.
private struct LeafRange {
    var path: OrderedIndex.Path
    var from: Int
    var to: Int
}

/// Where a listing stands.
private struct ListPosition {
    var path: OrderedIndex.Path
    var at: Int
    /// The entry at `at` has the digit word of the starting key: which of the two is less is seen when the entry's
    /// record has come, together with the others. Waiting for it first would take as long as thirty records.
    var isOpen = false
    /// The leaf's keys and the starting key have the same first bytes, as many as the leaf's share.
    var agrees = false
    var isAtEnd = false
}

extension OrderedIndex {
    /// Entries whose memory is loaded together, three lines each: within the nearest cache.
    private static let groupEntries = 128
    private static let groupLeaves = 4

    /// Collects up to `limit` records in key order: keys that start with `prefix` and are greater than `after`. No
    /// changes are pending. O(log n + results).
    ///
    /// Nearly all of the time is waiting for memory: one line of the table and two of the record for each entry, none
    /// near another. So the leaves, buckets and records of a group are each asked for all at once; a record is first
    /// looked at when the last one of the group is on its way, or later by the caller.
    func list(
        prefix: UnsafeRawBufferPointer, after: UnsafeRawBufferPointer?, limit: Int, _ table: HashTable,
        _ hasher: KeyHasher, into page: inout PageBuffer
    ) {
        var start = prefix
        var isAfter = false
        if let after, compareBytes(after, prefix) >= 0 { (start, isAfter) = (after, true) }
        var position = begin(start, isAfter: isAfter, table, hasher)
        withUnsafeTemporaryAllocation(of: LeafRange.self, capacity: OrderedIndex.groupLeaves) { ranges in
            let ranges = ranges.baseAddress.unsafelyUnwrapped
            while page.count < limit {
                let isOpen = position.isOpen
                let wanted = min(limit &- page.count, OrderedIndex.groupEntries) &+ (isOpen ? 1 : 0)
                let (leaves, entries) = gather(&position, prefix, wanted, ranges, table)
                if entries == 0 { return }
                var words = page.room(for: entries)
                locate(ranges, leaves, table, into: words)
                if isOpen {
                    let record = record(words[0], ranges[0].from, ranges[0].path, table, hasher)
                    let order = compareBytes(record.key, start)
                    if order < 0 || (order == 0 && isAfter) {
                        ranges[0].from &+= 1
                        words += 1
                    }
                }
                for range in UnsafeBufferPointer(start: ranges, count: leaves) {
                    for i in range.from..<range.to {
                        let record = record(words[i &- range.from], i, range.path, table, hasher)
                        if prefix.count > 0 {
                            guard record.keyCount >= prefix.count,
                                sameBytes(record.keyPointer, prefix.baseAddress.unsafelyUnwrapped, prefix.count)
                            else { return }
                        }
                        page.append(record)
                        if page.count == limit { return }
                    }
                    words += range.to &- range.from
                }
                if position.isAtEnd { return }
            }
        }
    }

    /// Finds the first entry of a listing, and starts loading the leaves behind it.
    private func begin(
        _ start: UnsafeRawBufferPointer, isAfter: Bool, _ table: HashTable, _ hasher: KeyHasher
    ) -> ListPosition {
        let path = descend(start)
        let leaf = path.leaf
        leaf.prefetch()
        if path.index &+ 1 < path.node.count { ci_prefetch(path.node.leaf(path.index &+ 1).base) }
        if path.index &+ 2 < path.node.count { ci_prefetch(path.node.leaf(path.index &+ 2).base) }
        let (low, isOutside) = lowerBound(start, path)
        let digit = digit32(start, leaf.shared)
        var position = ListPosition(path: path, at: low, agrees: !isOutside)
        if isOutside || low == leaf.count || leaf.digits[low] != digit { return position }
        if low &+ 1 == leaf.count || leaf.digits[low &+ 1] != digit {
            position.isOpen = true
            return position
        }
        switch placeInRun(start, low, digit, path, table, hasher, settled: true) {
        case .found(let index): position.at = isAfter ? index &+ 1 : index
        case .absent(let index), .outside(let index): position.at = index
        case .unclear: preconditionFailure("index and table disagree")
        }
        return position
    }

    /// Takes the next `wanted` entries that may begin with `prefix`, from as many leaves as make a group, and starts
    /// loading their buckets.
    private func gather(
        _ position: inout ListPosition, _ prefix: UnsafeRawBufferPointer, _ wanted: Int,
        _ ranges: UnsafeMutablePointer<LeafRange>, _ table: HashTable
    ) -> (leaves: Int, entries: Int) {
        var leaves = 0
        var entries = 0
        while leaves < OrderedIndex.groupLeaves, entries < wanted {
            let path = position.path
            let leaf = path.leaf
            let from = position.at
            let reach = leaf.reach(prefix, agrees: position.agrees)
            let to = min(reach, from &+ wanted &- entries)
            if from < to {
                if to == leaf.count, path.index &+ 1 < path.node.count {
                    path.node.leaf(path.index &+ 1).prefetchFragments()
                    if path.index &+ 2 < path.node.count { ci_prefetch(path.node.leaf(path.index &+ 2).base) }
                }
                let fragments = leaf.fragments
                for i in from..<to { table.prefetchBucket(UInt64(fragments[i]) &<< 32) }
                (ranges + leaves).initialize(to: LeafRange(path: path, from: from, to: to))
                leaves &+= 1
                entries &+= to &- from
                position.at = to
            }
            if to < reach { break }
            guard from == leaf.count || reach == leaf.count, let following = next(path) else {
                position.isAtEnd = true
                break
            }
            position.path = following
            position.at = 0
            position.agrees = false
        }
        position.isOpen = false
        return (leaves, entries)
    }

    /// Finds the entries' slots in the table and starts loading their records; what is found for each goes to `words`:
    /// its address, plus 1 if there is no doubt, or 0 where several slots look alike. There is room for twice as
    /// many.
    private func locate(
        _ ranges: UnsafeMutablePointer<LeafRange>, _ leaves: Int, _ table: HashTable,
        into words: UnsafeMutablePointer<UInt64>
    ) {
        var words = words
        for range in UnsafeBufferPointer(start: ranges, count: leaves) {
            let fragments = range.path.leaf.fragments + range.from
            let count = range.to &- range.from
            let left = words + count
            var leftCount = 0
            for i in 0..<count {
                let word = table.likelySlot(fragment: fragments[i])
                words[i] = word
                left[leftCount] = UInt64(truncatingIfNeeded: i)
                leftCount &+= word == 0 ? 1 : 0
            }
            for k in 0..<leftCount {
                let i = Int(truncatingIfNeeded: left[k])
                let word = table.onlySlot(fragment: fragments[i])
                words[i] = word == 0 ? 0 : word & HashTable.addressMask | 1
                table.prefetchRecords(fragment: fragments[i])
            }
            words += count
        }
    }

    /// The record of an entry that `locate` found a word for.
    @inline(__always)
    private func record(_ word: UInt64, _ at: Int, _ path: Path, _ table: HashTable, _ hasher: KeyHasher) -> Record {
        if word != 0 {
            let record = HashTable.record(word)
            if word & 1 != 0 { return record }
            if !record.isTombstone, path.leaf.isCertain(at, record.key), isInRange(record.key, at, path) {
                return record
            }
        }
        return recordSlowly(at, path, table, hasher)
    }

    /// Whether a key with the digit word of entry `at`, and of no other, lies in the leaf's range: between two entries
    /// it surely does.
    @inline(__always)
    private func isInRange(_ key: UnsafeRawBufferPointer, _ at: Int, _ path: Path) -> Bool {
        if at == 0, compareBytes(path.leaf.fence, key) > 0 { return false }
        if at &+ 1 == path.leaf.count, let upper = upperFence(path), compareBytes(key, upper) >= 0 { return false }
        return true
    }

    @inline(never)
    private func recordSlowly(_ at: Int, _ path: Path, _ table: HashTable, _ hasher: KeyHasher) -> Record {
        guard let record = resolve(at, path, table, hasher, settled: true) else {
            preconditionFailure("index and table disagree")
        }
        return record
    }
}
