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

    /// `offset` is the peer's wall clock minus our steady one: what our wall clock does changes nothing in that.
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
    /// The corrected clock minus the steady one, so that a step of the wall clock changes nothing. Nil: no correction.
    private var corrected: Millis?
    private var others: [Millis] = []
    /// The wall clock minus the steady one.
    private var base: Millis?
    private static let stepMillisMin: Millis = 100

    /// What is added to the wall clock.
    func millis(_ at: Moment) -> Millis { corrected.map { at.steady + $0 - at.wall } ?? 0 }

    /// The other servers' clocks minus ours, where they are known and were set.
    var offsets: [Millis] { others }

    /// By how much this server's clock was stepped since the last call, 0 if that is little. O(1).
    mutating func step(_ at: Moment) -> Millis {
        let now = at.wall - at.steady
        guard let base else {
            self.base = now
            return 0
        }
        let step = now - base
        guard step.magnitude >= UInt64(ClockCorrection.stepMillisMin) else { return 0 }
        self.base = now
        return step
    }

    /// With two others and more there is a majority that tells the time.
    var isAgreed: Bool { others.count >= 2 }

    /// Takes over what the other servers' clocks minus ours say. True if a correction begins or ends.
    mutating func follow(_ offsets: [Millis], _ at: Moment) -> Bool {
        let before = corrected
        others = offsets.filter { at.wall + $0 >= SkewGuard.setSince }
        let correction = SkewGuard.correction(others, isSet: at.wall >= SkewGuard.setSince)
        corrected = correction == 0 ? nil : at.wall + correction - at.steady
        return (before == nil) != (corrected == nil)
    }
}

/// Stamps far ahead, counted by the name of the server that sent them. A part of `Replica`; on its actor's thread.
struct FutureStamps {
    private static let namesMax = 64

    private var counts: [(name: Bytes, count: UInt64)] = []

    var all: [(name: Bytes, count: UInt64)] { counts }

    /// Names beyond the bound count under the last one. O(names).
    mutating func note(_ name: Bytes) {
        if let place = counts.firstIndex(where: { $0.name == name }) {
            counts[place].count += 1
        } else if counts.count < FutureStamps.namesMax {
            counts.append((name, 1))
        } else {
            counts[counts.count - 1].count += 1
        }
    }

    func checkInvariants() { check(counts.count <= FutureStamps.namesMax) }
}

/// Decides by how much this server's clock is corrected when it stamps writes.
enum SkewGuard {
    /// Beyond this the median of the cluster's clocks is used instead of the own one.
    static let correctMillis: Millis = 1_000
    /// Frames with a stamp beyond this (the year 2248) are refused: nothing could be stamped above it for ever.
    static let stampMax: Millis = Version.restamped - 1
    /// And so are stamps that are further ahead. Anything below is merged, because replicas must become equal and an
    /// overwrite still wins over it.
    static let aheadMillisMax: Millis = 365 * 24 * 3600 * 1000
    /// Nobody stamps what another one may refuse whose clock differs a little.
    static let marginMillis: Millis = 24 * 3600 * 1000
    /// A clock that shows an earlier time (2020-01-01) was never set: it refuses nothing, and nobody goes by it.
    static let setSince: Millis = 1_577_836_800_000
    /// An entry stamped further ahead than this is merged, but counted.
    static let futureMillisNoted: Millis = 60_000

    /// The latest stamp that is taken where a clock shows `now`.
    static func latestStamp(_ now: Millis) -> Millis {
        now < setSince ? stampMax : min(stampMax, now + aheadMillisMax)
    }

    /// The latest stamp that this server gives: others shall take it. `now` is its own clock, `offsets` are the others'
    /// minus that. Where they differ, half of them and more take it; of two the earlier one counts.
    static func latestOwnStamp(_ now: Millis, _ offsets: [Millis]) -> Millis {
        let clocks = (offsets + [0]).map { now + $0 }.filter { $0 >= setSince }.sorted()
        guard !clocks.isEmpty else { return stampMax }
        return latestStamp(clocks[(clocks.count - 1) / 2]) - marginMillis
    }

    /// Median of all servers' clocks minus ours, 0 if that is small or there is no majority (fewer than three servers).
    /// `isSet`: ours counts, as it was set once; that the others' were is up to the caller.
    static func correction(_ offsets: [Millis], isSet: Bool = true) -> Millis {
        guard offsets.count >= 2 else { return 0 }
        let all = (isSet ? offsets + [0] : offsets).sorted()
        // With an even number the one nearer to our own clock: correct no more than a majority demands.
        let low = all[(all.count - 1) / 2]
        let high = all[all.count / 2]
        let median = low.magnitude <= high.magnitude ? low : high
        return median.magnitude > UInt64(correctMillis) ? median : 0
    }
}
