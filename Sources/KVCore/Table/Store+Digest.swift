// The order-independent digest of a store's content, and the checks of its invariants. One thread.

import KVBase

extension Store {
    /// One record's share of the digest: a keyed mix of key, version, value and whether it is a tombstone. The same
    /// on every server of the cluster (little-endian machines). The digest is the sum of these, modulo 2^64.
    package func digestTerm(_ record: Record) -> UInt64 { digestTerm(record, keyPart: digestKeyPart(record)) }

    @inline(__always)
    func digestKeyPart(_ record: Record) -> UInt64 {
        hashBytes(record.keyPointer, record.keyCount, seed: state.pointee.config.digestKey)
    }

    /// With the key's part known, since an overwrite needs two terms of one key.
    @inline(__always)
    func digestTerm(_ record: Record, keyPart: UInt64) -> UInt64 {
        let secret = state.pointee.config.digestKey
        let word = record.stampWord
        let uid = state.pointee.config.origins.uid(OriginIndex(truncatingIfNeeded: word &>> 4))
        let stamp = mix64(
            uid.server ^ 0x9E37_79B9_7F4A_7C15 ^ secret,
            (word &>> 20) &<< 16 ^ UInt64(uid.index) ^ 0xD1B5_4A32_D192_ED03)
        let flag = word & Record.tombstoneFlag
        let content =
            word & Record.hashedFlag == 0 ? digestValue(record.value, secret ^ flag) : record.contentHash ^ secret
        return mix64(content ^ keyPart, stamp ^ record.seq ^ 0x8BB8_4B93_962E_ACC9)
    }

    /// A keyed hash of a value that carries none: two independent chains of multiplications per 32 bytes.
    @inline(__always)
    private func digestValue(_ value: UnsafeRawBufferPointer, _ secret: UInt64) -> UInt64 {
        guard let base = value.baseAddress else { return secret }
        let count = value.count
        var a = secret ^ 0xA076_1D64_78BD_642F
        var b = secret ^ 0xE703_7ED1_A0B4_28DB ^ UInt64(count)
        // Not under the key's own seed: a value equal to its key would cancel it, and the digest be blind to that.
        if count < 32 { return hashBytes(base, count, seed: b) }
        var done = 0
        while done &+ 32 <= count {
            let at = base + done
            a = mix64(
                at.loadUnaligned(as: UInt64.self) ^ a,
                at.loadUnaligned(fromByteOffset: 8, as: UInt64.self) ^ 0x8EBC_6AF0_9C88_C6E3)
            b = mix64(
                at.loadUnaligned(fromByteOffset: 16, as: UInt64.self) ^ b,
                at.loadUnaligned(fromByteOffset: 24, as: UInt64.self) ^ 0x5899_65CC_7537_4CC3)
            done &+= 32
        }
        if done < count { a ^= hashBytes(base + done, count &- done, seed: b) }
        return mix64(a ^ 0x1D8E_4E27_C47D_124F, b ^ secret)
    }

    /// A keyed hash of a record's key that is the same on every server of the cluster: which part of the key space a
    /// digest exchange counts it to.
    package func clusterHash(_ record: Record) -> UInt64 {
        hashBytes(record.keyPointer, record.keyCount, seed: state.pointee.config.digestKey ^ 0x4CF5_AD43_2745_937F)
    }

    /// Recomputes everything kept incrementally and stops the process where it differs. Only with KV_CHECKS; O(n log
    /// n).
    package func checkInvariants() {
        #if KV_CHECKS
            flushIndex()
            var live = 0
            var tombstones = 0
            var bytes = 0
            var liveDigest: UInt64 = 0
            var tombstoneDigest: UInt64 = 0
            var cursor = WalkCursor()
            while !cursor.isDone {
                walk(&cursor, budget: 1024) { record in
                    precondition(record.referenceCount > 0)
                    precondition(!record.isHashed || record.contentHash == record.recomputedHash, "content hash")
                    bytes += record.allocatedBytes
                    let found = find(record.keyPointer, record.keyCount, hash(record.keyPointer, record.keyCount))
                    precondition(found == record, "a key is in the table twice or in the wrong place")
                    if record.isTombstone {
                        tombstones += 1
                        tombstoneDigest &+= digestTerm(record)
                        precondition(record.valueCount == 0)
                    } else {
                        live += 1
                        liveDigest &+= digestTerm(record)
                    }
                }
            }
            precondition(live == count && tombstones == tombstoneCount, "counts")
            precondition(bytes == recordBytes, "record bytes")
            precondition(liveDigest == digest && liveDigest &+ tombstoneDigest == digestAll, "digest")
            precondition(state.pointee.tombstones.count >= tombstones, "a tombstone is not queued")
            precondition(state.pointee.journal.last == ownSeq, "journal")
            state.pointee.table.checkInvariants()
            precondition(state.pointee.index.count == live, "ordered index")
            state.pointee.index.checkInvariants(state.pointee.table, state.pointee.hasher)
        #endif
    }
}

extension HashTable {
    /// Entry counts, overflow counts and directory agree.
    func checkInvariants() {
        #if KV_CHECKS
            var total = 0
            var held = 8 * (1 << Int(depth))
            var i = 0
            while i < 1 << Int(depth) {
                let segment = Segment(word: directory[i])
                let span = 1 << Int(depth - segment.depth)
                precondition(i % span == 0, "segment at an odd place")
                for k in i..<(i + span) { precondition(directory[k] == directory[i], "directory") }
                var entries = 0
                for index in 0..<segment.buckets {
                    entries += (HashTable.tags(segment.bucket(index)) & HashTable.tagBits).nonzeroBitCount
                }
                precondition(entries == segment.entries, "segment count")
                precondition(entries <= segment.entriesMax, "segment load")
                total += entries
                held += segment.byteCount
                i += span
            }
            precondition(total == count && held == bytes, "table totals")
        #endif
    }
}
