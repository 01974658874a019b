// The replication state machine of one query actor. All calls come from that actor's thread; nothing in here waits or
// reads a clock.

package import KVBase

/// Turns own writes into deltas for the siblings and the other servers, merges theirs, finds and repairs what got lost.
///
/// Driven from outside: `receive` for what arrives, `tick` when the steady clock reaches `nextDeadline`, `step` once a
/// turn while it returns true. Everything to be sent is appended to a `ReplicaEffects`. Every message may be lost,
/// duplicated, reordered or delayed, between siblings too. The design and its invariants are in the project's
/// replication document; versions and merging themselves are the store's.
package final class Replica {
    package let config: ReplicaConfig
    package let store: Store
    package let uid: ActorUID
    let origins: OriginTable
    let own: OriginIndex
    package var statistics = ReplicaStatistics()

    // What this replica has seen.
    /// Own writes are not kept up to date in here: see `vector`.
    var seen = VersionVector()
    /// Intervals merged beyond a gap, at most one per origin.
    var islands: [Island] = []
    /// Highest write merged of each origin, in order or not: while it is ahead of `seen`, content may differ between
    /// replicas with equal vectors.
    var newest = VersionVector()
    /// Greatest collected tombstone of each origin.
    var frontier = VersionVector()

    // Who else there is.
    var members = Membership()
    /// Connections of servers that are not known yet.
    var standing: [(server: UInt64, session: UInt64)] = []
    var greeted: [GreetedLink] = []
    /// Sorted by index.
    var siblings: [Sibling] = []
    /// Members only, sorted by id.
    var servers: [RemoteServer] = []
    /// This actor finished its first catch-up, or never needed one.
    package internal(set) var isCaughtUp: Bool
    /// It did so from a server that was catching up itself.
    var joinedNewcomer = false
    var isLeaving = false
    /// What this actor had seen when it began to leave.
    var owed = VersionVector()
    /// A sibling was told that this actor's writes were handed over.
    var hasSaidFlushed = false
    var ages = WriteAges()
    var startedAt: Millis?
    var lastCensus: Millis = .min
    var clockCorrection: Millis = 0

    /// Sees every early write that is stamped again, the old record and the new one (borrowed), for the simulator's
    /// oracle: another write may beat the new one within the same slice of work.
    package var onRestamp: ((Record, Record) -> Void)?

    // Outgoing deltas.
    var log = LocalLog()
    /// Own writes up to here are in the stream to the siblings.
    var loggedTo: UInt64 = 0
    var builder: SegmentBuilder?
    var roundTarget: UInt64 = 0
    var isRoundOpen = false
    /// Own segments made last, for servers that stand at the same position.
    var ownSegments: [OwnSegment] = []
    /// Segments no longer needed, given up in slices.
    var discarded: [DeltaSegment] = []
    /// Other writers' segments merged last: answers to repair requests when their writer is out of the asker's reach.
    var recent: [DeltaSegment] = []
    var recentBytes = 0
    static let bufferBytes = 4096
    /// What frames are made in; large ones take them along.
    var frameBuffer = OutputBuffer(capacity: Replica.bufferBytes)
    var entryBuffer = OutputBuffer(capacity: Replica.bufferBytes)

    // Incoming work.
    var inbox: [WorkItem] = []
    var inboxHead = 0
    var inboxBytes = 0

    // Repair.
    var asker: ScanAsker?
    var localAsker: ScanAsker?
    var nextSession: UInt32 = 1
    var lastScanEnded: Millis = .min
    /// The server whose scan ended for want of progress or with a page refused, if that was the last one.
    var silentDonor: UInt64?
    /// The last scan of a sibling ended with a page refused.
    var wasLocalRefused = false
    var lastRepairLook: Millis = .min
    /// When an actor that is not caught up first saw that its server is.
    var joinEndedAt: Millis?
    /// Per origin: value last seen and since when it has not moved although a peer is ahead.
    var stalled: [(value: UInt64, since: Millis)] = []
    var repairByDigestFrom: UInt64?
    /// When a replica with an equal vector had other content the last time.
    var differedAt: Millis?
    /// Departed servers: since when, which one's loose entries are being adopted, and which left the vector.
    var departedSince: [(server: UInt64, at: Millis)] = []
    var adoption: Adoption?
    /// Entries that were adopted, by writer and number.
    var adopted = HashSet64()
    var adoptedCount = 0
    var retiredHere: [UInt64] = []
    /// How far the writes of the servers in `retiredHere` were seen when they were retired, and a mark of that for
    /// each, in the same order.
    var finals = VersionVector()
    var retiredMarks: [UInt64] = []
    /// Servers that were removed but still talk, and when they were last told.
    var outcastAnswers: [(server: UInt64, at: Millis)] = []
    /// Divergence of a digest planted by a bug switch.
    var digestDrift: UInt64 = 0

    // Tombstones.
    var isCollecting = false
    var collectLeft = 0
    var lastCollect: Millis = .min
    var stable = VersionVector()
    var stableRetired: [UInt64] = []
    /// For a planted bug only.
    lazy var previousHeads = [UInt64](repeating: 0, count: config.actorCount)
    var lastStamp: Millis = 0

    // Pacing.
    var cachedDeadline: Millis = .min
    var dataToken: Millis = .min
    var announcedSeq: UInt64 = 0

    /// `rows` are the servers known at the start, for instance from `--join`; usually none. All siblings of a process
    /// must share `origins` and the store's hash seed.
    package init(config: ReplicaConfig, store: Store, origins: OriginTable, rows: [MemberRow] = []) {
        precondition(
            config.server != 0 && config.actorIndex < config.actorCount && config.actorCount <= Limits.actorsMax)
        self.config = config
        self.store = store
        self.origins = origins
        uid = ActorUID(server: config.server, index: UInt16(config.actorIndex))
        own = store.ownOrigin
        isCaughtUp = !config.joining
        for index in 0..<config.actorCount {
            // Interned by every sibling, in the same order, so that vectors can be compared from the first batch on.
            let origin = origins.intern(ActorUID(server: config.server, index: UInt16(index)))!
            if index != config.actorIndex { siblings.append(Sibling(index: index, origin: origin)) }
        }
        _ = members.merge(
            MemberRow(
                server: config.server, status: config.joining ? .joining : .up, actorCount: config.actorCount,
                address: config.address))
        var ignored = ReplicaEffects()
        for row in rows { learn(row, Moment(wall: 0, steady: .min), into: &ignored) }
    }

    deinit {
        clearInbox()
        builder?.abandon()
        frameBuffer.deallocate()
        entryBuffer.deallocate()
    }

    // MARK: Figures

    /// What has taken effect here, own writes included. Origins of retired servers stand at `VersionVector.retired`.
    package var vector: VersionVector {
        var vector = seen
        vector.set(own, store.ownSeq)
        return vector
    }

    /// Digest of the live records, as KVD DIGEST replies it.
    package var digest: UInt64 { store.digest &+ digestDrift }

    /// The member table, own row included, sorted by id.
    package var memberRows: [MemberRow] { members.rows }

    /// What KVD PEERS and INFO call this server: `alone` as long as nobody has answered its --join.
    package var ownState: String {
        if isCaughtUp, !isJoining { return "up" }
        return servers.contains(where: \.isContacted) ? "syncing" : "alone"
    }

    package var isJoining: Bool { members.row(uid.server)?.status == .joining }

    /// Add this to the wall clock when stamping writes: 0 unless this machine's clock is far from the majority's.
    package var clockCorrectionMillis: Millis { clockCorrection }

    /// Record references held for siblings, and bytes waiting to be merged: bounded by the configuration.
    package var heldEntries: Int { log.entryCount }
    package var inboxBytesHeld: Int { inboxBytes }

    /// Nothing was merged beyond the vector, so equal vectors mean equal content.
    var isSettled: Bool { islands.isEmpty && inboxHead == inbox.count && isCaughtUp && vector.dominates(newest) }

    func corrected(_ at: Moment) -> Millis { at.wall &+ clockCorrection }

    func server(_ id: UInt64) -> RemoteServer? {
        // A handful of servers: a loop beats a dictionary, and its order means nothing.
        for server in servers where server.id == id { return server }
        return nil
    }

    func sibling(_ index: Int) -> Sibling? {
        let at = index < config.actorIndex ? index : index - 1
        return at >= 0 && at < siblings.count && siblings[at].index == index ? siblings[at] : nil
    }

    var spacing: Millis { config.bugs.contains(.spacing100) ? 100 : config.spacingMillis }

    // MARK: Driving

    /// Steady time at which `tick` wants to be called; not after `at.steady` means at once. O(1); asked once a turn.
    package func nextDeadline(_ at: Moment) -> Millis {
        if hasWork { return at.steady }
        if store.ownSeq != announcedSeq { return min(cachedDeadline, dataToken) }
        return cachedDeadline
    }

    /// Sends what is due. Calling it early or late is harmless.
    package func tick(_ at: Moment, into effects: inout ReplicaEffects) {
        if startedAt == nil { startedAt = at.steady }
        ages.note(store.ownSeq, at.steady)
        census(at, into: &effects)
        lookForGaps(at)
        if !isRoundOpen { openRound(at) }
        if isRoundOpen, advanceRound(budget: config.entriesPerStep) >= 0, builder == nil {
            closeRound(at, into: &effects)
        }
        scheduleNext(at)
    }

    /// One slice of work, well under a millisecond: merging what arrived, walking for a scan, collecting tombstones,
    /// building a large delta. True if more is left: call it again in the next turn.
    package func step(_ at: Moment, into effects: inout ReplicaEffects) -> Bool {
        var budget = config.entriesPerStep
        if isRoundOpen {
            budget -= advanceRound(budget: budget)
            if builder == nil { closeRound(at, into: &effects) }
        }
        if budget > 0 { budget -= work(budget: budget, at, into: &effects) }
        if budget > 0 { budget -= advanceDonors(budget: min(budget, Replica.donorEntriesPerStep), at) }
        if budget > 0, adoption != nil { budget -= advanceAdoption(budget: budget, into: &effects) }
        if budget > 0, isCollecting { collect(budget: budget, at) }
        if budget > 0, !discarded.isEmpty { _ = releaseDiscarded(budget: budget) }
        scheduleNext(at)
        return hasWork
    }

    var hasWork: Bool {
        if isRoundOpen || inboxHead < inbox.count || isCollecting || adoption != nil { return true }
        if !discarded.isEmpty { return true }
        for server in servers { if let donor = server.donor, donor.wantsWork { return true } }
        for sibling in siblings { if let donor = sibling.donor, donor.wantsWork { return true } }
        return false
    }

    func scheduleNext(_ at: Moment) {
        announcedSeq = store.ownSeq
        var deadline = at.steady + Replica.censusMillis
        // What arrives meanwhile must not put leaving off.
        if isLeaving, lastCensus != .min { deadline = min(deadline, lastCensus + spacing) }
        var token = Millis.max
        for sibling in siblings {
            deadline = min(deadline, due(sibling, at))
            token = min(token, sibling.pacer.earliest(spacing))
        }
        for server in servers {
            deadline = min(deadline, due(server, at))
            if mayCarryData(server, at) { token = min(token, server.pacer.earliest(spacing)) }
        }
        cachedDeadline = deadline
        dataToken = token
        // With deltas waiting already, the next write changes nothing.
        if loggedTo < announcedSeq && siblings.isEmpty && servers.isEmpty { dataToken = .max }
    }

    // MARK: Leaving

    /// The process shuts down: keep calling `tick` and `step` until `hasLeft` or until patience ends.
    package func beginLeave(_ at: Moment, into effects: inout ReplicaEffects) {
        isLeaving = true
        owed = seen
        for server in servers { server.wantedAt = at.steady }
        for sibling in siblings { sibling.wantedAt = at.steady }
        census(at, into: &effects)
    }

    /// Every server that can be heard has all own writes of this actor and all it had seen when it began to leave, or
    /// none can be heard any more. Others' writes matter because what departed servers left may be nowhere else: a
    /// newcomer has it when its scan is through. A newcomer that wrote and has not reached anybody yet waits for its
    /// first contact.
    func isFlushed(_ at: Moment) -> Bool {
        if config.bugs.contains(.leaveWithoutFlush) { return true }
        if isJoining, store.ownSeq > 0, !servers.contains(where: \.isContacted) { return false }
        // With nobody in reach, what no other server has stays owed: somebody may come back.
        if owedWrites > 0,
            !servers.contains(where: { $0.isContacted && !$0.isSuspect(at.steady, config.suspectMillis) }),
            isConnected
        {
            return false
        }
        for server in servers where server.isContacted && !server.isSuspect(at.steady, config.suspectMillis) {
            // Not `tops`: what lies beyond a gap there is no help once this process, which could fill the gap, is gone.
            if server.reach[own] < store.ownSeq || !hasOwed(server) { return false }
        }
        return true
    }

    /// Own writes that no other server is known to have. None where there is no other, unless this one was told of
    /// some.
    package var owedWrites: UInt64 {
        if servers.isEmpty { return isJoining ? store.ownSeq : 0 }
        let held = servers.reduce(UInt64(0)) { max($0, $1.reach[own]) }
        return store.ownSeq - min(held, store.ownSeq)
    }

    /// The good-bye is with the other machines.
    package var hasDelivered: Bool { servers.allSatisfy { !$0.link.isUp || $0.link.isAllDelivered(.live) } }

    /// A newcomer has everything once it is up; but one that joined another newcomer may lack writes of servers that
    /// were retired before it came.
    private func hasOwed(_ server: RemoteServer) -> Bool {
        if !isJoining, members.row(server.id)?.status == .joining { return false }
        let reach = completed(server.reach, from: server)
        for i in 0..<owed.count {
            let due = owed.seqs[i] == VersionVector.retired ? finals[OriginIndex(i)] : owed.seqs[i]
            if reach[OriginIndex(i)] < due { return false }
        }
        return true
    }

    /// Nobody waits any more for a write that this actor makes by itself: a sibling that was told that all are handed
    /// over may say good-bye at any time, and what comes after that is taken from no one.
    func hasHandedOver(_ at: Moment) -> Bool {
        !members.isMember(uid.server) || hasSaidFlushed && isFlushed(at)
    }

    /// The others were told that this server left.
    package private(set) var hasLeft = false
    var leftFramesSent = 0

    func noteLeft() { hasLeft = true }

    /// Tells everybody about a new address of this server.
    package func changeAddress(_ address: Bytes, _ at: Moment, into effects: inout ReplicaEffects) {
        guard var row = members.row(uid.server) else { return }
        row.address = address
        row.incarnation += 1
        learnTrusted(row, at, into: &effects)
    }
}
