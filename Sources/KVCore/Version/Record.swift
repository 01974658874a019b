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
///     then the key, then the content
///
/// The content is the value, or in an extended record a `RecordExtension` and the value.
///
/// Bytes 1…15 are read with accesses that never include byte 0, which others may be changing.
@usableFromInline package struct Record: @unchecked Sendable, Equatable {
    @usableFromInline package let raw: UnsafeMutableRawPointer

    @usableFromInline static let tombstoneFlag: UInt64 = 1
    /// Longer than a byte can say, and the same with a hash of the value kept: 8 and 16 more bytes of header.
    @usableFromInline static let longFlag: UInt64 = 2
    @usableFromInline static let hashedFlag: UInt64 = 4
    @usableFromInline static let formFlags: UInt64 = 6
    /// The content begins with a `RecordExtension`.
    @usableFromInline static let extendedFlag: UInt64 = 8
    /// A record without any of these has a value, and only that, of at most 255 bytes.
    @usableFromInline static let unusualFlags: UInt64 = 14
    /// A record without either of these is shown whatever the time.
    @usableFromInline static let shownFlags: UInt64 = 9
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
    package var isExtended: Bool { stampWord & Record.extendedFlag != 0 }

    /// Neither deleted nor extended: what most records are.
    @inline(__always)
    var isPlain: Bool { stampWord & Record.shownFlags == 0 }

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

    /// Bytes behind the key: the value's, and before them those of the extension, if there is one.
    @inlinable @inline(__always)
    package var contentCount: Int {
        isLong
            ? Int(raw.load(fromByteOffset: 20, as: UInt32.self)) : Int(raw.load(fromByteOffset: 2, as: UInt8.self))
    }

    @inlinable @inline(__always)
    package var valueCount: Int {
        stampWord & Record.unusualFlags == 0 ? Int(raw.load(fromByteOffset: 2, as: UInt8.self)) : value.count
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
        // One branch for the usual case, whatever makes a record unusual.
        stampWord & Record.unusualFlags == 0
            ? UnsafeRawBufferPointer(
                start: UnsafeRawPointer(raw) + (16 &+ Int(raw.load(fromByteOffset: 1, as: UInt8.self))),
                count: Int(raw.load(fromByteOffset: 2, as: UInt8.self)))
            : unusualValue
    }

    @usableFromInline @inline(never)
    var unusualValue: UnsafeRawBufferPointer {
        let skipped = isExtended ? RecordExtension.byteCount(at: keyPointer + keyCount) : 0
        return UnsafeRawBufferPointer(start: keyPointer + keyCount + skipped, count: contentCount &- skipped)
    }

    /// All behind the key, the extension included. Same lifetime as `key`.
    @inline(__always)
    var content: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: keyPointer + keyCount, count: contentCount) }

    /// What an extended record says beside its value.
    package var addition: RecordExtension { RecordExtension(reading: keyPointer + keyCount) }

    /// The version of an extended record's deadline, if it is not that of the record.
    var keptVersion: Version? { RecordExtension.version(at: keyPointer + keyCount) }

    /// When an extended record expires by itself; 0 is never.
    @inline(__always)
    var inlineDeadline: Millis { RecordExtension.deadline(at: keyPointer + keyCount) }

    /// The version in the form that leaves the process.
    package func version(_ origins: OriginTable) -> Version { Version(ms: ms, uid: origins.uid(origin), seq: seq) }

    /// Bytes the allocation takes.
    package var allocatedBytes: Int {
        Record.sizeClass(Record.headerBytes(stampWord) &+ keyCount &+ contentCount)
    }

    /// Key and content side by side, as they lie in memory.
    @inline(__always)
    var payload: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: keyPointer, count: keyCount &+ contentCount)
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
        let contentCount = value?.count ?? 0
        let flags = form(key.count, contentCount) | (isTombstone ? tombstoneFlag : 0)
        let record = allocate(key, contentCount: contentCount, flags)
        record.stamp(contentCount: contentCount, ms: ms, origin: origin, seq: seq, flags: flags)
        if let value, contentCount > 0 { record.copyContent(value, flags) }
        return record
    }

    /// The same with an extension before the value, which a tombstone does not have.
    package static func create(
        key: ByteView, _ addition: RecordExtension, value: ByteView?, ms: Millis, origin: OriginIndex, seq: UInt64,
        isTombstone: Bool = false
    ) -> Record {
        let skipped = addition.byteCount
        let contentCount = skipped &+ (value?.count ?? 0)
        let flags = form(key.count, contentCount) | extendedFlag | (isTombstone ? tombstoneFlag : 0)
        let record = allocate(key, contentCount: contentCount, flags)
        record.stamp(contentCount: contentCount, ms: ms, origin: origin, seq: seq, flags: flags)
        let place = record.raw + headerBytes(flags) + key.count
        addition.write(to: place)
        record.copyValue(value ?? ByteView(place, 0), skipped: skipped, flags)
        return record
    }

    /// The same with a content that holds an extension, and which `RecordExtension.isValid`.
    static func create(
        key: ByteView, extendedContent content: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64,
        isTombstone: Bool
    ) -> Record {
        let flags = form(key.count, content.count) | extendedFlag | (isTombstone ? tombstoneFlag : 0)
        let record = allocate(key, contentCount: content.count, flags)
        record.stamp(contentCount: content.count, ms: ms, origin: origin, seq: seq, flags: flags)
        record.copyContent(content, flags)
        return record
    }

    /// Memory for a record, with its count and its key.
    @inline(__always)
    private static func allocate(_ key: ByteView, contentCount: Int, _ flags: UInt64) -> Record {
        let keyCount = key.count
        let header = headerBytes(flags)
        let bytes = sizeClass(header &+ keyCount &+ contentCount)
        let raw = malloc(bytes) ?? outOfMemory(bytes)
        raw.storeBytes(of: 1, as: UInt8.self)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: keyCount), toByteOffset: 1, as: UInt8.self)
        if flags & formFlags != 0 {
            raw.storeBytes(of: UInt32(truncatingIfNeeded: keyCount), toByteOffset: 16, as: UInt32.self)
        }
        memcpy(raw + header, key.start, keyCount)
        return Record(raw: raw)
    }

    /// A record without value and version yet, which nobody else may see. For values that carry their hash only.
    static func createUnfilled(key: ByteView, _ addition: RecordExtension?, valueCount: Int) -> Record {
        check(valueCount >= hashedValueBytesMin)
        let contentCount = valueCount &+ (addition?.byteCount ?? 0)
        let flags = hashedFlag | (addition == nil ? 0 : extendedFlag)
        let record = allocate(key, contentCount: contentCount, flags)
        record.stamp(contentCount: contentCount, ms: 0, origin: 0, seq: 0, flags: flags)
        addition?.write(to: record.raw + headerBytes(flags) + key.count)
        return record
    }

    /// Copies the next part of an unfilled record's value, up to `end`; the hash goes along.
    func fill(from value: UnsafeRawPointer, to end: Int, _ hash: inout ContentHash) {
        let place = UnsafeMutableRawPointer(mutating: self.value.baseAddress.unsafelyUnwrapped)
        hash.copy(from: value, into: place, to: end)
    }

    /// Version and hash of an unfilled record that has all of its value.
    func stamp(ms: Millis, origin: OriginIndex, seq: UInt64, valueHash: UInt64) {
        let flags = stampWord & (Record.hashedFlag | Record.extendedFlag)
        stamp(contentCount: contentCount, ms: ms, origin: origin, seq: seq, flags: flags)
        raw.storeBytes(of: whole(valueHash), toByteOffset: 24, as: UInt64.self)
    }

    /// Copies a whole content behind the key, and hashes it if the form says so.
    @inline(__always)
    private func copyContent(_ content: ByteView, _ flags: UInt64) {
        let place = raw + Record.headerBytes(flags) + keyCount
        if flags & Record.hashedFlag == 0 {
            memcpy(place, content.start, content.count)
        } else {
            let skipped = flags & Record.extendedFlag == 0 ? 0 : RecordExtension.byteCount(at: content.start)
            if skipped > 0 { memcpy(place, content.start, skipped) }
            copyHashedValue(ByteView(content.start + skipped, content.count &- skipped), skipped: skipped)
        }
    }

    /// Copies a whole value behind key and extension.
    private func copyValue(_ value: ByteView, skipped: Int, _ flags: UInt64) {
        if flags & Record.hashedFlag == 0 {
            memcpy(raw + Record.headerBytes(flags) + keyCount + skipped, value.start, value.count)
        } else {
            copyHashedValue(value, skipped: skipped)
        }
    }

    /// What `contentHash` has to be. For checks: it copies the value.
    var recomputedHash: UInt64 {
        let value = self.value
        let copy = UnsafeMutableRawPointer.allocate(byteCount: value.count, alignment: 1)
        defer { copy.deallocate() }
        var hash = ContentHash(count: value.count)
        hash.copy(from: value.baseAddress.unsafelyUnwrapped, into: copy, to: value.count)
        return whole(hash.value)
    }

    @inline(never)
    private func copyHashedValue(_ value: ByteView, skipped: Int) {
        var hash = ContentHash(count: value.count)
        let place = raw + Record.headerBytes(Record.hashedFlag) + keyCount + skipped
        hash.copy(from: value.start, into: place, to: value.count)
        raw.storeBytes(of: whole(hash.value), toByteOffset: 24, as: UInt64.self)
    }

    /// The hash of the content, from that of the value: the extension's is mixed in.
    private func whole(_ valueHash: UInt64) -> UInt64 {
        guard isExtended else { return valueHash }
        let at = keyPointer + keyCount
        return valueHash ^ hashBytes(at, RecordExtension.byteCount(at: at), seed: 0x8BB8_4B93_962E_ACC9)
    }

    @inline(__always)
    private func stamp(contentCount: Int, ms: Millis, origin: OriginIndex, seq: UInt64, flags: UInt64) {
        check(ms >= 0 && ms <= Version.msMax && seq <= Version.seqMax)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: contentCount), toByteOffset: 2, as: UInt8.self)
        raw.storeBytes(of: UInt8(truncatingIfNeeded: seq), toByteOffset: 3, as: UInt8.self)
        raw.storeBytes(of: UInt32(truncatingIfNeeded: seq &>> 8), toByteOffset: 4, as: UInt32.self)
        raw.storeBytes(of: Record.stampWord(ms: ms, origin: origin) | flags, toByteOffset: 8, as: UInt64.self)
        if flags & Record.formFlags != 0 {
            raw.storeBytes(of: UInt32(truncatingIfNeeded: contentCount), toByteOffset: 20, as: UInt32.self)
        }
    }

    /// Whether a value of that length may replace this one's in place: nobody else holds it and the block fits alike.
    @inline(__always)
    func canOverwrite(valueCount new: Int) -> Bool {
        guard ci_count_load(countPointer) == 1, isPlain else { return false }
        let old = contentCount
        if old == new { return true }
        let keys = keyCount
        let form = Record.form(keys, new)
        if form != stampWord & Record.formFlags { return false }
        let header = Record.headerBytes(form)
        return Record.sizeClass(header &+ keys &+ new) == Record.sizeClass(header &+ keys &+ old)
    }

    /// Writes a new value and version in place; only after `canOverwrite`.
    @inline(__always)
    func overwrite(value: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64) {
        let form = stampWord & Record.formFlags
        stamp(contentCount: value.count, ms: ms, origin: origin, seq: seq, flags: form)
        copyContent(value, form)
    }

    /// Whether an extension and a value of that length together may replace this extended record's in place.
    @inline(__always)
    func canOverwriteExtended(contentCount new: Int) -> Bool {
        ci_count_load(countPointer) == 1 && contentCount == new
            && stampWord & (Record.tombstoneFlag | Record.extendedFlag) == Record.extendedFlag
    }

    /// Writes a new extension, value and version in place; only after `canOverwriteExtended`.
    func overwrite(_ addition: RecordExtension, value: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64) {
        let flags = stampWord & (Record.formFlags | Record.extendedFlag)
        stamp(contentCount: contentCount, ms: ms, origin: origin, seq: seq, flags: flags)
        addition.write(to: raw + Record.headerBytes(flags) + keyCount)
        copyValue(value, skipped: addition.byteCount, flags)
    }

    /// Whether a deadline and a value of that length may replace this record's deadline and value in place, by writing
    /// these alone: it is short, has a deadline of its own and nothing else, and nobody else holds it.
    @inline(__always)
    func canOverwriteDeadline(valueCount new: Int) -> Bool {
        ci_count_load(countPointer) == 1
            && stampWord & (Record.formFlags | Record.tombstoneFlag | Record.extendedFlag) == Record.extendedFlag
            && Int(raw.load(fromByteOffset: 2, as: UInt8.self)) == new &+ RecordExtension.shortBytes
            && RecordExtension.isDeadline(at: keyPointer + keyCount)
    }

    /// Writes a deadline, a value and a version in place; only after `canOverwriteDeadline`.
    @inline(__always)
    func overwrite(deadline: Millis, value: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64) {
        stamp(contentCount: contentCount, ms: ms, origin: origin, seq: seq, flags: Record.extendedFlag)
        let place = raw + 16 + keyCount
        RecordExtension.write(deadline, to: place)
        memcpy(place + RecordExtension.shortBytes, value.start, value.count)
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
        return copied(ms: ms, origin: origin, seq: seq)
    }

    /// A record with the same key and content under another version, which the caller owns.
    func copied(ms: Millis, origin: OriginIndex, seq: UInt64) -> Record {
        isExtended
            ? Record.create(
                key: keyView, extendedContent: ByteView(content), ms: ms, origin: origin, seq: seq,
                isTombstone: isTombstone)
            : Record.create(
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
