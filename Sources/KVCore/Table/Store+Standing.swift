// What a key's records amount to together: when it expires, whether it is shown, what it counts as. One thread.

import KVBase

extension Store {
    // MARK: Companions

    /// The companion of that kind of a key, or nil. O(key).
    func companionSlot(of key: ByteView) -> (slot: HashTable.Slot, hash: UInt64)? {
        guard state.pointee.figures.companions > 0 else { return nil }
        return Companion.withKey(Companion.deadlineKind, of: key) { name in
            let hash = hash(name)
            return state.pointee.table.find(name, place(hash)).flatMap {
                $0.record.isCompanion ? ($0, hash) : nil
            }
        }
    }

    func companion(of key: ByteView) -> Record? { companionSlot(of: key)?.slot.record }

    /// The newest record of a key: its own, or its companion. A write is stamped above it.
    func newest(_ key: HashedKey, _ slot: HashTable.Slot?) -> Record? {
        let main = slot?.record
        guard state.pointee.figures.companions > 0, let companion = companion(of: key.view) else { return main }
        #if KV_CHECKS
            if state.pointee.ignoresCompanions { return main }
        #endif
        guard let main else { return companion }
        return compareStamps(main.ms, main.origin, main.seq, companion) < 0 ? companion : main
    }

    /// Carries out a change of a companion's record while the figures are without the key that it goes with; of any
    /// other record just so.
    func withMain(of record: Record, _ change: () -> Void) {
        guard record.isCompanion else { return change() }
        let key = record.companionOf
        let hash = hash(key)
        guard let before = state.pointee.table.find(key, place(hash)) else { return change() }
        let deadlineBefore = withdraw(before)
        let wasListed = before.isListed
        let hadExpired = !before.record.isTombstone && before.marks & HashTable.expiredMark != 0
        // The key lies in the record, which may be gone then.
        let main = before.record.retained()
        defer { main.release() }
        change()
        // The table may have moved it.
        guard let slot = state.pointee.table.find(main.keyView, place(hash)) else { return }
        settle(slot, hash, wasListed: wasListed)
        let deadline = main.isTombstone ? 0 : deadline(of: slot)
        if hadExpired, deadline > 0, deadline <= state.pointee.clock {
            state.pointee.table.mark(slot, slot.marks | HashTable.expiredMark)
            tally(slot, 1)
            pushLeftover(slot.record, hash)
        } else {
            admit(slot, hash, deadlineBefore: hadExpired ? 0 : deadlineBefore)
        }
    }

    /// Gives a slot that the figures are without the marks that follow from the records of its key: of expiry only a
    /// deleted key that is shown again.
    func settle(_ slot: HashTable.Slot, _ hash: UInt64, wasListed: Bool) {
        let hasCompanions = hasCompanions(slot.record.keyView, hash)
        state.pointee.table.mark(slot, hasCompanions ? HashTable.companionsMark : 0)
        if slot.record.isTombstone, isRevived(slot, before: 0) {
            state.pointee.table.mark(slot, HashTable.marks)
        }
        if slot.isListed != wasListed { noteIndexChange(hash) }
    }

    /// Whether a companion decides when its key expires.
    func isInEffect(_ companion: Record, _ main: Record?) -> Bool {
        main.map { !$0.isTombstone && !companion.isPart && isNewer(companion, than: $0) } ?? false
    }

    var hasCompanions: Bool { state.pointee.figures.companions > 0 }

    /// The companion that goes where the record of that key goes: who gets the one must have the other, as its writer
    /// may have forgotten both (docs/replication.md 15.2). Costs a look at a counter where there are none, and the
    /// search of a chain where there are; O(key) for a key that has one.
    @inline(__always)
    func escort(_ record: Record, _ hash: UInt64) -> (record: Record, hash: UInt64)? {
        state.pointee.figures.companions == 0 ? nil : escortThere(record, hash)
    }

    /// The record of the key that a part goes with: who got the part alone, as everybody else who had that record died,
    /// would show nothing of it.
    func escort(ofPart record: Record) -> (record: Record, hash: UInt64)? {
        guard record.isPart, !record.isTombstone else { return nil }
        let key = record.companionOf
        let hash = hash(key)
        return state.pointee.table.find(key, place(hash)).map { ($0.record, hash) }
    }

    @inline(never)
    private func escortThere(_ record: Record, _ hash: UInt64) -> (record: Record, hash: UInt64)? {
        guard !record.isTombstone, state.pointee.table.findMarked(record.keyView, place(hash)) != nil,
            let companion = companionSlot(of: record.keyView), isInEffect(companion.slot.record, record)
        else { return nil }
        return (companion.slot.record, companion.hash)
    }

    /// Whether a companion's key is here and expires by it: then it is taken, whatever was forgotten before.
    func isAwaited(_ companion: Record) -> Bool {
        let key = companion.companionOf
        return isInEffect(companion, state.pointee.table.find(key, place(hash(key)))?.record)
    }

    // MARK: Deadlines

    /// When the key in a slot expires, by its record and its companion: the greater version decides. 0 is never.
    func deadline(of slot: HashTable.Slot) -> Millis {
        let record = slot.record
        let own = record.isExtended ? record.inlineDeadline : 0
        guard slot.marks & HashTable.companionsMark != 0, let companion = companion(of: record.keyView),
            isNewer(companion, than: record)
        else { return own }
        return companion.inlineDeadline
    }

    /// Whether a companion's deadline is newer than that of the record it goes with.
    func isNewer(_ companion: Record, than record: Record) -> Bool {
        if record.isExtended, let version = record.keptVersion {
            return version < companion.version(state.pointee.config.origins)
        }
        return compareStamps(record.ms, record.origin, record.seq, companion) < 0
    }

    /// The deadline of a key and that deadline's version; nil if its record and companion have none.
    func deadlineRegister(_ slot: HashTable.Slot) -> (deadline: Millis, version: Version) {
        let record = slot.record
        let origins = state.pointee.config.origins
        if slot.marks & HashTable.companionsMark != 0, let companion = companion(of: record.keyView),
            isNewer(companion, than: record)
        {
            return (companion.inlineDeadline, companion.version(origins))
        }
        guard record.isExtended else { return (0, record.version(origins)) }
        return (record.inlineDeadline, record.keptVersion ?? record.version(origins))
    }

    /// Whether the key in a slot is shown: neither deleted, nor expired at `now`, nor a companion.
    func isShown(_ slot: HashTable.Slot, _ now: Millis) -> Bool {
        let record = slot.record
        if record.isTombstone { return !record.isCompanion && isRevived(slot, before: 0) }
        if record.isCompanion { return false }
        let deadline = deadline(of: slot)
        return deadline == 0 || now < deadline || isRevived(slot, before: deadline)
    }

    /// What a SET that keeps the deadline says of it; nil if nothing is shown.
    func extensionKept(_ key: HashedKey, _ now: Millis) -> RecordExtension? {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now),
            !isWithoutValue(slot, now)
        else { return nil }
        let register = deadlineRegister(slot)
        // A zero has no deadline by a version that may be above the SET's.
        if isDeadlineless(slot.record), register.version == slot.record.keptVersion { return nil }
        return RecordExtension(deadline: register.deadline, version: register.version)
    }

    /// What this actor's next write of a key, stamped `ms`, says of its deadline to have none: where the companion is
    /// newer, with a version above that, stamped `least` or later (docs/replication.md 16.5). Nil if no storable one is
    /// left.
    func withoutDeadline(_ key: HashedKey, _ ms: Millis, least: Millis = 0) -> RecordExtension? {
        var addition = RecordExtension(deadline: 0)
        guard let companion = newest(key, nil),
            compareStamps(ms, state.pointee.ownOrigin, ownSeq &+ 1, companion) < 0
        else { return addition }
        guard let above = stamp(over: companion, least: max(ms, least)) else { return nil }
        addition.version = Version(ms: above, uid: own, seq: ownSeq &+ 1)
        return addition
    }

    /// Whether it has no deadline by a version above its own: a zero that was written over a deadline set apart.
    func isDeadlineless(_ record: Record) -> Bool {
        guard record.isExtended, !record.isCompanion, let kept = record.keptVersion else { return false }
        return record.version(state.pointee.config.origins) < kept
    }

    // MARK: Figures

    /// Takes what is in a slot out of the figures. Returns when it expires.
    @discardableResult
    func withdraw(_ slot: HashTable.Slot) -> Millis { tally(slot, -1) }

    /// Adds what is in a slot to the figures, and its deadline to the wheel, unless there is an entry for it from
    /// before.
    func admit(_ slot: HashTable.Slot, _ hash: UInt64, deadlineBefore: Millis = 0) {
        let deadline = tally(slot, 1)
        if deadline > 0, deadlineBefore == 0 || !DeadlineWheel.isSame(deadline, deadlineBefore) {
            file(deadline, hash)
        }
        let record = slot.record
        if record.isPart {
            // With its key.
        } else if record.isCompanion {
            let key = record.companionOf
            let main = state.pointee.table.find(key, place(self.hash(key)))
            if !isInEffect(record, main?.record) { pushLeftover(record, hash) }
        } else if slot.marks & HashTable.companionsMark != 0 {
            if let companion = companionSlot(of: record.keyView), !isInEffect(companion.slot.record, record) {
                pushLeftover(companion.slot.record, companion.hash)
            }
            forEachPart(record.keyView, hash) { uid, part, partHash in
                if !part.record.isTombstone, added(uid, part.record, record, before: 0) == nil {
                    pushLeftover(part.record, partHash)
                }
            }
        }
    }

    /// Puts an entry into the wheel.
    func file(_ deadline: Millis, _ hash: UInt64) {
        state.pointee.wheel.push(
            deadline, fragment: UInt32(truncatingIfNeeded: place(hash) &>> 32), now: state.pointee.clock)
        purgeWheel()
    }

    /// Remembers a record for `sweepLeftovers`; throws stale entries out as fast as new ones come.
    func pushLeftover(_ record: Record, _ hash: UInt64) {
        let kept = state.pointee.figures.expiredKept &+ state.pointee.figures.companions
        if state.pointee.leftovers.count > 2 &* kept &+ 64 {
            for _ in 0..<2 {
                guard let entry = state.pointee.leftovers.pop() else { break }
                if let slot = slot(of: entry) { state.pointee.leftovers.push(entry, ms: slot.record.ms) }
            }
        }
        state.pointee.leftovers.push(TombstoneQueue.Entry(record, hash: hash), ms: record.ms)
    }

    /// Adds what is in a slot to the figures, or takes it out of them. Returns when it expires.
    @discardableResult
    func tally(_ slot: HashTable.Slot, _ sign: Int) -> Millis {
        let record = slot.record
        let term = digestTerm(record) &* UInt64(bitPattern: Int64(sign))
        state.pointee.recordBytes &+= record.allocatedBytes &* sign
        if record.isTombstone {
            state.pointee.tombstoneDigest &+= term
            if record.isCompanion { state.pointee.figures.companions &+= sign }
            if slot.marks & HashTable.expiredMark != 0 {
                state.pointee.figures.revived &+= sign
                state.pointee.figures.shown &+= sign
                if record.isMarked { state.pointee.marked.note(record, sign, isVolatile: false) }
            }
            return 0
        }
        state.pointee.figures.stored &+= sign
        if record.isCompanion {
            state.pointee.volatileDigest &+= term
            state.pointee.figures.companions &+= sign
            return 0
        }
        let deadline = deadline(of: slot)
        if deadline == 0 {
            state.pointee.liveDigest &+= term
            state.pointee.figures.shown &+= sign
            if record.isMarked { state.pointee.marked.note(record, sign, isVolatile: false) }
        } else {
            state.pointee.volatileDigest &+= term
            if slot.marks & HashTable.expiredMark != 0 {
                state.pointee.figures.expiredKept &+= sign
                if isRevived(slot, before: deadline) {
                    state.pointee.figures.shown &+= sign
                    if record.isMarked { state.pointee.marked.note(record, sign, isVolatile: false) }
                }
            } else {
                state.pointee.figures.shown &+= sign
                state.pointee.figures.volatile &+= sign
                if record.isMarked { state.pointee.marked.note(record, sign, isVolatile: true) }
                state.pointee.figures.deadlines &+= Int128(sign < 0 ? -deadline : deadline)
            }
        }
        return deadline
    }

    /// The wheel may hold so many entries for each key with a deadline, and a few: then stale ones are thrown out, as
    /// fast as new ones come.
    static let entriesPerKeyMax = 3
    static let entriesSpareMax = 4096
    /// New entries after which some are looked at: of those two thirds are stale, which is more.
    private static let purgeEvery = 32

    private func purgeWheel() {
        state.pointee.filed &+= 1
        guard state.pointee.filed >= Store.purgeEvery else { return }
        state.pointee.filed = 0
        let kept = state.pointee.figures.volatile
        guard state.pointee.wheel.count > Store.entriesPerKeyMax &* kept &+ Store.entriesSpareMax else { return }
        state.pointee.wheel.takeSome(into: &state.pointee.entries)
        let table = state.pointee.table
        for entry in state.pointee.entries { table.prefetchBucket(UInt64(DeadlineWheel.fragment(of: entry)) &<< 32) }
        for entry in state.pointee.entries { table.prefetchRecords(fragment: DeadlineWheel.fragment(of: entry)) }
        var previous: UInt64?
        for entry in state.pointee.entries where entry != previous {
            previous = entry
            var isMeant = false
            forEachVolatile(DeadlineWheel.fragment(of: entry)) { slot, deadline in
                isMeant = isMeant || deadline <= state.pointee.clock || DeadlineWheel.means(entry, deadline)
            }
            if isMeant { state.pointee.wheel.putBack(entry) }
        }
    }

    /// Every shown key with a deadline whose hash begins so.
    func forEachVolatile(_ fragment: UInt32, _ body: (HashTable.Slot, Millis) -> Void) {
        state.pointee.table.forEachSlot(fragment: fragment) { slot in
            let record = slot.record
            guard !record.isTombstone, record.isExtended || slot.marks != 0, !record.isCompanion,
                slot.marks & HashTable.expiredMark == 0
            else { return true }
            let deadline = deadline(of: slot)
            if deadline > 0 { body(slot, deadline) }
            return true
        }
    }
}
