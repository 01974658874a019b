// What another server is known to have. A part of `RemoteServer`; on the replica's thread.

import KVBase

struct PeerView {
    /// Element-wise maximum of its actors' vectors, and the same with islands counted as if their gap were closed.
    private var gapless = VersionVector()
    private var atMost = VersionVector()
    private var newestReport: StabilityReport?
    /// Newest report whose heads this replica covers: only that may be used for collection.
    private var usable: StabilityReport?
    /// One whose heads are not covered yet, kept so that a busy server is not chased for ever.
    private var waiting: StabilityReport?
    /// How far each of its actors said it had sent its own writes: a gap behind that is asked for.
    private var announced: [(origin: OriginIndex, to: UInt64)] = []

    var seenGapless: VersionVector { gapless }
    var seenAtMost: VersionVector { atMost }
    var report: StabilityReport? { newestReport }
    var usableReport: StabilityReport? { usable }
    var announcedTo: [(origin: OriginIndex, to: UInt64)] { announced }

    /// One of its actors has seen `gapless`, and something of what lies below `atMost`. O(origins).
    mutating func join(_ gapless: VersionVector, atMost: VersionVector) {
        self.gapless.join(gapless)
        self.atMost.join(atMost)
    }

    /// The same from a sibling. Of `own` writes nobody has more than there are.
    mutating func join(_ gapless: VersionVector, atMost: VersionVector, _ own: OriginIndex, atMost ownSeq: UInt64) {
        var (gapless, atMost) = (gapless, atMost)
        if gapless[own] > ownSeq { gapless.set(own, ownSeq) }
        if atMost[own] > ownSeq { atMost.set(own, ownSeq) }
        join(gapless, atMost: atMost)
    }

    mutating func note(_ island: Island) { atMost.raise(island.origin, to: island.to) }

    /// For a planted mistake: counts what was sent as seen.
    mutating func assume(_ origin: OriginIndex, _ seq: UInt64) {
        gapless.raise(origin, to: seq)
        atMost.raise(origin, to: seq)
    }

    /// Later reports replace earlier ones.
    mutating func take(_ report: StabilityReport?) {
        if let report, report.stamp > newestReport?.stamp ?? .min { newestReport = report }
    }

    /// A report counts only once this replica has all its actors had written by then (`isCovered`). Returns how many
    /// reports do not count yet.
    mutating func promote(_ isCovered: ([UInt64]) -> Bool) -> Int {
        guard let newestReport else { return 0 }
        var refused = 0
        for candidate in [newestReport, waiting].compactMap({ $0 }) {
            guard candidate.stamp > usable?.stamp ?? .min else { continue }
            guard isCovered(candidate.heads) else {
                refused += 1
                if waiting == nil { waiting = candidate }
                continue
            }
            usable = candidate
            if let waiting, waiting.stamp <= candidate.stamp { self.waiting = nil }
        }
        return refused
    }

    /// It sent own writes of `origin` up to `to`.
    mutating func announce(_ origin: OriginIndex, _ to: UInt64) {
        if let place = announced.firstIndex(where: { $0.origin == origin }) {
            announced[place].to = max(announced[place].to, to)
        } else {
            announced.append((origin, to))
        }
    }

    /// It sent something that is missing here, or is here only behind a gap. O(its actors).
    func hasHole(_ seen: Seen) -> Bool { announced.contains { seen[$0.origin] < $0.to } }

    func checkInvariants() {
        check(atMost.dominates(gapless))
        check(usable.map { $0.stamp <= newestReport?.stamp ?? .min } ?? true)
    }
}
