// Entries of the vector that stand still although a peer is ahead, and replicas that differ. A part of `Replica`; on
// its actor's thread.

import KVBase

struct GapWatch {
    private static let everyMillis: Millis = 100
    /// How long nothing is collected here after a replica with an equal vector had other content.
    private static let differenceHoldMillis: Millis = 60_000

    private var lastLook: Millis?
    /// By origin: the value last seen, and since when it has not moved although a peer is ahead.
    private var stalled: [(value: UInt64, since: Millis)] = []
    /// A server with an equal vector and other content, to be scanned.
    private var differing: UInt64?
    private var differedAt: Millis?

    /// Whether it is time to look; then it counts as looked.
    mutating func look(_ now: Millis) -> Bool {
        if let lastLook, now - lastLook < GapWatch.everyMillis { return false }
        lastLook = now
        return true
    }

    /// Origins up to `count` are watched from now on.
    mutating func watch(_ count: Int, _ now: Millis) {
        while stalled.count < count { stalled.append((0, now)) }
    }

    var watched: Int { stalled.count }

    /// Notes that the entry moved, if it did.
    mutating func note(_ origin: OriginIndex, _ value: UInt64, _ now: Millis) {
        if stalled[Int(origin)].value != value { stalled[Int(origin)] = (value, now) }
    }

    /// Since when the entry stands still although a peer is ahead: now, if none is.
    mutating func stalledSince(_ origin: OriginIndex, isPeerAhead: Bool, _ now: Millis) -> Millis {
        if !isPeerAhead { stalled[Int(origin)].since = now }
        return stalled[Int(origin)].since
    }

    /// A replica with an equal vector has other content.
    mutating func noteDifference(_ now: Millis) { differedAt = now }

    /// The same for so long that the server is to be scanned.
    mutating func mustScan(_ server: UInt64) { differing = server }

    /// The server to be scanned.
    var toScan: UInt64? { differing }

    mutating func noteScan() { differing = nil }

    /// The repair of a divergence ends because versions only rise. A tombstone collected meanwhile leaves nothing, so
    /// the deleted write is taken again until the next tombstone comes. While one replica may not collect yet and
    /// another has the write, that goes round for ever.
    func isCollectingHeld(_ now: Millis) -> Bool {
        differedAt.map { now - $0 < GapWatch.differenceHoldMillis } ?? false
    }

    func checkInvariants(_ origins: Int) { check(stalled.count <= origins) }
}
