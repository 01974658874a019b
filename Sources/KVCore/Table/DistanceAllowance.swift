// How far writes are stamped ahead to keep their distance from what they replace (docs/replication.md 16.5). A value, one
// thread.

import KVBase

/// A token bucket of milliseconds: stamps are moved on by no more than time has passed, and this much at once. So a
/// loop that deletes and counts all the time does not leave the clock behind, and where another clock is ahead, or this
/// one was set back, distance is kept all the same.
struct DistanceAllowance {
    /// As long as others may not have seen a write anyway.
    static let millisMax: Millis = 2_000

    private var left = DistanceAllowance.millisMax
    private var at: Millis = 0

    /// Takes that much at `now`, a corrected clock; false if there is not so much left.
    mutating func take(_ millis: Millis, _ now: Millis) -> Bool {
        left = min(DistanceAllowance.millisMax, left &+ max(0, now &- at))
        at = now
        guard millis <= left else { return false }
        left &-= millis
        return true
    }
}
