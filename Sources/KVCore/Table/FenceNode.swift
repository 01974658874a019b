// An upper node of the ordered index: which child a key belongs to. One thread, only through OrderedIndex.

import CIntrinsics
import Glibc
import KVBase

/// Children in key order, with the first eight bytes that tell their fences apart.
///
/// Child 0 has no lower bound here (its parent's holds); `shared` bytes are common to the fences of all others, and a
/// digit word is the eight bytes after those. Level 1 has leaves below it, level 2, the root, has level 1.
///
///     byte 0 count (32 bits), 4 capacity (32), 8 shared (32), 12 level (32), 16…63 the shared bytes
///     then capacity digit words, then capacity children
struct FenceNode {
    static let headerBytes = 64
    /// Longest shared prefix made use of, so that it lies in the node and a search touches no child.
    static let sharedMax = 48
    /// Children of a level 1 node: 2 KiB.
    static let childrenMax = 124
    let base: UnsafeMutableRawPointer

    @inline(__always) private func field(_ offset: Int) -> Int {
        Int(base.load(fromByteOffset: offset, as: UInt32.self))
    }
    private func setField(_ offset: Int, _ value: Int) {
        base.storeBytes(of: UInt32(truncatingIfNeeded: value), toByteOffset: offset, as: UInt32.self)
    }
    @inline(__always) var count: Int {
        get { field(0) }
        nonmutating set { setField(0, newValue) }
    }
    @inline(__always) var capacity: Int { field(4) }
    @inline(__always) var shared: Int {
        get { field(8) }
        nonmutating set { setField(8, newValue) }
    }
    @inline(__always) var level: Int { field(12) }
    @inline(__always) var prefix: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + 16, count: shared) }
    @inline(__always) var digits: UnsafeMutablePointer<UInt64> {
        (base + FenceNode.headerBytes).assumingMemoryBound(to: UInt64.self)
    }
    @inline(__always) var children: UnsafeMutablePointer<UnsafeMutableRawPointer> {
        (base + FenceNode.headerBytes + capacity &* 8).assumingMemoryBound(to: UnsafeMutableRawPointer.self)
    }
    var byteCount: Int { FenceNode.headerBytes + capacity * 16 }

    @inline(__always) func leaf(_ index: Int) -> IndexLeaf { IndexLeaf(base: children[index]) }
    @inline(__always) func node(_ index: Int) -> FenceNode { FenceNode(base: children[index]) }

    static func make(level: Int, capacity: Int) -> FenceNode {
        let size = Record.sizeClass(headerBytes + max(capacity, 7) * 16)
        let node = FenceNode(base: malloc(size) ?? outOfMemory(size))
        node.setField(0, 0)
        node.setField(4, (size - headerBytes) / 16)
        node.setField(8, 0)
        node.setField(12, level)
        return node
    }

    func deallocate() { free(base) }

    /// The same node with room for `wanted` children; the old block is freed.
    func resized(capacity wanted: Int) -> FenceNode {
        let new = FenceNode.make(level: level, capacity: wanted)
        new.count = count
        new.shared = shared
        memcpy(new.base + 16, base + 16, FenceNode.sharedMax)
        memcpy(new.digits, digits, count * 8)
        memcpy(new.children, children, count * 8)
        free(base)
        return new
    }

    /// Lower bound of a child's keys.
    func fence(_ index: Int) -> UnsafeRawBufferPointer {
        level == 1 ? leaf(index).fence : node(index).leaf(0).fence
    }

    /// The child a key belongs to: the last whose fence is not greater. O(log children).
    @inline(__always)
    func search(_ key: UnsafeRawBufferPointer) -> Int {
        let count = count
        if count == 1 { return 0 }
        let shared = shared
        if shared > 0 {
            let prefix = prefix
            let common = commonCount(key, prefix)
            if common < shared { return common == key.count || key[common] < prefix[common] ? 0 : count &- 1 }
        }
        let digit = digit64(key, shared)
        // First of 1 ..< count with a digit word of at least the key's.
        let digits = digits
        var low = 1
        var left = count &- 1
        while left > 0 {
            let half = left &>> 1
            let isLess = digits[low &+ half] < digit
            low = isLess ? low &+ half &+ 1 : low
            left = isLess ? left &- half &- 1 : half
        }
        if low == count || digits[low] != digit { return low &- 1 }
        return searchRun(key, low, digit)
    }

    /// Goes on among fences whose digit words equal the key's: those not greater than the key come first.
    private func searchRun(_ key: UnsafeRawBufferPointer, _ start: Int, _ digit: UInt64) -> Int {
        var low = start
        var high = start
        while high < count, digits[high] == digit { high += 1 }
        while low < high {
            let middle = (low + high) / 2
            if compareBytes(fence(middle), key) <= 0 { low = middle + 1 } else { high = middle }
        }
        return low - 1
    }

    /// How many first bytes every key of child `index` surely has in common, as far as the digit words tell. For a
    /// key that `search` sent there.
    @inline(__always)
    func certainPrefix(_ index: Int) -> Int {
        if index == 0 || index &+ 1 >= count { return 0 }
        return shared &+ (digits[index] ^ digits[index &+ 1]).leadingZeroBitCount &>> 3
    }

    /// Adds a child at `at` >= 1 whose fence is already set; there is room.
    func insert(_ at: Int, _ child: UnsafeMutableRawPointer) {
        check(at >= 1 && at <= count && count < capacity)
        memmove(digits + at + 1, digits + at, (count - at) * 8)
        memmove(children + at + 1, children + at, (count - at) * 8)
        children[at] = child
        count += 1
        let fence = fence(at)
        if count == 2 {
            share(fence, fence.count)
        } else {
            let common = commonCount(fence, prefix)
            if common < shared {
                shared = common
                refreshDigits()
                return
            }
        }
        digits[at] = digit64(fence, shared)
    }

    func remove(_ at: Int) {
        memmove(digits + at, digits + at + 1, (count - at - 1) * 8)
        memmove(children + at, children + at + 1, (count - at - 1) * 8)
        count -= 1
    }

    /// Finds the longest shared prefix anew (the fences are sorted, so first and last tell) and all digit words.
    func refresh() {
        if count < 2 {
            shared = 0
        } else {
            share(fence(1), commonCount(fence(1), fence(count - 1)))
        }
        refreshDigits()
    }

    private func share(_ fence: UnsafeRawBufferPointer, _ common: Int) {
        shared = min(common, FenceNode.sharedMax)
        if shared > 0 { memcpy(base + 16, fence.baseAddress!, shared) }
    }

    private func refreshDigits() {
        prefetchFences()
        for i in 1..<max(count, 1) { digits[i] = digit64(fence(i), shared) }
    }

    /// Starts loading what `fence` reads of each child, all children's at once: one after the other they hold the
    /// caller for half a millisecond where memory is slow.
    private func prefetchFences() {
        for i in 1..<max(count, 1) { ci_prefetch(children[i]) }
        if level > 1 {
            for i in 1..<max(count, 1) { ci_prefetch(node(i).children) }
            for i in 1..<max(count, 1) { ci_prefetch(node(i).children[0]) }
        }
        for i in 1..<max(count, 1) { ci_prefetch(fence(i).baseAddress) }
    }
}
