// Storing a value in pieces, so that a large one does not hold its thread: copying fresh memory and hashing cost a
// millisecond for every few megabytes. One thread.

package import KVBase

/// A value being stored: its record, which nobody else knows yet, and the hashes of old and new content as far as they
/// are done. Ends with `Store.finish` or `Store.abandon`.
package struct LargeWrite {
    let record: Record
    let hash: UInt64
    var digest: ValueDigest
    var filled = 0
    /// The key's record when the write began, kept so that its content can be hashed meanwhile.
    let old: Record?
    var oldDigest: ValueDigest

    /// Everything is copied and hashed.
    package var isReady: Bool { filled == record.valueCount && oldDigest.isComplete }
}

extension Store {
    /// Begins to store a value of `m` bytes (256 or more), none of which is looked at yet. One allocation.
    package func beginLarge(_ key: UnsafeRawPointer, _ n: Int, _ hash: UInt64, valueCount m: Int) -> LargeWrite {
        let secret = state.pointee.config.digestKey
        let record = Record.createUnfilled(key: key, n, valueCount: m)
        let old = state.pointee.table.find(key, n, place(hash))?.record
        let kept = old.map { $0.isTombstone ? nil : $0.retained() } ?? nil
        return LargeWrite(
            record: record, hash: hash, digest: ValueDigest(secret, count: m), old: kept,
            oldDigest: ValueDigest(secret, count: kept?.valueCount ?? 0))
    }

    /// Copies and hashes about `bytes` more. `value` is the beginning of the whole value.
    package func advance(_ write: inout LargeWrite, from value: UnsafeRawPointer, bytes: Int) {
        let end = min(write.filled + bytes, write.record.valueCount)
        write.record.fill(from: value, write.filled..<end)
        write.filled = end
        write.digest.update(write.record.value, to: end)
        if let old = write.old { write.oldDigest.update(old.value, to: write.oldDigest.done + bytes) }
    }

    /// Gives the value its version and makes it the key's; returns the record (borrowed). Nil, and nothing written, if
    /// no storable version is left. As `put`, only that the value is a new record always.
    package func finish(_ write: LargeWrite, now: Millis) -> Record? {
        check(write.isReady)
        let record = write.record
        let slot = state.pointee.table.find(record.keyPointer, record.keyCount, place(write.hash))
        let current = slot?.record
        guard let ms = stamp(over: current, now: now, floor: 0) else {
            abandon(write)
            return nil
        }
        record.stamp(ms: ms, origin: state.pointee.ownOrigin, seq: nextSeq(write.hash))
        let content = write.digest.finish(record.value)
        if let slot, let current {
            // Another write may have come between; then its content is hashed now.
            let oldContent = current == write.old ? write.oldDigest.finish(current.value) : nil
            replace(slot, current, with: record, write.hash, content: content, oldContent: oldContent)
        } else {
            insert(record, write.hash, content: content)
        }
        write.old?.release()
        return record
    }

    /// Forgets a write that was begun.
    package func abandon(_ write: LargeWrite) {
        write.record.release()
        write.old?.release()
    }
}

/// A keyed hash of a value, two independent chains of multiplications per 32 bytes, in as many pieces as one likes.
struct ValueDigest {
    private var a: UInt64
    private var b: UInt64
    private let secret: UInt64
    private let count: Int
    /// Bytes hashed; a multiple of 32.
    private(set) var done = 0

    @inline(__always)
    init(_ secret: UInt64, count: Int) {
        (self.secret, self.count) = (secret, count)
        a = secret ^ 0xA076_1D64_78BD_642F
        b = secret ^ 0xE703_7ED1_A0B4_28DB ^ UInt64(count)
    }

    var isComplete: Bool { count &- done < 32 }

    /// Hashes the value's bytes from `done` to about `end`.
    @inline(__always)
    mutating func update(_ value: UnsafeRawBufferPointer, to end: Int) {
        guard let base = value.baseAddress else { return }
        let stop = min(end, count)
        while done &+ 32 <= stop {
            let at = base + done
            a = mix64(
                at.loadUnaligned(as: UInt64.self) ^ a,
                at.loadUnaligned(fromByteOffset: 8, as: UInt64.self) ^ 0x8EBC_6AF0_9C88_C6E3)
            b = mix64(
                at.loadUnaligned(fromByteOffset: 16, as: UInt64.self) ^ b,
                at.loadUnaligned(fromByteOffset: 24, as: UInt64.self) ^ 0x5899_65CC_7537_4CC3)
            done &+= 32
        }
    }

    /// The hash, once `isComplete`.
    @inline(__always)
    func finish(_ value: UnsafeRawBufferPointer) -> UInt64 {
        guard let base = value.baseAddress else { return secret }
        // Not under the key's own seed: a value equal to its key would cancel it, and the digest be blind to that.
        if count < 32 { return hashBytes(base, count, seed: b) }
        var last = a
        if done < count { last ^= hashBytes(base + done, count &- done, seed: b) }
        return mix64(last ^ 0x1D8E_4E27_C47D_124F, b ^ secret)
    }
}
