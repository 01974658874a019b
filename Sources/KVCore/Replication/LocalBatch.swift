// What one query actor hands to a sibling of the same process, by reference. Immutable once made; any thread may hold
// it.

package import KVBase

/// One element of a sender's stream to its siblings. Elements are numbered from 1 and repeated until acknowledged, so a
/// sibling takes them in order and exactly once.
enum LocalItem: Sendable {
    case delta(DeltaSegment)
    case scanEnd(ScanEnd)

    var entryCount: Int { if case .delta(let segment) = self { segment.count } else { 0 } }
    var byteCount: Int { if case .delta(let segment) = self { segment.payloadBytes } else { 0 } }
}

/// All pages of a catch-up scan have been relayed: whoever saw every one of them now holds what the donor held.
final class ScanEnd: Sendable {
    /// Number of the first element of this scan in the relaying actor's stream.
    let firstItem: UInt64
    /// The vector the donor filtered by: only who covers it may take the step.
    let asked: VersionVector
    /// The donor's vector when its scan began.
    let start: VersionVector
    let frontier: VersionVector
    let floor: Millis
    let completesJoin: Bool
    let isOfNewcomer: Bool
    /// What the donor has, if the scan was of everything: what it covers beside that is to be dropped.
    let donorKeys: DonorKeys?

    init(
        firstItem: UInt64, asked: VersionVector, start: VersionVector, frontier: VersionVector, floor: Millis,
        completesJoin: Bool, isOfNewcomer: Bool, donorKeys: DonorKeys? = nil
    ) {
        self.firstItem = firstItem
        self.asked = asked
        self.start = start
        self.frontier = frontier
        self.floor = floor
        self.completesJoin = completesJoin
        self.isOfNewcomer = isOfNewcomer
        self.donorKeys = donorKeys
    }
}

/// What a whole server had seen at some moment: the basis of tombstone collection (docs/replication.md 10.1).
package struct StabilityReport: Sendable, Equatable {
    /// The reporting process's steady clock; later reports replace earlier ones.
    package var stamp: Millis
    /// Element-wise minimum over the server's actors.
    package var least: VersionVector
    /// Own writes of each of its actors, taken from the very vectors that entered the minimum; by actor index.
    package var heads: [UInt64]
    /// Departed servers whose writes all actors of the server hold equally, all knowing that they departed.
    package var level: [UInt64]
    /// Marks of the departed servers that all its actors have retired, sorted: see `Replica.shown`.
    package var retired: [UInt64]
    /// The least of its actors' corrected clocks when these were their vectors: what they write later, they write
    /// knowing which deadlines lie before this.
    package var clock: Millis = 0
    /// `least` is no more than what the server's disk has, by a sync.
    package var isOnDisk = false
}

/// A missing interval (from, to] of an origin's writes.
struct RepairAsk: Sendable, Equatable {
    var origin: OriginIndex
    var from: UInt64
    var to: UInt64
}

/// Request for, and flow control of, a catch-up scan. Repeated until the scan is complete.
struct ScanAsk: Sendable, Equatable {
    var session: UInt32
    /// Chunks below this are merged.
    var next: UInt64
    /// Chunks the donor may send from `next` on; 0 pauses it.
    var credit: UInt64
    /// Entries covered by this need not be sent.
    var vector: VersionVector
    /// Send everything and merge it whatever the vectors say: the repair after a divergence.
    var everything: Bool
}

/// One piece of a scan between siblings.
struct LocalChunk: Sendable {
    var session: UInt32
    var number: UInt64
    var isLast: Bool
    var start: VersionVector
    var frontier: VersionVector
    var page: DeltaSegment
}

/// What an actor knows about another server, passed on so that every sibling knows it.
struct ServerNews: Sendable {
    var server: UInt64
    /// Steady time at which this process last heard from it; nil if never.
    var heardAt: Millis?
    /// The same of what it says to members.
    var tellingAt: Millis?
    var seenGapless: VersionVector
    var seenAtMost: VersionVector
    var report: StabilityReport?
    /// Its wall clock minus our steady one.
    var offset: Millis?
    /// Steady time of the frame from which it was last estimated.
    var offsetAt: Millis
    var roundTrip: Millis?
    /// How far its actors said they had sent their own writes.
    var announcedTo: [(origin: OriginIndex, to: UInt64)] = []
    /// What this actor's scan for it proves: only what came later need be streamed to it.
    var scanStart: VersionVector?
}

struct ForwardedAsk: Sendable {
    var server: UInt64
    var ask: RepairAsk
}

/// The one message of an ordered pair of siblings in a period. Nothing in it is copied: the segments are shared.
package final class LocalBatch: @unchecked Sendable {
    package let fromIndex: Int
    let vector: VersionVector
    /// How much of it a power cut leaves; nil: the sender has no disk.
    let durable: VersionVector?
    /// What of it does not rest on the word of others alone.
    let sure: VersionVector
    let digest: UInt64
    let floor: Millis
    /// The sender's corrected clock.
    let clock: Millis
    /// Number of `items[0]`, or of the next item ever if there is none.
    let firstItem: UInt64
    let items: [LocalItem]
    /// The receiver's items that this sender has merged.
    let ackedItem: UInt64
    let news: [ServerNews]
    let rowsHash: UInt64
    let rows: [MemberRow]
    /// Of each row the server that told it; 0: the server itself.
    let tellers: [UInt64]
    /// Who says of a server that can be heard that it is gone.
    let votes: [DepartureVote]
    let asks: [ForwardedAsk]
    let scanAsk: ScanAsk?
    let scanChunk: LocalChunk?
    let isFlushed: Bool
    let isSettled: Bool
    /// Own writes of the sender went to somebody who has not said who it is.
    let hasGreeted: Bool
    /// The sender adopts what a departed server left, or its siblings have not got all of that yet.
    let isAdopting: Bool
    /// Departed servers of which the sender holds nothing loose.
    let level: [UInt64]
    /// Marks of the departed servers that the sender retired, sorted.
    let retired: [UInt64]
    /// Bytes the batch would have if it were marshalled (deltas and their overhead; the head is estimated).
    package let wireBytes: Int

    init(
        fromIndex: Int, vector: VersionVector, digest: UInt64, floor: Millis, firstItem: UInt64, items: [LocalItem],
        ackedItem: UInt64, news: [ServerNews], rowsHash: UInt64, rows: [MemberRow], tellers: [UInt64],
        votes: [DepartureVote], asks: [ForwardedAsk], scanAsk: ScanAsk?, scanChunk: LocalChunk?, isFlushed: Bool,
        isSettled: Bool, hasGreeted: Bool, isAdopting: Bool, level: [UInt64], retired: [UInt64], clock: Millis = 0,
        sure: VersionVector? = nil, durable: VersionVector? = nil
    ) {
        self.fromIndex = fromIndex
        self.vector = vector
        self.durable = durable
        self.sure = sure ?? vector
        self.digest = digest
        self.floor = floor
        self.clock = clock
        self.firstItem = firstItem
        self.items = items
        self.ackedItem = ackedItem
        self.news = news
        self.rowsHash = rowsHash
        self.rows = rows
        self.tellers = tellers
        self.votes = votes
        self.asks = asks
        self.scanAsk = scanAsk
        self.scanChunk = scanChunk
        self.isFlushed = isFlushed
        self.isSettled = isSettled
        self.hasGreeted = hasGreeted
        self.isAdopting = isAdopting
        self.level = level
        self.retired = retired
        var bytes = 64 + 6 * vector.count
        for item in items { if case .delta(let segment) = item { bytes += segment.wireBytes } }
        if let scanChunk { bytes += scanChunk.page.wireBytes }
        wireBytes = bytes
    }

    /// Delta entries carried, for tests and the simulator's memory checks.
    package var entryCount: Int { items.reduce(scanChunk?.page.count ?? 0) { $0 + $1.entryCount } }
}
