// Making the ordered index of many keys at once. One thread, only through Store.

import CIntrinsics
import Glibc
import KVBase

extension OrderedIndex {
    /// Entries of a leaf, and leaves of a node, of those that there is room for: what comes later finds some.
    private static let leafEntries = IndexLeaf.entriesMax * 3 / 4
    private static let nodeChildren = FenceNode.childrenMax * 3 / 4

    /// Makes an empty index that of these records, which are in key order. O(records).
    mutating func build(_ records: UnsafeMutableBufferPointer<Record>, _ hasher: KeyHasher) {
        guard records.count > 0 else { return }
        precondition(count == 0, "an index is built once")
        deallocate()
        bytes = 0
        structure &+= 1
        let leafCount = (records.count - 1) / OrderedIndex.leafEntries + 1
        let nodeCount = (leafCount - 1) / OrderedIndex.nodeChildren + 1
        root = FenceNode.make(level: 2, capacity: nodeCount + nodeCount / 4 + 7)
        for i in 0..<nodeCount {
            let (first, end) = (leafCount * i / nodeCount, leafCount * (i + 1) / nodeCount)
            let node = FenceNode.make(level: 1, capacity: end - first + 4)
            for leaf in first..<end {
                node.children[leaf - first] =
                    makeLeaf(
                        records, records.count * leaf / leafCount, records.count * (leaf + 1) / leafCount, hasher
                    ).base
            }
            node.count = end - first
            node.refresh()
            bytes += node.byteCount
            root.children[i] = node.base
        }
        root.count = nodeCount
        root.refresh()
        bytes += root.byteCount
        count = records.count
    }

    /// A leaf of those from `first` on and before `end`.
    private mutating func makeLeaf(
        _ records: UnsafeMutableBufferPointer<Record>, _ first: Int, _ end: Int, _ hasher: KeyHasher
    ) -> IndexLeaf {
        let key = records[first].key
        let shared = commonCount(key, records[end - 1].key)
        let fence =
            first == 0
            ? UnsafeRawBufferPointer(start: nil, count: 0)
            : OrderedIndex.separator(records[first - 1].key, key)
        let leaf = IndexLeaf.make(
            entries: end - first, shared: shared, fence: fence,
            prefix: UnsafeRawBufferPointer(rebasing: key[0..<shared]))
        let (digits, fragments) = (leaf.digits, leaf.fragments)
        for i in first..<end {
            if i &+ KeyOrder.distance < records.count { ci_prefetch(records[i &+ KeyOrder.distance].raw) }
            let record = records[i]
            digits[i &- first] = digit32(record.key, shared)
            fragments[i &- first] = UInt32(truncatingIfNeeded: hasher.place(of: record) &>> 32)
        }
        leaf.count = end - first
        bytes += leaf.allocatedBytes
        return leaf
    }
}
