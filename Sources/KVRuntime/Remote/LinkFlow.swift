// The path of one connection as its sender sees it, and how far messages got on it. Values; owned by the connection.

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
    private static let shareUnknown = 64 * 1024

    /// Positions in the stream: left this machine, arrived at the other.
    private(set) var sent = 0
    /// Taken by the kernel.
    private(set) var given = 0
    private(set) var acknowledged = 0
    /// Something is not acknowledged yet.
    private(set) var isBusy = false
    private(set) var roundTripMillis: Int64?
    private var roundTripMillisLeast: Int64?
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
        if read.round_trip_least > 0 { roundTripMillisLeast = Int64(read.round_trip_least) / 1000 }
        adjustWindow(outside: written - acknowledged, now)
        if read.rate > 0 { note(rate: Int(clamping: read.rate), now) }
    }

    /// How much more may be given to the connection. Behind what is outside this process everything urgent waits, so
    /// once a queue builds up on the way, which shows as a longer round trip, that is bounded.
    func room(written: Int) -> Int { window.map { max(0, $0 - (written - acknowledged)) } ?? .max }

    /// Every round trip or two the window follows the ratio of the round trip wanted to the one measured, so that it
    /// settles where little more than 100 ms of data wait on the way (the rule of FAST TCP, Jin et al. 2004, with that
    /// target). Before a queue builds up TCP must be able to find out how much the path carries: no window.
    private mutating func adjustWindow(outside: Int, _ now: Nanos) {
        guard let trip = roundTripMillis, let least = roundTripMillisLeast else { return }
        let wanted = least + max(LinkFlow.queueMillis, least / 4)
        guard let current = window else {
            if trip > wanted { setWindow(outside * Int(wanted) / Int(trip), now) }
            return
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
        let held = Int(clamping: Int64(best / 1000) * (roundTripMillisLeast ?? 0))
        return min(max(held, LinkFlow.windowBytesMin), LinkFlow.windowFloorMax)
    }

    private static let windowFloorMax = 256 * 1024
    private static let queueMillis: Int64 = 100
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

/// How far one sender's tracked messages got on one connection.
struct SenderProgress {
    var sender: UInt64
    /// By lane: nothing of so many waits here any more; so many arrived.
    var left: [UInt64] = [0, 0]
    var delivered: [UInt64] = [0, 0]
    /// When the last one that left began to leave.
    var begunAt: Nanos = 0
}

/// The messages whose last byte was given to a connection, until it is known that they arrived.
struct TrackedMessages {
    static let lanes = 2

    private struct Entry {
        var end: Int
        var sender: UInt64
        var lane: Int
        var isTracked: Bool
        var isSmall: Bool
        var begunAt: Nanos
    }

    /// Bytes ever given to the connection.
    var written = 0
    private var entries: [Entry] = []
    /// Entries that have left.
    private var leftCount = 0
    private var trackedWaiting = 0
    private var progress: [UInt64: SenderProgress] = [:]
    /// Length at which untracked ones that have left are taken off: doubles, so that appending stays O(1).
    private var entriesMax = 256

    /// Somebody waits to hear that a message left.
    var isWaiting: Bool { trackedWaiting > 0 }

    mutating func finished(_ frame: QueuedFrame) {
        if frame.isTracked { trackedWaiting += 1 }
        entries.append(
            Entry(
                end: written, sender: frame.stream.sender, lane: Int(frame.stream.lane), isTracked: frame.isTracked,
                isSmall: !frame.hasTail, begunAt: frame.begunAt))
    }

    /// The same of an untracked message that was not queued. `sent` is what has left this process.
    mutating func finishedUntracked(sent: Int) {
        entries.append(Entry(end: written, sender: 0, lane: 0, isTracked: false, isSmall: true, begunAt: 0))
        guard entries.count >= entriesMax else { return }
        if trackedWaiting == 0 { leftCount = entries.firstIndex { $0.end > sent } ?? entries.count }
        entries.removeAll { !$0.isTracked && $0.end <= sent }
        leftCount = min(leftCount, entries.count)
        entriesMax = max(256, 2 * entries.count)
    }

    /// Messages that end beyond what has left this process.
    func heldBack(sent: Int) -> Int { entries.reduce(0) { $0 + ($1.end > sent ? 1 : 0) } }

    /// The stream has left up to `sent` and arrived up to `acknowledged`: whose messages moved.
    mutating func advance(given: Int, sent: Int, acknowledged: Int, _ now: Nanos) -> [SenderProgress] {
        var moved: Set<UInt64> = []
        while leftCount < entries.count {
            let entry = entries[leftCount]
            // The next large one shall follow before the kernel runs dry.
            guard entry.end <= (entry.isSmall ? sent : given) else { break }
            leftCount += 1
            guard entry.isTracked else { continue }
            trackedWaiting -= 1
            moved.insert(entry.sender)
            progress[entry.sender, default: SenderProgress(sender: entry.sender)].left[entry.lane] += 1
            // A small one may have waited in the kernel; when it left is known now.
            progress[entry.sender]!.begunAt = entry.isSmall ? now : entry.begunAt
        }
        var arrived = 0
        while arrived < leftCount, entries[arrived].end <= acknowledged {
            let entry = entries[arrived]
            arrived += 1
            guard entry.isTracked else { continue }
            moved.insert(entry.sender)
            progress[entry.sender]!.delivered[entry.lane] += 1
        }
        entries.removeFirst(arrived)
        leftCount -= arrived
        return moved.sorted().map { progress[$0]! }
    }
}

/// The distance that tracked messages of one actor to another keep where they leave this machine, whatever queues they
/// went through and whichever connection takes them. Owned by the peer.
struct PairPaces {
    private struct Pace {
        var session: UInt64
        /// Position of its first byte in that connection's stream.
        var start: Int
        var leftAt: Nanos?
    }

    private struct Pair: Hashable {
        var sender: UInt64
        var target: UInt64
    }

    private static let pairsMax = 4 * Limits.actorsMax
    let spacing: Nanos
    private var pairs: [Pair: Pace] = [:]

    init(spacing: Nanos) { self.spacing = spacing }

    /// The one before it has left, long enough ago.
    func mayBegin(_ stream: LinkStream, _ now: Nanos) -> Bool {
        guard spacing > 0, let pace = pairs[Pair(sender: stream.sender, target: stream.target)] else { return true }
        return pace.leftAt.map { now - $0 >= spacing } ?? false
    }

    mutating func begun(_ stream: LinkStream, at start: Int, of session: UInt64, _ now: Nanos) {
        guard spacing > 0 else { return }
        if pairs.count >= PairPaces.pairsMax {
            pairs = pairs.filter { $0.value.leftAt.map { now - $0 < spacing } ?? true }
        }
        pairs[Pair(sender: stream.sender, target: stream.target)] = Pace(session: session, start: start)
    }

    /// A connection's stream has left this machine up to `sent`.
    mutating func left(_ session: UInt64, upTo sent: Int, _ now: Nanos) {
        for (pair, pace) in pairs where pace.leftAt == nil && pace.session == session && pace.start < sent {
            pairs[pair]!.leftAt = now
        }
    }

    /// A connection ended: what was begun on it left, or never will.
    mutating func ended(_ session: UInt64, _ now: Nanos) { left(session, upTo: .max, now) }

    /// Something has begun that has not left.
    var isWaiting: Bool { pairs.contains { $0.value.leftAt == nil } }
}
