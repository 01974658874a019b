// A bounded part of a thread's time for work that may wait. A value; one thread, which passes the clock in.

import KVBase

/// Whoever has taken nothing for a while may take `atOnce`, and a part of the time that passes from then on.
struct TimeShare {
    private let part: Nanos
    private let atOnce: Nanos
    /// Below 0 once more was taken than there was.
    private var left: Nanos
    private var at: Nanos?

    /// One in `part` of the time.
    init(of part: Nanos, atOnce: Nanos) {
        (self.part, self.atOnce) = (part, atOnce)
        left = atOnce
    }

    /// Whether there is any left. O(1).
    mutating func mayTake(at now: Nanos) -> Bool {
        let passed = now - (at ?? now)
        // What is less than one waits for the next look.
        left = min(atOnce, left + passed / part)
        at = now - (left < atOnce ? passed % part : 0)
        return left > 0
    }

    /// It took that long. O(1).
    mutating func take(_ nanos: Nanos) { left -= nanos }
}
