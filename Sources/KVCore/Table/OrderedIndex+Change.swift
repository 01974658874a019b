// Bringing the ordered index in line with the table: keys that appeared or vanished. One thread, only through Store.

import CIntrinsics
import Glibc
import KVBase

extension OrderedIndex {
    /// Changes whose memory is loaded together before they are applied.
    static let groupMax = 16

    /// One change on its way through a group.
    private struct Step {
        var record: Record
        /// It is to be in the index.
        var isListed: Bool
        var path: Path
        /// More than one record has this hash.
        var hasMore: Bool
    }

    /// Makes the index agree with the table on the keys of the hashes given: those with a live record are in it,
    /// others are not. O(log n) each; loads buckets, records and leaves of 16 changes at a time.
    mutating func reconcile(_ hashes: UnsafeBufferPointer<UInt64>, _ table: HashTable, _ hasher: KeyHasher) {
        var left = hashes[...]
        for hash in left.prefix(OrderedIndex.groupMax) { table.prefetchBucket(hash) }
        while !left.isEmpty {
            let group = left.prefix(OrderedIndex.groupMax)
            left = left.dropFirst(OrderedIndex.groupMax)
            let next = left.prefix(OrderedIndex.groupMax)
            reconcileGroup(
                UnsafeBufferPointer(rebasing: group), next: UnsafeBufferPointer(rebasing: next), table, hasher)
        }
    }

    /// As `reconcile`, of at most `groupMax` hashes whose buckets are on their way; those of `next` are then.
    mutating func reconcileGroup(
        _ hashes: UnsafeBufferPointer<UInt64>, next: UnsafeBufferPointer<UInt64>, _ table: HashTable,
        _ hasher: KeyHasher
    ) {
        var overflowed = OverflowSet()
        for i in 0..<hashes.count { overflowed.note(i, isDone: table.prefetchRecord(hashes[i])) }
        for hash in next { table.prefetchBucket(hash) }
        for i in 0..<hashes.count where overflowed.take(i) { table.prefetchOverflow(hashes[i]) }
        withUnsafeTemporaryAllocation(of: Step.self, capacity: OrderedIndex.groupMax) { steps in
            let count = descend(hashes, into: steps, table, hasher)
            let before = structure
            for step in steps.prefix(count) {
                if step.hasMore {
                    applyAll(hasher.place(of: step.record), table, hasher)
                } else {
                    let path = structure == before ? step.path : descend(step.record.key)
                    apply(step.record, step.isListed, path, table, hasher)
                }
            }
        }
    }

    /// Finds the leaves of the keys with these hashes and starts loading them; returns how many are in the table.
    private func descend(
        _ hashes: UnsafeBufferPointer<UInt64>, into steps: UnsafeMutableBufferPointer<Step>, _ table: HashTable,
        _ hasher: KeyHasher
    ) -> Int {
        var count = 0
        for hash in hashes {
            var found: Record?
            var isListed = false
            var matches = 0
            table.forEachSlot(fragment: UInt32(truncatingIfNeeded: hash &>> 32)) { slot in
                let record = slot.record
                if hasher.place(of: record) == hash {
                    (found, isListed) = (record, slot.isListed)
                    matches &+= 1
                }
                return true
            }
            guard let found else { continue }
            let step = Step(
                record: found, isListed: isListed, path: descend(found.key), hasMore: matches > 1)
            ci_prefetch(step.path.leaf.base)
            steps.initializeElement(at: count, to: step)
            count &+= 1
        }
        for step in steps.prefix(count) {
            let leaf = step.path.leaf
            for line in 1..<((leaf.byteCount &+ 63) &>> 6) { ci_prefetch(leaf.base + line &* 64) }
        }
        return count
    }

    /// Adds or removes every key with this hash.
    private mutating func applyAll(_ hash: UInt64, _ table: HashTable, _ hasher: KeyHasher) {
        var same: [(record: Record, isListed: Bool)] = []
        table.forEachSlot(fragment: UInt32(truncatingIfNeeded: hash &>> 32)) { slot in
            if hasher.place(of: slot.record) == hash { same.append((slot.record, slot.isListed)) }
            return true
        }
        for one in same { apply(one.record, one.isListed, descend(one.record.key), table, hasher) }
    }

    /// Adds or removes one key.
    private mutating func apply(
        _ record: Record, _ isListed: Bool, _ path: Path, _ table: HashTable, _ hasher: KeyHasher
    ) {
        switch place(record.key, path, table, hasher, settled: false) {
        case .found(let at):
            if !isListed { remove(at, path) }
        case .absent(let at):
            if isListed { insert(record, at, isInside: true, path, table, hasher) }
        case .outside(let at):
            if isListed { insert(record, at, isInside: false, path, table, hasher) }
        case .unclear:
            rebuild(path, record, table, hasher)
        }
    }

    // MARK: Insertion

    private mutating func insert(
        _ record: Record, _ at: Int, isInside: Bool, _ path: Path, _ table: HashTable, _ hasher: KeyHasher
    ) {
        var leaf = path.leaf
        if leaf.count == IndexLeaf.entriesMax {
            split(record, at, path, table, hasher)
            return
        }
        var isInside = isInside
        if leaf.count == leaf.capacity {
            leaf = resize(path, entries: leaf.count + 2)
            if tieCount(leaf) * 4 > leaf.count {
                // Changes shared prefix and digit words, but not the order.
                leaf = refine(path, table, hasher)
                isInside = false
            }
        }
        let key = record.key
        if leaf.count == 0 {
            replaceText(leaf, fence: leaf.fence, prefix: key)
            leaf.shared = key.count
        } else if !isInside {
            let common = commonCount(key, leaf.prefix)
            if common < leaf.shared { leaf.narrow(to: common) }
        }
        let fragment = UInt32(truncatingIfNeeded: hasher.place(of: record) &>> 32)
        leaf.insert(at, digit32(key, leaf.shared), fragment)
        count += 1
    }

    /// Entries with the same digit word as the one before.
    private func tieCount(_ leaf: IndexLeaf) -> Int {
        var ties = 0
        for i in 1..<max(1, leaf.count) where leaf.digits[i] == leaf.digits[i - 1] { ties += 1 }
        return ties
    }

    private mutating func resize(_ path: Path, entries: Int) -> IndexLeaf {
        let old = path.leaf
        bytes -= old.byteCount
        let new = old.resized(entries: entries)
        bytes += new.byteCount
        path.node.children[path.index] = new.base
        return new
    }

    private mutating func replaceText(_ leaf: IndexLeaf, fence: UnsafeRawBufferPointer, prefix: UnsafeRawBufferPointer)
    {
        bytes -= leaf.allocatedBytes
        leaf.setText(fence: fence, prefix: prefix)
        bytes += leaf.allocatedBytes
    }

    /// Finds the longest prefix the leaf's keys share now, and the digit words after it, so that fewer entries tie.
    private mutating func refine(_ path: Path, _ table: HashTable, _ hasher: KeyHasher) -> IndexLeaf {
        let leaf = path.leaf
        guard let first = resolve(0, path, table, hasher, settled: false),
            let last = resolve(leaf.count - 1, path, table, hasher, settled: false)
        else { return leaf }
        let shared = commonCount(first.key, last.key)
        guard shared > leaf.shared else { return leaf }
        for i in 0..<leaf.count { table.prefetchBucket(UInt64(leaf.fragments[i]) &<< 32) }
        var keys: [Record] = []
        for i in 0..<leaf.count {
            guard let record = resolve(i, path, table, hasher, settled: false) else { return leaf }
            ci_prefetch(record.raw)
            keys.append(record)
        }
        replaceText(leaf, fence: leaf.fence, prefix: UnsafeRawBufferPointer(rebasing: first.key[0..<shared]))
        leaf.shared = shared
        for i in 0..<leaf.count { leaf.digits[i] = digit32(keys[i].key, shared) }
        return leaf
    }

    /// Splits a full leaf for a key that goes to `at`, and adds the key. Keys that keep coming at the end leave full
    /// leaves behind.
    private mutating func split(
        _ record: Record, _ at: Int, _ path: Path, _ table: HashTable, _ hasher: KeyHasher
    ) {
        let leaf = path.leaf
        let atEnd = at == leaf.count
        let middle = atEnd ? leaf.count : leaf.count / 2
        let before = resolve(middle - 1, path, table, hasher, settled: false)
        let after = atEnd ? record : resolve(middle, path, table, hasher, settled: false)
        guard let before, let after else { return rebuild(path, record, table, hasher) }
        let fence = OrderedIndex.separator(before.key, after.key)
        if atEnd {
            let right = makeLeaf([record], fence: fence, hasher)
            count += 1
            insertLeaf(right, after: path)
            return
        }
        let right = IndexLeaf.make(
            entries: leaf.count - middle, shared: leaf.shared, fence: fence, prefix: leaf.prefix)
        right.append(leaf, from: middle, to: leaf.count)
        bytes += right.allocatedBytes
        leaf.count = middle
        _ = resize(path, entries: middle)
        insertLeaf(right, after: path)
        for key in [before, after] {
            let half = descend(key.key)
            if tieCount(half.leaf) * 4 > half.leaf.count { _ = refine(half, table, hasher) }
        }
        apply(record, true, descend(record.key), table, hasher)
    }

    /// The shortest string greater than `left` that is not greater than `right`: a prefix of `right`.
    static func separator(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: right[0..<(commonCount(left, right) + 1)])
    }

    /// A leaf of these records, which are in key order.
    private mutating func makeLeaf(
        _ records: ArraySlice<Record>, fence: UnsafeRawBufferPointer, _ hasher: KeyHasher
    ) -> IndexLeaf {
        let first = records.first!.key
        let shared = commonCount(first, records.last!.key)
        let leaf = IndexLeaf.make(
            entries: records.count, shared: shared, fence: fence,
            prefix: UnsafeRawBufferPointer(rebasing: first[0..<shared]))
        for record in records {
            let fragment = UInt32(truncatingIfNeeded: hasher.place(of: record) &>> 32)
            leaf.insert(leaf.count, digit32(record.key, shared), fragment)
        }
        bytes += leaf.allocatedBytes
        return leaf
    }

    /// Puts a new leaf behind another; splits its parent if need be.
    private mutating func insertLeaf(_ leaf: IndexLeaf, after path: Path) {
        structure &+= 1
        var (node, rootIndex, index) = (path.node, path.rootIndex, path.index)
        if node.count == FenceNode.childrenMax {
            let half = node.count / 2
            let right = FenceNode.make(level: 1, capacity: node.count - half + 8)
            memcpy(right.children, node.children + half, (node.count - half) * 8)
            right.count = node.count - half
            node.count = half
            right.refresh()
            bytes += right.byteCount
            bytes -= node.byteCount
            node = node.resized(capacity: half + 8)
            node.refresh()
            bytes += node.byteCount
            root.children[rootIndex] = node.base
            if root.count == root.capacity {
                bytes -= root.byteCount
                root = root.resized(capacity: root.count + root.count / 4 + 8)
                bytes += root.byteCount
            }
            root.insert(rootIndex + 1, right.base)
            if index >= half { (node, rootIndex, index) = (right, rootIndex + 1, index - half) }
        }
        if node.count == node.capacity {
            bytes -= node.byteCount
            node = node.resized(capacity: min(FenceNode.childrenMax, node.count + node.count / 4 + 4))
            bytes += node.byteCount
            root.children[rootIndex] = node.base
        }
        node.insert(index + 1, leaf.base)
    }

    // MARK: Removal

    private mutating func remove(_ at: Int, _ path: Path) {
        let leaf = path.leaf
        leaf.remove(at)
        count -= 1
        if leaf.count == 0 {
            removeLeaf(path)
        } else if leaf.count < IndexLeaf.entriesMax / 4 {
            if path.index + 1 < path.node.count, mergeNext(path) { return }
            if path.index > 0 {
                let left = Path(rootIndex: path.rootIndex, index: path.index - 1, node: path.node)
                if mergeNext(left) { return }
            }
            if IndexLeaf.size(entries: leaf.count + 4) * 4 <= leaf.byteCount * 3 {
                _ = resize(path, entries: leaf.count + 4)
            }
        } else if IndexLeaf.size(entries: leaf.count + 8) * 4 <= leaf.byteCount * 3 {
            _ = resize(path, entries: leaf.count + 8)
        }
    }

    /// Takes an empty leaf out; a neighbour inherits its range.
    private mutating func removeLeaf(_ path: Path) {
        let (node, leaf) = (path.node, path.leaf)
        if node.count == 1 && root.count == 1 {
            // The only leaf stays, with nothing known of the next keys.
            leaf.shared = 0
            return
        }
        structure &+= 1
        if path.index == 0, node.count > 1 {
            replaceText(node.leaf(1), fence: leaf.fence, prefix: node.leaf(1).prefix)
        } else if path.index == 0, path.rootIndex == 0 {
            let heir = root.node(1).leaf(0)
            replaceText(heir, fence: leaf.fence, prefix: heir.prefix)
        }
        bytes -= leaf.allocatedBytes
        leaf.deallocate()
        node.remove(path.index)
        if node.count == 0 {
            bytes -= node.byteCount
            node.deallocate()
            root.remove(path.rootIndex)
        }
    }

    /// Moves the entries of the leaf after this one, under the same parent, into this one, if they are few.
    private mutating func mergeNext(_ path: Path) -> Bool {
        let right = path.node.leaf(path.index + 1)
        let total = path.leaf.count + right.count
        guard total <= IndexLeaf.entriesMax * 3 / 4 else { return false }
        structure &+= 1
        var left = path.leaf
        if left.capacity < total { left = resize(path, entries: total) }
        let shared = min(left.shared, right.shared, commonCount(left.prefix, right.prefix))
        if left.shared > shared { left.narrow(to: shared) }
        if right.shared > shared { right.narrow(to: shared) }
        left.append(right, from: 0, to: right.count)
        bytes -= right.allocatedBytes
        right.deallocate()
        path.node.remove(path.index + 1)
        return true
    }

    // MARK: Ambiguity

    /// Makes a leaf anew from the table: all live records of its fragments and its range, and `added`. For the rare
    /// case that an entry does not tell which record it means. Pending changes of these keys are thereby done early,
    /// which is harmless.
    private mutating func rebuild(_ path: Path, _ added: Record, _ table: HashTable, _ hasher: KeyHasher) {
        let leaf = path.leaf
        var fragments = Array(UnsafeBufferPointer(start: leaf.fragments, count: leaf.count))
        fragments.append(UInt32(truncatingIfNeeded: hasher.place(of: added) &>> 32))
        fragments.sort()
        var records: [Record] = []
        for (i, fragment) in fragments.enumerated() where i == 0 || fragments[i - 1] != fragment {
            records += candidatesInRange(fragment, path, table, hasher, onlyListed: true)
        }
        records.sort { compareBytes($0.key, $1.key) < 0 }
        count += records.count - leaf.count
        structure &+= 1
        guard !records.isEmpty else {
            leaf.count = 0
            return removeLeaf(path)
        }
        // The fence's bytes outlive the leaf here: they are copied into the first new one before it goes.
        let pieceMax = records.count > IndexLeaf.entriesMax ? IndexLeaf.entriesMax * 3 / 4 : IndexLeaf.entriesMax
        let first = makeLeaf(records.prefix(pieceMax), fence: leaf.fence, hasher)
        bytes -= leaf.allocatedBytes
        leaf.deallocate()
        path.node.children[path.index] = first.base
        var from = first.count
        while from < records.count {
            let to = min(from + pieceMax, records.count)
            let fence = OrderedIndex.separator(records[from - 1].key, records[from].key)
            let piece = makeLeaf(records[from..<to], fence: fence, hasher)
            insertLeaf(piece, after: descend(records[from - 1].key))
            from = to
        }
    }
}
