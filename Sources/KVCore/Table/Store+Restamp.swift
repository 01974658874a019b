// Bringing a key back under the clock that is stamped ahead of it. One thread.

package import KVBase

/// What became of a key that was to be brought back under the clock.
package enum RestampOutcome: Equatable {
    /// Its value, or its delete, was written again.
    case done
    /// There is nothing to do: no record of it is ahead, or none is here.
    case notAhead
    /// It was brought back before, and is ahead again: there is no further way.
    case again
    /// No storable version is left.
    case refused
}

extension Store {
    /// A stamp further ahead than this is one that RESTAMP brings back.
    static let restampedAheadMillis: Millis = 60_000

    /// Writes what a key shows again, its deadline with it, or its delete, if a stamp of it is more than a minute
    /// ahead of `now`. The new version is greater than every one that was not written so (docs/replication.md 3.5). Of
    /// a counter's parts only this actor's own is brought back. O(value), at most three allocations.
    package func restamp(_ key: HashedKey, now: Millis) -> RestampOutcome {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), let newest = newest(key, slot) else {
            return .notAhead
        }
        let latest = now + Store.restampedAheadMillis
        let isAhead = Version.clockMillis(newest.ms) > latest
        if isAhead, newest.ms >= Version.restamped { return .again }
        let isPartAhead = partRecord(key, own).map {
            $0.ms > latest && $0.ms < Version.restamped && CounterPart($0) != nil
        }
        guard isAhead || isPartAhead == true else { return .notAhead }
        #if KV_CHECKS
            if state.pointee.restampsBelow { return restampBelow(key, slot, now) }
        #endif
        let floor = Version.restamped + max(now, state.pointee.gcFloor + 1, 1) - 1
        // First, so that what is written over it has taken it.
        if isPartAhead == true, !restampPart(key, now, floor) { return .refused }
        return restampMain(key, now, floor) ? .done : .refused
    }

    private func restampMain(_ key: HashedKey, _ now: Millis, _ floor: Millis) -> Bool {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)) else { return false }
        let main = (shownRecord(slot, now, isListed: false) ?? slot.record).retained()
        defer { main.release() }
        guard main.isTombstone else {
            let deadline = deadline(of: slot)
            let addition = deadline > 0 ? RecordExtension(deadline: deadline) : nil
            return write(key, addition, value: ByteView(main.value), now: now, floor: floor) != nil
        }
        return writeTombstone(key, slot, now: now, floor: floor) != nil
    }

    #if KV_CHECKS
        /// A planted mistake: the new version is below the one that it is to beat.
        private func restampBelow(_ key: HashedKey, _ slot: HashTable.Slot, _ now: Millis) -> RestampOutcome {
            let old = slot.record
            let record = Record.create(
                key: key.view, value: ByteView(old.value), ms: now, origin: state.pointee.ownOrigin,
                seq: nextSeq(key.hash),
                isTombstone: old.isTombstone)
            replace(slot, old, with: record, key.hash)
            return .done
        }
    #endif

    private func restampPart(_ key: HashedKey, _ now: Millis, _ floor: Millis) -> Bool {
        Companion.withKey(Companion.partKind, of: key.view, uid: own) { name in
            let hash = self.hash(name)
            guard let slot = state.pointee.table.find(name, place(hash)), var part = CounterPart(slot.record),
                let ms = stamp(over: slot.record, now: now, floor: floor)
            else { return false }
            part.last = nextSeq(hash)
            write(part, name, slot, ms, part.last, hash)
            return true
        }
    }
}
