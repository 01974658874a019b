// Changing the store: own writes with the write rule, merges from elsewhere, collecting tombstones. One thread.

import Glibc
package import KVBase

extension Store {
    // MARK: Own writes

    /// Stores a value under a new version of this actor and returns its record (borrowed). It does not expire.
    ///
    /// Write rule (docs/replication.md 3.2): the timestamp is the greatest of `now`, `floor` + 1, `gcFloor` + 1 and
    /// that of the key's record, tombstones included, plus 1 if that would not be greater than the record's version.
    /// Nil, and nothing written, only if that is later than `boundStamps` allows (a floor or a clock far ahead).
    /// `floor` 0 is none. At most one allocation.
    @discardableResult
    package func put(_ key: HashedKey, value: ByteView, now: Millis, floor: Millis = 0) -> Record? {
        let slot = state.pointee.table.findUnmarked(key.view, place(key.hash))
        guard let slot else { return write(key, nil, value: value, now: now, floor: floor) }
        let origin = state.pointee.ownOrigin
        let old = slot.record
        guard old.canOverwriteAlike(valueCount: value.count, origin: origin) else {
            return put(key, slot, value: value, now: now, floor: floor)
        }
        guard let ms = stamp(over: old, now: now, floor: floor) else { return nil }
        overwriteAlike(old, value: value.start, ms: ms, origin: origin, seq: nextSeq(key.hash))
        return old
    }

    /// The same over a record that differs in more than the bytes of its value. A function of its own, so that it takes
    /// no registers from the usual case.
    @inline(never)
    private func put(
        _ key: HashedKey, _ slot: HashTable.Slot, value: ByteView, now: Millis, floor: Millis
    ) -> Record? {
        let (origin, old) = (state.pointee.ownOrigin, slot.record)
        guard let ms = stampApart(over: old, slot, now: now, floor: floor) else { return nil }
        let seq = nextSeq(key.hash)
        if old.canOverwrite(valueCount: value.count) {
            overwrite(old, value: value, ms: ms, origin: origin, seq: seq)
            return old
        }
        if old.isExtended, let taken = taken(key, slot, now) {
            let addition = RecordExtension(deadline: 0, taken: taken)
            let record = Record.create(key: key.view, addition, value: value, ms: ms, origin: origin, seq: seq)
            replace(slot, old, with: record, key.hash)
            return record
        }
        let record = Record.create(
            key: key.view, value: value, ms: ms, origin: origin, seq: seq, isTombstone: false)
        replace(slot, old, with: record, key.hash)
        return record
    }

    /// As `put`, with a deadline: the value is not shown from it on. `keep` leaves the deadline as it is, also against
    /// deadlines that others set meanwhile (docs/replication.md 15.1). A deadline that has passed is stored all the
    /// same.
    @discardableResult
    package func put(
        _ key: HashedKey, value: ByteView, deadline: DeadlineChoice, now: Millis, floor: Millis = 0
    ) -> Record? {
        switch deadline {
        case .none: put(key, value: value, now: now, floor: floor)
        case .at(let millis) where floor == 0: put(key, value: value, expiresAt: millis, now: now)
        case .at(let millis): write(key, RecordExtension(deadline: millis), value: value, now: now, floor: floor)
        case .keep: write(key, extensionKept(key, now), value: value, now: now, floor: floor)
        }
    }

    /// As `put` with a deadline. The usual case, over a value with one and of the same lengths, takes few instructions.
    @discardableResult
    package func put(_ key: HashedKey, value: ByteView, expiresAt deadline: Millis, now: Millis) -> Record? {
        guard let slot = state.pointee.table.findUnmarked(key.view, place(key.hash)),
            slot.record.canOverwriteDeadline(valueCount: value.count)
        else { return write(key, RecordExtension(deadline: deadline), value: value, now: now, floor: 0) }
        let old = slot.record
        guard let ms = stamp(over: old, now: now, floor: 0) else { return nil }
        state.pointee.clock = max(state.pointee.clock, now)
        let (before, term) = (old.inlineDeadline, digestTerm(old))
        old.overwrite(
            deadline: deadline, value: value, ms: ms, origin: state.pointee.ownOrigin, seq: nextSeq(key.hash))
        state.pointee.volatileDigest &+= digestTerm(old) &- term
        state.pointee.figures.deadlines &+= Int128(deadline &- before)
        if !DeadlineWheel.isSame(deadline, before) { file(deadline, key.hash) }
        return old
    }

    /// Writes a record, whatever is there.
    @inline(never)
    func write(
        _ key: HashedKey, _ addition: RecordExtension?, value: ByteView, now: Millis, floor: Millis
    ) -> Record? {
        let slot = state.pointee.table.find(key.view, place(key.hash))
        guard let ms = stampApart(over: newest(key, slot), slot, now: now, floor: floor) else { return nil }
        var addition = addition
        if let taken = taken(key, slot, now) {
            addition = RecordExtension(
                deadline: addition?.deadline ?? 0, version: addition?.version, taken: taken)
        }
        let (origin, seq) = (state.pointee.ownOrigin, nextSeq(key.hash))
        state.pointee.clock = max(state.pointee.clock, now)
        if let slot, let addition, slot.marks == 0 {
            let old = slot.record
            if old.canOverwriteExtended(contentCount: addition.byteCount &+ value.count) {
                let before = withdraw(slot)
                old.overwrite(addition, value: value, ms: ms, origin: origin, seq: seq)
                admit(slot, key.hash, deadlineBefore: before)
                return old
            }
        }
        let record =
            addition.map { Record.create(key: key.view, $0, value: value, ms: ms, origin: origin, seq: seq) }
            ?? Record.create(key: key.view, value: value, ms: ms, origin: origin, seq: seq, isTombstone: false)
        if let slot { replace(slot, slot.record, with: record, key.hash) } else { insert(record, key.hash) }
        return record
    }

    /// Gives a record's content a new version of this actor, the least that the write rule allows. A value keeps the
    /// deadline that it has: one set apart is not beaten, and one that was beaten has no effect again. Returns the new
    /// record (borrowed); nil if no storable version is left, or for such a deadline. The record must be retained by
    /// the caller.
    package func putAgain(_ record: Record, _ hash: UInt64) -> Record? {
        let key = HashedKey(record, hash: hash)
        let slot = state.pointee.table.find(key.view, place(hash))
        var below = slot?.record
        if record.isCompanion, !record.isPart {
            let name = record.companionOf
            let main = state.pointee.table.find(name, place(self.hash(name)))
            if let main, isBeaten(record, by: main.record) { return nil }
            below = newest(self.key(name), main) ?? below
        }
        #if KV_CHECKS
            if state.pointee.dropsDeadlines, !record.isCompanion { below = newest(key, slot) }
        #endif
        guard let ms = stamp(over: below, now: 0, floor: 0), let again = again(record, key, ms) else { return nil }
        if let slot { replace(slot, slot.record, with: again, hash) } else { insert(again, hash) }
        return again
    }

    /// A record's content under a version of this actor. Where its companion is in effect it stays so: by its own
    /// version, or by that beside the value if the value's is above it now. One that has no deadline by a version above
    /// its own has none again by one above the companion, which may have been written again too.
    private func again(_ record: Record, _ key: HashedKey, _ ms: Millis) -> Record? {
        let origin = state.pointee.ownOrigin
        var addition: RecordExtension?
        if let companion = companionKept(key, record) {
            if compareStamps(ms, origin, ownSeq &+ 1, companion) > 0 {
                addition = RecordExtension(deadline: companion.inlineDeadline, version: companion.version(origins))
            } else if isDeadlineless(record) {
                addition = RecordExtension(deadline: 0)
            }
        } else if isDeadlineless(record), let kept = record.keptVersion {
            guard let none = withoutDeadline(key, ms, least: kept.ms) else { return nil }
            addition = none
        }
        guard var addition else { return record.copied(ms: ms, origin: origin, seq: nextSeq(key.hash)) }
        addition.taken = record.addition.taken
        return Record.create(
            key: key.view, addition, value: ByteView(record.value), ms: ms, origin: origin, seq: nextSeq(key.hash))
    }

    /// The companion that decides when a key expires whose record is to be written again.
    private func companionKept(_ key: HashedKey, _ record: Record) -> Record? {
        #if KV_CHECKS
            if state.pointee.dropsDeadlines { return nil }
        #endif
        guard !record.isCompanion, let companion = companion(of: key.view), isInEffect(companion, record) else {
            return nil
        }
        return companion
    }

    /// Whether a key's record says of its deadline something newer than a companion does, or is a delete: whoever
    /// begins anew over that has not heard of a companion that is written again.
    private func isBeaten(_ companion: Record, by main: Record) -> Bool {
        #if KV_CHECKS
            if state.pointee.dropsDeadlines { return false }
        #endif
        if main.isTombstone { return true }
        guard !isNewer(companion, than: main) else { return false }
        return !main.isExtended || main.keptVersion != companion.version(origins)
    }

    /// Writes a value that own write `seq` made again above the floor, if it is not above it, and nothing has replaced
    /// it. `visit` gets the old record and the new one. The number must be one of the journal's. O(1).
    func raise(own seq: UInt64, _ visit: (Record, Record) -> Void) {
        let hash = journalHash(seq)
        var found: Record?
        records(hash) { record in
            guard record.origin == ownOrigin, record.seq == seq, record.ms <= gcFloor, !record.isTombstone else {
                return
            }
            found = record.retained()
        }
        guard let found else { return }
        defer { found.release() }
        if let again = putAgain(found, hash) { visit(found, again) }
    }

    /// Deletes a key: replaces its record by a tombstone and returns that (borrowed). Nil if nothing is shown at `now`:
    /// then nothing is written. The write rule is that of `put`.
    @discardableResult
    package func delete(_ key: HashedKey, now: Millis) -> Record? {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now) else { return nil }
        return writeTombstone(key, slot, now: now, floor: 0)
    }

    /// Replaces a key's record by a tombstone, whatever is there. Nil if no storable version is left.
    func writeTombstone(_ key: HashedKey, _ slot: HashTable.Slot, now: Millis, floor: Millis) -> Record? {
        guard let ms = stampApart(over: newest(key, slot), slot, now: now, floor: floor) else { return nil }
        let (origin, seq) = (state.pointee.ownOrigin, nextSeq(key.hash))
        let record =
            taken(key, slot, now).map {
                Record.create(
                    key: key.view, RecordExtension(deadline: 0, taken: $0), value: nil, ms: ms, origin: origin,
                    seq: seq, isTombstone: true)
            } ?? Record.create(key: key.view, value: nil, ms: ms, origin: origin, seq: seq, isTombstone: true)
        replace(slot, slot.record, with: record, key.hash)
        return record
    }

    /// The timestamp of this actor's next write over `old`; nil if there is none.
    @inline(__always)
    func stamp(over old: Record?, now: Millis, floor: Millis) -> Millis? {
        var ms = max(now, state.pointee.gcFloor &+ 1)
        // No clock makes a stamp of a restamped key.
        guard ms < Version.restamped else { return nil }
        if floor > 0 { ms = max(ms, floor == .max ? floor : floor &+ 1) }
        return stamp(over: old, least: ms)
    }

    /// The same without regard to what was collected: at least `least`.
    @inline(__always)
    func stamp(over old: Record?, least: Millis) -> Millis? {
        var ms = least
        if let old {
            let oldMillis = old.ms
            if oldMillis >= ms {
                // Once a key is restamped, all its writes are (docs/replication.md 3.5).
                ms = oldMillis < Version.restamped ? oldMillis : max(oldMillis, ms | Version.restamped)
                if ms > oldMillis { return bounded(ms) }
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
        return bounded(ms)
    }

    /// The stamp, if it may be given.
    @inline(__always)
    private func bounded(_ ms: Millis) -> Millis? {
        let isPossible = Version.clockMillis(ms) <= state.pointee.stampMax && ms <= Version.msMax
        return isPossible && state.pointee.ownSeq < Version.seqMax ? ms : nil
    }

    /// The stamp of a write over a delete or a counter, further than a millisecond from `old`, so that it wins over the
    /// zero that somebody else who has only `old` begins to count with (docs/replication.md 16.5). Not in a loop that
    /// writes one key all the time: its stamps would leave the clock behind.
    func apart(_ ms: Millis, from old: Record?, _ slot: HashTable.Slot?, now: Millis) -> Millis {
        guard let old, let slot, slot.record.isTombstone || slot.marks & HashTable.companionsMark != 0 else {
            return ms
        }
        let apart = old.ms &+ 2
        guard apart > ms, apart <= state.pointee.stampMax, state.pointee.distance.take(apart &- ms, now) else {
            return ms
        }
        return apart
    }

    /// `stamp`, and `apart` from what is there.
    func stampApart(over newest: Record?, _ slot: HashTable.Slot?, now: Millis, floor: Millis) -> Millis? {
        stamp(over: newest, now: now, floor: floor).map { apart($0, from: newest, slot, now: now) }
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

    /// Whether an own write may be that record's: the journal does not say that its number went to another key. O(key).
    func mayHaveWritten(_ record: Record) -> Bool {
        guard record.seq > 0, record.seq <= ownSeq else { return false }
        return record.seq < journalFirstSeq || journalHash(record.seq) == hash(record.keyView)
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
        guard version.isStorable, key.view.count <= Companion.keyBytesMax, value?.count ?? 0 <= Limits.valueBytesMax,
            let origin = state.pointee.config.origins.intern(version.uid)
        else { return .rejected }
        let slot = state.pointee.table.find(key.view, place(key.hash))
        if let old = slot?.record {
            let order = compareStamps(version.ms, origin, version.seq, old)
            if order < 0 { return .older }
            // The rare equal version is judged on a record, like a shared one.
            if order > 0, let value, slot?.marks == 0, old.canOverwrite(valueCount: value.count) {
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
    func compareStamps(_ ms: Millis, _ origin: OriginIndex, _ seq: UInt64, _ record: Record) -> Int {
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
        let content = compareBytes(new.content, old.content)
        let isAlike = new.isTombstone == old.isTombstone && new.isExtended == old.isExtended
        if isAlike && content == 0 { return (false, .same) }
        state.pointee.divergences &+= 1
        let wins =
            new.isTombstone != old.isTombstone
            ? new.isTombstone : content != 0 ? content > 0 : new.isExtended
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

    // MARK: Bookkeeping

    /// Puts a record, whose reference the store takes over, under a new key.
    func insert(_ record: Record, _ hash: UInt64) {
        if record.isPlain, state.pointee.figures.companions == 0 {
            state.pointee.table.insert(record, place(hash), hasher: state.pointee.hasher)
            state.pointee.recordBytes &+= record.allocatedBytes
            state.pointee.liveDigest &+= digestTerm(record)
            state.pointee.figures.stored &+= 1
            state.pointee.figures.shown &+= 1
            if record.isMarked { state.pointee.marked.note(record, 1, isVolatile: false) }
        } else {
            insertUnusual(record, hash)
        }
        if record.isTombstone { enqueue(record, hash) } else { noteIndexChange(hash) }
    }

    @inline(never)
    private func insertUnusual(_ record: Record, _ hash: UInt64) {
        state.pointee.unusualChanges &+= 1
        withMain(of: record) {
            state.pointee.table.insert(record, place(hash), hasher: state.pointee.hasher)
            guard let slot = state.pointee.table.find(record.keyView, place(hash)) else {
                preconditionFailure("a record that was put in is not there")
            }
            notePart(record, appears: true)
            if !record.isCompanion { settle(slot, hash, wasListed: false) }
            admit(slot, hash)
        }
    }

    /// Puts a record, whose reference the store takes over, in the place of another of the same key.
    @inline(__always)
    func replace(_ slot: HashTable.Slot, _ old: Record, with new: Record, _ hash: UInt64) {
        guard old.isPlain, new.isPlain, slot.marks == 0 else {
            return replaceUnusual(slot, old, with: new, hash)
        }
        state.pointee.recordBytes &+= new.allocatedBytes &- old.allocatedBytes
        state.pointee.liveDigest &+= digestTerm(new) &- digestTerm(old)
        slot.store(new)
        old.release()
    }

    @inline(never)
    private func replaceUnusual(_ slot: HashTable.Slot, _ old: Record, with new: Record, _ hash: UInt64) {
        state.pointee.unusualChanges &+= 1
        withMain(of: new) {
            // An expired key's entry of the wheel is used up.
            let isFiled = slot.marks & HashTable.expiredMark == 0
            let wasListed = slot.isListed
            let before = withdraw(slot)
            slot.store(new)
            old.release()
            if slot.marks & HashTable.companionsMark != 0, !new.isCompanion {
                settle(slot, hash, wasListed: wasListed)
            } else {
                if !isFiled { state.pointee.table.mark(slot, slot.marks & ~HashTable.expiredMark) }
                if slot.isListed != wasListed { noteIndexChange(hash) }
            }
            admit(slot, hash, deadlineBefore: isFiled ? before : 0)
        }
        if new.isTombstone { enqueue(new, hash) }
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

    /// A key appeared among the live ones or left them.
    @inline(__always)
    func noteIndexChange(_ hash: UInt64) {
        state.pointee.pending[state.pointee.pendingCount] = place(hash)
        state.pointee.pendingCount &+= 1
        if state.pointee.pendingCount == StoreState.pendingMax { flushIndexHalf() }
    }
}
