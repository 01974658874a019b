// Whether the store answers. A part of `GameSession`; on its thread.

import KVBase

struct StoreHealth {
    private var since: Millis?

    var isDown: Bool { since != nil }

    /// A request failed. True if the one before had not.
    mutating func failed(now: Millis) -> Bool {
        guard since == nil else { return false }
        since = now
        return true
    }

    /// The store answered. True if it had not before.
    mutating func answered() -> Bool {
        defer { since = nil }
        return since != nil
    }

    /// How long it has not answered.
    func silence(now: Millis) -> Millis { since.map { now - $0 } ?? 0 }

    func checkInvariants(now: Millis) { check(silence(now: now) >= 0) }
}
