// A record's share of the digest: a keyed hash of key, value, version and whether it is a tombstone. Part of every
// write, so made with the processor's AES round where there is one (CSupport/intrinsics/digest.c). Pure, any thread.

import CIntrinsics
package import KVBase

/// The keys of the hash, derived from the cluster's secret. Shares are the same on every server of a cluster
/// (little-endian machines, whatever their processor) and uniformly distributed whatever is written, so that their sum
/// tells stores apart. Must not outlive the origin table. Freed by `deallocate()`.
package struct RecordDigest {
    private let keys: UnsafeMutablePointer<ci_digest_keys>
    private let secret: UInt64
    private let own: OriginIndex
    private let ownToken: UInt64
    /// The origin table's; a reference to the table itself would be counted at every write.
    private let uids: UnsafePointer<ActorUID>

    /// Whether this processor has the instruction.
    package static var isHardwareAble: Bool { ci_aes_is_hardware() != 0 }

    /// `isSoftware` does without the instruction, to the same result.
    package init(
        secret: UInt64, own: OriginIndex, origins: OriginTable, isSoftware: Bool = !RecordDigest.isHardwareAble
    ) {
        self.secret = secret
        self.own = own
        uids = origins.interned
        var state = secret
        func word() -> UInt64 {
            state &+= 0xA076_1D64_78BD_642F
            return mix64(state, state ^ 0xE703_7ED1_A0B4_28DB)
        }
        func block() -> ci_block { ci_block(low: word(), high: word()) }
        var made = ci_digest_keys()
        // The value's other than the key's: a value equal to its key would cancel it, and the digest be blind to that.
        (made.key, made.value, made.inner, made.outer) = (block(), block(), block(), block())
        // Odd, so that no two of 2^64 places share what they are combined with.
        made.step = ci_block(low: word() | 1, high: word() | 1)
        made.is_software = isSoftware ? 1 : 0
        keys = .allocate(capacity: 1)
        keys.initialize(to: made)
        ownToken = RecordDigest.token(origins.uid(own), own, secret)
    }

    package func deallocate() { keys.deallocate() }

    private static func token(_ uid: ActorUID, _ origin: OriginIndex, _ secret: UInt64) -> UInt64 {
        mix64(uid.server ^ 0x9E37_79B9_7F4A_7C15 ^ secret, UInt64(uid.index) ^ 0xD1B5_4A32_D192_ED03)
            ^ Record.stampWord(ms: 0, origin: origin)
    }

    /// What takes a writer's index, which only this process knows, out of a header's second word, and puts in what the
    /// writer is called everywhere.
    @inline(__always)
    private func token(_ origin: OriginIndex) -> UInt64 {
        origin == own ? ownToken : RecordDigest.token(uids[Int(origin)], origin, secret)
    }

    /// The share of a record.
    @inline(__always)
    package func term(_ record: Record) -> UInt64 {
        let header = ci_block(low: record.headerWord, high: record.stampWord ^ token(record.origin))
        let key = record.keyPointer
        let isHashed = record.isHashed
        // A value that has its hash beside it is represented by that.
        return ci_digest_term(
            keys, header, key, UInt(bitPattern: record.keyCount),
            isHashed ? record.contentHashPointer : key + record.keyCount,
            isHashed ? 8 : UInt(bitPattern: record.contentCount))
    }

    /// Writes a value and a version into a record that `canOverwriteAlike`. Returns what its share changes by.
    @inline(__always)
    package func overwrite(
        _ record: Record, value: UnsafeRawPointer, ms: Millis, origin: OriginIndex, seq: UInt64
    ) -> UInt64 {
        check(ms >= 0 && ms <= Version.msMax && seq <= Version.seqMax)
        return ci_digest_overwrite(
            keys, record.raw, value, Record.stampWord(ms: ms, origin: origin), seq, token(origin))
    }
}
