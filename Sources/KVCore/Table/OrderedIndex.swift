// The keys of the live records in byte order, for LIST, KEYS and paging. One thread, only through Store.

import Glibc
import KVBase

/// A B+-tree of three levels: one root, level 1 nodes, leaves. Leaves hold hash fragments instead of pointers, so the
/// table may replace records without telling the index; the index follows only keys that appear or vanish, in bulk
/// (`reconcile`).
///
/// A fragment and the leaf's range nearly always name one record of the table. Where two records share both (32 equal
/// hash bits and four equal bytes after the shared prefix), entries of the group stand for the group's live records
/// in key order.
struct OrderedIndex {
    var root: FenceNode
    var count = 0
    /// Nodes, leaves and texts.
    var bytes = 0
    /// Changes whenever a leaf gets another place in its parent, so that a descent made before is void.
    var structure: UInt64 = 0

    /// Where a key belongs.
    struct Path {
        var rootIndex = 0
        var index = 0
        var node: FenceNode
        var leaf: IndexLeaf { node.leaf(index) }
    }

    init() {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        let leaf = IndexLeaf.make(entries: 0, shared: 0, fence: none, prefix: none)
        let node = FenceNode.make(level: 1, capacity: 7)
        node.children[0] = leaf.base
        node.count = 1
        root = FenceNode.make(level: 2, capacity: 7)
        root.children[0] = node.base
        root.count = 1
        bytes = leaf.allocatedBytes + node.byteCount + root.byteCount
    }

    func deallocate() {
        for i in 0..<root.count {
            let node = root.node(i)
            for k in 0..<node.count { node.leaf(k).deallocate() }
            node.deallocate()
        }
        root.deallocate()
    }

    // MARK: Searching

    @inline(__always)
    func descend(_ key: UnsafeRawBufferPointer) -> Path {
        let rootIndex = root.search(key)
        let node = root.node(rootIndex)
        return Path(rootIndex: rootIndex, index: node.search(key), node: node)
    }

    /// The first key beyond a leaf; nil for the last leaf.
    func upperFence(_ path: Path) -> UnsafeRawBufferPointer? {
        if path.index + 1 < path.node.count { return path.node.leaf(path.index + 1).fence }
        if path.rootIndex + 1 < root.count { return root.node(path.rootIndex + 1).leaf(0).fence }
        return nil
    }

    /// The leaf after, or nil.
    func next(_ path: Path) -> Path? {
        if path.index + 1 < path.node.count {
            return Path(rootIndex: path.rootIndex, index: path.index + 1, node: path.node)
        }
        if path.rootIndex + 1 < root.count {
            return Path(rootIndex: path.rootIndex + 1, index: 0, node: root.node(path.rootIndex + 1))
        }
        return nil
    }

    /// Where a key stands in its leaf, or would.
    enum Place: Equatable {
        case found(Int)
        case absent(Int)
        /// Absent, before or after every entry, and without the prefix that they share.
        case outside(Int)
        /// Two records might be meant by one entry on the way; only while changes are pending.
        case unclear
    }

    /// Binary search: by digit words, then among equal ones by the keys themselves. `settled` says that no changes
    /// are pending, so that entries and live records correspond exactly.
    @inline(__always)
    func place(_ key: UnsafeRawBufferPointer, _ path: Path, _ table: HashTable, _ hasher: KeyHasher, settled: Bool)
        -> Place
    {
        let (low, isOutside) = lowerBound(key, path)
        if isOutside { return .outside(low) }
        let leaf = path.leaf
        let digit = digit32(key, leaf.shared)
        if low == leaf.count || leaf.digits[low] != digit { return .absent(low) }
        return placeInRun(key, low, digit, path, table, hasher, settled: settled)
    }

    /// The first entry of the leaf that the key may be or precede, as far as digit words tell; and whether the key lies
    /// outside of what the leaf's entries share.
    @inline(__always)
    func lowerBound(_ key: UnsafeRawBufferPointer, _ path: Path) -> (at: Int, isOutside: Bool) {
        let leaf = path.leaf
        let shared = leaf.shared
        if shared > path.node.certainPrefix(path.index) || shared > key.count {
            let side = leaf.side(key)
            if side != 0 { return (side < 0 ? 0 : leaf.count, true) }
        }
        return (leaf.lowerBound(digit32(key, shared)), false)
    }

    func placeInRun(
        _ key: UnsafeRawBufferPointer, _ start: Int, _ digit: UInt32, _ path: Path, _ table: HashTable,
        _ hasher: KeyHasher, settled: Bool
    ) -> Place {
        var low = start
        var high = path.leaf.runEnd(start, digit)
        while low < high {
            let middle = (low + high) / 2
            guard let record = resolve(middle, path, table, hasher, settled: settled) else { return .unclear }
            let order = compareBytes(record.key, key)
            if order == 0 { return .found(middle) }
            if order < 0 { low = middle + 1 } else { high = middle }
        }
        return .absent(low)
    }

    // MARK: From entries to records

    /// The record an entry stands for; nil if that is unclear, which it never is when `settled`.
    @inline(__always)
    func resolve(_ at: Int, _ path: Path, _ table: HashTable, _ hasher: KeyHasher, settled: Bool) -> Record? {
        let word = table.onlySlot(fragment: path.leaf.fragments[at])
        if word != 0 { return HashTable.record(word) }
        return resolveSlowly(at, path, table, hasher, settled: settled)
    }

    /// Several slots look alike: compare whole fragments, then leaf ranges, then take the entry's rank.
    private func resolveSlowly(
        _ at: Int, _ path: Path, _ table: HashTable, _ hasher: KeyHasher, settled: Bool
    ) -> Record? {
        let fragment = path.leaf.fragments[at]
        var found: Record?
        var candidates = 0
        table.forEachSlot(fragment: fragment) { slot in
            let record = slot.record
            if UInt32(truncatingIfNeeded: hasher.place(of: record) &>> 32) == fragment {
                candidates += 1
                found = record
            }
            return true
        }
        if candidates == 1 { return found }
        let leaf = path.leaf
        let digit = leaf.digits[at]
        func group(onlyListed: Bool) -> [Record] {
            candidatesInRange(fragment, path, table, hasher, onlyListed: onlyListed).filter {
                leaf.side($0.key) == 0 && digit32($0.key, leaf.shared) == digit
            }
        }
        let all = group(onlyListed: false)
        if all.count == 1 { return all[0] }
        guard settled else { return nil }
        let group = group(onlyListed: true).sorted { compareBytes($0.key, $1.key) < 0 }
        var rank = 0
        var i = at - 1
        while i >= 0, leaf.digits[i] == digit {
            if leaf.fragments[i] == fragment { rank += 1 }
            i -= 1
        }
        check(rank < group.count, "an entry without a record")
        return rank < group.count ? group[rank] : nil
    }

    /// Every record of that fragment whose key lies in the leaf's range, or those of them that are to be in the index.
    func candidatesInRange(
        _ fragment: UInt32, _ path: Path, _ table: HashTable, _ hasher: KeyHasher, onlyListed: Bool
    ) -> [Record] {
        let lower = path.leaf.fence
        let upper = upperFence(path)
        var found: [Record] = []
        table.forEachSlot(fragment: fragment) { slot in
            let record = slot.record
            if UInt32(truncatingIfNeeded: hasher.place(of: record) &>> 32) == fragment,
                slot.isListed || !onlyListed, compareBytes(lower, record.key) <= 0,
                upper.map({ compareBytes(record.key, $0) < 0 }) ?? true
            {
                found.append(record)
            }
            return true
        }
        return found
    }

    // MARK: Checks

    /// Entries are exactly the live records, in order; every figure kept is right.
    func checkInvariants(_ table: HashTable, _ hasher: KeyHasher) {
        #if KV_CHECKS
            var total = 0
            var held = root.byteCount
            var previous: Record?
            for i in 0..<root.count {
                let node = root.node(i)
                held += node.byteCount
                precondition(node.count > 0 && node.count <= FenceNode.childrenMax)
                for k in 0..<node.count {
                    let path = Path(rootIndex: i, index: k, node: node)
                    let leaf = path.leaf
                    held += leaf.allocatedBytes
                    total += leaf.count
                    precondition(leaf.count > 0 || (root.count == 1 && node.count == 1), "empty leaf")
                    precondition(leaf.count <= leaf.capacity)
                    precondition(
                        compareBytes(leaf.fence, UnsafeRawBufferPointer(start: nil, count: 0)) == 0 || i + k > 0)
                    for at in 0..<leaf.count {
                        guard let record = resolve(at, path, table, hasher, settled: true) else {
                            preconditionFailure("entry without record")
                        }
                        let slot = table.find(record.keyView, hasher.place(of: record))
                        precondition(slot?.isListed ?? false, "a tombstone in the index")
                        precondition(previous.map { compareBytes($0.key, record.key) < 0 } ?? true, "order")
                        precondition(compareBytes(leaf.fence, record.key) <= 0, "fence")
                        precondition(upperFence(path).map { compareBytes(record.key, $0) < 0 } ?? true, "upper fence")
                        precondition(leaf.side(record.key) == 0 && leaf.digits[at] == digit32(record.key, leaf.shared))
                        let found = descend(record.key)
                        precondition(found.node.base == node.base && found.index == k, "search")
                        precondition(place(record.key, found, table, hasher, settled: true) == .found(at), "place")
                        previous = record
                    }
                }
            }
            precondition(total == count && held == bytes, "index totals")
        #endif
    }
}
