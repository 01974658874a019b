// What one actor knows of the connection to a server: what of its frames left, what the line carries. Plain values,
// owned by the replica.

import KVBase

struct ServerLink {
    private var current: UInt64 = 0
    private var lostAt: Millis?
    private var handed: [UInt64] = [0, 0]
    private var progress = LinkProgress(session: 0)
    /// These are kept over the end of a connection: the next one takes the same path.
    private var rate = 0
    private var roundTrip: Millis?
    private var hunger = 1
    /// When each bulk frame that has not left was handed over, and when the last one left.
    private var bulkHandedAt: [Millis] = []
    private var bulkLeftAt: Millis = 0
    /// Bulk frames handed over at most that have not left: while one leaves the next one waits for its turn.
    private static let bulkWaitingMax: UInt64 = 2
    private static let appetiteMax = 64
    private static let hungryMillis: Millis = 105
    private static let fullMillis: Millis = 800

    /// The connection that stands; 0 if there is none.
    var session: UInt64 { current }
    var isUp: Bool { current != 0 }
    /// Since when there is none, if there was one.
    var downSince: Millis? { lostAt }
    /// What the line carries, as far as known; 0 and nil if not.
    var bytesPerSecond: Int { rate }
    var roundTripMillis: Millis? { roundTrip }
    /// Chunks are so many times what the rate known so far asks for: a line that takes them at once is hungry.
    var appetite: Int { hunger }

    /// `greeted` frames went over it before it was known whose it is.
    mutating func up(_ session: UInt64, greeted: UInt64) {
        current = session
        lostAt = nil
        handed = [greeted, 0]
        progress = LinkProgress(session: session)
        progress.live.left = greeted
        bulkHandedAt = []
    }

    mutating func down(_ now: Millis) {
        if current != 0 || lostAt == nil { lostAt = now }
        current = 0
    }

    /// False if it is about another connection.
    mutating func moved(_ progress: LinkProgress, _ now: Millis) -> Bool {
        guard progress.session == current, current != 0 else { return false }
        let before = self.progress.bulk.left
        let gone = max(before, progress.bulk.left) - before
        for _ in 0..<min(gone, UInt64(bulkHandedAt.count)) {
            let taken = now - max(bulkHandedAt.removeFirst(), bulkLeftAt)
            bulkLeftAt = now
            if taken < ServerLink.hungryMillis { hunger = min(2 * hunger, ServerLink.appetiteMax) }
            if taken > ServerLink.fullMillis { hunger = max(1, hunger / 2) }
        }
        self.progress = progress
        if progress.bytesPerSecond > 0 { rate = progress.bytesPerSecond }
        roundTrip = progress.roundTripMillis ?? roundTrip
        return true
    }

    /// Numbers the frame within its lane.
    mutating func handOver(_ lane: FrameLane, _ now: Millis) -> UInt64 {
        if lane == .bulk { bulkHandedAt.append(now) }
        handed[Int(lane.rawValue)] += 1
        return handed[Int(lane.rawValue)]
    }

    private func lane(_ lane: FrameLane) -> LaneProgress { lane == .live ? progress.live : progress.bulk }

    /// Another frame may be handed over: nothing of this actor waits in this lane on this machine, or little of bulk.
    func isFree(_ lane: FrameLane) -> Bool { waiting(lane) < (lane == .bulk ? ServerLink.bulkWaitingMax : 1) }
    /// One frame waits in the lane, no more.
    func isAlmostFree(_ lane: FrameLane) -> Bool { waiting(lane) <= 1 }
    /// All that was handed over has left.
    func isEmpty(_ lane: FrameLane) -> Bool { waiting(lane) == 0 }
    private func waiting(_ lane: FrameLane) -> UInt64 {
        let handed = handed[Int(lane.rawValue)]
        return handed - min(handed, self.lane(lane).left)
    }
    func hasLeft(_ lane: FrameLane, _ number: UInt64) -> Bool { self.lane(lane).left >= number }
    func isDelivered(_ lane: FrameLane, _ number: UInt64) -> Bool { self.lane(lane).delivered >= number }
    func isAllDelivered(_ lane: FrameLane) -> Bool { self.lane(lane).delivered >= handed[Int(lane.rawValue)] }

    func checkInvariants() {
        check((1...ServerLink.appetiteMax).contains(hunger) && handed.count == 2)
        check(progress.session == current || current == 0)
        check(bulkHandedAt.count <= ServerLink.bulkWaitingMax)
    }
}

/// How large what goes to one server in one frame may be.
struct FrameLimits {
    /// A section of own writes.
    var sectionBytes: Int
    /// A value above it goes in a frame of its own, which small ones overtake.
    var largeBytes: Int
    /// A scan's chunk.
    var chunkBytes: Int
    /// Up to here a chunk goes together with everything else.
    var quickBytes: Int
}

extension FrameLimits {
    private static let sectionMillis = 210
    private static let behindMillis = 2_000
    private static let quickMillis = 50
    /// Long enough for a rate that doubles each round trip to be noticed, short enough that a lost connection costs
    /// little.
    private static let chunkMillis = 800
    private static let sectionBytesMin = 64 * 1024
    private static let quickBytesMin = 16 * 1024
    private static let chunkBytesMin = 32 * 1024

    /// How many writes a server has not been sent.
    enum Backlog {
        case usual, large
        /// So many that the journal may lose them.
        case greatest
    }

    /// For a line that carries so much; 0 if that is not known.
    init(_ link: ServerLink, _ backlog: Backlog, _ config: ReplicaConfig) {
        let bytesPerSecond = link.bytesPerSecond
        func share(_ millis: Int, _ least: Int, _ most: Int) -> Int {
            min(max(least, Int(clamping: Int64(bytesPerSecond / 1000) * Int64(millis))), max(least, most))
        }
        let sectionMax = config.frameBytesMax / 4 * 3
        let sectionMin = min(FrameLimits.sectionBytesMin, sectionMax)
        sectionBytes =
            switch backlog {
            case .usual: share(FrameLimits.sectionMillis, sectionMin, sectionMax)
            case .large: share(FrameLimits.behindMillis, sectionMin, sectionMax)
            case .greatest: sectionMax
            }
        quickBytes = share(FrameLimits.quickMillis, FrameLimits.quickBytesMin, sectionMax)
        largeBytes = quickBytes
        let chunkMin = min(FrameLimits.chunkBytesMin, config.chunkBytesMax)
        chunkBytes = min(
            share(FrameLimits.chunkMillis, chunkMin, config.chunkBytesMax) * link.appetite, config.chunkBytesMax)
    }

    func allow(_ segment: DeltaSegment) -> Bool {
        largeBytes == .max || segment.payloadBytes <= sectionBytes + quickBytes && segment.largestBytes <= largeBytes
    }

    /// Where nothing is known of the line.
    init(_ config: ReplicaConfig) {
        sectionBytes = config.frameBytesMax / 4 * 3
        (largeBytes, chunkBytes, quickBytes) = (.max, config.chunkBytesMax, .max)
    }
}
