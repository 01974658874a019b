// A record's share of the digest: a keyed mix of key, value, version and whether it is a tombstone. Part of every
// write, so made of few instructions: one multiplication per 16 bytes, none waiting for another. Pure, any thread.

import CIntrinsics
import KVBase

/// The keys of the mix, derived from the cluster's. Shares are the same on every server of a cluster (little-endian
/// machines) and uniformly distributed whatever is written, so that their sum tells stores apart. Must not outlive the
/// origin table.
struct RecordDigest {
    private let keyA: UInt64
    private let keyB: UInt64
    private let valueA: UInt64
    private let valueB: UInt64
    private let secret: UInt64
    private let own: OriginIndex
    private let ownToken: UInt64
    /// The origin table's; a reference to the table itself would be counted at every write.
    private let uids: UnsafePointer<ActorUID>

    /// Odd numbers without a pattern: what a block of a value is combined with depends on its place.
    private static let stepA: UInt64 = 0x9E37_79B9_7F4A_7C15
    private static let stepB: UInt64 = 0xD1B5_4A32_D192_ED03

    init(secret: UInt64, own: OriginIndex, origins: OriginTable) {
        self.secret = secret
        self.own = own
        uids = origins.interned
        keyA = mix64(secret ^ 0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB)
        keyB = mix64(secret ^ 0x8EBC_6AF0_9C88_C6E3, 0x5899_65CC_7537_4CC3)
        // Others than the key's: a value equal to its key would cancel it, and the digest be blind to that.
        valueA = mix64(secret ^ 0x1D8E_4E27_C47D_124F, 0xA076_1D64_78BD_642F)
        valueB = mix64(secret ^ 0x2D35_8DCC_AA6C_78A5, 0x8BB8_4B93_962E_ACC9)
        ownToken = RecordDigest.token(origins.uid(own), secret)
    }

    private static func token(_ uid: ActorUID, _ secret: UInt64) -> UInt64 {
        mix64(uid.server ^ 0x9E37_79B9_7F4A_7C15 ^ secret, UInt64(uid.index) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// The share of a record.
    @inline(__always)
    func term(_ record: Record) -> UInt64 {
        mix64(keyPart(record) ^ valuePart(record), stampPart(record))
    }

    /// What the sum of all shares changes by when one record takes another's place under the same key.
    @inline(__always)
    func change(from old: Record, to new: Record) -> UInt64 {
        let key = keyPart(new)
        return mix64(key ^ valuePart(new), stampPart(new)) &- mix64(key ^ valuePart(old), stampPart(old))
    }

    // MARK: The parts; a share is `mix64(keyPart ^ valuePart, stampPart)`.

    @inline(__always)
    func keyPart(_ record: Record) -> UInt64 { keyPart(record.keyPointer, record.keyCount) }

    @inline(__always)
    func keyPart(_ key: UnsafeRawPointer, _ count: Int) -> UInt64 {
        if count > 16 { return hashBytes(key, count, seed: keyA) }
        let (a, b) = RecordDigest.short(key, count)
        return mix64(a ^ keyA, b ^ keyB) ^ UInt64(truncatingIfNeeded: count)
    }

    @inline(__always)
    func valuePart(_ record: Record) -> UInt64 {
        if record.isHashed { return record.contentHash ^ valueA }
        return valuePart(record.keyPointer + record.keyCount, record.valueCount)
    }

    /// Of a value that carries no hash.
    @inline(__always)
    func valuePart(_ value: UnsafeRawPointer, _ count: Int) -> UInt64 {
        let length = UInt64(truncatingIfNeeded: count) &* RecordDigest.stepA
        if count < 16 {
            let (a, b) = RecordDigest.short(value, count)
            return mix64(a ^ valueA, b ^ valueB) ^ length
        }
        return length
            &+ ci_hash_one(value, count, valueA, valueB, RecordDigest.stepA, RecordDigest.stepB)
    }

    /// `valuePart` of two values of one length, side by side.
    @inline(__always)
    func valueParts(_ first: UnsafeRawPointer, _ second: UnsafeRawPointer, _ count: Int) -> (UInt64, UInt64) {
        if count < 16 { return (valuePart(first, count), valuePart(second, count)) }
        let length = UInt64(truncatingIfNeeded: count) &* RecordDigest.stepA
        let sums = ci_hash_pair(first, second, count, valueA, valueB, RecordDigest.stepA, RecordDigest.stepB)
        return (length &+ sums.first, length &+ sums.second)
    }

    @inline(__always)
    func stampPart(_ record: Record) -> UInt64 {
        let word = record.stampWord
        return stampPart(
            word &>> 20, OriginIndex(truncatingIfNeeded: word &>> 4), record.seq, word & Record.tombstoneFlag)
    }

    @inline(__always)
    func stampPart(_ ms: UInt64, _ origin: OriginIndex, _ seq: UInt64, _ tombstone: UInt64) -> UInt64 {
        let token = origin == own ? ownToken : RecordDigest.token(uids[Int(origin)], secret)
        return token ^ (ms &<< 1 | tombstone) &* RecordDigest.stepA ^ seq &* RecordDigest.stepB
    }

    /// All of up to 16 bytes in two words, the same only for the same bytes of one length.
    @inline(__always)
    private static func short(_ p: UnsafeRawPointer, _ count: Int) -> (UInt64, UInt64) {
        if count >= 8 {
            return (p.loadUnaligned(as: UInt64.self), p.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self))
        }
        if count >= 4 {
            return (
                UInt64(p.loadUnaligned(as: UInt32.self)),
                UInt64(p.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self))
            )
        }
        if count == 0 { return (0, 0) }
        let first = UInt64(p.load(as: UInt8.self))
        let middle = UInt64(p.load(fromByteOffset: count &>> 1, as: UInt8.self))
        let last = UInt64(p.load(fromByteOffset: count &- 1, as: UInt8.self))
        return (first &<< 16 | middle &<< 8 | last, 0)
    }
}
