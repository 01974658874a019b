// The order-independent digest of a store's content, and the checks of its invariants. One thread.

import KVBase

extension Store {
    /// One record's share of the digest: a keyed mix of key, version, value and whether it is a tombstone. The same
    /// on every server of the cluster (little-endian machines). The digest is the sum of these, modulo 2^64.
    package func digestTerm(_ record: Record) -> UInt64 { state.pointee.recordDigest.term(record) }

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
            let kept = StoreSums(self)
            var cursor = WalkCursor()
            var found = StoreSums()
            while !cursor.isDone {
                walk(&cursor, budget: 1024) { record in
                    precondition(record.referenceCount > 0)
                    precondition(!record.isHashed || record.contentHash == record.recomputedHash, "content hash")
                    let slot = state.pointee.table.find(record.keyView, place(hash(record.keyView)))
                    guard let slot, slot.record == record else {
                        preconditionFailure("a key is in the table twice or in the wrong place")
                    }
                    found.add(slot, self)
                }
            }
            precondition(found == kept, "kept \(kept), found \(found)")
            precondition(state.pointee.tombstones.count >= found.tombstones, "a tombstone is not queued")
            precondition(state.pointee.wheel.count >= found.figures.volatile, "a deadline is not in the wheel")
            precondition(state.pointee.leftovers.count >= found.figures.expiredKept, "an expired key is not queued")
            precondition(state.pointee.journal.last == ownSeq, "journal")
            state.pointee.table.checkInvariants(state.pointee.hasher)
            precondition(state.pointee.index.count == found.figures.stored + found.figures.revived, "ordered index")
            state.pointee.index.checkInvariants(state.pointee.table, state.pointee.hasher)
        #endif
    }
}

#if KV_CHECKS
    /// What a store keeps up to date, and what it is when computed anew.
    private struct StoreSums: Equatable {
        var figures = StoreFigures()
        var tombstones = 0
        var bytes = 0
        var live: UInt64 = 0
        var volatile: UInt64 = 0
        var deleted: UInt64 = 0
        var marked = 0

        init() {}

        init(_ store: Store) {
            let state = store.state
            (figures, tombstones) = (state.pointee.figures, store.tombstoneCount)
            figures.expiredTotal = 0
            bytes = state.pointee.recordBytes
            (live, volatile) = (state.pointee.liveDigest, state.pointee.volatileDigest)
            deleted = state.pointee.tombstoneDigest
            marked = state.pointee.table.markedCount
        }

        mutating func add(_ slot: HashTable.Slot, _ store: Store) {
            let record = slot.record
            let term = store.digestTerm(record)
            bytes += record.allocatedBytes
            if slot.marks != 0 { marked += 1 }
            let hasCompanion =
                !record.isCompanion && store.hasCompanions(record.keyView, store.hash(record.keyView))
            precondition((slot.marks & HashTable.companionsMark != 0) == hasCompanion, "mark of companions")
            if record.isTombstone {
                tombstones += 1
                deleted &+= term
                precondition(record.valueCount == 0)
                if record.isCompanion { figures.companions += 1 }
                let isRevived = !record.isCompanion && store.isRevived(slot, before: 0)
                precondition((slot.marks & HashTable.expiredMark != 0) == isRevived, "mark of a revived key")
                if isRevived {
                    figures.revived += 1
                    figures.shown += 1
                }
                return
            }
            figures.stored += 1
            let deadline = store.deadline(of: slot)
            if record.isCompanion {
                figures.companions += 1
                volatile &+= term
            } else if deadline == 0 {
                precondition(slot.marks & HashTable.expiredMark == 0, "mark of expiry")
                figures.shown += 1
                live &+= term
            } else {
                volatile &+= term
                if slot.marks & HashTable.expiredMark != 0 {
                    figures.expiredKept += 1
                    if store.isRevived(slot, before: deadline) { figures.shown += 1 }
                } else {
                    figures.shown += 1
                    figures.volatile += 1
                    figures.deadlines += Int128(deadline)
                }
            }
        }
    }
#endif

extension HashTable {
    /// Entry counts and directory agree, and the slots' bits for the next splits with the hashes.
    func checkInvariants(_ hasher: KeyHasher) {
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
                    var used = HashTable.tags(segment.bucket(index)) & HashTable.tagBits
                    entries += used.nonzeroBitCount
                    while used != 0 {
                        let slot = Slot(bucket: segment.bucket(index), index: HashTable.first(used))
                        let place = hasher.place(of: slot.record)
                        var word = slot.pointer.pointee
                        for depth in segment.depth..<(segment.depth + 3) where !SplitBits.isEmpty(word) {
                            precondition(SplitBits.next(word) == place >> (63 - depth) & 1, "bits of splits")
                            word = SplitBits.withoutNext(word)
                        }
                        precondition(SplitBits.isEmpty(word), "bits of splits")
                        used &= used - 1
                    }
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
