// Compares clocks with the other servers by the send times that frames echo. Owned by one actor.

import KVBase

/// One peer's clock: the sample of the shortest round trip of the last one to two windows is the best estimate, wrong
/// by at most half that round trip (Mills' NTP clock filter, reduced).
struct ClockSample: Sendable {
    static let windowMillis: Millis = 30_000
    /// What two clocks may drift apart within two windows, and the rounding of readings.
    static let slackMillis: Millis = 100

    private var current: (roundTrip: Millis, offset: Millis)?
    private var previous: (roundTrip: Millis, offset: Millis)?
    private var windowStart: Millis = 0

    /// `offset` is the peer's wall clock minus ours.
    mutating func add(roundTrip: Millis, offset: Millis, at steady: Millis) {
        if steady - windowStart > ClockSample.windowMillis {
            previous = current
            current = nil
            windowStart = steady
        }
        if let best,
            Int64(offset - best.offset).magnitude > UInt64(roundTrip + best.roundTrip + ClockSample.slackMillis)
        {
            // Each sample is wrong by at most half its round trip, so one of the two clocks was stepped in between.
            current = nil
            previous = nil
        }
        if current.map({ roundTrip <= $0.roundTrip }) ?? true { current = (roundTrip, offset) }
    }

    var best: (roundTrip: Millis, offset: Millis)? {
        guard let current else { return previous }
        guard let previous else { return current }
        return previous.roundTrip < current.roundTrip ? previous : current
    }
}

/// What this server's clock is corrected by when it stamps writes.
struct ClockCorrection {
    private var current: Millis = 0

    var millis: Millis { current }

    /// Takes over what the other servers' clocks minus ours say. True if a correction begins or ends.
    mutating func follow(_ offsets: [Millis]) -> Bool {
        let before = current
        current = SkewGuard.correction(offsets)
        return (before == 0) != (current == 0)
    }
}

/// Decides by how much this server's clock is corrected when it stamps writes.
enum SkewGuard {
    /// Beyond this the median of the cluster's clocks is used instead of the own one.
    static let correctMillis: Millis = 1_000
    /// Frames with a stamp beyond this (the year 2248) are refused: nothing could be stamped above it for ever.
    /// Anything below is merged, however wrong the clock was, because replicas must become equal and an overwrite still
    /// wins over it.
    static let stampMax: Millis = 1 << 43
    /// An entry stamped further ahead than this is merged, but counted.
    static let futureMillisNoted: Millis = 60_000

    /// Median of all servers' clocks minus ours, 0 if that is small or there is no majority (fewer than three servers).
    static func correction(_ offsets: [Millis]) -> Millis {
        guard offsets.count >= 2 else { return 0 }
        let all = (offsets + [0]).sorted()
        // With an even number the one nearer to our own clock: correct no more than a majority demands.
        let low = all[(all.count - 1) / 2]
        let high = all[all.count / 2]
        let median = low.magnitude <= high.magnitude ? low : high
        return median.magnitude > UInt64(correctMillis) ? median : 0
    }
}
