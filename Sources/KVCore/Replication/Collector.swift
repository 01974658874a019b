// Which tombstones may be forgotten, and the sweep that forgets them. A part of `Replica`; on its actor's thread.

import KVBase

/// The rule is with `Replica.startCollecting`.
struct Collector {
    /// Greatest collected tombstone of each origin.
    private var collected = VersionVector()
    /// Tombstones this sweep still looks at, and expired values and companions.
    private var left = 0
    private var leftoversLeft = 0
    private var lastAt: Millis?
    private var forgotAt: Millis?
    /// Deadlines up to here have passed everywhere.
    private var passed: Millis = .min
    /// What is known everywhere, and the servers that everybody has retired, as this sweep began.
    private var stable = VersionVector()
    private var retiredEverywhere: [UInt64] = []
    var isSweeping: Bool { left > 0 || leftoversLeft > 0 }
    var isSweepingTombstones: Bool { left > 0 }

    /// Greatest collected tombstone of each origin.
    var frontier: VersionVector { collected }

    func isDue(_ now: Millis, every: Millis) -> Bool { lastAt.map { now - $0 >= every } ?? true }

    func isForgettingDue(_ now: Millis, every: Millis) -> Bool { forgotAt.map { now - $0 >= every } ?? true }

    /// It is known whether a sweep may begin, and what for.
    mutating func noteLook(_ now: Millis) { lastAt = now }
    mutating func noteForgetting(_ now: Millis) { forgotAt = now }

    /// `tombstones`: how many the store has, if they are to be looked at; its queue may hold about as many stale
    /// entries. `leftovers`: entries of expired values and companions.
    mutating func begin(
        stable: VersionVector, retiredEverywhere: [UInt64], tombstones: Int?, leftovers: Int = 0,
        deadlinesTo passed: Millis = .min
    ) {
        (self.stable, self.retiredEverywhere, self.passed) = (stable, retiredEverywhere, passed)
        left = tombstones.map { 2 * $0 + 64 } ?? 0
        leftoversLeft = leftovers
    }

    /// A member has come that nobody asked: what is left of the sweep begins anew.
    mutating func abandon() { (left, leftoversLeft) = (0, 0) }

    /// One slice: looks at up to `budget` tombstones and forgets those not younger than `oldest` that nobody can lack.
    /// Returns how many it forgot and how many were too young.
    mutating func sweep(
        _ store: Store, budget: Int, oldest: Millis, _ seen: Seen, _ origins: OriginTable
    ) -> (dropped: Int, tooYoung: UInt64) {
        let parts = partRule(store, mayWrite: false, seen, origins)
        // Of many that were deleted together, all are too young for a while.
        let young = store.passOverYoungTombstones(than: oldest, chunksMax: budget)
        var tooYoung = UInt64(young)
        left = max(0, left - young)
        let slice = min(budget, left)
        guard young == 0, slice > 0 else { return (0, tooYoung) }
        let dropped = store.sweepTombstones(budget: slice, parts: parts) { record in
            guard isKnownEverywhere(record, seen, origins) else { return false }
            guard record.ms <= oldest else {
                tooYoung += 1
                return false
            }
            noteDropped(record, seen)
            return true
        }
        left = store.tombstoneCount == 0 ? 0 : left - slice
        return (dropped, tooYoung)
    }

    /// One slice: looks at up to `budget` expired values and companions without effect, and forgets those that nobody
    /// can lack. Returns how many it forgot, and how many deadlines have not passed everywhere.
    mutating func forget(
        _ store: Store, budget: Int, oldest: Millis, mayWrite: Bool = true, _ seen: Seen, _ origins: OriginTable
    ) -> (dropped: Int, tooSoon: UInt64) {
        let parts = partRule(store, mayWrite: mayWrite, seen, origins)
        var tooSoon: UInt64 = 0
        let young = store.passOverYoungLeftovers(than: oldest, chunksMax: budget)
        leftoversLeft = max(0, leftoversLeft - young)
        let slice = min(budget, leftoversLeft)
        guard young == 0, slice > 0 else { return (0, 0) }
        let dropped = store.sweepLeftovers(budget: slice, parts: parts) { record, why in
            let deadline: Millis
            switch why {
            case .expired(let millis), .spent(let millis): deadline = millis
            case .withoutEffect: deadline = .min
            }
            guard deadline <= passed || deadline == 0 else {
                tooSoon += 1
                return false
            }
            guard record.ms <= oldest, isKnownEverywhere(record, seen, origins) else { return false }
            // That one stays.
            if case .spent = why { return true }
            noteDropped(record, seen)
            return true
        }
        leftoversLeft = store.leftoverCount == 0 ? 0 : leftoversLeft - slice
        return (dropped, tooSoon)
    }

    /// Of a retired server everybody holds everything once everybody has retired it: an adopted entry has no other
    /// proof.
    private func isKnownEverywhere(_ record: Record, _ seen: Seen, _ origins: OriginTable) -> Bool {
        let origin = record.origin
        return seen.isRetired(origin)
            ? retiredEverywhere.contains(origins.uid(origin).server) : stable.covers(origin, record.seq)
    }

    /// An own part is this actor's to delete, and one of a server that everybody has retired anybody's.
    private func partRule(_ store: Store, mayWrite: Bool, _ seen: Seen, _ origins: OriginTable) -> PartRule {
        PartRule(
            isKnown: { [stable, retiredEverywhere] uid, seq in
                // Of one that was retired before this server began, it knows no writes.
                if retiredEverywhere.contains(uid.server) { return true }
                guard let origin = origins.index(of: uid), !seen.isRetired(origin) else { return false }
                return stable.covers(origin, seq)
            },
            mayBury: { [retiredEverywhere] uid in
                mayWrite && (uid == store.own || retiredEverywhere.contains(uid.server))
            })
    }

    private mutating func noteDropped(_ record: Record, _ seen: Seen) {
        if !seen.isRetired(record.origin) { collected.raise(record.origin, to: record.seq) }
    }

    /// Whether whoever stood at `cut` knew every tombstone collected here. O(origins).
    func isKnown(at cut: VersionVector) -> Bool { cut.dominates(collected) }

    /// Tombstones up to `seq` were collected here, or by whoever this replica caught up with.
    mutating func noteCollected(_ origin: OriginIndex, _ seq: UInt64) { collected.raise(origin, to: seq) }

    /// The origin is retired: all of its writes are known everywhere.
    mutating func forget(_ origin: OriginIndex) { collected.set(origin, 0) }

    func checkInvariants(_ seen: Seen) {
        check(left >= 0 && leftoversLeft >= 0)
        for i in 0..<collected.count { check(collected.seqs[i] == 0 || !seen.isRetired(OriginIndex(i))) }
    }
}
