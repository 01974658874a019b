// Entries as bytes: keys prefix-compressed, versions as differences. Pure; used by whoever encodes or merges a frame.

import Glibc
import KVBase

/// An encoded run of entries is self-contained: writers are named by their UID on first use and by a small number
/// after.
///
/// One entry: a byte of flags and shared-prefix length, the lengths, what changed of (writer, ms, seq) since the entry
/// before, the rest of the key, the value. Typically 4 to 6 bytes more than key and value, and less than them for keys
/// written in order.
enum EntryFlag {
    static let tombstone: UInt8 = 1
    static let sameOrigin: UInt8 = 2
    static let sameMillis: UInt8 = 4
    static let nextSeq: UInt8 = 8
    /// The high half byte is the shared-prefix length; 15 means that it follows, 14 that it follows and the record is
    /// extended.
    static let prefixMax = 15
    static let prefixOfExtended = 14
}

struct EntryEncoder {
    private var origins: [OriginIndex] = []
    /// Which of these the entry before has; -1: there is none.
    private var lastCode = -1
    private var lastOrigin: OriginIndex = 0
    private var lastMillis: Millis = 0
    private var lastSeq: UInt64 = 0
    private var previous: Record?
    private(set) var count = 0
    private(set) var millisMax: Millis = 0

    /// Begins a new run. The writer `first`, if there is one, need not be named: whoever decodes it knows it.
    mutating func restart(_ first: OriginIndex?) {
        origins.removeAll(keepingCapacity: true)
        if let first { origins.append(first) }
        (lastCode, lastOrigin) = (first == nil ? -1 : 0, first ?? 0)
        (lastMillis, lastSeq, previous, count, millisMax) = (0, 0, nil, 0, 0)
    }

    /// Must be called before the record passed last may vanish: the next key is written in full.
    mutating func forgetPrevious() { previous = nil }

    /// Appends one entry. The record must stay valid until the next call or `forgetPrevious`. `isBare`: its content is
    /// appended by the caller; there is room for it.
    mutating func encode(
        _ record: Record, _ table: OriginTable, into out: inout OutputBuffer, isBare: Bool = false
    ) {
        let keyCount = record.keyCount
        let contentCount = record.contentCount
        let isExtended = record.isExtended
        // All that is not key and content takes less than 64 bytes.
        out.reserve(64 &+ keyCount &+ contentCount)
        let shared = previous.map { EntryEncoder.sharedPrefix($0.key, record.key) } ?? 0
        let origin = record.origin
        let ms = record.ms
        let seq = record.seq
        let isSame = lastCode >= 0 && lastOrigin == origin
        var flags = record.isTombstone ? EntryFlag.tombstone : 0
        if isSame { flags |= EntryFlag.sameOrigin }
        if ms == lastMillis { flags |= EntryFlag.sameMillis }
        if seq == lastSeq &+ 1 { flags |= EntryFlag.nextSeq }
        let isPrefixApart = isExtended || shared >= EntryFlag.prefixOfExtended
        let prefix = isExtended ? EntryFlag.prefixOfExtended : isPrefixApart ? EntryFlag.prefixMax : shared
        var end = BytesEnd(out.base + out.count)
        end.put(flags | UInt8(truncatingIfNeeded: prefix) &<< 4)
        if isPrefixApart { end.putVarint(UInt64(shared)) }
        end.putVarint(UInt64(keyCount &- shared))
        if isExtended || !record.isTombstone { end.putVarint(UInt64(contentCount)) }
        if !isSame { putOrigin(origin, table, &end) }
        if ms != lastMillis { end.putZigzag(ms &- lastMillis) }
        if seq != lastSeq &+ 1 { end.putZigzag(Int64(bitPattern: seq &- lastSeq)) }
        // Content lies behind the key.
        end.put(record.keyPointer + shared, keyCount &- shared &+ (isBare ? 0 : contentCount))
        out.count = end.at - out.base
        lastMillis = ms
        lastSeq = seq
        previous = record
        count &+= 1
        millisMax = max(millisMax, Version.clockMillis(ms))
        // That there is no deadline may be newer than the write that says so.
        if isExtended, let kept = record.keptVersion { millisMax = max(millisMax, Version.clockMillis(kept.ms)) }
    }

    /// The writer is another one than before.
    @inline(never)
    private mutating func putOrigin(_ origin: OriginIndex, _ table: OriginTable, _ end: inout BytesEnd) {
        let code = origins.firstIndex(of: origin) ?? origins.count
        end.putVarint(UInt64(code))
        (lastCode, lastOrigin) = (code, origin)
        guard code == origins.count else { return }
        origins.append(origin)
        let uid = table.uid(origin)
        end.putFixed64(uid.server)
        end.putVarint(UInt64(uid.index))
    }

    private static func sharedPrefix(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
        let most = min(a.count, b.count)
        guard most > 0 else { return 0 }
        let p = a.baseAddress.unsafelyUnwrapped
        let q = b.baseAddress.unsafelyUnwrapped
        var at = 0
        while at &+ 8 <= most {
            let difference =
                p.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                ^ q.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            if difference != 0 { return at &+ UInt64(littleEndian: difference).trailingZeroBitCount / 8 }
            at &+= 8
        }
        while at < most, p.load(fromByteOffset: at, as: UInt8.self) == q.load(fromByteOffset: at, as: UInt8.self) {
            at &+= 1
        }
        return at
    }
}

/// Decodes entry by entry, so that a long run can be merged in slices. Holds no pointer between calls.
struct EntryDecoder {
    private(set) var at: Int
    let end: Int
    private(set) var left: Int
    private let millisMax: Millis
    private var origins: [OriginIndex] = []
    private var origin: OriginIndex = 0
    private var lastMillis: Millis = 0
    private var lastSeq: UInt64 = 0
    /// The key of the entry before: the first `keyCount` bytes. Longer than it, so that keys are written over it.
    private var key: [UInt8] = []
    private var keyCount = 0
    /// Writers one run may name: far above any cluster, and it bounds what a hostile peer can intern with one frame.
    static let originsMax = 4096

    /// `first`: the writer that is not named, if there is one.
    init(from: Int, to: Int, count: Int, millisMax: Millis, first: OriginIndex? = nil) {
        (at, end, left, self.millisMax) = (from, to, count, millisMax)
        if let first { (origins, origin) = ([first], first) }
    }

    /// Whether all entries were read and nothing is left over.
    var isComplete: Bool { left == 0 && at == end }

    /// The next entry as a new record that the caller owns, or nil if the bytes are malformed. Call only while `left >
    /// 0`.
    ///
    /// The record of a writer that is not known has the origin `OriginTable.unknown`.
    mutating func next(
        _ bytes: UnsafeRawBufferPointer, _ table: OriginTable, writers: KnownWriters = .all
    ) -> Record? {
        var reader = VarintReader(bytes, from: at, to: end)
        let flags = reader.byte()
        var shared = Int(flags &>> 4)
        let isExtended = shared == EntryFlag.prefixOfExtended
        if shared >= EntryFlag.prefixOfExtended {
            shared = Int(truncatingIfNeeded: min(reader.varint(), UInt64(Int32.max)))
        }
        let suffix = Int(truncatingIfNeeded: min(reader.varint(), UInt64(Int32.max)))
        let isTombstone = flags & EntryFlag.tombstone != 0
        let contentCount =
            isTombstone && !isExtended ? 0 : Int(truncatingIfNeeded: min(reader.varint(), UInt64(Int32.max)))
        guard !reader.failed, shared <= keyCount, shared &+ suffix <= Companion.keyBytesMax,
            contentCount <= Limits.valueBytesMax + (isExtended ? RecordExtension.bytesMax : 0),
            readOrigin(flags, &reader, table, writers)
        else { return nil }
        let ms = flags & EntryFlag.sameMillis != 0 ? lastMillis : lastMillis &+ reader.zigzag()
        let seq =
            flags & EntryFlag.nextSeq != 0 ? lastSeq &+ 1 : lastSeq &+ UInt64(bitPattern: reader.zigzag())
        let rest = reader.run(suffix)
        let content = reader.run(contentCount)
        guard !reader.failed, ms >= 0, ms <= Version.msMax, Version.clockMillis(ms) <= millisMax, seq <= Version.seqMax,
            !isExtended || isSound(content, ms, seq, table) && (!isTombstone || isBare(content))
        else { return nil }
        takeKey(shared, rest)
        guard let record = record(flags, isExtended, content, ms, seq, table) else { return nil }
        lastMillis = ms
        lastSeq = seq
        at = reader.at
        left &-= 1
        return record
    }

    /// The key: the first `shared` bytes of the one before, and these.
    @inline(__always)
    private mutating func takeKey(_ shared: Int, _ rest: UnsafeRawBufferPointer) {
        keyCount = shared &+ rest.count
        if keyCount > key.count { key.append(contentsOf: repeatElement(0, count: 2 &* keyCount &- key.count)) }
        guard rest.count > 0 else { return }
        key.withUnsafeMutableBytes { key in
            _ = memcpy(key.baseAddress.unsafelyUnwrapped + shared, rest.baseAddress.unsafelyUnwrapped, rest.count)
        }
    }

    @inline(__always)
    private func record(
        _ flags: UInt8, _ isExtended: Bool, _ content: UnsafeRawBufferPointer, _ ms: Millis, _ seq: UInt64,
        _ table: OriginTable
    ) -> Record? {
        let isTombstone = flags & EntryFlag.tombstone != 0
        return key.withUnsafeBytes { bytes in
            let key = UnsafeRawBufferPointer(start: bytes.baseAddress, count: keyCount)
            guard !Companion.isCompanions(key) || isExtended && isSoundCompanion(key, content, isTombstone, table)
            else { return nil }
            return isExtended
                ? Record.create(
                    key: ByteView(key), extendedContent: ByteView(content), ms: ms, origin: origin, seq: seq,
                    isTombstone: isTombstone)
                : Record.create(
                    key: ByteView(key), value: ByteView(content), ms: ms, origin: origin, seq: seq,
                    isTombstone: isTombstone)
        }
    }

    /// Whether there is nothing behind the extension, as in a delete: it says only what that has taken of a counter.
    private func isBare(_ content: UnsafeRawBufferPointer) -> Bool {
        guard let at = content.baseAddress else { return false }
        return RecordExtension.byteCount(at: at) == content.count && RecordExtension.deadline(at: at) == 0
    }

    /// A part of a counter nobody but its actor writes; others may delete it.
    private func isSoundCompanion(
        _ key: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer, _ isTombstone: Bool, _ table: OriginTable
    ) -> Bool {
        guard Companion.isSound(key, content, isTombstone: isTombstone) else { return false }
        if key[2] != Companion.partKind || isTombstone || origin == OriginTable.unknown { return true }
        return table.uid(origin) == Companion.partUID(key)
    }

    /// Whether an extension is one, and no deadline in it is newer than the write that kept it. That there is none may
    /// be newer, in the name of the same write.
    private func isSound(_ content: UnsafeRawBufferPointer, _ ms: Millis, _ seq: UInt64, _ table: OriginTable) -> Bool {
        guard RecordExtension.isValid(content), let at = content.baseAddress else { return false }
        guard origin != OriginTable.unknown, let kept = RecordExtension.version(at: at) else { return true }
        let version = Version(ms: ms, uid: table.uid(origin), seq: seq)
        if kept < version { return true }
        return RecordExtension.deadline(at: at) == 0 && (kept.uid, kept.seq) == (version.uid, seq) && kept.ms > ms
            && Version.clockMillis(kept.ms) <= millisMax
    }

    private mutating func readOrigin(
        _ flags: UInt8, _ reader: inout VarintReader, _ table: OriginTable, _ writers: KnownWriters
    ) -> Bool {
        if flags & EntryFlag.sameOrigin != 0 { return !origins.isEmpty }
        let code = reader.varint()
        guard !reader.failed, code <= UInt64(origins.count) else { return false }
        if code == UInt64(origins.count) {
            let server = reader.fixed64()
            let index = reader.varint()
            guard !reader.failed, index < UInt64(Limits.actorsMax), origins.count < EntryDecoder.originsMax else {
                return false
            }
            origins.append(writers.origin(ActorUID(server: server, index: UInt16(index)), table))
        }
        origin = origins[Int(code)]
        return true
    }
}
