// A leaf of the ordered index: up to 124 keys as eight bytes each. One thread, only through OrderedIndex.

import CIntrinsics
import Glibc
import KVBase

/// Entries in key order, each a *digit word* and a *fragment*, in two arrays.
///
/// All keys of the leaf begin with the same `shared` bytes; the digit word is the four bytes after those, big-endian,
/// padded with zeros, so that most searches end without looking at a key. The fragment is the high half of the key's
/// hash, by which the table finds the record: a record that is replaced needs no change here, and an entry costs less
/// than a pointer and a prefix.
///
///     byte 0 count (16 bits), 2 capacity (16), 4 shared (32), 8 fence length (32), 12 prefix length (32), 16 text
///     then capacity digit words, then capacity fragments
///
/// The text holds the fence (every key of the leaf is at least that, every key of earlier leaves is less) and then
/// the prefix, of which the first `shared` bytes are those all keys begin with.
struct IndexLeaf: Equatable {
    static let headerBytes = 32
    static let bytesMin = 128
    static let bytesMax = 1024
    static let entriesMax = (bytesMax - headerBytes) / 8

    let base: UnsafeMutableRawPointer

    @inline(__always) var count: Int {
        get { Int(base.load(as: UInt16.self)) }
        nonmutating set { base.storeBytes(of: UInt16(truncatingIfNeeded: newValue), as: UInt16.self) }
    }
    @inline(__always) var capacity: Int {
        get { Int(base.load(fromByteOffset: 2, as: UInt16.self)) }
        nonmutating set {
            base.storeBytes(of: UInt16(truncatingIfNeeded: newValue), toByteOffset: 2, as: UInt16.self)
        }
    }
    @inline(__always) var shared: Int {
        get { Int(base.load(fromByteOffset: 4, as: UInt32.self)) }
        nonmutating set {
            base.storeBytes(of: UInt32(truncatingIfNeeded: newValue), toByteOffset: 4, as: UInt32.self)
        }
    }
    private var text: UnsafeMutableRawPointer? {
        get { base.load(fromByteOffset: 16, as: UnsafeMutableRawPointer?.self) }
        nonmutating set { base.storeBytes(of: newValue, toByteOffset: 16, as: UnsafeMutableRawPointer?.self) }
    }
    private var fenceCount: Int { Int(base.load(fromByteOffset: 8, as: UInt32.self)) }
    private var prefixCount: Int { Int(base.load(fromByteOffset: 12, as: UInt32.self)) }

    /// Least key the leaf may hold; empty in the first leaf.
    var fence: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: text, count: fenceCount) }
    /// The bytes all keys begin with.
    var prefix: UnsafeRawBufferPointer {
        shared == 0
            ? UnsafeRawBufferPointer(start: nil, count: 0)
            : UnsafeRawBufferPointer(start: text.unsafelyUnwrapped + fenceCount, count: shared)
    }
    @inline(__always) var digits: UnsafeMutablePointer<UInt32> {
        (base + IndexLeaf.headerBytes).assumingMemoryBound(to: UInt32.self)
    }
    @inline(__always) var fragments: UnsafeMutablePointer<UInt32> { digits + capacity }
    var byteCount: Int { IndexLeaf.headerBytes + capacity * 8 }
    /// All that `deallocate` gives back.
    var allocatedBytes: Int { byteCount + Record.sizeClass(fenceCount + prefixCount) }

    // MARK: Life

    /// An empty leaf with room for `entries` and a few more.
    static func make(
        entries: Int, shared: Int, fence: UnsafeRawBufferPointer, prefix: UnsafeRawBufferPointer
    ) -> IndexLeaf {
        let size = IndexLeaf.size(entries: entries)
        let leaf = IndexLeaf(base: malloc(size) ?? outOfMemory(size))
        leaf.count = 0
        leaf.capacity = (size - headerBytes) / 8
        leaf.shared = shared
        leaf.text = nil
        leaf.setText(fence: fence, prefix: prefix)
        return leaf
    }

    /// The size class for that many entries.
    static func size(entries: Int) -> Int {
        min(bytesMax, max(bytesMin, Record.sizeClass(headerBytes + min(entries + 2, entriesMax) * 8)))
    }

    /// Copies both; they may lie in the present text.
    func setText(fence: UnsafeRawBufferPointer, prefix: UnsafeRawBufferPointer) {
        let old = text
        var new: UnsafeMutableRawPointer?
        if fence.count + prefix.count > 0 {
            new = malloc(fence.count + prefix.count) ?? outOfMemory(fence.count + prefix.count)
            if fence.count > 0 { memcpy(new!, fence.baseAddress!, fence.count) }
            if prefix.count > 0 { memcpy(new! + fence.count, prefix.baseAddress!, prefix.count) }
        }
        base.storeBytes(of: UInt32(fence.count), toByteOffset: 8, as: UInt32.self)
        base.storeBytes(of: UInt32(prefix.count), toByteOffset: 12, as: UInt32.self)
        text = new
        free(old)
    }

    func deallocate() {
        free(text)
        free(base)
    }

    /// The same leaf in a block of another size; the old block is freed.
    func resized(entries: Int) -> IndexLeaf {
        let size = IndexLeaf.size(entries: entries)
        let new = IndexLeaf(base: malloc(size) ?? outOfMemory(size))
        memcpy(new.base, base, IndexLeaf.headerBytes)
        new.capacity = (size - IndexLeaf.headerBytes) / 8
        memcpy(new.digits, digits, count * 4)
        memcpy(new.fragments, fragments, count * 4)
        free(base)
        return new
    }

    /// Starts loading all of a leaf whose header has not come yet.
    @inline(__always)
    func prefetch() {
        for line in 0..<(IndexLeaf.bytesMax / 64) { ci_prefetch(base + line &* 64) }
    }

    /// Starts loading the fragments and the text of a leaf whose header has come.
    @inline(__always)
    func prefetchFragments() {
        if let text { ci_prefetch(text) }
        var line = UnsafeRawPointer(fragments)
        let end = line + count &* 4
        while line < end {
            ci_prefetch(line)
            line += 64
        }
    }

    // MARK: Entries

    /// First entry whose digit word is at least `digit`.
    @inline(__always)
    func lowerBound(_ digit: UInt32) -> Int {
        let digits = digits
        var low = 0
        var left = count
        while left > 0 {
            let half = left &>> 1
            let isLess = digits[low &+ half] < digit
            low = isLess ? low &+ half &+ 1 : low
            left = isLess ? left &- half &- 1 : half
        }
        return low
    }

    /// One past the last entry of the run of equal digit words that begins at `index`.
    @inline(__always)
    func runEnd(_ index: Int, _ digit: UInt32) -> Int {
        var end = index
        while end < count, digits[end] == digit { end &+= 1 }
        return end
    }

    /// Inserts; the caller has made sure of room.
    @inline(__always)
    func insert(_ at: Int, _ digit: UInt32, _ fragment: UInt32) {
        check(count < capacity && at <= count)
        let tail = (count &- at) &* 4
        memmove(digits + at + 1, digits + at, tail)
        memmove(fragments + at + 1, fragments + at, tail)
        digits[at] = digit
        fragments[at] = fragment
        count &+= 1
    }

    func remove(_ at: Int) {
        let tail = (count &- at &- 1) &* 4
        memmove(digits + at, digits + at + 1, tail)
        memmove(fragments + at, fragments + at + 1, tail)
        count &-= 1
    }

    /// Adds `from ..< to` of another leaf at the end.
    func append(_ other: IndexLeaf, from: Int, to: Int) {
        memcpy(digits + count, other.digits + from, (to - from) * 4)
        memcpy(fragments + count, other.fragments + from, (to - from) * 4)
        count += to - from
    }

    /// Lowers `shared`: the digit words take bytes of the prefix in front of their own, so no key is looked at.
    func narrow(to fewer: Int) {
        let known = prefix
        let dropped = shared - fewer
        check(dropped > 0)
        var front: UInt64 = 0
        for i in 0..<4 {
            let byte = i < dropped ? known[fewer + i] : 0
            front = front << 8 | UInt64(byte)
        }
        let shift = UInt64(min(dropped, 4) * 8)
        for i in 0..<count { digits[i] = UInt32(truncatingIfNeeded: front | UInt64(digits[i]) >> shift) }
        shared = fewer
    }

    /// How many entries, from the first one on, there are up to the last that may begin with `start`; 0 if the leaf's
    /// prefix says that none does. `agrees`: that the prefix does not say so is known.
    @inline(__always)
    func reach(_ start: UnsafeRawBufferPointer, agrees: Bool) -> Int {
        let shared = shared
        if start.count == 0 { return count }
        if !agrees, shared > 0, commonCount(prefix, start) < min(shared, start.count) { return 0 }
        if start.count <= shared { return count }
        let bits = UInt32(truncatingIfNeeded: min(start.count &- shared, 4) &* 8)
        let last = digit32(start, shared) | (bits == 32 ? 0 : UInt32.max &>> bits)
        return last == .max ? count : lowerBound(last &+ 1)
    }

    /// Whether entry `at` must be the one of a live record, given by its key, that lies in the leaf's range: no other
    /// entry has its digit word.
    @inline(__always)
    func isCertain(_ at: Int, _ key: UnsafeRawBufferPointer) -> Bool {
        let shared = shared
        let digits = digits
        let digit = digits[at]
        guard key.count >= shared, digit32(key, shared) == digit, at == 0 || digits[at &- 1] != digit,
            at &+ 1 == count || digits[at &+ 1] != digit
        else { return false }
        return shared == 0
            || sameBytes(key.baseAddress.unsafelyUnwrapped, text.unsafelyUnwrapped + fenceCount, shared)
    }

    /// Where a key lies relative to the shared prefix: negative if before every entry, positive if after, zero if it
    /// begins so.
    @inline(__always)
    func side(_ key: UnsafeRawBufferPointer) -> Int {
        let shared = shared
        if shared == 0 { return 0 }
        let prefix = prefix
        let common = commonCount(key, prefix)
        if common == shared { return 0 }
        return common == key.count || key[common] < prefix[common] ? -1 : 1
    }
}

/// Four bytes of a key from `from` on, big-endian, zeros beyond its end.
@inline(__always)
func digit32(_ key: UnsafeRawBufferPointer, _ from: Int) -> UInt32 {
    let left = key.count &- from
    if left >= 4 {
        return UInt32(bigEndian: key.baseAddress.unsafelyUnwrapped.loadUnaligned(fromByteOffset: from, as: UInt32.self))
    }
    if key.count >= 4 {
        let last = key.baseAddress.unsafelyUnwrapped.loadUnaligned(fromByteOffset: key.count &- 4, as: UInt32.self)
        return UInt32(bigEndian: last) << (8 &* (4 &- left))
    }
    var word: UInt32 = 0
    for i in 0..<4 { word = word << 8 | (i < left ? UInt32(key[from + i]) : 0) }
    return word
}

/// Eight bytes of a key from `from` on, big-endian, zeros beyond its end.
@inline(__always)
func digit64(_ key: UnsafeRawBufferPointer, _ from: Int) -> UInt64 {
    let left = key.count &- from
    if left >= 8 {
        return UInt64(bigEndian: key.baseAddress.unsafelyUnwrapped.loadUnaligned(fromByteOffset: from, as: UInt64.self))
    }
    if key.count >= 8 {
        let last = key.baseAddress.unsafelyUnwrapped.loadUnaligned(fromByteOffset: key.count &- 8, as: UInt64.self)
        return UInt64(bigEndian: last) << (8 &* (8 &- left))
    }
    var word: UInt64 = 0
    for i in 0..<8 { word = word << 8 | (i < left ? UInt64(key[from + i]) : 0) }
    return word
}

/// Length of the longest common prefix.
@inline(__always)
func commonCount(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let limit = min(a.count, b.count)
    guard limit > 0 else { return 0 }
    let p = a.baseAddress.unsafelyUnwrapped
    let q = b.baseAddress.unsafelyUnwrapped
    var at = 0
    while at &+ 8 <= limit {
        let difference =
            p.loadUnaligned(fromByteOffset: at, as: UInt64.self) ^ q.loadUnaligned(fromByteOffset: at, as: UInt64.self)
        if difference != 0 { return at &+ difference.littleEndian.trailingZeroBitCount &>> 3 }
        at &+= 8
    }
    while at < limit, p.load(fromByteOffset: at, as: UInt8.self) == q.load(fromByteOffset: at, as: UInt8.self) {
        at &+= 1
    }
    return at
}
