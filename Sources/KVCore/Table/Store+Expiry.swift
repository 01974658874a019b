// Deadlines: set apart from the value, looked up, and what happens when they have passed. One thread.

package import KVBase

extension Store {
    // MARK: Reading

    /// When a key expires; nil if it is not shown at `now`. O(key).
    package func deadline(of key: HashedKey, now: Millis) -> Deadline? {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now) else { return nil }
        if isWithoutValue(slot, now) { return .never }
        let deadline = deadline(of: slot)
        return deadline == 0 ? .never : .at(deadline)
    }

    /// The deadline of a key and the version of that; nil if the key is not shown at `now`. O(key).
    package func deadlineVersion(of key: HashedKey, now: Millis) -> (deadline: Deadline, version: Version)? {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now) else { return nil }
        if isWithoutValue(slot, now) { return (.never, slot.record.version(origins)) }
        let register = deadlineRegister(slot)
        return (register.deadline == 0 ? .never : .at(register.deadline), register.version)
    }

    /// Deleted or expired; it may be shown all the same, as a counter.
    func isWithoutValue(_ slot: HashTable.Slot, _ now: Millis) -> Bool {
        slot.record.isTombstone || expiredAt(slot, now) > 0
    }

    // MARK: Writing

    /// Sets a deadline apart from the value, in a record of its own: it beats a value's deadline that this actor has
    /// not seen only if its version is greater, and never touches the value. A deadline that has passed at `now`
    /// deletes. O(key), at most one allocation.
    @discardableResult
    package func expire(_ key: HashedKey, at deadline: Millis, now: Millis) -> TouchOutcome {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now) else { return .absent }
        if deadline <= now { return delete(key, now: now) == nil ? .refused : .deleted }
        if isWithoutValue(slot, now) {
            guard establish(key, now) != nil, let slot = state.pointee.table.find(key.view, place(key.hash)) else {
                return .refused
            }
            return touch(key, slot, min(deadline, RecordExtension.deadlineMax), now)
        }
        return touch(key, slot, min(deadline, RecordExtension.deadlineMax), now)
    }

    /// Takes the deadline away, as `expire` sets one.
    @discardableResult
    package func persist(_ key: HashedKey, now: Millis) -> TouchOutcome {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), isShown(slot, now) else { return .absent }
        guard deadline(of: slot) != 0, !isWithoutValue(slot, now) else { return .unchanged }
        return touch(key, slot, 0, now)
    }

    private func touch(_ key: HashedKey, _ slot: HashTable.Slot, _ deadline: Millis, _ now: Millis) -> TouchOutcome {
        guard let ms = touchStamp(key, slot, now) else { return .refused }
        state.pointee.clock = max(state.pointee.clock, now)
        Companion.withKey(Companion.deadlineKind, of: key.view) { name in
            let hash = hash(name)
            let record = Record.create(
                key: name, RecordExtension(deadline: deadline), value: nil, ms: ms, origin: state.pointee.ownOrigin,
                seq: nextSeq(hash))
            if let old = state.pointee.table.find(name, place(hash)) {
                replace(old, old.record, with: record, hash)
            } else {
                insert(record, hash)
            }
        }
        return .done
    }

    /// Above the key's records, and above the version that its record gives to its deadline.
    private func touchStamp(_ key: HashedKey, _ slot: HashTable.Slot, _ now: Millis) -> Millis? {
        let newest = newest(key, slot)
        guard let ms = stamp(over: newest, now: now, floor: 0) else { return nil }
        guard slot.record.isExtended, let kept = slot.record.keptVersion,
            !(kept < Version(ms: ms, uid: own, seq: ownSeq &+ 1))
        else { return ms }
        return stamp(over: newest, least: kept.ms &+ 1)
    }

    // MARK: The wheel

    /// Tells the corrected clock, before anything is merged.
    package func noteClock(_ now: Millis) { state.pointee.clock = now }

    /// Whether `expireDue` has something to do. O(1).
    package func isExpiryDue(now: Millis) -> Bool { state.pointee.wheel.isDue(now) }

    /// Takes keys whose deadline has passed at `now`, a corrected clock's, out of the figures and remembers them for
    /// `sweepLeftovers`. They are not shown in any case. Returns the steps taken, `budget` if some may be left.
    @discardableResult
    package func expireDue(now: Millis, budget: Int) -> Int {
        state.pointee.clock = now
        var left = budget
        while let entry = state.pointee.wheel.take(now, budget: &left) {
            let fragment = DeadlineWheel.fragment(of: entry)
            var later: Millis?
            forEachVolatile(fragment) { slot, deadline in
                if deadline <= now {
                    noteExpired(slot)
                } else if DeadlineWheel.means(entry, deadline) {
                    // It was filed by a clock that was ahead, or is too far ahead to be filed right.
                    later = deadline
                }
            }
            if let later { state.pointee.wheel.push(later, fragment: fragment, now: now) }
        }
        return budget - left
    }

    private func noteExpired(_ slot: HashTable.Slot) {
        state.pointee.unusualChanges &+= 1
        withdraw(slot)
        state.pointee.table.mark(slot, slot.marks | HashTable.expiredMark)
        tally(slot, 1)
        state.pointee.figures.expiredTotal &+= 1
        pushLeftover(slot.record, hash(slot.record.keyView))
    }
}
