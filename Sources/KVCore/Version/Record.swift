// One key with its value and version in one allocation, shared by reference between the actors of a process. Any
// thread may read, retain and release; only its single holder may write.

import CIntrinsics
import Glibc
public import KVBase

/// Immutable while more than one reference exists.
///
/// Layout (16 bytes before the key, so that a 16-byte key with a 64-byte value fills a 96-byte size class exactly):
///
///     byte 0      reference count, atomic
///     byte 1, 2   key and value length (long form: their low bytes)
///     byte 3…7    seq, 40 bits: low byte at 3, the rest at 4
///     byte 8…15   ms 44 bits | origin 16 bits | flags 4 bits
///     long and hashed form: byte 16…19 key length, 20…23 value length
///     hashed form (values from 1 KiB on): byte 24…31 hash of the value, so that replacing it need not read it
///     then the key, then the value
///
/// Bytes 1…15 are read with accesses that never include byte 0, which others may be changing.
@usableFromInline package struct Record: @unchecked Sendable, Equatable {
    @usableFromInline package let raw: UnsafeMutableRawPointer

    @usableFromInline static let tombstoneFlag: UInt64 = 1
    /// Longer than a byte can say, and the same with a hash of the value kept: 8 and 16 more bytes of header.
    @usableFromInline static let longFlag: UInt64 = 2
    @usableFromInline static let hashedFlag: UInt64 = 4
    @usableFromInline static let formFlags: UInt64 = 6
    /// Values from this size on carry their hash: reading them again from memory costs more than 8 bytes are worth.
    static let hashedValueBytesMin = 1024
    /// References beyond this get a copy instead: 120 plus one increment in flight per actor (128) still fits 8 bits.
    static let countShareMax: UInt8 = 120

    @inlinable @inline(__always)
    package init(raw: UnsafeMutableRawPointer) { self.raw = raw }

    // MARK: Fields

    @inlinable @inline(__always)
    package var stampWord: UInt64 { raw.load(fromByteOffset: 8, as: UInt64.self) }

    /// Milliseconds since 1970 of the version.
    @inline(__always)
    package var ms: Millis { Millis(bitPattern: stampWord &>> 20) }

    @inlinable @inline(__always)
    package var origin: OriginIndex { OriginIndex(truncatingIfNeeded: stampWord &>> 4) }

    @inlinable @inline(__always)
    package var seq: UInt64 {
        UInt64(raw.load(fromByteOffset: 4, as: UInt32.self)) &<< 8 | UInt64(raw.load(fromByteOffset: 3, as: UInt8.self))
    }

    @inlinable @inline(__always)
    package var isTombstone: Bool { stampWord & Record.tombstoneFlag != 0 }

    @inlinable @inline(__always)
    var isLong: Bool { stampWord & Record.formFlags != 0 }

    @inline(__always)
    var isHashed: Bool { stampWord & Record.hashedFlag != 0 }

    /// The hash of the value, if `isHashed`.
    @inline(__always)
    var contentHash: UInt64 { raw.load(fromByteOffset: 24, as: UInt64.self) }
    @inline(__always)
    var contentHashPointer: UnsafeRawPointer { UnsafeRawPointer(raw) + 24 }

    /// The first word of the header, as it is while one holds the record.
    @inline(__always)
    var headerWord: UInt64 {
        seq &<< 24 | UInt64(raw.load(fromByteOffset: 2, as: UInt8.self)) &<< 16
            | UInt64(raw.load(fromByteOffset: 1, as: UInt8.self)) &<< 8 | 1
    }

    /// The header's second word, without flags.
    @inline(__always)
    static func stampWord(ms: Millis, origin: OriginIndex) -> UInt64 {
        UInt64(bitPattern: ms) &<< 20 | UInt64(origin) &<< 4
    }

    @inlinable @inline(__always)
    static func headerBytes(_ flags: UInt64) -> Int { 16 &+ Int(truncatingIfNeeded: (flags & formFlags) &<< 2) }

    @inlinable @inline(__always)
    package var keyCount: Int {
        isLong
            ? Int(raw.load(fromByteOffset: 16, as: UInt32.self)) : Int(raw.load(fromByteOffset: 1, as: UInt8.self))
    }

    @inlinable @inline(__always)
    package var valueCount: Int {
        isLong
            ? Int(raw.load(fromByteOffset: 20, as: UInt32.self)) : Int(raw.load(fromByteOffset: 2, as: UInt8.self))
    }

    @inlinable @inline(__always)
    package var keyPointer: UnsafeRawPointer { UnsafeRawPointer(raw) + Record.headerBytes(stampWord) }

    @inlinable @inline(__always)
    package var keyView: ByteView { ByteView(keyPointer, keyCount) }

    /// The key's bytes, valid while the caller's reference or the store's slot keeps the record.
    @inlinable @inline(__always)
    package var key: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: keyPointer, count: keyCount) }

    /// The value's bytes; empty for a tombstone. Same lifetime as `key`.
    @inlinable @inline(__always)
    package var value: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: keyPointer + keyCount, count: valueCount)
    }

    /// The version in the form that leaves the process.
    package func version(_ origins: OriginTable) -> Version { Version(ms: ms, uid: origins.uid(origin), seq: seq) }

    /// Bytes the allocation takes.
    package var allocatedBytes: Int {
        Record.sizeClass(Record.headerBytes(stampWord) &+ keyCount &+ valueCount)
    }

    /// Key and value side by side, as they lie in memory.
    @inline(__always)
    var payload: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: keyPointer, count: keyCount &+ valueCount)
    }

    @inline(__always)
    func hasKey(_ key: ByteView) -> Bool {
        raw.load(fromByteOffset: 1, as: UInt8.self) == UInt8(truncatingIfNeeded: key.count) && keyCount == key.count
            && sameBytes(keyPointer, key.start, key.count)
    }

    // MARK: Life

    /// Rounds up to the size class jemalloc would use (four per doubling), so that a value whose length changes a
    /// little can be written in place under any allocator.
    @inlinable @inline(__always)
    static func sizeClass(_ bytes: Int) -> Int {
        if bytes <= 128 { return (bytes &+ 15) & ~15 }
        let spacing = 1 &<< (61 &- (bytes &- 1).leadingZeroBitCount)
        return (bytes &+ spacing &- 1) & ~(spacing &- 1)
    }

    @inline(__always)
    static func form(_ keyCount: Int, _ valueCount: Int) -> UInt64 {
        if keyCount | valueCount <= 255 { return 0 }
        return valueCount < hashedValueBytesMin ? longFlag : hashedFlag
    }

    /// A new record with one reference, which the caller owns. One allocation. A tombstone has no value.
    package static func create(
        key: ByteView, value: ByteView?, ms: Millis, origin: OriginIndex, seq: UInt64, isTombstone: Bool
    ) -> Record {
        let (keyCount, valueCount) = (key.count, value?.count ?? 0)
        let form = form(keyCount, valueCount)
        let header = headerBytes(form)
        let bytes = sizeClass(header &+ keyCount &+ valueCount)
        let raw = malloc(bytes) ?? outOfMemory(bytes)
        raw.storeBytes(of: 1, as: UInt8.self)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: keyCount), toByteOffset: 1, as: UInt8.self)
        let flags = form | (isTombstone ? tombstoneFlag : 0)
        let record = Record(raw: raw)
        record.stamp(valueCount: valueCount, ms: ms, origin: origin, seq: seq, flags: flags)
        if form != 0 { raw.storeBytes(of: UInt32(truncatingIfNeeded: keyCount), toByteOffset: 16, as: UInt32.self) }
        memcpy(raw + header, key.start, keyCount)
        if let value, valueCount > 0 { record.copyValue(value, form) }
        return record
    }

    /// A record without value and version yet, which nobody else may see. For values that carry their hash only.
    static func createUnfilled(key: ByteView, valueCount: Int) -> Record {
        check(valueCount >= hashedValueBytesMin)
        let keyCount = key.count
        let header = headerBytes(hashedFlag)
        let bytes = sizeClass(header &+ keyCount &+ valueCount)
        let raw = malloc(bytes) ?? outOfMemory(bytes)
        raw.storeBytes(of: 1, as: UInt8.self)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: keyCount), toByteOffset: 1, as: UInt8.self)
        let record = Record(raw: raw)
        record.stamp(valueCount: valueCount, ms: 0, origin: 0, seq: 0, flags: hashedFlag)
        raw.storeBytes(of: UInt32(truncatingIfNeeded: keyCount), toByteOffset: 16, as: UInt32.self)
        memcpy(raw + header, key.start, keyCount)
        return record
    }

    /// Copies the next part of an unfilled record's value, up to `end`; the hash goes along.
    func fill(from value: UnsafeRawPointer, to end: Int, _ hash: inout ContentHash) {
        hash.copy(from: value, into: raw + Record.headerBytes(Record.hashedFlag) + keyCount, to: end)
    }

    /// Version and hash of an unfilled record that has all of its value.
    func stamp(ms: Millis, origin: OriginIndex, seq: UInt64, contentHash: UInt64) {
        stamp(valueCount: valueCount, ms: ms, origin: origin, seq: seq, flags: Record.hashedFlag)
        raw.storeBytes(of: contentHash, toByteOffset: 24, as: UInt64.self)
    }

    /// Copies a whole value behind the key, and hashes it if the form says so.
    @inline(__always)
    private func copyValue(_ value: ByteView, _ form: UInt64) {
        if form & Record.hashedFlag == 0 {
            memcpy(raw + Record.headerBytes(form) + keyCount, value.start, value.count)
        } else {
            copyHashedValue(value)
        }
    }

    /// What `contentHash` has to be. For checks: it copies the value.
    var recomputedHash: UInt64 {
        let copy = UnsafeMutableRawPointer.allocate(byteCount: valueCount, alignment: 1)
        defer { copy.deallocate() }
        var hash = ContentHash(count: valueCount)
        hash.copy(from: keyPointer + keyCount, into: copy, to: valueCount)
        return hash.value
    }

    @inline(never)
    private func copyHashedValue(_ value: ByteView) {
        var hash = ContentHash(count: value.count)
        fill(from: value.start, to: value.count, &hash)
        raw.storeBytes(of: hash.value, toByteOffset: 24, as: UInt64.self)
    }

    @inline(__always)
    private func stamp(valueCount: Int, ms: Millis, origin: OriginIndex, seq: UInt64, flags: UInt64) {
        check(ms >= 0 && ms <= Version.msMax && seq <= Version.seqMax)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: valueCount), toByteOffset: 2, as: UInt8.self)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: seq), toByteOffset: 3, as: UInt8.self)
        raw.storeBytes(of: UInt32(truncatingIfNeeded: seq &>> 8), toByteOffset: 4, as: UInt32.self)
        raw.storeBytes(of: Record.stampWord(ms: ms, origin: origin) | flags, toByteOffset: 8, as: UInt64.self)
        if flags & Record.formFlags != 0 {
            raw.storeBytes(of: UInt32(truncatingIfNeeded: valueCount), toByteOffset: 20, as: UInt32.self)
        }
    }

    /// Whether a value of that length may replace this one's in place: nobody else holds it and the block fits alike.
    @inline(__always)
    func canOverwrite(valueCount new: Int) -> Bool {
        guard ci_count_load(countPointer) == 1, !isTombstone else { return false }
        if valueCount == new { return true }
        let keys = keyCount
        let form = Record.form(keys, new)
        if form != stampWord & Record.formFlags { return false }
        let header = Record.headerBytes(form)
        return Record.sizeClass(header &+ keys &+ new) == Record.sizeClass(header &+ keys &+ valueCount)
    }

    /// Writes a new value and version in place; only after `canOverwrite`.
    @inline(__always)
    func overwrite(value: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64) {
        let form = stampWord & Record.formFlags
        stamp(valueCount: value.count, ms: ms, origin: origin, seq: seq, flags: form)
        copyValue(value, form)
    }

    /// Whether, besides `canOverwrite`, lengths and writer stay and are short: then little of the header changes.
    @inline(__always)
    func canOverwriteAlike(valueCount new: Int, origin: OriginIndex) -> Bool {
        ci_count_load(countPointer) == 1
            && stampWord & 0xF_FFFF == Record.stampWord(ms: 0, origin: origin)
            && Int(raw.load(fromByteOffset: 2, as: UInt8.self)) == new
    }

    @inline(__always)
    private var countPointer: UnsafeMutablePointer<UInt8> { raw.assumingMemoryBound(to: UInt8.self) }

    /// References now; exact only for the single holder.
    package var referenceCount: Int { Int(ci_count_load(countPointer)) }

    /// One more reference: the same record, or an equal copy when so many hold it that the counter might overflow.
    /// The caller must hold a reference and owns the one returned. Any thread, O(1).
    package func retained() -> Record {
        if ci_count_add(countPointer) < Record.countShareMax { return self }
        _ = ci_count_sub(countPointer)
        return Record.create(
            key: keyView, value: ByteView(value), ms: ms, origin: origin, seq: seq, isTombstone: isTombstone)
    }

    /// Gives the caller's reference back; the last one frees. Any thread.
    package func release() {
        // A single holder needs no atomic subtraction: nobody else can add a reference.
        if ci_count_load(countPointer) == 1 || ci_count_sub(countPointer) == 1 { free(raw) }
    }
}

/// Equality of two byte strings of the same length: words of eight, the last one overlapping.
@inline(__always)
func sameBytes(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ count: Int) -> Bool {
    if count >= 8 {
        var at = 0
        while at &+ 8 <= count {
            if a.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                != b.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            {
                return false
            }
            at &+= 8
        }
        return a.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
            == b.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
    }
    for at in 0..<count where a.load(fromByteOffset: at, as: UInt8.self) != b.load(fromByteOffset: at, as: UInt8.self) {
        return false
    }
    return true
}

/// Order of two byte strings, unsigned and lexicographic: negative, zero, positive.
@inline(__always)
func compareBytes(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    let shared = min(a.count, b.count)
    if shared > 0 {
        let order = memcmp(a.baseAddress!, b.baseAddress!, shared)
        if order != 0 { return Int(order) }
    }
    return a.count &- b.count
}
