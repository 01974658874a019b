// What one replica remembers about a sibling and about another server. Owned by the replica.

import KVBase

/// A query actor of the same process.
final class Sibling {
    let index: Int
    let origin: OriginIndex
    var pacer = PairPacer()
    /// My items it has merged, and the last one handed to it.
    var acked: UInt64 = 0
    var sentTo: UInt64 = 0
    /// Its items queued and merged here; `jumped` is the first item after the last hole.
    var enqueued: UInt64 = 0
    var applied: UInt64 = 0
    var jumped: UInt64 = 0
    var isHeard = false
    var isFlushed = false
    var hasGreeted = false
    var vector = VersionVector()
    var level: [UInt64] = []
    var retired: [UInt64] = []
    var floor: Millis = 0
    /// Its newest vector that may be used for collection, and one that waits for its actor's own writes to arrive.
    var usable: VersionVector?
    var waiting: VersionVector?
    var rowsHash: UInt64 = 0
    /// Steady time from which a batch is wanted for other reasons than deltas; `.max` if none.
    var wantedAt: Millis = .min
    var asks: [ForwardedAsk] = []
    var unequalSince: Millis?
    var donor: ScanDonor?

    init(index: Int, origin: OriginIndex) {
        self.index = index
        self.origin = origin
    }
}

/// Own writes on the way to a server.
struct InFlight {
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

/// Another server: what it has, what it was sent, how far away it is.
final class RemoteServer {
    static let roundTripGuess: Millis = 600
    static let timeoutMillisMin: Millis = 220
    static let timeoutMillisMax: Millis = 5_000
    /// A link that carries less, with merging at its end, has its large deltas sent twice.
    static let bytesPerMilli = 4 * 1024
    /// A small un-acknowledged delta goes out twice for this long after a loss was noticed.
    static let lossMemoryMillis: Millis = 30_000
    static let redundantBytesMax = 16 * 1024

    let id: UInt64
    var actorCount: Int
    var pacer = PairPacer()

    // Receiving.
    let knownSince: Millis
    /// What was collected without asking it, because nobody here knew it or because a donor did: up to which writes,
    /// and up to which stamp.
    var frontierBefore = VersionVector()
    var floorBefore: Millis = .min
    var heardAt: Millis?
    /// Since when another process is heard at its address while it is silent itself.
    var replacedSince: Millis?
    /// A vector arrived: sending deltas makes sense.
    var isContacted = false
    var contactedAt: Millis?
    /// Element-wise maximum of its actors' vectors, and the same with islands counted as if their gap were closed.
    var reach = VersionVector()
    var tops = VersionVector()
    var report: StabilityReport?
    /// Newest report whose heads this replica covers: only that may be used for collection.
    var usableReport: StabilityReport?
    /// One whose heads are not covered yet, kept so that a busy server is not chased for ever.
    var waitingReport: StabilityReport?
    var rowsHash: UInt64 = 0
    var echo: Millis = 0
    var echoAt: Millis = 0
    var clock = ClockSample()
    /// From this actor's frames or a sibling's, whoever took a sample last: the server may long have another gateway.
    var offset: Millis?
    var offsetAt: Millis = .min
    var roundTrip: Millis?
    var announced: PeerState?
    var unequalSince: Millis?
    var unequalCount = 0

    // Sending.
    var link = ServerLink()
    var sent: UInt64 = 0
    /// Own writes up to `sent` that go apart because one of them is large; in order.
    var large: [LargeInterval] = []
    static let largeMax = 16
    /// The next frame is a bulk one.
    var isBulkNext = false
    var inFlight: [InFlight] = []
    var smoothedAck: Millis?
    var backoff = 0
    /// Since when own writes wait for an acknowledgement without any progress.
    var waitingSince: Millis = 0
    var shift = 0
    var lossSeenAt: Millis?
    /// Start and size of the section sent last, to repeat it while losses are likely.
    var previousFrom: UInt64 = 0
    var previousBytes = 0
    var wantedAt: Millis = .min
    var reportSentAt: Millis?
    var repairs: [RepairAsk] = []
    /// Two scans with this server, one each way, may need different addressees: they take turns.
    var isAskNext = false
    var lastRepair: (ask: RepairAsk, at: Millis)?
    /// Own highest write it is known to have sent us, by origin: a gap behind it is asked for.
    var announcedTo: [(origin: OriginIndex, to: UInt64)] = []
    var donor: ScanDonor?

    init(id: UInt64, actorCount: Int, knownSince: Millis) {
        self.id = id
        self.knownSince = knownSince
        self.actorCount = actorCount
    }

    func announced(_ origin: OriginIndex, _ to: UInt64) {
        if let place = announcedTo.firstIndex(where: { $0.origin == origin }) {
            announcedTo[place].to = max(announcedTo[place].to, to)
        } else {
            announcedTo.append((origin, to))
        }
    }

    var bytesInFlight: Int { inFlight.reduce(0) { $0 + $1.bytes } }

    /// How long an answer usually takes. A connection that stood through a cut says nothing of that by its
    /// acknowledgements.
    var usualRoundTrip: Millis { link.roundTripMillis ?? smoothedAck ?? RemoteServer.roundTripGuess }

    /// Until when the acknowledgement of a small delta is not late.
    var usualAckMillis: Millis {
        max((smoothedAck ?? RemoteServer.roundTripGuess) * 3 / 2 + 110, RemoteServer.timeoutMillisMin)
    }

    /// The same of all that is on its way.
    var patienceMillis: Millis { usualAckMillis + Millis(bytesInFlight / RemoteServer.bytesPerMilli) }

    var timeoutMillis: Millis {
        min(patienceMillis << Millis(min(backoff, 5)), RemoteServer.timeoutMillisMax)
    }

    /// What starts at `from` went out again because of a timeout, too short a time ago to be acknowledged.
    func isSentAgain(_ from: UInt64, _ now: Millis) -> Bool {
        guard backoff > 0, let flight = inFlight.first(where: { $0.from <= from && $0.to > from }) else { return false }
        return now - flight.at < usualAckMillis
    }

    func isSuspect(_ now: Millis, _ suspectMillis: Millis) -> Bool {
        guard let heardAt else { return true }
        return now - heardAt > suspectMillis
    }

    /// How far own writes went out without a hole that is still to be filled by a frame that has not left.
    var sentGapless: UInt64 {
        let owed = large.first { $0.number == 0 || $0.number != .max && !link.hasLeft(.bulk, $0.number) }
        return owed.map { min(sent, $0.from) } ?? sent
    }

    /// Takes note that everything up to `top` arrived.
    func acknowledged(_ top: UInt64, _ now: Millis) {
        var kept: [InFlight] = []
        for flight in inFlight {
            if flight.to > top {
                kept.append(flight)
            } else {
                if !flight.isRepeat {
                    let sample = min(max(1, now - flight.at), RemoteServer.timeoutMillisMax)
                    smoothedAck = smoothedAck.map { ($0 * 7 + sample) / 8 } ?? sample
                }
                backoff = 0
                waitingSince = now
            }
        }
        inFlight = kept
    }
}
