// What has taken effect at one replica, of every writer. A part of `Replica`; on its actor's thread.

import KVBase

/// An out-of-order interval of an origin's writes that has been merged although a gap lies before it.
struct Island: Sendable, Equatable {
    var origin: OriginIndex
    var from: UInt64
    var to: UInt64
}

/// The gapless vector, the intervals merged beyond a gap (islands), and the highest write merged of each origin.
///
/// Own writes are not kept in here: the store counts them.
struct Seen {
    /// Intervals beyond gaps of one origin that are remembered: a few large values may be on their way at once.
    static let islandsMax = 2 * OwnStream.largeMax

    private let own: OriginIndex
    private var gapless = VersionVector()
    private var beyondGaps: [Island] = []
    /// While it is ahead of `gapless`, content may differ between replicas with equal vectors.
    private var newest = VersionVector()

    init(own: OriginIndex) { self.own = own }

    /// As a server finds it in its directory when it starts.
    mutating func restore(_ vector: VersionVector, newest: VersionVector) {
        gapless.join(vector)
        gapless.set(own, 0)
        for i in 0..<newest.count where OriginIndex(i) != own && newest.seqs[i] > gapless[OriginIndex(i)] {
            noteLoose(OriginIndex(i), newest.seqs[i])
        }
    }

    // MARK: Questions

    /// Highest write of the origin such that it and all before it have taken effect. 0 for this replica's own origin.
    @inline(__always)
    subscript(_ origin: OriginIndex) -> UInt64 { gapless[origin] }

    @inline(__always)
    func covers(_ origin: OriginIndex, _ seq: UInt64) -> Bool { gapless.covers(origin, seq) }

    /// Every other writer's entry. O(1): the array is shared.
    var vector: VersionVector { gapless }

    /// The same with own writes up to `ownSeq`. O(origins).
    func vector(ownSeq: UInt64) -> VersionVector {
        var vector = gapless
        vector.set(own, ownSeq)
        return vector
    }

    /// Whether everybody holds all of the origin's writes, so that its entry left the vector.
    @inline(__always)
    func isRetired(_ origin: OriginIndex) -> Bool { gapless[origin] == VersionVector.retired }

    /// Nothing was merged beyond the vector, so equal vectors mean equal content. O(origins).
    var isTight: Bool { beyondGaps.isEmpty && gapless.dominates(newest) }

    /// Something of the origin was merged that the vector does not cover.
    func isLoose(_ origin: OriginIndex) -> Bool { newest[origin] > gapless[origin] }

    /// Intervals beyond gaps, in order of arrival.
    var islands: [Island] { beyondGaps }

    func hasIsland(where isMeant: (OriginIndex) -> Bool) -> Bool { beyondGaps.contains { isMeant($0.origin) } }

    /// The first missing interval of the origin's writes up to `to`. O(islands).
    func hole(_ origin: OriginIndex, upTo to: UInt64) -> RepairAsk {
        let from = gapless[origin]
        let next = beyondGaps.reduce(to) { $1.origin == origin && $1.from > from ? min($0, $1.from) : $0 }
        return RepairAsk(origin: origin, from: from, to: next)
    }

    // MARK: Changes

    /// An interval's entries are all merged: the vector follows if there is no gap before it, or if `leaps`, which
    /// only a planted mistake does. False if there is a gap. O(islands).
    mutating func advance(_ origin: OriginIndex, _ from: UInt64, _ to: UInt64, leaps: Bool = false) -> Bool {
        guard origin != own, to > gapless[origin] else { return true }
        if from <= gapless[origin] || leaps {
            gapless.raise(origin, to: to)
            connect()
            return true
        }
        var merged = Island(origin: origin, from: from, to: to)
        beyondGaps.removeAll { island in
            guard island.origin == origin, merged.from <= island.to, merged.to >= island.from else { return false }
            merged.from = min(merged.from, island.from)
            merged.to = max(merged.to, island.to)
            return true
        }
        // What is forgotten is asked for again.
        if beyondGaps.count(where: { $0.origin == origin }) >= Seen.islandsMax,
            let first = beyondGaps.firstIndex(where: { $0.origin == origin })
        {
            beyondGaps.remove(at: first)
        }
        beyondGaps.append(merged)
        return false
    }

    /// All that a donor had seen has taken effect here too. O(origins + islands).
    mutating func prove(_ start: VersionVector) {
        for i in 0..<start.count {
            let origin = OriginIndex(i)
            if origin != own, start.seqs[i] != VersionVector.retired { gapless.raise(origin, to: start.seqs[i]) }
        }
        connect()
    }

    /// An entry was merged that the vector does not cover.
    @inline(__always)
    mutating func noteLoose(_ origin: OriginIndex, _ seq: UInt64) { newest.raise(origin, to: seq) }

    /// The origin's loose entries are part of another stream now.
    mutating func forgetLoose(_ origin: OriginIndex) {
        newest.set(origin, 0)
        beyondGaps.removeAll { $0.origin == origin }
    }

    /// All of the origin's writes count as seen from now on. Returns how far they were seen.
    mutating func retire(_ origin: OriginIndex) -> UInt64 {
        let last = gapless[origin]
        gapless.set(origin, VersionVector.retired)
        forgetLoose(origin)
        return last
    }

    /// The origin's entry comes back.
    mutating func reopen(_ origin: OriginIndex, at last: UInt64) { gapless.set(origin, last) }

    /// What was said of the origin's writes beyond `confirmed` was not so.
    mutating func goBack(_ origin: OriginIndex, to confirmed: UInt64) {
        gapless.set(origin, confirmed)
        beyondGaps.removeAll { $0.origin == origin }
    }

    /// The vector was raised: islands it reaches are connected.
    private mutating func connect() {
        var isMore = !beyondGaps.isEmpty
        while isMore {
            isMore = false
            beyondGaps.removeAll { island in
                guard island.from <= gapless[island.origin] else { return false }
                if island.to > gapless[island.origin] {
                    gapless.raise(island.origin, to: island.to)
                    isMore = true
                }
                return true
            }
        }
    }

    func checkInvariants() {
        check(gapless[own] == 0 && newest[own] == 0)
        for (place, island) in beyondGaps.enumerated() {
            check(island.origin != own && island.from <= island.to && island.from > gapless[island.origin])
            check(beyondGaps.count(where: { $0.origin == island.origin }) <= Seen.islandsMax)
            for other in beyondGaps[(place + 1)...] where other.origin == island.origin {
                check(other.from > island.to || other.to < island.from)
            }
        }
    }
}
