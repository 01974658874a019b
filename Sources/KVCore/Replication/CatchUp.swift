// The asking side of scans: what this actor fetches, from whom, and how far that is. A part of `Replica`; on its
// actor's thread.

import KVBase

/// A scan that this actor asked for.
struct ScanAsker {
    /// Server, or for a local scan the sibling's index.
    fileprivate(set) var source: UInt64
    /// For a remote scan, the one actor of the source that may serve it: two would cut their chunks differently.
    fileprivate(set) var donorIndex = 0
    let session: UInt32
    /// Only who has seen that much may take what the donor had seen.
    let asked: VersionVector
    let everything: Bool
    let completesJoin: Bool
    /// The source was catching up itself when it was asked.
    fileprivate(set) var isOfNewcomer = false
    /// Chunks queued for merging, and merged.
    fileprivate(set) var queued: UInt64 = 0
    fileprivate(set) var next: UInt64 = 0
    /// How much of the source's table is merged.
    fileprivate(set) var percent = 0
    fileprivate(set) var lastProgress: Millis
    /// An entry was refused (the frontier): the scan cannot count.
    fileprivate(set) var isRefused = false
    /// Number of the first page in the stream to the siblings.
    let firstItem: UInt64
    /// What the source has: if this server's disk is stale.
    fileprivate(set) var donorKeys: DonorKeys?

    /// What every sibling needs to conclude the scan.
    func end(_ start: VersionVector, _ frontier: VersionVector, floor: Millis) -> ScanEnd {
        ScanEnd(
            firstItem: firstItem, asked: asked, start: start, frontier: frontier, floor: floor,
            completesJoin: completesJoin, isOfNewcomer: isOfNewcomer, donorKeys: donorKeys)
    }
}

/// At most one scan of another server and one of a sibling at a time.
struct CatchUp {
    /// Without a chunk for so long a scan is given up.
    static let silenceMillisMax: Millis = 5_000

    /// This actor finished its first catch-up, or never needed one.
    private var isDone: Bool
    /// What every actor of the server had seen when it started.
    private var atStart = VersionVector()
    /// It did so from a server that was catching up itself.
    private var isFromNewcomer = false
    /// Then: what each server that is up had seen when it was looked at first.
    private var owed: [(server: UInt64, seen: VersionVector)] = []
    private var remote: ScanAsker?
    private var local: ScanAsker?
    private var nextSession: UInt32 = 1
    private var lastEnded: Millis?
    /// The server whose scan ended for want of progress or with a page refused, if that was the last one.
    private var silentDonor: UInt64?
    private var localRefused = false
    /// When an actor that is not caught up first saw that its server is.
    private var joinEndedAt: Millis?

    init(isCaughtUp: Bool) { isDone = isCaughtUp }

    /// Others have collected what its directory knows nothing of.
    private var isDiskStale = false
    /// Merged before the end of a first scan that a directory made shorter: what that proves is open until then.
    private var withheld: [LogInterval] = []
    /// Of these; what comes beyond proves nothing on disk until the next snapshot.
    private static let withheldMax = 4096

    /// The server found this in its directory.
    mutating func begin(with vector: VersionVector) { atStart = vector }

    // MARK: State

    /// A first scan need not bring what this covers.
    var known: VersionVector { atStart }
    var isCaughtUp: Bool { isDone }
    /// It has not caught up, and found something in its directory.
    var isReturning: Bool { !isDone && atStart.seqs.contains { $0 > 0 } }
    /// What it found may not be trusted: the scan has to be of everything.
    var isStale: Bool { isDiskStale }
    mutating func noteStale() { isDiskStale = true }

    mutating func withhold(_ origin: OriginIndex, _ from: UInt64, _ to: UInt64) {
        if let i = withheld.lastIndex(where: { $0.origin == origin }), withheld[i].to >= from, withheld[i].from <= from
        {
            withheld[i].to = max(withheld[i].to, to)
        } else if withheld.count < CatchUp.withheldMax {
            withheld.append(LogInterval(origin: origin, from: from, to: to))
        }
    }

    mutating func takeWithheld() -> [LogInterval] {
        defer { withheld = [] }
        return withheld
    }
    var joinedNewcomer: Bool { isFromNewcomer }
    var isAsking: Bool { remote != nil }
    var isAskingSibling: Bool { local != nil }
    /// The scan of another server.
    var asker: ScanAsker? { remote }
    /// The scan of a sibling.
    var localAsker: ScanAsker? { local }
    /// A server that did not help the last time.
    var lastSilent: UInt64? { silentDonor }
    /// The last scan of a sibling ended with a page refused.
    var wasLocalRefused: Bool { localRefused }

    func asks(server: UInt64) -> Bool { remote?.source == server }
    func asks(sibling index: Int) -> Bool { local?.source == UInt64(index) }

    /// No scan of another server ended within `millis`.
    func isRested(_ now: Millis, _ millis: Millis) -> Bool { lastEnded.map { now - $0 > millis } ?? true }

    /// Since when this server has joined without this actor having caught up: now, if that is new.
    mutating func joinEnded(_ now: Millis) -> Millis {
        let since = joinEndedAt ?? now
        joinEndedAt = since
        return since
    }

    // MARK: Another server

    /// Begins a scan. Source 0: whoever answers a greeting.
    mutating func begin(
        _ source: UInt64, donorIndex: Int = 0, asked: VersionVector, everything: Bool, completesJoin: Bool,
        isOfNewcomer: Bool = false, firstItem: UInt64, donorKeys: DonorKeys? = nil, _ now: Millis
    ) {
        remote = ScanAsker(
            source: source, donorIndex: donorIndex, session: takeSession(), asked: asked, everything: everything,
            completesJoin: completesJoin, isOfNewcomer: isOfNewcomer, lastProgress: now, firstItem: firstItem,
            donorKeys: donorKeys)
    }

    private mutating func takeSession() -> UInt32 {
        defer { nextSession += 1 }
        return nextSession
    }

    /// The scan asked for in a greeting is answered by this actor of a server.
    mutating func bind(_ donor: ActorUID, isOfNewcomer: Bool) {
        remote?.source = donor.server
        remote?.donorIndex = Int(donor.index)
        remote?.isOfNewcomer = isOfNewcomer
    }

    /// Gives the scan up without blaming its source.
    mutating func drop() { remote = nil }

    /// A new scan goes to a server that a stuck repair between siblings waited for.
    mutating func forgetRefusal() { localRefused = false }

    /// The donor says that it serves this session.
    mutating func noteServing(_ server: UInt64, _ session: UInt32, _ now: Millis) {
        if let remote, remote.source == server, remote.session == session { self.remote?.lastProgress = now }
    }

    /// A chunk arrived. True if it is the next one of the scan, or if `any` will do: then it counts as queued.
    mutating func queue(_ chunk: ChunkHead, from donor: ActorUID, any: Bool, _ now: Millis) -> Bool {
        guard let current = remote, current.source == donor.server else { return false }
        let isExpected =
            current.session == chunk.session && current.queued == chunk.number
            && current.donorIndex == Int(donor.index)
        guard isExpected || any else { return false }
        remote!.queued += 1
        remote!.lastProgress = now
        return true
    }

    /// A chunk is merged. Returns the scan as it is now, nil if it is none of it.
    mutating func merged(
        _ session: UInt32, percent: Int = 0, any: Bool, isRefused: Bool, _ now: Millis
    ) -> ScanAsker? {
        guard let current = remote, current.session == session || any else { return nil }
        remote!.next += 1
        remote!.percent = percent
        remote!.isRefused = current.isRefused || isRefused
        remote!.lastProgress = now
        check(any || remote!.next <= remote!.queued)
        return remote
    }

    /// The scan's last chunk is merged.
    mutating func end(_ now: Millis) {
        guard let current = remote else { return }
        remote = nil
        silentDonor = current.isRefused ? current.source : nil
        lastEnded = now
    }

    /// The scan's source does not give any more.
    mutating func giveUp(_ now: Millis) {
        silentDonor = remote?.source
        remote = nil
        lastEnded = now
    }

    // MARK: A sibling

    mutating func beginLocal(
        _ index: Int, asked: VersionVector, everything: Bool, completesJoin: Bool, donorKeys: DonorKeys? = nil,
        _ now: Millis
    ) {
        local = ScanAsker(
            source: UInt64(index), session: takeSession(), asked: asked, everything: everything,
            completesJoin: completesJoin, lastProgress: now, firstItem: 0, donorKeys: donorKeys)
    }

    /// A page arrived. True if it is the next one of the scan: then it counts as queued.
    mutating func queueLocal(_ chunk: LocalChunk, from index: Int, _ now: Millis) -> Bool {
        guard let current = local, current.source == UInt64(index), current.session == chunk.session,
            current.queued == chunk.number
        else { return false }
        local!.queued += 1
        local!.lastProgress = now
        return true
    }

    /// A page is merged. Returns the scan as it is now, nil if it is none of it.
    mutating func mergedLocal(_ chunk: LocalChunk, from index: Int, isRefused: Bool, _ now: Millis) -> ScanAsker? {
        guard let current = local, current.source == UInt64(index), current.session == chunk.session else {
            return nil
        }
        local!.next += 1
        local!.isRefused = current.isRefused || isRefused
        local!.lastProgress = now
        return local
    }

    /// The scan's last page is merged.
    mutating func endLocal() {
        localRefused = local?.isRefused ?? false
        local = nil
    }

    mutating func dropSilentLocal(_ now: Millis) {
        if let local, now - local.lastProgress > CatchUp.silenceMillisMax { self.local = nil }
    }

    // MARK: The end

    /// Everything that a donor held is held here.
    mutating func complete(fromNewcomer: Bool) { (isDone, isFromNewcomer) = (true, fromNewcomer) }

    /// What must be here, of what a server has seen, before the floor says something of what is not: as it was when it
    /// was asked first. O(members).
    mutating func owed(of server: UInt64, now seen: VersionVector) -> VersionVector {
        if let owed = owed.first(where: { $0.server == server }) { return owed.seen }
        owed.append((server, seen))
        return seen
    }

    mutating func forgetOwed() { owed = [] }

    func checkInvariants() {
        for asker in [remote, local] { check(asker.map { $0.session < nextSession } ?? true) }
    }
}
