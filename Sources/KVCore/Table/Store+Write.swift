// Changing the store: own writes with the write rule, merges from elsewhere, collecting tombstones. One thread.

import Glibc
package import KVBase

extension Store {
    // MARK: Own writes

    /// Stores a value under a new version of this actor and returns its record (borrowed).
    ///
    /// Write rule (docs/replication.md 3.2): the timestamp is the greatest of `now`, `floor` + 1, `gcFloor` + 1 and
    /// that of the key's record, tombstones included, plus 1 if that would not be greater than the record's version.
    /// Nil, and nothing written, only if that is later than `boundStamps` allows (a floor or a clock far ahead).
    /// `floor` 0 is none. At most one allocation.
    @discardableResult
    package func put(_ key: HashedKey, value: ByteView, now: Millis, floor: Millis = 0) -> Record? {
        let slot = state.pointee.table.find(key.view, place(key.hash))
        let origin = state.pointee.ownOrigin
        guard let slot else {
            guard let ms = stamp(over: nil, now: now, floor: floor) else { return nil }
            let record = Record.create(
                key: key.view, value: value, ms: ms, origin: origin, seq: nextSeq(key.hash), isTombstone: false)
            insert(record, key.hash)
            return record
        }
        let old = slot.record
        guard let ms = stamp(over: old, now: now, floor: floor) else { return nil }
        let seq = nextSeq(key.hash)
        if old.canOverwriteAlike(valueCount: value.count, origin: origin) {
            overwriteAlike(old, value: value.start, ms: ms, origin: origin, seq: seq)
            return old
        }
        if old.canOverwrite(valueCount: value.count) {
            overwrite(old, value: value, ms: ms, origin: origin, seq: seq)
            return old
        }
        let record = Record.create(
            key: key.view, value: value, ms: ms, origin: origin, seq: seq, isTombstone: false)
        replace(slot, old, with: record, key.hash)
        return record
    }

    /// Deletes a key: replaces its record by a tombstone and returns that (borrowed). Nil if there is no live record:
    /// then nothing is written. The write rule is that of `put`.
    @discardableResult
    package func delete(_ key: HashedKey, now: Millis) -> Record? {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)) else { return nil }
        let old = slot.record
        guard !old.isTombstone, let ms = stamp(over: old, now: now, floor: 0) else { return nil }
        let record = Record.create(
            key: key.view, value: nil, ms: ms, origin: state.pointee.ownOrigin, seq: nextSeq(key.hash),
            isTombstone: true)
        replace(slot, old, with: record, key.hash)
        return record
    }

    /// The timestamp of this actor's next write over `old`; nil if there is none.
    @inline(__always)
    func stamp(over old: Record?, now: Millis, floor: Millis) -> Millis? {
        var ms = max(now, state.pointee.gcFloor &+ 1)
        if floor > 0 { ms = max(ms, floor == .max ? floor : floor &+ 1) }
        if let old {
            let oldMillis = old.ms
            if oldMillis >= ms {
                ms = oldMillis
                // Same millisecond: this write wins by seq over an own one, by UID over a smaller one, else it moves
                // on.
                let origin = old.origin
                let wins =
                    origin == state.pointee.ownOrigin
                    ? state.pointee.ownSeq >= old.seq
                    : state.pointee.config.origins.precedes(origin, state.pointee.ownOrigin)
                if !wins { ms &+= 1 }
            }
        }
        return ms <= state.pointee.stampMax && state.pointee.ownSeq < Version.seqMax ? ms : nil
    }

    /// See `boundStamps`.
    package var stampMax: Millis { state.pointee.stampMax }

    /// No own write is stamped later than `ms`, at most the year 2527. O(1).
    package func boundStamps(to ms: Millis) { state.pointee.stampMax = min(ms, Version.msMax) }

    @inline(__always)
    func nextSeq(_ hash: UInt64) -> UInt64 {
        state.pointee.ownSeq &+= 1
        state.pointee.journal.append(state.pointee.ownSeq, hash)
        return state.pointee.ownSeq
    }

    // MARK: Merging

    /// Applies an entry of another actor by reference: a new reference is taken if it wins. The record must be
    /// immutable from now on, that is, its giver keeps its own reference. O(1), no allocation.
    @discardableResult
    package func merge(_ shared: Record) -> MergeOutcome {
        merge(shared, hash(shared.keyView))
    }

    /// As above, with the key's hash (siblings of one process share the seed).
    @discardableResult
    package func merge(_ shared: Record, _ hash: UInt64) -> MergeOutcome {
        guard let slot = state.pointee.table.find(shared.keyView, place(hash)) else {
            insert(shared.retained(), hash)
            return .applied
        }
        let old = slot.record
        if old == shared { return .same }
        let outcome = judge(shared, over: old)
        if outcome.wins { replace(slot, old, with: shared.retained(), hash) }
        return outcome.verdict
    }

    /// Applies an entry that arrived as bytes: a record is made only if it wins. `value` is nil for a tombstone.
    @discardableResult
    package func merge(
        _ key: HashedKey, value: ByteView?, version: Version
    ) -> MergeOutcome {
        guard version.isStorable, key.view.count <= Limits.keyBytesMax, value?.count ?? 0 <= Limits.valueBytesMax,
            let origin = state.pointee.config.origins.intern(version.uid)
        else { return .rejected }
        let slot = state.pointee.table.find(key.view, place(key.hash))
        if let old = slot?.record {
            let order = compareStamps(version.ms, origin, version.seq, old)
            if order < 0 { return .older }
            // The rare equal version is judged on a record, like a shared one.
            if order > 0, let value, old.canOverwrite(valueCount: value.count) {
                if old.canOverwriteAlike(valueCount: value.count, origin: origin) {
                    overwriteAlike(old, value: value.start, ms: version.ms, origin: origin, seq: version.seq)
                } else {
                    overwrite(old, value: value, ms: version.ms, origin: origin, seq: version.seq)
                }
                return .applied
            }
        }
        let record = Record.create(
            key: key.view, value: value, ms: version.ms, origin: origin, seq: version.seq, isTombstone: value == nil)
        guard let slot else {
            insert(record, key.hash)
            return .applied
        }
        let outcome = judge(record, over: slot.record)
        if outcome.wins { replace(slot, slot.record, with: record, key.hash) } else { record.release() }
        return outcome.verdict
    }

    /// Order of a version against a record's: negative, zero, positive.
    @inline(__always)
    private func compareStamps(_ ms: Millis, _ origin: OriginIndex, _ seq: UInt64, _ record: Record) -> Int {
        let other = record.ms
        if ms != other { return ms < other ? -1 : 1 }
        let otherOrigin = record.origin
        if origin != otherOrigin { return state.pointee.config.origins.precedes(origin, otherOrigin) ? -1 : 1 }
        let otherSeq = record.seq
        return seq == otherSeq ? 0 : seq < otherSeq ? -1 : 1
    }

    /// Whether `new` takes the place of `old`. Versions decide; equal versions with different content are a bug,
    /// settled the same way everywhere: a tombstone wins, then the greater bytes.
    @inline(__always)
    private func judge(_ new: Record, over old: Record) -> (wins: Bool, verdict: MergeOutcome) {
        let order = compareStamps(new.ms, new.origin, new.seq, old)
        if order != 0 { return order > 0 ? (true, .applied) : (false, .older) }
        let content = compareBytes(new.value, old.value)
        if new.isTombstone == old.isTombstone && content == 0 { return (false, .same) }
        state.pointee.divergences &+= 1
        let wins = new.isTombstone != old.isTombstone ? new.isTombstone : content > 0
        return (wins, .divergent)
    }

    /// Applies a batch of shared entries with their key hashes, as `merge` each, loading their memory ahead of each.
    /// `outcomes`, if given, has room for all.
    package func merge(
        _ records: UnsafePointer<Record>, _ hashes: UnsafePointer<UInt64>, count: Int,
        outcomes: UnsafeMutablePointer<MergeOutcome>? = nil
    ) {
        var ahead = MergeAhead()
        ahead.begin(self, count: count) { (records[$0], hashes[$0]) }
        for i in 0..<count {
            ahead.step(self, i, count: count) { (records[$0], hashes[$0]) }
            let outcome = merge(records[i], hashes[i])
            if let outcomes { (outcomes + i).initialize(to: outcome) }
        }
    }

    // MARK: Tombstones

    /// Forgets a key's tombstone and lifts `gcFloor` to it. False if the key has none. The caller has proved that no
    /// older write can still arrive (docs/replication.md 10.2).
    @discardableResult
    package func dropTombstone(_ key: HashedKey) -> Bool {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), slot.record.isTombstone else {
            return false
        }
        drop(slot, key.hash)
        return true
    }

    /// Looks at up to `budget` tombstones, those longest in the store first, and forgets those for which `mayDrop`
    /// says so (as `dropTombstone`); the others are looked at again after all the rest. Returns how many were
    /// forgotten.
    @discardableResult
    package func sweepTombstones(budget: Int, _ mayDrop: (Record) -> Bool) -> Int {
        var dropped = 0
        for _ in 0..<min(budget, state.pointee.tombstones.count) {
            guard let entry = state.pointee.tombstones.pop() else { break }
            guard let slot = slot(of: entry) else { continue }
            if mayDrop(slot.record) {
                drop(slot, entry.hash)
                dropped += 1
            } else {
                state.pointee.tombstones.push(entry)
            }
        }
        return dropped
    }

    /// The tombstone an entry of the queue names, if it is still there.
    private func slot(of entry: TombstoneQueue.Entry) -> HashTable.Slot? {
        var found: HashTable.Slot?
        let hasher = state.pointee.hasher
        let place = place(entry.hash)
        state.pointee.table.forEachSlot(fragment: UInt32(truncatingIfNeeded: place &>> 32)) { slot in
            let record = slot.record
            guard entry.names(record), hasher.place(of: record) == place else {
                return true
            }
            found = slot
            return false
        }
        return found
    }

    private func drop(_ slot: HashTable.Slot, _ hash: UInt64) {
        // The index finds a key that is to leave it through the table, so it has to be up to date first.
        flushIndex()
        let record = slot.record
        state.pointee.gcFloor = max(state.pointee.gcFloor, record.ms)
        account(record, -1)
        state.pointee.table.remove(slot, place(hash))
        record.release()
    }

    /// Remembers a new tombstone for sweeping; throws stale entries out as fast as new ones come, so that the queue
    /// stays within about twice the tombstones.
    private func enqueue(_ tombstone: Record, _ hash: UInt64) {
        if state.pointee.tombstones.count > 2 * tombstoneCount + 64 {
            for _ in 0..<2 {
                guard let entry = state.pointee.tombstones.pop() else { break }
                if slot(of: entry) != nil { state.pointee.tombstones.push(entry) }
            }
        }
        state.pointee.tombstones.push(TombstoneQueue.Entry(tombstone, hash: hash))
    }

    // MARK: Bookkeeping

    /// Puts a record, whose reference the store takes over, under a new key.
    func insert(_ record: Record, _ hash: UInt64) {
        state.pointee.table.insert(record, place(hash), hasher: state.pointee.hasher)
        account(record, 1)
        if record.isTombstone { enqueue(record, hash) } else { noteIndexChange(hash) }
    }

    /// Puts a record, whose reference the store takes over, in the place of another of the same key.
    func replace(_ slot: HashTable.Slot, _ old: Record, with new: Record, _ hash: UInt64) {
        if old.isTombstone || new.isTombstone {
            account(old, -1)
            account(new, 1)
        } else {
            state.pointee.recordBytes &+= new.allocatedBytes &- old.allocatedBytes
            state.pointee.liveDigest &+= digestTerm(new) &- digestTerm(old)
        }
        slot.store(new)
        let wasLive = !old.isTombstone
        old.release()
        if new.isTombstone { enqueue(new, hash) }
        if wasLive == new.isTombstone { noteIndexChange(hash) }
    }

    /// Replaces value and version of a record of which `canOverwriteAlike` is true: the usual case, made of few
    /// instructions, because they are what a SET takes longer than a GET.
    @inline(__always)
    private func overwriteAlike(
        _ record: Record, value: UnsafeRawPointer, ms: Millis, origin: OriginIndex, seq: UInt64
    ) {
        state.pointee.liveDigest &+= state.pointee.recordDigest.overwrite(
            record, value: value, ms: ms, origin: origin, seq: seq)
    }

    /// Replaces value and version of a live record that nobody else holds.
    @inline(never)
    private func overwrite(
        _ record: Record, value: ByteView, ms: Millis, origin: OriginIndex, seq: UInt64
    ) {
        let old = digestTerm(record)
        record.overwrite(value: value, ms: ms, origin: origin, seq: seq)
        state.pointee.liveDigest &+= digestTerm(record) &- old
    }

    /// Adds a record to the figures, or takes it out of them.
    @inline(__always)
    private func account(_ record: Record, _ sign: Int) {
        let term = digestTerm(record) &* UInt64(bitPattern: Int64(sign))
        state.pointee.recordBytes &+= record.allocatedBytes &* sign
        if record.isTombstone {
            state.pointee.tombstoneDigest &+= term
        } else {
            state.pointee.liveDigest &+= term
            state.pointee.liveCount &+= sign
        }
    }

    /// A key appeared among the live ones or left them.
    @inline(__always)
    private func noteIndexChange(_ hash: UInt64) {
        state.pointee.pending[state.pointee.pendingCount] = place(hash)
        state.pointee.pendingCount &+= 1
        if state.pointee.pendingCount == StoreState.pendingMax { flushIndexHalf() }
    }
}
