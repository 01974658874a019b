// The point-lookup table of one actor's store: where a key's record is. One thread.

import CIntrinsics
import Glibc
package import KVBase

/// Extendible hashing (Fagin, Nievergelt, Pippenger, Strong, 1979) over small segments, each an open-addressing table
/// of 64-byte buckets: seven tags and an overflow count in one word, then seven slots (the overflow count as in
/// Folly's F14).
///
/// Hash bits: 63…48 select the segment, 47…34 the bucket inside it, 31…25 are the tag. A slot holds the record's
/// address in bits 47…4 (records are aligned to 16 bytes) and hash bits 47…34 in the high 14, so a segment grows in
/// small steps (1.2 x, hence 69 % average load) without touching a record. Bits 49 and 48 are the slot's marks: what
/// this store knows of a key beyond its record. They stand where hash bits would, so that a marked slot is not found by
/// `findUnmarked`, and who looks for an unmarked key pays nothing for marks. Its low 4 bits hold up to three hash bits
/// that the next splits of its segment go by (`SplitBits`), so a split of a growing table reads one record of 15. No
/// operation handles more than one segment: the longest is a split of 1,170 entries. The high 32 bits of the hash
/// locate an entry, which is what the ordered index keeps of a key.
struct HashTable {
    /// The largest block that jemalloc cuts out of a slab: from 16 KiB on every block costs a page more than it holds,
    /// 2.1 bytes per key with segments of up to 32 KiB.
    static let segmentBytesMax = 14 * 1024
    static let segmentBytesMin = 256
    static let depthMax: UInt64 = 16
    static let addressMask: UInt64 = 0x0000_FFFF_FFFF_FFF0
    /// The key has records of its own beside this one (`Companion`).
    static let companionsMark: UInt64 = 1 << 48
    /// The key has expired and is not counted any more. Of a deleted one: it is shown all the same, as a counter.
    static let expiredMark: UInt64 = 1 << 49
    static let marks: UInt64 = companionsMark | expiredMark
    static let tagBits: UInt64 = 0x0080_8080_8080_8080

    /// Words of segments.
    private(set) var directory: UnsafeMutablePointer<UInt64>
    /// The directory has 2^depth entries.
    private(set) var depth: UInt64 = 0
    private(set) var count = 0
    /// Slots with a mark.
    private(set) var markedCount = 0
    /// Segments and directory.
    private(set) var bytes = 0

    init() {
        directory = .allocate(capacity: 1)
        directory[0] = 0
        let segment = makeSegment(bytes: HashTable.segmentBytesMin, depth: 0)
        directory[0] = segment.word
        bytes += 8
    }

    /// Frees the segments; the records are the owner's.
    func deallocate() {
        var previous: UInt64 = 0
        for i in 0..<(1 << Int(depth)) where directory[i] != previous {
            previous = directory[i]
            Segment(word: previous).deallocate()
        }
        directory.deallocate()
    }

    /// A place in a bucket. Valid until the next insertion or removal.
    struct Slot {
        var bucket: UnsafeMutableRawPointer
        var index: Int

        @inline(__always) var pointer: UnsafeMutablePointer<UInt64> {
            (bucket + 8 + index &* 8).assumingMemoryBound(to: UInt64.self)
        }
        @inline(__always) var record: Record { HashTable.record(pointer.pointee) }
        @inline(__always) var marks: UInt64 { pointer.pointee & HashTable.marks }
        /// The ordered index has it.
        @inline(__always) var isListed: Bool { !record.isTombstone || marks & HashTable.expiredMark != 0 }
        /// Puts another record of the same key here.
        @inline(__always) func store(_ record: Record) {
            pointer.pointee =
                pointer.pointee & ~HashTable.addressMask | UInt64(UInt(bitPattern: record.raw))
        }
    }

    /// 64 bytes of header (depth, entries), then the buckets; 64-byte aligned. Its word in the directory has the
    /// address in the low 48 bits and the number of buckets in the high 16.
    struct Segment {
        var base: UnsafeMutableRawPointer
        var buckets: Int

        @inline(__always) init(word: UInt64) {
            base = UnsafeMutableRawPointer(bitPattern: UInt(word & HashTable.addressMask))!
            buckets = Int(word &>> 48)
        }
        init(base: UnsafeMutableRawPointer, buckets: Int) { (self.base, self.buckets) = (base, buckets) }

        var word: UInt64 { UInt64(UInt(bitPattern: base)) | UInt64(buckets) &<< 48 }
        var depth: UInt64 { header[0] }
        var entries: Int {
            get { Int(header[1]) }
            nonmutating set { header[1] = UInt64(newValue) }
        }
        var header: UnsafeMutablePointer<UInt64> { base.assumingMemoryBound(to: UInt64.self) }
        var byteCount: Int { 64 + buckets * 64 }
        /// Seven slots a bucket, three quarters of them used at most: with seven eighths, twice as many entries are not
        /// in their first bucket.
        var entriesMax: Int { buckets * 21 / 4 }

        @inline(__always) func bucket(_ index: Int) -> UnsafeMutableRawPointer { base + 64 + index &* 64 }
        @inline(__always) func home(_ part: UInt64) -> Int { Int((part &* UInt64(buckets)) &>> 16) }
        func deallocate() { free(base) }
    }

    // MARK: Words

    @inline(__always) static func part(_ hash: UInt64) -> UInt64 { (hash &>> 32) & 0xFFFC }
    /// The hash bits of a slot, without its marks.
    @inline(__always) static func part(slot: UInt64) -> UInt64 { (slot &>> 48) & 0xFFFC }
    @inline(__always) static func tag(_ hash: UInt64) -> UInt64 { (hash &>> 25) & 0x7F | 0x80 }
    @inline(__always) static func record(_ slot: UInt64) -> Record {
        Record(raw: UnsafeMutableRawPointer(bitPattern: UInt(slot & addressMask)).unsafelyUnwrapped)
    }
    @inline(__always) static func tags(_ bucket: UnsafeMutableRawPointer) -> UInt64 {
        bucket.load(as: UInt64.self)
    }
    /// High bit of each of the seven tag bytes that equal `tag`. Exact, no false positives: the low seven bits are
    /// summed apart from the high one, so no carry crosses a byte.
    @inline(__always) static func matches(_ tags: UInt64, _ tag: UInt64) -> UInt64 {
        let x = tags ^ (tag &* 0x0101_0101_0101_0101)
        let low = (x & 0x7F7F_7F7F_7F7F_7F7F) &+ 0x7F7F_7F7F_7F7F_7F7F
        return ~(low | x) & tagBits
    }
    @inline(__always) static func overflow(_ tags: UInt64) -> UInt64 { tags &>> 56 }
    /// Position of the lowest flagged byte.
    @inline(__always) static func first(_ flags: UInt64) -> Int { flags.trailingZeroBitCount &>> 3 }

    @inline(__always) func directoryIndex(_ hash: UInt64) -> Int {
        Int(truncatingIfNeeded: (hash &>> 1) &>> (63 &- depth))
    }
    @inline(__always) func segment(_ hash: UInt64) -> Segment { Segment(word: directory[directoryIndex(hash)]) }

    // MARK: Lookup

    /// Starts loading the bucket of a hash.
    @inline(__always)
    func prefetchBucket(_ hash: UInt64) {
        let segment = segment(hash)
        ci_prefetch(segment.bucket(segment.home(HashTable.part(hash))))
    }

    /// Starts loading the record a lookup of the hash will most likely compare; reads the bucket. False if it is not in
    /// there but may be in the next one, as for every twentieth key: that is on its way then, for `prefetchOverflow`.
    @inline(__always)
    func prefetchRecord(_ hash: UInt64) -> Bool {
        let segment = segment(hash)
        let index = segment.home(HashTable.part(hash))
        let bucket = segment.bucket(index)
        let tags = HashTable.tags(bucket)
        if HashTable.prefetchMatch(bucket, tags, hash) || HashTable.overflow(tags) == 0 { return true }
        ci_prefetch(segment.bucket(index &+ 1 == segment.buckets ? 0 : index &+ 1))
        return false
    }

    /// Goes on where `prefetchRecord` returned false. O(1): one bucket, rarely a second.
    @inline(never)
    func prefetchOverflow(_ hash: UInt64) {
        let segment = segment(hash)
        var index = segment.home(HashTable.part(hash))
        for _ in 1..<segment.buckets {
            index &+= 1
            if index == segment.buckets { index = 0 }
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            if HashTable.prefetchMatch(bucket, tags, hash) || HashTable.overflow(tags) == 0 { return }
        }
    }

    /// Starts loading the record of the hash if the bucket holds it.
    @inline(__always)
    private static func prefetchMatch(_ bucket: UnsafeMutableRawPointer, _ tags: UInt64, _ hash: UInt64) -> Bool {
        var flags = matches(tags, tag(hash))
        while flags != 0 {
            let word = Slot(bucket: bucket, index: first(flags)).pointer.pointee
            if word &>> 48 == part(hash) {
                let raw = record(word).raw
                ci_prefetch(raw)
                ci_prefetch(raw + 64)
                return true
            }
            flags &= flags &- 1
        }
        return false
    }

    /// The slot of a key, or nil. O(1): one bucket, rarely a second.
    @inline(__always)
    func find(_ key: ByteView, _ hash: UInt64) -> Slot? {
        findUnmarked(key, hash) ?? (markedCount == 0 ? nil : findMarked(key, hash))
    }

    /// The slot of a key if it has a mark, or nil.
    @inline(never)
    func findMarked(_ key: ByteView, _ hash: UInt64) -> Slot? {
        let segment = segment(hash)
        let (tag, part) = (HashTable.tag(hash), HashTable.part(hash))
        var (index, left) = (segment.home(part), segment.buckets)
        while true {
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            var flags = HashTable.matches(tags, tag)
            while flags != 0 {
                let slot = Slot(bucket: bucket, index: HashTable.first(flags))
                let word = slot.pointer.pointee
                if word & HashTable.marks != 0, HashTable.part(slot: word) == part, HashTable.record(word).hasKey(key) {
                    return slot
                }
                flags &= flags &- 1
            }
            if HashTable.overflow(tags) == 0 { return nil }
            left &-= 1
            if left == 0 { return nil }
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
    }

    /// The slot of a key if it has no mark, or nil. O(1): one bucket, rarely a second.
    @inline(__always)
    func findUnmarked(_ key: ByteView, _ hash: UInt64) -> Slot? {
        let segment = segment(hash)
        let tag = HashTable.tag(hash)
        let part = HashTable.part(hash)
        var index = segment.home(part)
        var left = segment.buckets
        while true {
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            var flags = HashTable.matches(tags, tag)
            while flags != 0 {
                let slot = Slot(bucket: bucket, index: HashTable.first(flags))
                // The slot's own bits of the hash first: a record that has another key need not be loaded.
                let word = slot.pointer.pointee
                if word &>> 48 == part, HashTable.record(word).hasKey(key) { return slot }
                flags &= flags &- 1
            }
            if HashTable.overflow(tags) == 0 { return nil }
            left &-= 1
            if left == 0 { return nil }
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
    }

    /// Calls `body` with every slot whose hash has these high 32 bits, as far as the slots tell (bits above the
    /// segment's depth may differ: the caller compares). Stops when `body` returns false.
    @inline(__always)
    func forEachSlot(fragment: UInt32, _ body: (Slot) -> Bool) {
        let hash = UInt64(fragment) &<< 32
        let segment = segment(hash)
        let part = HashTable.part(hash)
        var index = segment.home(part)
        var left = segment.buckets
        while left > 0 {
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            var used = tags & HashTable.tagBits
            while used != 0 {
                let slot = Slot(bucket: bucket, index: HashTable.first(used))
                if HashTable.part(slot: slot.pointer.pointee) == part, !body(slot) { return }
                used &= used &- 1
            }
            if HashTable.overflow(tags) == 0 { return }
            left &-= 1
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
    }

    /// The only slot whose hash has these high 32 bits, as its word; 0 when there are several or none.
    @inline(__always)
    func onlySlot(fragment: UInt32) -> UInt64 {
        var found: UInt64 = 0
        var candidates = 0
        forEachSlot(fragment: fragment) { slot in
            found = slot.pointer.pointee
            candidates &+= 1
            return candidates < 2
        }
        return candidates == 1 ? found : 0
    }

    /// The record's address in a slot of the first bucket if that alone there has these high 32 bits as far as slots
    /// tell; the entry may still be another one, in a bucket behind. Otherwise 0, and the next bucket is on its way.
    /// Takes no branch on what the bucket holds, so that whoever asks for many does not wait for one after the other.
    @inline(__always)
    func likelySlot(fragment: UInt32) -> UInt64 {
        let hash = UInt64(fragment) &<< 32
        let segment = segment(hash)
        let part = HashTable.part(hash)
        let bucket = segment.bucket(segment.home(part))
        var flags = 0
        for i in 0..<7 {
            let high = bucket.load(fromByteOffset: 14 &+ i &* 8, as: UInt16.self)
            flags |= (high & 0xFFFC == UInt16(truncatingIfNeeded: part) ? 1 : 0) &<< i
        }
        let word = bucket.load(fromByteOffset: 8 &+ (flags.trailingZeroBitCount &* 8 & 63), as: UInt64.self)
        let found = flags & (flags &- 1) == 0 && flags != 0 ? word & HashTable.addressMask : 0
        let line = found == 0 ? UInt64(UInt(bitPattern: bucket)) &+ 64 : found
        let raw = UnsafeRawPointer(bitPattern: UInt(line)).unsafelyUnwrapped
        ci_prefetch(raw)
        ci_prefetch(raw + 64)
        return found
    }

    /// Starts loading every record that `forEachSlot` finds.
    func prefetchRecords(fragment: UInt32) {
        forEachSlot(fragment: fragment) { slot in
            let raw = slot.record.raw
            ci_prefetch(raw)
            ci_prefetch(raw + 64)
            return true
        }
    }

    // MARK: Change

    /// Adds a record whose key is not in the table. Amortised O(1); at worst one segment is split. `hash` is its place.
    mutating func insert(_ record: Record, _ hash: UInt64, hasher: KeyHasher) {
        var segment = segment(hash)
        while segment.entries >= segment.entriesMax {
            grow(segment, hash, hasher)
            segment = self.segment(hash)
        }
        let address = UInt64(UInt(bitPattern: record.raw))
        check(address & ~HashTable.addressMask == 0)
        let slot = HashTable.part(hash) &<< 48 | address | SplitBits.bits(of: hash, depth: segment.depth)
        HashTable.place(segment, slot, HashTable.tag(hash))
        segment.entries &+= 1
        count &+= 1
    }

    /// Writes into the first bucket with room, counting the overflow on the way. The caller has made sure there is
    /// room.
    @inline(__always)
    static func place(_ segment: Segment, _ slot: UInt64, _ tag: UInt64) {
        var index = segment.home(part(slot: slot))
        while true {
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            let empty = ~tags & tagBits
            if empty != 0 {
                let at = first(empty)
                bucket.storeBytes(of: UInt8(truncatingIfNeeded: tag), toByteOffset: at, as: UInt8.self)
                Slot(bucket: bucket, index: at).pointer.pointee = slot
                return
            }
            // Saturates: a count of 255 stays, and only makes lookups look one bucket further.
            if overflow(tags) < 255 {
                bucket.storeBytes(of: UInt8(overflow(tags) &+ 1), toByteOffset: 7, as: UInt8.self)
            }
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
    }

    /// Exchanges a slot's marks for others.
    mutating func mark(_ slot: Slot, _ marks: UInt64) {
        let word = slot.pointer.pointee
        markedCount &+= (marks == 0 ? 0 : 1) &- (word & HashTable.marks == 0 ? 0 : 1)
        slot.pointer.pointee = word & ~HashTable.marks | marks
    }

    /// Takes a key's slot out; its record is the caller's. O(1), at worst one segment is rewritten smaller.
    mutating func remove(_ slot: Slot, _ hash: UInt64) {
        let segment = segment(hash)
        var index = segment.home(HashTable.part(hash))
        while segment.bucket(index) != slot.bucket {
            let bucket = segment.bucket(index)
            let passed = HashTable.overflow(HashTable.tags(bucket))
            if passed < 255 { bucket.storeBytes(of: UInt8(passed &- 1), toByteOffset: 7, as: UInt8.self) }
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
        if slot.pointer.pointee & HashTable.marks != 0 { markedCount &-= 1 }
        slot.bucket.storeBytes(of: 0, toByteOffset: slot.index, as: UInt8.self)
        slot.pointer.pointee = 0
        segment.entries &-= 1
        count &-= 1
        if segment.entries &* 3 < segment.entriesMax, segment.byteCount > HashTable.segmentBytesMin {
            shrink(segment, hash)
        }
    }

    // MARK: Growth

    /// Makes an empty table ready for so many entries, so that it need not grow on the way. O(entries).
    mutating func reserve(_ wanted: Int) {
        precondition(count == 0)
        var bits: UInt64 = 0
        while bits < HashTable.depthMax, HashTable.room(wanted >> Int(bits)) > HashTable.segmentBytesMax { bits += 1 }
        let size = min(HashTable.segmentBytesMax, HashTable.room(wanted >> Int(bits)))
        guard bits > 0 || size > HashTable.segmentBytesMin else { return }
        while depth < bits { doubleDirectory() }
        dropSegment(Segment(word: directory[0]))
        for i in 0..<(1 << Int(bits)) { directory[i] = makeSegment(bytes: size, depth: bits).word }
    }

    /// The size of a segment for so many entries, and for what chance adds to one of many.
    private static func room(_ entries: Int) -> Int {
        let wanted = entries + entries / 16
        var size = segmentBytesMin
        while (size / 64 - 1) * 21 / 4 < wanted { size = nextSize(size) }
        return size
    }

    private mutating func makeSegment(bytes size: Int, depth: UInt64) -> Segment {
        var memory: UnsafeMutableRawPointer?
        let failed = posix_memalign(&memory, 64, size)
        precondition(failed == 0, "out of memory")
        let segment = Segment(base: memory!, buckets: size / 64 - 1)
        memset(memory!, 0, size)
        segment.header[0] = depth
        bytes += size
        return segment
    }

    private mutating func dropSegment(_ segment: Segment) {
        bytes -= segment.byteCount
        segment.deallocate()
    }

    /// Points every directory entry of the hash's prefix of `depth` bits at a segment.
    private mutating func publish(_ segment: Segment, _ hash: UInt64) {
        let span = 1 << Int(depth - segment.depth)
        let start = directoryIndex(hash) & ~(span - 1)
        for i in start..<(start + span) { directory[i] = segment.word }
    }

    private mutating func grow(_ segment: Segment, _ hash: UInt64, _ hasher: KeyHasher) {
        if segment.byteCount < HashTable.segmentBytesMax || segment.depth == HashTable.depthMax {
            // At 65,535 buckets the count no longer fits a directory word; 2^16 such segments hold 26 billion entries.
            precondition(segment.byteCount < 65_536 * 64 || segment.entries < segment.buckets * 7 - 1, "table is full")
            resize(segment, hash, bytes: min(HashTable.nextSize(segment.byteCount), 65_536 * 64))
        } else {
            split(segment, hash, hasher)
        }
    }

    /// The next size class: four per doubling, multiples of 64.
    static func nextSize(_ bytes: Int) -> Int {
        let next = Record.sizeClass(bytes + 1)
        return (next + 63) & ~63
    }

    private mutating func shrink(_ segment: Segment, _ hash: UInt64) {
        var size = HashTable.segmentBytesMin
        while Segment(base: segment.base, buckets: size / 64 - 1).entriesMax < segment.entries * 3 / 2 {
            size = HashTable.nextSize(size)
        }
        if size < segment.byteCount { resize(segment, hash, bytes: size) }
    }

    /// Moves a segment's entries into one of another size, by the hash bits kept in the slots; touches no record.
    private mutating func resize(_ old: Segment, _ hash: UInt64, bytes size: Int) {
        let new = makeSegment(bytes: size, depth: old.depth)
        for index in 0..<old.buckets {
            let bucket = old.bucket(index)
            let tags = HashTable.tags(bucket)
            var used = tags & HashTable.tagBits
            while used != 0 {
                let at = HashTable.first(used)
                HashTable.place(
                    new, Slot(bucket: bucket, index: at).pointer.pointee, (tags &>> (UInt64(at) &* 8)) & 0xFF)
                used &= used &- 1
            }
        }
        new.entries = old.entries
        publish(new, hash)
        dropSegment(old)
    }

    /// Distributes a segment over two, by one more hash bit: the slot's own, or if it has none left the record's.
    private mutating func split(_ old: Segment, _ hash: UInt64, _ hasher: KeyHasher) {
        if old.depth == depth { doubleDirectory() }
        let size = HashTable.nextSize(HashTable.segmentBytesMax / 2)
        let low = makeSegment(bytes: size, depth: old.depth + 1)
        let high = makeSegment(bytes: size, depth: old.depth + 1)
        let bit = 63 - old.depth
        let start = (((hash &>> 1) &>> bit) &<< bit) &<< 1
        publish(low, start)
        publish(high, start | (1 &<< bit))
        for index in 0..<old.buckets {
            if index &+ 6 < old.buckets { HashTable.prefetchKeys(old.bucket(index &+ 6), SplitBits.isEmpty) }
            let bucket = old.bucket(index)
            let tags = HashTable.tags(bucket)
            var used = tags & HashTable.tagBits
            while used != 0 {
                let at = HashTable.first(used)
                var word = Slot(bucket: bucket, index: at).pointer.pointee
                if SplitBits.isEmpty(word) {
                    let own = hasher.place(of: HashTable.record(word))
                    check((own &>> bit) &>> 1 == (start &>> bit) &>> 1)
                    word = word & ~SplitBits.mask | SplitBits.bits(of: own, depth: old.depth)
                }
                let half = start | SplitBits.next(word) &<< bit
                // A skewed split (colliding hashes, in tests) may overfill one half: it grows on the way.
                var target = segment(half)
                while target.entries >= target.entriesMax {
                    resize(target, half, bytes: HashTable.nextSize(target.byteCount))
                    target = segment(half)
                }
                HashTable.place(target, SplitBits.withoutNext(word), (tags &>> (UInt64(at) &* 8)) & 0xFF)
                target.entries &+= 1
                used &= used &- 1
            }
        }
        dropSegment(old)
    }

    /// Starts loading the first line of the records of a bucket, of all or of those whose slots are wanted.
    @inline(__always)
    static func prefetchKeys(_ bucket: UnsafeMutableRawPointer, _ isWanted: (UInt64) -> Bool = { _ in true }) {
        var used = tags(bucket) & tagBits
        while used != 0 {
            let word = Slot(bucket: bucket, index: first(used)).pointer.pointee
            if isWanted(word) { ci_prefetch(record(word).raw) }
            used &= used &- 1
        }
    }

    private mutating func doubleDirectory() {
        let old = 1 << Int(depth)
        let wider = UnsafeMutablePointer<UInt64>.allocate(capacity: old * 2)
        for i in 0..<old {
            wider[i * 2] = directory[i]
            wider[i * 2 + 1] = directory[i]
        }
        directory.deallocate()
        directory = wider
        depth += 1
        bytes += old * 8
    }
}

/// Hashes keys: seeded per process, then scattered per store. A value of a few words, passed along.
///
/// Siblings of one process share the seed, so a key is hashed once for all of them. But one actor's table is walked
/// in the order of its hashes, and entries arriving at another table in that very order would crowd its first
/// buckets; so each table orders by the product with an odd number of its own.
package struct KeyHasher: Sendable {
    var seed: UInt64
    /// All ones; tests clear bits of it to make keys collide.
    var mask: UInt64
    /// Odd.
    var salt: UInt64

    /// The hash siblings share.
    package func hash(_ key: ByteView) -> UInt64 { hashBytes(key.start, key.count, seed: seed) & mask }

    /// Where a shared hash belongs in this table.
    @inline(__always)
    func place(_ sharedHash: UInt64) -> UInt64 { sharedHash &* salt }

    /// Where a record belongs in this table.
    @inline(__always)
    func place(of record: Record) -> UInt64 { place(hash(record.keyView)) }
}
