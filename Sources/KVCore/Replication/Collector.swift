// Which tombstones may be forgotten, and the sweep that forgets them. A part of `Replica`; on its actor's thread.

import KVBase

/// The rule is with `Replica.startCollecting`.
struct Collector {
    /// Greatest collected tombstone of each origin.
    private var collected = VersionVector()
    private var isUnderWay = false
    /// Tombstones this sweep still looks at.
    private var left = 0
    private var lastAt: Millis?
    /// What is known everywhere, and the servers that everybody has retired, as this sweep began.
    private var stable = VersionVector()
    private var retiredEverywhere: [UInt64] = []
    var isSweeping: Bool { isUnderWay }

    /// Greatest collected tombstone of each origin.
    var frontier: VersionVector { collected }

    func isDue(_ now: Millis, every: Millis) -> Bool { lastAt.map { now - $0 >= every } ?? true }

    /// It is known whether a sweep may begin, and what for.
    mutating func noteLook(_ now: Millis) { lastAt = now }

    /// `tombstones`: how many the store has; its queue may hold about as many stale entries.
    mutating func begin(stable: VersionVector, retiredEverywhere: [UInt64], tombstones: Int) {
        (self.stable, self.retiredEverywhere) = (stable, retiredEverywhere)
        isUnderWay = true
        left = 2 * tombstones + 64
    }

    /// One slice: looks at up to `budget` tombstones and forgets those not younger than `oldest` that nobody can lack.
    /// Returns how many it forgot and how many were too young.
    mutating func sweep(
        _ store: Store, budget: Int, oldest: Millis, _ seen: Seen, _ origins: OriginTable
    ) -> (dropped: Int, tooYoung: UInt64) {
        var tooYoung: UInt64 = 0
        let slice = min(budget, left)
        let dropped = store.sweepTombstones(budget: slice) { record in
            let origin = record.origin
            let isRetired = seen.isRetired(origin)
            // Of a retired server everybody holds everything once everybody has retired it: an adopted entry has no
            // other proof.
            guard
                isRetired
                    ? retiredEverywhere.contains(origins.uid(origin).server) : stable.covers(origin, record.seq)
            else {
                return false
            }
            guard record.ms <= oldest else {
                tooYoung += 1
                return false
            }
            if !isRetired { collected.raise(origin, to: record.seq) }
            return true
        }
        left -= slice
        if left <= 0 || store.tombstoneCount == 0 { isUnderWay = false }
        return (dropped, tooYoung)
    }

    /// Whether whoever stood at `cut` knew every tombstone collected here. O(origins).
    func isKnown(at cut: VersionVector) -> Bool { cut.dominates(collected) }

    /// Tombstones up to `seq` were collected here, or by whoever this replica caught up with.
    mutating func noteCollected(_ origin: OriginIndex, _ seq: UInt64) { collected.raise(origin, to: seq) }

    /// The origin is retired: all of its writes are known everywhere.
    mutating func forget(_ origin: OriginIndex) { collected.set(origin, 0) }

    func checkInvariants(_ seen: Seen) {
        check(left >= 0 || !isUnderWay)
        for i in 0..<collected.count { check(collected.seqs[i] == 0 || !seen.isRetired(OriginIndex(i))) }
    }
}
