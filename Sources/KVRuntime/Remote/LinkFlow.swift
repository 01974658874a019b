// The path of one connection as its sender sees it. A value, owned by the connection.

import CSupport
import KVBase

/// What a path carries: the kernel's estimates over the last seconds.
struct LinkFlow {
    /// How long the best rate counts. Long enough for several round trips, short enough to follow a path that gets
    /// thinner.
    private static let bucketNanos: Nanos = 250_000_000
    private static let bucketsMax = 8
    /// The same for the least that is always let out.
    private static let bucketsKept = 80
    /// Assumed until something is known.
    private static let shareUnknown = 8 * 1024

    /// Positions in the stream: left this machine, arrived at the other.
    private(set) var sent = 0
    /// Taken by the kernel.
    private(set) var given = 0
    private(set) var acknowledged = 0
    /// Something is not acknowledged yet.
    private(set) var isBusy = false
    private(set) var roundTripMillis: Int64?
    private var trips = LeastRoundTrip()
    private var rates: [(from: Nanos, best: Int)] = []
    private var unsentMax = 0
    /// Bytes that may be outside this process; nil as long as there is no reason for a bound.
    private(set) var window: Int?
    private var adjustedAt: Nanos = 0

    var bytesPerSecond: Int { rates.suffix(LinkFlow.bucketsMax).reduce(0) { max($0, $1.best) } }

    /// `held` bytes of the `written` ones are not with the kernel yet.
    mutating func note(_ read: cs_conn_flow, held: Int, written: Int, _ now: Nanos) {
        given = written - held
        sent = max(sent, given - Int(read.unsent))
        acknowledged = max(acknowledged, given - Int(read.unacked))
        isBusy = read.unacked > 0
        if read.round_trip > 0 { roundTripMillis = Int64(read.round_trip) / 1000 }
        trips.note(given: given, acknowledged: acknowledged, now)
        adjustWindow(outside: written - acknowledged, now)
        if read.rate > 0 { note(rate: Int(clamping: read.rate), now) }
    }

    /// How much more may be given to the connection. Behind what is outside this process everything urgent waits, so
    /// once a queue builds up on the way, which shows as a longer round trip, that is bounded.
    func room(written: Int) -> Int { window.map { max(0, $0 - (written - acknowledged)) } ?? .max }

    /// Every round trip or two the window follows the ratio of the round trip wanted to the one measured, so that it
    /// settles where little more than 60 ms of data wait on the way (the rule of FAST TCP, Jin et al. 2004, with that
    /// target). Before a queue builds up TCP must be able to find out how much the path carries: no window.
    private mutating func adjustWindow(outside: Int, _ now: Nanos) {
        guard let trip = roundTripMillis, let least = trips.leastMillis else { return }
        let wanted = least + max(LinkFlow.queueMillis, least / 8)
        guard let current = window else {
            guard trip > wanted else { return }
            // A queue, so that the rate is what the path carries. Slow start went beyond it for a round trip already.
            let carried = Int(clamping: Int64(bytesPerSecond / 1000) * wanted)
            return setWindow(min(outside * Int(wanted) / Int(trip), carried), now)
        }
        // What a smaller window brings shows a round trip later, and smoothed.
        let pause = max(trip > wanted ? 2 * trip : trip, LinkFlow.adjustMillisMin)
        guard now - adjustedAt >= pause * 1_000_000 else { return }
        // Not used, not in the way: forgotten.
        if current > 8 * outside, current > LinkFlow.windowBytesMin { return window = nil }
        let ratio = min(max(Double(wanted) / Double(max(1, trip)), 0.7), 1.5)
        setWindow(Int(Double(current) * ratio), now)
    }

    private mutating func setWindow(_ bytes: Int, _ now: Nanos) {
        window = min(max(bytes, windowFloor), LinkFlow.windowBytesMax)
        adjustedAt = now
    }

    /// What the path holds by itself at the best rate of the last 20 s waits in no queue. A smaller window would make
    /// acknowledgements rare and late, which looks like a queue, and so keep itself small.
    private var windowFloor: Int {
        let best = rates.reduce(0) { max($0, $1.best) }
        let held = Int(clamping: Int64(best / 1000) * (trips.leastMillis ?? 0))
        return min(max(held, LinkFlow.windowBytesMin), LinkFlow.windowFloorMax)
    }

    private static let windowFloorMax = 256 * 1024
    private static let queueMillis: Int64 = 60
    private static let adjustMillisMin: Int64 = 50
    private static let windowBytesMin = 8 * 1024
    private static let windowBytesMax = 64 * 1024 * 1024

    mutating func note(rate: Int, _ now: Nanos) {
        if let last = rates.last, now - last.from < LinkFlow.bucketNanos {
            rates[rates.count - 1].best = max(last.best, rate)
        } else {
            rates.append((now, rate))
            if rates.count > LinkFlow.bucketsKept { rates.removeFirst() }
        }
    }

    /// What the path carries in so long, within bounds.
    func share(millis: Int, in range: ClosedRange<Int>) -> Int {
        let rate = bytesPerSecond
        let share = rate == 0 ? LinkFlow.shareUnknown : Int(clamping: Int64(rate / 1000) * Int64(millis))
        return min(max(share, range.lowerBound), range.upperBound)
    }

    /// The kernel's bound, if it should change by much.
    mutating func newUnsentMax(_ bytes: Int) -> Int? {
        guard unsentMax == 0 || bytes > unsentMax + unsentMax / 4 || bytes < unsentMax - unsentMax / 4 else {
            return nil
        }
        unsentMax = bytes
        return bytes
    }
}

/// The round trip of a path without a queue, as the sender of a stream sees it: the shortest time from giving a byte to
/// the kernel to its acknowledgement. The kernel's own least is of no use for that: after a loss it may take the
/// acknowledgement of a first copy for that of the second, and then believes half the truth for minutes.
struct LeastRoundTrip {
    /// Positions whose acknowledgement is waited for.
    private static let marksMax = 64
    private static let spacing: Nanos = 10_000_000
    /// A path may become longer: what was seen is forgotten after once to twice this time.
    private static let period: Nanos = 150_000_000_000

    private var marks: [(position: Int, at: Nanos)] = []
    private var since: Nanos = 0
    private var current: Nanos?
    private var previous: Nanos?

    /// Milliseconds; nil as long as nothing was acknowledged.
    var leastMillis: Int64? {
        let least = [current, previous].compactMap { $0 }.min()
        return least.map { $0 / 1_000_000 }
    }

    /// Positions in the stream, as they are now.
    mutating func note(given: Int, acknowledged: Int, _ now: Nanos) {
        let arrived = marks.prefix { $0.position <= acknowledged }
        if let last = arrived.last {
            if now - since > LeastRoundTrip.period { (previous, current, since) = (current, nil, now) }
            current = min(current ?? .max, now - last.at)
            marks.removeFirst(arrived.count)
        }
        guard given > acknowledged, given > marks.last?.position ?? 0, marks.count < LeastRoundTrip.marksMax,
            now - (marks.last?.at ?? .min / 2) >= LeastRoundTrip.spacing
        else { return }
        marks.append((given, now))
    }
}
