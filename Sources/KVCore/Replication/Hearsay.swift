// Whether a writer says itself what others have said of it. A part of `Replica`; on its actor's thread.

import KVBase

/// While a server is silent, others pass on its writes. If it is heard again and goes on saying that it wrote less than
/// the vector here covers, somebody lied: its next writes would be taken for old ones for ever. Then the entry goes
/// back to where its writer last confirmed it, which claims less than is here and so harms nothing.
struct Hearsay {
    /// It was heard for so long without a confirmation: many frames. While it cannot be heard nothing is counted, and
    /// what was counted stays.
    private static let patienceMillis: Millis = 10_000
    /// From one look to the next counts as at most this: a process that stood still heard nothing meanwhile.
    private static let lookMillisMax = 2 * Census.everyMillis
    /// Vectors that rest on what was told, or contradicted, so lately prove no equal content.
    static let unsettledMillis: Millis = 20_000

    private struct Doubt {
        var origin: OriginIndex
        /// For how long it was heard saying less, and when it was heard last; nil while it cannot be heard.
        var heardFor: Millis = 0
        var heardAt: Millis?
    }

    private var confirmed = VersionVector()
    private var doubts: [Doubt] = []
    /// Of these others told something that the writer has not confirmed yet.
    private var told: [OriginIndex] = []
    private var toldAt: Millis = .min

    /// Others told of the writer's writes. O(told).
    mutating func noteTold(_ origin: OriginIndex, _ now: Millis) {
        toldAt = now
        if !told.contains(origin) { told.append(origin) }
    }

    /// Nothing was told lately that its writer has not confirmed.
    func isSettled(_ now: Millis) -> Bool {
        told.isEmpty || toldAt == .min || now - toldAt > Hearsay.unsettledMillis
    }

    /// Writers that are gone confirm nothing: what was told of them stands. O(told).
    mutating func dropTold(where isGone: (OriginIndex) -> Bool) { if !told.isEmpty { told.removeAll(where: isGone) } }

    /// Whether the vector covers that write on the word of others alone: then it need not have taken effect. O(told).
    func isDoubtful(_ origin: OriginIndex, _ seq: UInt64) -> Bool {
        !told.isEmpty && seq > confirmed[origin] && told.contains(origin)
    }

    /// What of a vector does not rest on the word of others alone. O(told).
    func sure(_ vector: VersionVector) -> VersionVector {
        var sure = vector
        for origin in told where sure[origin] > confirmed[origin] { sure.set(origin, confirmed[origin]) }
        return sure
    }

    /// The vector stands at `seen`, its writer says `said`, nil if it cannot be heard. Returns where the entry goes
    /// back to, if it does. O(doubts).
    mutating func compare(_ origin: OriginIndex, seen: UInt64, said: UInt64?, _ now: Millis) -> UInt64? {
        let place = doubts.firstIndex { $0.origin == origin }
        guard let said else {
            if let place { doubts[place].heardAt = nil }
            return nil
        }
        guard seen > said else {
            confirmed.set(origin, seen)
            told.removeAll { $0 == origin }
            if let place { doubts.remove(at: place) }
            return nil
        }
        if told.contains(origin) { toldAt = now }
        guard let place else {
            doubts.append(Doubt(origin: origin, heardAt: now))
            return nil
        }
        doubts[place].heardFor += min(now - (doubts[place].heardAt ?? now), Hearsay.lookMillisMax)
        doubts[place].heardAt = now
        guard doubts[place].heardFor > Hearsay.patienceMillis else { return nil }
        doubts.remove(at: place)
        told.removeAll { $0 == origin }
        return min(confirmed[origin], said)
    }

    /// The origin is retired.
    mutating func forget(_ origin: OriginIndex) {
        confirmed.set(origin, 0)
        doubts.removeAll { $0.origin == origin }
        told.removeAll { $0 == origin }
    }

    func checkInvariants(_ origins: Int) {
        check(confirmed.count <= origins && doubts.count <= origins && told.count <= origins)
    }
}
