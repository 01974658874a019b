// Servers that were removed but still talk. A part of `Replica`; on its actor's thread.

import KVBase

/// When each was last told something, so that it is told at most once per keep-alive, and so that a new life at its
/// address keeps its distance.
struct Outcasts {
    private static let serversMax = 64

    private var told: [(server: UInt64, at: Millis)] = []

    /// A server was sent something at `at` and belongs to the cluster no longer.
    mutating func note(_ server: UInt64, at: Millis) {
        told.append((server, at))
        if told.count > Outcasts.serversMax { told.removeFirst() }
    }

    /// Whether it may be told now; then it counts as told. O(servers).
    mutating func tell(_ server: UInt64, at: Millis, every: Millis) -> Bool {
        if let last = told.first(where: { $0.server == server }) {
            guard at - last.at >= every else { return false }
            told.removeAll { $0.server == server }
        }
        note(server, at: at)
        return true
    }

    /// When one of these was told something the last time. O(servers).
    func lastTold(_ isMeant: (UInt64) -> Bool) -> Millis? {
        told.reduce(nil) { last, next in isMeant(next.server) ? max(last ?? next.at, next.at) : last }
    }

    func checkInvariants() { check(told.count <= Outcasts.serversMax) }
}
