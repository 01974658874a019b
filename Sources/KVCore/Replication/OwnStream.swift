// Own writes on their way to one server: how far they went, what is not acknowledged, when that is overdue. A part of
// `RemoteServer`; on the replica's thread.

import KVBase

/// Own writes go out in order. What holds a large value is set apart, so that small ones overtake it.
struct OwnStream {
    /// Intervals with a large value that wait for their turn.
    static let largeMax = 16
    private static let roundTripGuess: Millis = 600
    private static let timeoutMillisMin: Millis = 220
    private static let timeoutMillisMax: Millis = 5_000
    /// Without progress for this long the server's next actor becomes the gateway.
    private static let failoverMillis: Millis = 1_000
    /// What the other machine has had for so long and its server has not taken goes again.
    private static let deliveredMillisMax: Millis = 10_000
    /// A link that carries less, with merging at its end, has its large deltas sent twice.
    private static let bytesPerMilli = 4 * 1024
    /// A small un-acknowledged delta goes out twice for this long after a loss was noticed.
    private static let lossMemoryMillis: Millis = 30_000
    private static let redundantBytesMax = 16 * 1024

    /// Own writes on the way.
    private struct InFlight {
        var from: UInt64
        var to: UInt64
        var at: Millis
        var bytes: Int
        var isRepeat: Bool
        /// The frame they went in.
        var lane = FrameLane.live
        var number: UInt64 = 0
        /// When it was known to have reached the other machine.
        var deliveredAt: Millis?
    }

    /// Own writes of which one is large.
    private struct Large {
        var from: UInt64
        var to: UInt64
        /// The bulk frame it went in; 0 if it waits, `.max` if its connection gave way to another one.
        var number: UInt64 = 0
    }

    enum Overdue { case no, late, stuck }

    private var sentTo: UInt64 = 0
    /// In order of their writes.
    private var large: [Large] = []
    private var inFlight: [InFlight] = []
    private var smoothedAck: Millis?
    private var backoff = 0
    /// Since when own writes wait for an acknowledgement without any progress.
    private var waitingSince: Millis = 0
    private var lossSeenAt: Millis?
    /// Start and size of the section sent last, to repeat it while losses are likely.
    private var previousFrom: UInt64 = 0
    private var previousBytes = 0

    // MARK: Questions

    /// Own writes up to here went out, or wait in intervals that are set apart.
    var sent: UInt64 { sentTo }

    /// How far own writes went out without a hole that is still to be filled by a frame that has not left.
    func sentGapless(_ link: ServerLink) -> UInt64 {
        let owed = large.first { $0.number == 0 || $0.number != .max && !link.hasLeft(.bulk, $0.number) }
        return owed.map { min(sentTo, $0.from) } ?? sentTo
    }

    /// An interval with a large value waits for its turn.
    var isLargeWaiting: Bool { large.contains { $0.number == 0 } }

    var sectionsInFlight: Int { inFlight.count }
    var bytesInFlight: Int { inFlight.reduce(0) { $0 + $1.bytes } }
    var retries: Int { backoff }

    /// How long an acknowledgement takes, if one was ever timed.
    var ackMillis: Millis? { smoothedAck }
    /// The same, or a guess.
    var expectedAckMillis: Millis { smoothedAck ?? OwnStream.roundTripGuess }
    /// An answer that was sent is not asked for again before that.
    var answerMillis: Millis { max(OwnStream.timeoutMillisMin, smoothedAck ?? 0) }

    /// Until when the acknowledgement of a small delta is not late.
    private var usualAckMillis: Millis { max(expectedAckMillis * 3 / 2 + 110, OwnStream.timeoutMillisMin) }

    /// The same of all that is on its way.
    private var patienceMillis: Millis { usualAckMillis + Millis(bytesInFlight / OwnStream.bytesPerMilli) }

    private var timeoutMillis: Millis {
        min(patienceMillis << Millis(min(backoff, 5)), OwnStream.timeoutMillisMax)
    }

    /// What starts at `from` went out again because of a timeout, too short a time ago to be acknowledged.
    func isSentAgain(_ from: UInt64, _ now: Millis) -> Bool {
        guard backoff > 0, let flight = inFlight.first(where: { $0.from <= from && $0.to > from }) else { return false }
        return now - flight.at < usualAckMillis
    }

    /// Whether what was sent as datagrams is not acknowledged in time; `stuck` if another actor of the server should be
    /// tried, provided there is one (`isOther`). Without another gateway there is nothing but to wait: what was sent
    /// before a cut may be old, but what was sent since is on its way.
    func overdue(_ now: Millis, isOther: Bool) -> Overdue {
        guard let oldest = inFlight.first else { return .no }
        if isOther, now - waitingSince >= max(OwnStream.failoverMillis, patienceMillis) { return .stuck }
        return now - oldest.at >= timeoutMillis ? .late : .no
    }

    /// The same over a connection, which loses nothing while it lives. But a server may not get to what its machine
    /// received, or drop it for want of room. `heardAt`: when the server was heard last.
    func overdueDelivered(_ now: Millis, heardAt: Millis?, isOther: Bool) -> Overdue {
        guard let deliveredAt = inFlight.first?.deliveredAt else { return .no }
        let waited = now - max(deliveredAt, waitingSince)
        // None of its actors may get to it for long: each time it waits twice as long.
        let patience = max(OwnStream.failoverMillis, patienceMillis) << Millis(min(backoff, 5))
        // Another of its actors was heard meanwhile: it is this one that does not get to it, and not all of them.
        let isAlive = now - (heardAt ?? 0) < waited - OwnStream.failoverMillis / 2
        if isOther, isAlive, waited >= patience { return .stuck }
        return waited >= max(patience, OwnStream.deliveredMillisMax) ? .late : .no
    }

    // MARK: Sending

    /// First word from the server: it is sent what comes after `seq`.
    mutating func begin(after seq: UInt64) { sentTo = seq }

    /// What comes up to `seq` need not be sent.
    mutating func skip(to seq: UInt64) { sentTo = max(sentTo, seq) }

    /// Where the next section begins: with the first write that was not sent, or with the section before while losses
    /// are likely and `repeats` allows it. `top` is acknowledged.
    mutating func nextFrom(_ top: UInt64, repeats: Bool, _ now: Millis) -> (from: UInt64, isRepeat: Bool) {
        defer { previousBytes = 0 }
        guard repeats, let lossSeenAt, now - lossSeenAt < OwnStream.lossMemoryMillis, previousBytes > 0,
            previousBytes < OwnStream.redundantBytesMax, previousFrom < sentTo, previousFrom >= top
        else { return (sentTo, false) }
        return (previousFrom, true)
    }

    /// A section goes out; `fresh` is where the first write that was not sent before it was.
    mutating func noteSection(_ from: UInt64, _ to: UInt64, fresh: UInt64, bytes: Int, _ now: Millis) {
        if inFlight.isEmpty && backoff == 0 { waitingSince = now }
        inFlight.append(
            InFlight(from: from, to: to, at: now, bytes: bytes, isRepeat: from < sentTo || backoff > 0))
        skip(to: to)
        // A repetition alone is not repeated again.
        previousFrom = fresh
        previousBytes = fresh < sentTo ? bytes : 0
    }

    /// An interval with a large value goes apart, and what comes after it may follow. False if too many wait: then it
    /// goes in order.
    mutating func setApart(_ from: UInt64, _ to: UInt64) -> Bool {
        guard large.count < OwnStream.largeMax else { return false }
        large.append(Large(from: from, to: to))
        skip(to: to)
        return true
    }

    /// The server asked for an interval with a large value again.
    mutating func setApartAgain(_ from: UInt64, _ to: UInt64) {
        guard large.count < OwnStream.largeMax, !large.contains(where: { $0.from == from }) else { return }
        large.append(Large(from: from, to: to))
        large.sort { $0.from < $1.from }
    }

    /// The first interval with a large value that waits. Those from before the journal's `first` are forgotten: a scan
    /// will bring them.
    mutating func nextLarge(journalFirst first: UInt64) -> (from: UInt64, to: UInt64)? {
        while let place = large.firstIndex(where: { $0.number == 0 }) {
            if large[place].from + 1 >= first { return (large[place].from, large[place].to) }
            large.remove(at: place)
        }
        return nil
    }

    /// It goes out.
    mutating func noteLarge(_ from: UInt64, _ to: UInt64, bytes: Int, _ now: Millis) {
        inFlight.append(InFlight(from: from, to: to, at: now, bytes: bytes, isRepeat: false, lane: .bulk))
    }

    /// The server has everything up to `seq`.
    mutating func dropLarge(through seq: UInt64) { large.removeAll { $0.to <= seq } }

    /// What was noted last went in this frame of its connection; `isLarge` if that is the interval that waited.
    mutating func number(_ lane: FrameLane, _ number: UInt64, isLarge: Bool) {
        for i in inFlight.indices where inFlight[i].number == 0 {
            inFlight[i].lane = lane
            inFlight[i].number = number
        }
        if isLarge, let i = large.firstIndex(where: { $0.number == 0 }) { large[i].number = number }
    }

    // MARK: What became of it

    /// Everything up to `top` arrived.
    mutating func acknowledge(_ top: UInt64, _ now: Millis) {
        var kept: [InFlight] = []
        for flight in inFlight {
            if flight.to > top {
                kept.append(flight)
            } else {
                if !flight.isRepeat {
                    let sample = min(max(1, now - flight.at), OwnStream.timeoutMillisMax)
                    smoothedAck = smoothedAck.map { ($0 * 7 + sample) / 8 } ?? sample
                }
                backoff = 0
                waitingSince = now
            }
        }
        inFlight = kept
    }

    /// The server's silence is over: from now on its gateway is to blame for what it does not acknowledge.
    mutating func restartWaiting(_ now: Millis) { waitingSince = now }

    /// The server misses something that was sent.
    mutating func noteLoss(_ now: Millis) { lossSeenAt = now }

    /// It was answered with what it misses: what is on the way is not overdue yet.
    mutating func noteRepaired(_ now: Millis) {
        for i in inFlight.indices {
            inFlight[i].at = now
            inFlight[i].isRepeat = true
        }
    }

    /// What was sent as datagrams after `top` goes again.
    mutating func goBack(to top: UInt64, isStuck: Bool, _ now: Millis) {
        lossSeenAt = now
        backoff += 1
        inFlight.removeAll()
        previousBytes = 0
        if isStuck { waitingSince = now }
        sentTo = top
    }

    /// What was sent after `top` over a connection that stands goes again.
    mutating func goBackDelivered(to top: UInt64, _ now: Millis) {
        backoff += 1
        inFlight.removeAll()
        waitingSince = now
        sentTo = top
        large.removeAll { $0.from >= top }
    }

    /// Another connection took over without loss: what went over the one before is delivered by it.
    mutating func moveToNewLink(_ now: Millis) {
        for i in inFlight.indices { inFlight[i].deliveredAt = now }
        for i in large.indices where large[i].number != 0 { large[i].number = .max }
    }

    mutating func noteDelivered(_ link: ServerLink, _ now: Millis) {
        for i in inFlight.indices where inFlight[i].deliveredAt == nil {
            if link.isDelivered(inFlight[i].lane, inFlight[i].number) { inFlight[i].deliveredAt = now }
        }
    }

    /// The connection is lost with what was under way: everything after `top` goes again.
    mutating func linkBroke(acknowledged top: UInt64, _ now: Millis) {
        sentTo = min(sentTo, top)
        large.removeAll { $0.from >= sentTo }
        for i in large.indices { large[i].number = 0 }
        inFlight.removeAll()
        lossSeenAt = now
    }

    func checkInvariants(planted: PlantedMistakes) {
        check(large.count <= OwnStream.largeMax)
        check(inFlight.allSatisfy { $0.from <= $0.to && $0.bytes >= 0 })
        guard !planted(.resendOnLivingLink) else { return }
        for i in large.indices.dropFirst() { check(large[i - 1].from < large[i].from) }
    }
}
