// Writes and merges as the simulator sees them: the store's own, bent by planted bugs. Part of `Replica`; on its
// actor's thread.

package import KVBase

extension Replica {
    /// Writes a value as the server does, with the corrected clock. The server calls the store directly; the simulator
    /// comes through here, where the bugs of the write rule live. The record is borrowed.
    @discardableResult
    package func put(
        key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer, deadline: DeadlineChoice = .none,
        floor: Millis = 0, _ at: Moment
    ) -> Record? {
        let key = store.key(key)
        let now = corrected(at)
        var (floor, deadline) = (floor, deadline)
        if planted(.lastPlusOne) { floor = max(floor, plantedState.lastStamp) }
        if planted(.keepStampsDeadline), deadline == .keep, case .at(let kept) = store.deadline(of: key, now: now) {
            deadline = .at(kept)
        }
        guard let record = store.put(key, value: ByteView(value), deadline: deadline, now: now, floor: floor) else {
            return nil
        }
        plantedState.noteStamp(record.ms)
        return bend(record, key.hash, at)
    }

    /// Deletes as the server does; nil if there is nothing to delete.
    @discardableResult
    package func delete(key: UnsafeRawBufferPointer, _ at: Moment) -> Record? {
        let key = store.key(key)
        guard let record = store.delete(key, now: corrected(at)) else { return nil }
        return bend(record, key.hash, at)
    }

    /// Adds to a counter as the server does.
    package func increment(key: UnsafeRawBufferPointer, by step: Int64, _ at: Moment) -> IncrementOutcome {
        let key = store.key(key)
        let now = corrected(at)
        guard planted(.countWritesSum) else { return store.increment(key, by: step, now: now) }
        let shown = store.get(key, now: now).map { CounterText.parse($0.value) } ?? 0
        guard let shown else { return .notAnInteger }
        guard case (let sum, false) = shown.addingReportingOverflow(step) else { return .overflow }
        return CounterText.with(sum) {
            store.put(key, value: $0, deadline: .keep, now: now) == nil ? .refused : .value(sum)
        }
    }

    /// Sets a deadline apart as the server does; 0 takes it away.
    package func expire(key: UnsafeRawBufferPointer, at deadline: Millis, _ at: Moment) -> TouchOutcome {
        let key = store.key(key)
        let now = corrected(at)
        if planted(.touchWritesValue), deadline > now, let record = store.get(key, now: now)?.retained() {
            defer { record.release() }
            return store.put(key, value: ByteView(record.value), deadline: .at(deadline), now: now) == nil
                ? .refused : .done
        }
        return deadline == 0 ? store.persist(key, now: now) : store.expire(key, at: deadline, now: now)
    }

    /// `nowOnly` stamps with the clock whatever was there before; `noFloor` forgets what was collected.
    private func bend(_ record: Record, _ hash: UInt64, _ at: Moment) -> Record {
        var ms = record.ms
        if planted(.nowOnly) { ms = corrected(at) }
        if planted(.noFloor), record.ms == store.gcFloor + 1 { ms = corrected(at) }
        guard ms != record.ms else { return record }
        let bent = record.copied(ms: ms, origin: record.origin, seq: record.seq)
        store.overwriteUnconditionally(with: bent, hash)
        return bent
    }

    /// Merges an entry the wrong way, if a bug says so; true if that settled it.
    func mergeWithBugs(_ record: Record, _ hash: UInt64) -> Bool {
        guard let old = store.find(HashedKey(record, hash: hash)), old != record else { return false }
        if planted(.digestForgetsOld), !old.isTombstone,
            old.version(origins) < record.version(origins)
        {
            plantedState.addDrift(store.digestTerm(old))
        }
        if planted(.sequenceIgnored), old.ms == record.ms, old.origin == record.origin { return true }
        if planted(.tieByArrival), old.ms == record.ms, old.origin != record.origin {
            store.overwriteUnconditionally(with: record.retained(), hash)
            return true
        }
        if planted(.mergeSwapped) {
            if record.version(origins) < old.version(origins) {
                store.overwriteUnconditionally(with: record.retained(), hash)
            }
            return true
        }
        return false
    }
}

extension Replica {
    /// The mistake `resetOfOldId`: a word for the id that this address had before is taken for one to this server.
    func takeReset(of head: FrameHead, _ at: Moment, into effects: inout ReplicaEffects) {
        guard let row = head.rows.first(where: { $0.server == head.toServer }), row.status >= .forgotten,
            var mine = members.row(uid.server)
        else { return }
        mine.status = row.status
        learnTrusted(mine, at, into: &effects)
    }
}

extension Store {
    /// Puts a tombstone in the place of every expired value, stamped with its deadline: a planted mistake.
    func deletesExpired(now: Millis) {
        var expired: [Record] = []
        var cursor = WalkCursor()
        while !cursor.isDone {
            walk(&cursor, budget: 1_000) { record in
                if !record.isTombstone, record.isExtended, !record.isCompanion, record.inlineDeadline > 0,
                    record.inlineDeadline <= now
                {
                    expired.append(record.retained())
                }
            }
        }
        for record in expired {
            let dead = Record.create(
                key: record.keyView, value: nil, ms: record.inlineDeadline, origin: record.origin, seq: record.seq,
                isTombstone: true)
            merge(dead)
            dead.release()
            record.release()
        }
    }

    /// Installs a record whatever version the key has, taking over its reference: what no correct code does. For
    /// planted bugs and tests that corrupt a replica.
    package func overwriteUnconditionally(with record: Record, _ hash: UInt64) {
        guard let slot = state.pointee.table.find(record.keyView, place(hash)) else {
            merge(record, hash)
            record.release()
            return
        }
        replace(slot, slot.record, with: record, hash)
    }
}
