// Forgetting what nobody can need any more: tombstones, expired values, companions without effect. One thread.

package import KVBase

/// Why a record that is no tombstone may be forgotten.
package enum Leftover: Equatable {
    /// Its deadline has passed.
    case expired(Millis)
    /// A deadline set apart without effect, or one whose key is not here.
    case withoutEffect
    /// A part of a counter that adds nothing stands beside this record. Its value expired then; 0: it did not.
    case spent(Millis)
}

/// What decides about parts of counters.
package struct PartRule {
    /// Everybody knows an actor's writes up to there.
    package var isKnown: (ActorUID, UInt64) -> Bool = { _, _ in true }
    /// This actor may delete that one's part.
    package var mayBury: (ActorUID) -> Bool = { _ in false }

    package init() {}

    init(
        isKnown: @escaping (ActorUID, UInt64) -> Bool = { _, _ in true },
        mayBury: @escaping (ActorUID) -> Bool = { _ in false }
    ) {
        (self.isKnown, self.mayBury) = (isKnown, mayBury)
    }
}

extension Store {
    // MARK: Tombstones

    /// Forgets a key's tombstone and lifts `gcFloor` to it. False if the key has none. The caller has proved that no
    /// older write can still arrive (docs/replication.md 10.2).
    @discardableResult
    package func dropTombstone(_ key: HashedKey) -> Bool {
        guard let slot = state.pointee.table.find(key.view, place(key.hash)), slot.record.isTombstone else {
            return false
        }
        dropTombstone(slot, key.hash)
        return true
    }

    /// Looks at up to `budget` tombstones, those longest in the store first, and forgets those for which `mayDrop`
    /// says so (as `dropTombstone`); the others are looked at again after all the rest. Returns how many were
    /// forgotten.
    @discardableResult
    package func sweepTombstones(budget: Int, parts: PartRule = PartRule(), _ mayDrop: (Record) -> Bool) -> Int {
        var dropped = 0
        for _ in 0..<min(budget, state.pointee.tombstones.count) {
            guard let entry = state.pointee.tombstones.pop() else { break }
            guard let slot = slot(of: entry), slot.record.isTombstone else { continue }
            let ms = slot.record.ms
            if isCounted(slot.record, entry.hash, parts) {
                state.pointee.tombstones.push(entry, ms: ms)
                continue
            }
            // With its companion, which a value written later would otherwise find.
            let companion =
                slot.marks & HashTable.companionsMark != 0 ? companionSlot(of: slot.record.keyView) : nil
            if companion.map({ mayDrop($0.slot.record) }) ?? true, mayDrop(slot.record) {
                let key = slot.record
                if let companion { dropStored([(companion.slot.record, companion.hash)]) }
                if let slot = state.pointee.table.find(key.keyView, place(entry.hash)) {
                    dropTombstone(slot, entry.hash)
                }
                dropped += 1
            } else {
                state.pointee.tombstones.push(entry, ms: ms)
            }
        }
        return dropped
    }

    /// Those next to be looked at are put behind the others unlooked at, as long as all are younger than `oldest`: up
    /// to `chunksMax` times some 250. Returns how many. O(chunksMax).
    package func passOverYoungTombstones(than oldest: Millis, chunksMax: Int) -> Int {
        state.pointee.tombstones.passOverYoung(than: oldest, chunksMax: chunksMax)
    }

    /// The same of expired values and companions.
    package func passOverYoungLeftovers(than oldest: Millis, chunksMax: Int) -> Int {
        state.pointee.leftovers.passOverYoung(than: oldest, chunksMax: chunksMax)
    }

    /// Whether a key has parts here, or has taken one that has not arrived everywhere: then its record stays, as it
    /// says what was taken of them.
    private func isCounted(_ main: Record, _ hash: UInt64, _ parts: PartRule) -> Bool {
        if main.isCompanion { return false }
        if let taken = main.taken {
            for i in 0..<taken.count where !parts.isKnown(taken.entry(i).uid, taken.entry(i).seq) { return true }
        }
        return hasParts(main.keyView, hash)
    }

    /// The record an entry of a queue names, if it is still there.
    func slot(of entry: TombstoneQueue.Entry) -> HashTable.Slot? {
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

    private func dropTombstone(_ slot: HashTable.Slot, _ hash: UInt64) {
        // The index finds a key that is to leave it through the table, so it has to be up to date first.
        flushIndex()
        let record = slot.record
        state.pointee.gcFloor = max(state.pointee.gcFloor, Version.clockMillis(record.ms))
        withMain(of: record) {
            withdraw(slot)
            state.pointee.unusualChanges &+= 1
            state.pointee.table.remove(slot, place(hash))
            notePart(record, appears: false)
        }
        record.release()
    }

    /// Remembers a new tombstone for sweeping; throws stale entries out as fast as new ones come, so that the queue
    /// stays within about twice the tombstones.
    func enqueue(_ tombstone: Record, _ hash: UInt64) {
        if state.pointee.tombstones.count > 2 * tombstoneCount + 64 {
            for _ in 0..<2 {
                guard let entry = state.pointee.tombstones.pop() else { break }
                if let record = slot(of: entry)?.record, record.isTombstone {
                    state.pointee.tombstones.push(entry, ms: record.ms)
                }
            }
        }
        state.pointee.tombstones.push(TombstoneQueue.Entry(tombstone, hash: hash), ms: tombstone.ms)
    }

    // MARK: Expired values and companions

    /// Expired keys and companions that are still to be looked at, stale entries among them.
    package var leftoverCount: Int { state.pointee.leftovers.count }

    /// Keys forgotten together: one pass over the ordered index.
    static let forgottenTogether = 64

    /// Looks at up to `budget` expired keys and companions, those longest there first, and forgets a key with all that
    /// belongs to it where `mayDrop` says so of each of its records, and of the record that makes a companion
    /// ineffective. Others are looked at again after all the rest. Returns how many records were forgotten.
    @discardableResult
    package func sweepLeftovers(
        budget: Int, parts: PartRule = PartRule(), _ mayDrop: (Record, Leftover) -> Bool
    ) -> Int {
        var dropped = 0
        var going: [(Record, UInt64)] = []
        for _ in 0..<min(budget, state.pointee.leftovers.count) {
            guard let entry = state.pointee.leftovers.pop() else { break }
            // A companion may go with its key and have an entry of its own.
            guard let slot = slot(of: entry), !slot.record.isTombstone, !going.contains(where: { $0.0 == slot.record })
            else { continue }
            let (count, ms) = (going.count, slot.record.ms)
            let isWaiting =
                slot.record.isPart
                ? look(atPart: slot, entry.hash, parts, mayDrop)
                : slot.record.isCompanion
                    ? look(atCompanion: slot.record, entry.hash, mayDrop, &going)
                    : look(atExpired: slot, entry.hash, parts, mayDrop, &going)
            if isWaiting, going.count == count { state.pointee.leftovers.push(entry, ms: ms) }
            if going.count >= Store.forgottenTogether {
                dropped += dropStored(going)
                going.removeAll(keepingCapacity: true)
            }
        }
        return dropped + dropStored(going)
    }

    /// Returns whether it is one that waits; what may go is added to `going`.
    private func look(
        atExpired slot: HashTable.Slot, _ hash: UInt64, _ parts: PartRule, _ mayDrop: (Record, Leftover) -> Bool,
        _ going: inout [(Record, UInt64)]
    ) -> Bool {
        guard slot.marks & HashTable.expiredMark != 0 else { return false }
        let why = Leftover.expired(deadline(of: slot))
        let companion = slot.marks & HashTable.companionsMark != 0 ? companionSlot(of: slot.record.keyView) : nil
        if isCounted(slot.record, hash, parts) {
            buryParts(of: slot, hash, parts, mayDrop)
            return true
        }
        guard mayDrop(slot.record, why), companion.map({ mayDrop($0.slot.record, why) }) ?? true else { return true }
        if let companion, !going.contains(where: { $0.0 == companion.slot.record }) {
            going.append((companion.slot.record, companion.hash))
        }
        going.append((slot.record, hash))
        return true
    }

    /// Deletes those parts of an expired key that are this actor's to delete.
    private func buryParts(
        of slot: HashTable.Slot, _ hash: UInt64, _ parts: PartRule, _ mayDrop: (Record, Leftover) -> Bool
    ) {
        var spent: [UInt64] = []
        forEachPart(slot.record.keyView, hash) { _, part, partHash in
            if !part.record.isTombstone { spent.append(partHash) }
        }
        for partHash in spent {
            var found: HashTable.Slot?
            state.pointee.table.forEachSlot(fragment: UInt32(truncatingIfNeeded: place(partHash) &>> 32)) { slot in
                if slot.record.isPart, self.hash(slot.record.keyView) == partHash { found = slot }
                return found == nil
            }
            if let found { _ = look(atPart: found, partHash, parts, mayDrop) }
        }
    }

    /// Deletes a part that adds nothing, once everybody knows what has taken it. Returns whether it may have to wait.
    private func look(
        atPart slot: HashTable.Slot, _ hash: UInt64, _ parts: PartRule, _ mayDrop: (Record, Leftover) -> Bool
    ) -> Bool {
        let (part, uid) = (slot.record, slot.record.partUID)
        let key = part.companionOf
        guard let main = state.pointee.table.find(key, place(self.hash(key))) else { return false }
        let isExpired = !main.record.isTombstone && main.marks & HashTable.expiredMark != 0
        let why = Leftover.spent(isExpired ? deadline(of: main) : 0)
        guard added(uid, part, main.record, before: isExpired ? deadline(of: main) : 0) == nil else { return false }
        var isSpent = mayDrop(main.record, why)
        if isExpired, let deadline = companion(of: key) { isSpent = isSpent && mayDrop(deadline, why) }
        #if KV_CHECKS
            isSpent = isSpent || state.pointee.buriesEarly
        #endif
        guard isSpent, parts.mayBury(uid) else { return true }
        return !buryPart(slot, hash)
    }

    private var isForgottenAlone: Bool {
        #if KV_CHECKS
            return state.pointee.forgetsCompanionsAlone
        #else
            return false
        #endif
    }

    private func look(
        atCompanion companion: Record, _ hash: UInt64, _ mayDrop: (Record, Leftover) -> Bool,
        _ going: inout [(Record, UInt64)]
    ) -> Bool {
        let key = companion.companionOf
        let main = state.pointee.table.find(key, place(self.hash(key)))?.record
        guard !isInEffect(companion, main) else { return false }
        // With the tombstone, and not before it: a zero over the tombstone says which companion it beats.
        if main?.isTombstone ?? false, !isForgottenAlone { return true }
        guard mayDrop(companion, .withoutEffect), main.map({ mayDrop($0, .withoutEffect) }) ?? true else { return true }
        going.append((companion, hash))
        return true
    }

    /// Forgets records that are no tombstones, and lifts `gcFloor` to them.
    ///
    /// The index takes a key out that it finds deleted in the table. So each gets a tombstone for a moment, which
    /// nobody else sees.
    @discardableResult
    private func dropStored(_ going: [(record: Record, hash: UInt64)]) -> Int {
        guard !going.isEmpty else { return 0 }
        flushIndex()
        var graves: [(record: Record, hash: UInt64)] = []
        for (record, hash) in going {
            guard let slot = state.pointee.table.find(record.keyView, place(hash)), slot.record == record else {
                continue
            }
            state.pointee.gcFloor = max(state.pointee.gcFloor, Version.clockMillis(record.ms))
            let grave = Record.create(
                key: record.keyView, value: nil, ms: record.ms, origin: record.origin, seq: record.seq,
                isTombstone: true)
            bury(slot, record, grave)
            noteIndexChange(hash)
            graves.append((grave, hash))
        }
        flushIndex()
        for (grave, hash) in graves {
            guard let slot = state.pointee.table.find(grave.keyView, place(hash)) else { continue }
            withdraw(slot)
            state.pointee.unusualChanges &+= 1
            state.pointee.table.remove(slot, place(hash))
            grave.release()
        }
        return graves.count
    }

    /// Forgets these records, whatever they are, and lifts `gcFloor` to them. Returns how many. The caller has proved
    /// that something newer of each was collected elsewhere (docs/replication.md 8.6). O(records).
    func dropSuperseded(_ going: [(record: Record, hash: UInt64)]) -> Int {
        var dropped = dropStored(going.filter { !$0.record.isTombstone })
        for (record, hash) in going where record.isTombstone {
            if dropTombstone(HashedKey(record, hash: hash)) { dropped += 1 }
        }
        return dropped
    }

    private func bury(_ slot: HashTable.Slot, _ record: Record, _ grave: Record) {
        withMain(of: record) {
            withdraw(slot)
            state.pointee.unusualChanges &+= 1
            slot.store(grave)
            state.pointee.table.mark(slot, 0)
            tally(slot, 1)
        }
        record.release()
    }
}
