// Counters: a value and what actors have added to it since, each in a record of its own (docs/replication.md 16). One
// thread.

package import KVBase

/// What a key counts as: its value, and what its parts add.
struct Count {
    /// Nil if there is no value, or none any more: deleted or expired.
    var value: Int64?
    /// There is a value, and it is no integer: what is added stays hidden.
    var isText = false
    var added: Int128 = 0
    /// Some part adds something, be it 0.
    var isAddedTo = false

    var sum: Int128 { Int128(value ?? 0) + added }
    /// The same on all replicas, whatever the order in which parts arrived.
    var shown: Int64 { Int64(clamping: sum) }
}

extension Store {
    // MARK: Parts

    /// Visits the parts of a key, deleted ones too, with the hashes of their own keys. O(parts).
    func forEachPart(
        _ key: ByteView, _ hash: UInt64, _ visit: (ActorUID, HashTable.Slot, UInt64) -> Void
    ) {
        var previous: ActorUID?
        state.pointee.parts.actors(hash)?.forEach { uid in
            if uid == previous { return }
            previous = uid
            Companion.withKey(Companion.partKind, of: key, uid: uid) { name in
                let hash = self.hash(name)
                if let slot = state.pointee.table.find(name, place(hash)), slot.record.isPart {
                    visit(uid, slot, hash)
                }
            }
        }
    }

    func hasParts(_ key: ByteView, _ hash: UInt64) -> Bool {
        var found = false
        forEachPart(key, hash) { _, _, _ in found = true }
        return found
    }

    /// Whether it has records beside its own, live ones or deleted parts.
    func hasCompanions(_ key: ByteView, _ hash: UInt64) -> Bool {
        companion(of: key) != nil || hasParts(key, hash)
    }

    /// A part of a key appears, or is forgotten.
    func notePart(_ record: Record, appears: Bool) {
        guard record.isPart else { return }
        let hash = hash(record.companionOf)
        if appears {
            state.pointee.parts.add(record.partUID, hash)
        } else {
            state.pointee.parts.remove(record.partUID, hash)
        }
    }

    /// What a part adds to the value in a slot, nil if nothing; `before`: it has expired then, or 0.
    func added(_ uid: ActorUID, _ part: Record, _ main: Record?, before: Millis) -> Int128? {
        CounterPart(part)?.added(uid, main?.taken, before: before)
    }

    /// Whether something was added to a key since it was deleted, or expired at `before`: then it is there again, with
    /// just that.
    func isRevived(_ slot: HashTable.Slot, before: Millis) -> Bool {
        guard slot.marks & HashTable.companionsMark != 0 else { return false }
        let main = slot.record
        var isRevived = false
        forEachPart(main.keyView, hash(main.keyView)) { uid, part, _ in
            isRevived = isRevived || added(uid, part.record, main, before: before) != nil
        }
        return isRevived
    }

    /// The same of a slot whose state at the wheel's last turn counts.
    func isRevived(_ slot: HashTable.Slot) -> Bool {
        let main = slot.record
        if main.isTombstone { return isRevived(slot, before: 0) }
        return slot.marks & HashTable.expiredMark != 0 && isRevived(slot, before: deadline(of: slot))
    }

    // MARK: Reading

    /// When the value in a slot expired, if it has at `now`; 0 if not.
    func expiredAt(_ slot: HashTable.Slot, _ now: Millis) -> Millis {
        if slot.record.isTombstone { return 0 }
        let deadline = deadline(of: slot)
        return deadline > 0 && deadline <= now ? deadline : 0
    }

    /// What the key in a slot counts as at `now`. O(parts).
    func count(_ slot: HashTable.Slot, _ now: Millis) -> Count {
        let main = slot.record
        let before = expiredAt(slot, now)
        var count = Count()
        if !main.isTombstone, before == 0 {
            count.value = CounterText.parse(main.value)
            count.isText = count.value == nil
        }
        guard slot.marks & HashTable.companionsMark != 0 else { return count }
        forEachPart(main.keyView, hash(main.keyView)) { uid, part, _ in
            guard let added = added(uid, part.record, main, before: before) else { return }
            count.added += added
            count.isAddedTo = true
        }
        return count
    }

    /// What a key's parts add up to whose record has not arrived.
    private func countWithoutRecord(_ key: HashedKey) -> Count {
        var count = Count()
        forEachPart(key.view, key.hash) { uid, part, _ in
            count.added += added(uid, part.record, nil, before: 0) ?? 0
        }
        return count
    }

    /// The record of a slot with marks as it is shown, nil if it is not: a counter's has the number as its value.
    func shownRecord(_ slot: HashTable.Slot, _ now: Millis, isListed: Bool) -> Record? {
        let main = slot.record
        if main.isCompanion { return nil }
        guard slot.marks & HashTable.companionsMark != 0 else { return isShown(slot, now) ? main : nil }
        let count = count(slot, now)
        guard count.isAddedTo else { return main.isTombstone || expiredAt(slot, now) > 0 ? nil : main }
        if count.isText { return main }
        let record = CounterText.with(count.shown) { text in
            Record.create(
                key: main.keyView, value: text, ms: main.ms, origin: main.origin, seq: main.seq, isTombstone: false)
        }
        return state.pointee.shownNumbers.keep(record, isListed: isListed)
    }

    /// What each actor's part adds to a key now, in the order of actors. O(parts).
    package func parts(of key: HashedKey, now: Millis) -> [(uid: ActorUID, added: Int64)] {
        var parts: [(uid: ActorUID, added: Int64)] = []
        guard let slot = state.pointee.table.find(key.view, place(key.hash)) else { return parts }
        let before = expiredAt(slot, now)
        forEachPart(key.view, key.hash) { uid, part, _ in
            if let added = added(uid, part.record, slot.record, before: before) {
                parts.append((uid, Int64(clamping: added)))
            }
        }
        return parts
    }

    /// The record of an actor's part of a key, deleted too, or nil. O(key).
    package func partRecord(_ key: HashedKey, _ uid: ActorUID) -> Record? {
        Companion.withKey(Companion.partKind, of: key.view, uid: uid) { name in
            state.pointee.table.find(name, place(hash(name)))?.record
        }
    }

    /// A number that changes with whatever is added to a key, and with nothing else. O(parts).
    package func countMark(of key: HashedKey, now: Millis) -> UInt64 {
        var mark: UInt64 = 0
        guard hasCompanions, let slot = state.pointee.table.find(key.view, place(key.hash)) else { return mark }
        let before = expiredAt(slot, now)
        forEachPart(key.view, key.hash) { uid, part, _ in
            guard added(uid, part.record, slot.record, before: before) != nil else { return }
            let last = CounterPart(part.record)?.last ?? 0
            // Neither factor is 0, where the other one would not matter.
            mark ^= mix64((uid.server ^ UInt64(uid.index)) | 1 << 63, last &+ 0x9E37_79B9_7F4A_7C15)
        }
        return mark
    }

    // MARK: Writing

    /// What a write over the record in a slot takes of the key's parts: all that is here, and what that record had
    /// taken. Nil where there is nothing to say. `onlySpent`: only what counts no more in any case.
    func taken(_ key: HashedKey, _ slot: HashTable.Slot?, _ now: Millis, onlySpent: Bool = false) -> TakenSums? {
        let main = slot?.record
        // A part may have come before the record that it goes with.
        let mayBeCounted = slot.map { $0.marks & HashTable.companionsMark != 0 } ?? (hasCompanions && !onlySpent)
        let isCounted = mayBeCounted && hasParts(key.view, key.hash)
        guard isCounted || main != nil && onlySpent || main?.taken != nil else { return nil }
        #if KV_CHECKS
            if state.pointee.forgetsTaken, !onlySpent { return nil }
        #endif
        var taken = main?.taken.map { TakenSums($0) } ?? TakenSums()
        var before = slot.map { expiredAt($0, now) } ?? 0
        #if KV_CHECKS
            if state.pointee.leavesParts { before = 0 }
        #endif
        taken.raise(before: before)
        forEachPart(key.view, key.hash) { uid, slot, _ in
            guard let part = CounterPart(slot.record) else { return }
            if onlySpent, added(uid, slot.record, main, before: before) != nil { return }
            taken.raise(uid, seq: part.last, sum: part.sum)
        }
        return taken.isEmpty ? nil : taken
    }

    /// Adds to the integer that a key holds; an absent one counts as 0. The deadline stays. Only this actor's part of
    /// the key is written; a key that is not there gets the value 0 before, at a version that no other write loses to.
    /// O(parts), at most three allocations.
    package func increment(_ key: HashedKey, by step: Int64, now: Millis) -> IncrementOutcome {
        if let outcome = addAgain(key, step, now) { return outcome }
        let slot = state.pointee.table.find(key.view, place(key.hash))
        let count = slot.map { self.count($0, now) } ?? countWithoutRecord(key)
        if count.isText { return .notAnInteger }
        guard let next = Int64(exactly: count.sum + Int128(step)) else { return .overflow }
        state.pointee.clock = max(state.pointee.clock, now)
        let isThere = count.value != nil || slot?.record.isTombstone ?? false && count.isAddedTo
        if !isThere, establish(key, now) == nil { return .refused }
        if let failure = add(key, step, now) { return failure }
        noteLast(key, now)
        return .value(next)
    }

    /// Gives a key that has no value any more the value 0, on top of which its parts count as they did. Returns its
    /// record; nil if no storable version is left.
    @discardableResult
    func establish(_ key: HashedKey, _ now: Millis, isAboveFloor: Bool = false) -> Record? {
        let slot = state.pointee.table.find(key.view, place(key.hash))
        // The least stamp there is: what others have set meanwhile wins, and this counts on top.
        // Over a record not even the floor counts: where clocks differ it may be above what others have written, and
        // what was collected of the key is older than that record. While others may hold what is not here, it never
        // counts.
        let below = belowZero(key, slot)
        let stamped =
            (slot != nil || hasProvisionalZeros) && !isAboveFloor
            ? stamp(over: below, least: 1) : stamp(over: below, now: 0, floor: 0)
        guard let ms = stamped, var addition = withoutDeadline(key, ms) else { return nil }
        addition.taken = taken(key, slot, now, onlySpent: true)
        return CounterText.with(0) { text in
            let (origin, seq) = (state.pointee.ownOrigin, nextSeq(key.hash))
            state.pointee.zeros?.note(seq)
            let record =
                addition.isEmpty
                ? Record.create(key: key.view, value: text, ms: ms, origin: origin, seq: seq, isTombstone: false)
                : Record.create(key: key.view, addition, value: text, ms: ms, origin: origin, seq: seq)
            if let slot { replace(slot, slot.record, with: record, key.hash) } else { insert(record, key.hash) }
            return record
        }
    }

    /// What a zero is stamped over. A deadline set apart does not count over a delete: its writer need not have seen
    /// what others wrote before. Over what has expired it does, as others may have forgotten both.
    private func belowZero(_ key: HashedKey, _ slot: HashTable.Slot?) -> Record? {
        #if KV_CHECKS
            if state.pointee.beatsDeadlines { return newest(key, slot) }
        #endif
        return slot.flatMap { $0.record.isTombstone ? $0.record : newest(key, $0) }
    }

    /// Adds to this actor's part. Nil if it did.
    private func add(_ key: HashedKey, _ step: Int64, _ now: Millis) -> IncrementOutcome? {
        var expired = state.pointee.table.find(key.view, place(key.hash))?.record.taken?.before ?? 0
        #if KV_CHECKS
            if state.pointee.leavesPartsWhole { expired = 0 }
        #endif
        return Companion.withKey(Companion.partKind, of: key.view, uid: own) { name in
            let hash = self.hash(name)
            let slot = state.pointee.table.find(name, place(hash))
            if slot == nil, state.pointee.parts.actors(key.hash)?.count ?? 0 >= CounterPart.partsMax {
                return .tooManyParts
            }
            guard let ms = stamp(over: slot?.record, now: now, floor: 0) else { return .refused }
            let seq = nextSeq(hash)
            var part = slot.flatMap { CounterPart($0.record) } ?? CounterPart(begin: seq, at: now)
            part.add(step, now: now, expired: expired, seq: seq)
            write(part, name, slot, ms, seq, hash)
            return nil
        }
    }

    func write(
        _ part: CounterPart, _ name: ByteView, _ slot: HashTable.Slot?, _ ms: Millis, _ seq: UInt64, _ hash: UInt64
    ) {
        let (origin, addition) = (state.pointee.ownOrigin, RecordExtension(deadline: 0))
        part.with { value in
            if let slot, slot.record.canOverwriteExtended(contentCount: addition.byteCount &+ value.count) {
                let record = slot.record
                state.pointee.unusualChanges &+= 1
                withMain(of: record) {
                    withdraw(slot)
                    record.overwrite(addition, value: value, ms: ms, origin: origin, seq: seq)
                    admit(slot, hash)
                }
                return
            }
            let record = Record.create(key: name, addition, value: value, ms: ms, origin: origin, seq: seq)
            if let slot { replace(slot, slot.record, with: record, hash) } else { insert(record, hash) }
        }
    }

    // MARK: Collecting

    /// Deletes a part that adds nothing any more and never will: its actor's own, or one of an actor that everybody has
    /// retired. False if no storable version is left.
    @discardableResult
    func buryPart(_ slot: HashTable.Slot, _ hash: UInt64) -> Bool {
        let part = slot.record
        guard let ms = stamp(over: part, now: 0, floor: 0) else { return false }
        let grave = Record.create(
            key: part.keyView, RecordExtension(deadline: 0), value: nil, ms: ms, origin: state.pointee.ownOrigin,
            seq: nextSeq(hash), isTombstone: true)
        replace(slot, part, with: grave, hash)
        return true
    }
}
