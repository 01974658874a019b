// How fast a player may talk and walk (docs/cmud/design.md 10). A part of `GameSession`; on its thread.

import KVBase

struct TalkLimits {
    enum Deed: Int, CaseIterable { case say, shout, move, paint }

    private var buckets = Deed.allCases.map { deed in
        switch deed {
        case .say: TokenBucket(burst: 5, refillMillis: 1_000)
        case .shout: TokenBucket(burst: 1, refillMillis: 30_000)
        case .move: TokenBucket(burst: 4, refillMillis: 500)
        case .paint: TokenBucket(burst: 1, refillMillis: 300_000)
        }
    }

    /// Nil when it may be done now, and then it counts; else the milliseconds to wait.
    mutating func take(_ deed: Deed, now: Millis) -> Millis? { buckets[deed.rawValue].take(now: now + 1) }

    func checkInvariants() { check(buckets.count == Deed.allCases.count) }
}
