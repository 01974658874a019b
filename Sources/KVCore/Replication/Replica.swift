// The replication state machine of one query actor. All calls come from that actor's thread; nothing in here waits or
// reads a clock.

package import KVBase

/// Turns own writes into deltas for the siblings and the other servers, merges theirs, finds and repairs what got lost.
///
/// Driven from outside: `receive` for what arrives, `tick` when the steady clock reaches `nextDeadline`, `step` once a
/// turn while it returns true. Everything to be sent is appended to a `ReplicaEffects`. Every message may be lost,
/// duplicated, reordered or delayed, between siblings too. The design and its invariants are in the project's
/// replication document; versions and merging themselves are the store's.
///
/// It holds configuration, store and peers and decides the order of work. State belongs to the parts below, each in a
/// file of its own; no part reaches into another.
package final class Replica {
    package let config: ReplicaConfig
    package let store: Store
    package let uid: ActorUID
    let origins: OriginTable
    let own: OriginIndex
    @exclusivity(unchecked) package var statistics = ReplicaStatistics()

    // `nextDeadline` is asked after every turn of the loop. What it looks at goes without the run-time check of
    // exclusive access, which costs 70 instructions each: one thread calls, and no part calls back.

    // What has taken effect here, and what was forgotten.
    @exclusivity(unchecked) var seen: Seen
    var hearsay = Hearsay()
    var held = HeldSections()
    var retired = RetiredServers()
    @exclusivity(unchecked) var collector = Collector()

    // Who else there is.
    var members = Membership()
    var votes = DepartureVotes()
    /// Sorted by index.
    @exclusivity(unchecked) var siblings: [Sibling] = []
    /// Members only, sorted by id.
    @exclusivity(unchecked) var servers: [RemoteServer] = []
    var links = LinkBook()
    var outcasts = Outcasts()
    @exclusivity(unchecked) var departures = Departures()

    // What goes out.
    var log = LocalLog()
    @exclusivity(unchecked) var round = OutgoingRound()
    var bench: FrameBench
    var recent = RecentSegments()
    @exclusivity(unchecked) var discards = Discards()

    // What comes in.
    @exclusivity(unchecked) var inbox: Inbox
    var catchUp: CatchUp
    var gaps = GapWatch()

    // When.
    @exclusivity(unchecked) var schedule = Schedule()
    var census = Census()
    var ages = WriteAges()
    var clock = ClockCorrection()
    var futureStamps = FutureStamps()
    var leaving = Leaving()
    @exclusivity(unchecked) var expiry = ExpiryWork()

    /// Under way after a scan of everything: the disk was stale.
    var reconciliation: Reconciliation?

    var plantedState: PlantedState

    /// Sees every early write that is stamped again, the old record and the new one (borrowed), for the simulator's
    /// oracle: another write may beat the new one within the same slice of work.
    package var onRestamp: ((Record, Record) -> Void)?

    /// Sees what other servers have sent, once it has taken effect here, in order: for a log. Siblings' is theirs to
    /// keep.
    package var onLearned: ((LearnedItem) -> Void)?

    /// What of this actor's vector a power cut leaves, where there is a disk: for reports and siblings.
    package var durableSource: (() -> VersionVector)?
    /// That is synced: reports say so. Not with the policy `no`.
    package var isSynced = false

    /// `recovered` is what its directory says: the store holds it already. Rows of it go in by `learn`. `rows` are the
    /// servers known at the start, for instance from `--join`; usually none. All siblings of a process must share
    /// `origins` and the store's hash seed.
    package init(
        config: ReplicaConfig, store: Store, origins: OriginTable, rows: [MemberRow] = [],
        recovered: RecoveredState? = nil
    ) {
        precondition(
            config.server != 0 && config.actorIndex < config.actorCount && config.actorCount <= Limits.actorsMax)
        self.config = config
        self.store = store
        self.origins = origins
        uid = ActorUID(server: config.server, index: UInt16(config.actorIndex))
        own = store.ownOrigin
        seen = Seen(own: own)
        if config.planted(.stampIgnoresDeadline) { store.state.pointee.ignoresCompanions = true }
        if config.planted(.restampBelow) { store.state.pointee.restampsBelow = true }
        if config.planted(.setForgetsTaken) { store.state.pointee.forgetsTaken = true }
        if config.planted(.partBuriedEarly) { store.state.pointee.buriesEarly = true }
        if config.planted(.expiryLeavesParts) { store.state.pointee.leavesParts = true }
        if config.planted(.partNotCut) { store.state.pointee.leavesPartsWhole = true }
        if config.planted(.zeroOverDeadline) { store.state.pointee.beatsDeadlines = true }
        if config.planted(.companionAlone) { store.state.pointee.forgetsCompanionsAlone = true }
        if config.planted(.againWithoutDeadline) { store.state.pointee.dropsDeadlines = true }
        inbox = Inbox(bytesMax: config.inboxBytesMax)
        bench = FrameBench(origins: origins, cluster: config.clusterId)
        catchUp = CatchUp(isCaughtUp: !config.joining)
        if config.joining, !config.planted(.zeroAtFloor) { store.beginProvisionalZeros() }
        plantedState = PlantedState(actorCount: config.actorCount)
        for index in 0..<config.actorCount {
            // Interned by every sibling, in the same order, so that vectors can be compared from the first batch on.
            let origin = origins.intern(ActorUID(server: config.server, index: UInt16(index)))!
            if index != config.actorIndex { siblings.append(Sibling(index: index, origin: origin)) }
        }
        _ = members.merge(
            MemberRow(
                server: config.server, status: config.joining ? .joining : .up, actorCount: config.actorCount,
                address: config.address, name: config.name, isNamed: config.isNamed), .min)
        if let recovered { restore(recovered) }
        var ignored = ReplicaEffects()
        for row in rows { learn(row, Moment(wall: 0, steady: .min), into: &ignored) }
    }

    deinit {
        inbox.clear()
        round.abandon()
        bench.deallocate()
    }

    // MARK: Figures

    /// This actor finished its first catch-up, or never needed one.
    package var isCaughtUp: Bool { catchUp.isCaughtUp }
    /// It caught up by way of a server that was catching up itself.
    package var joinedNewcomer: Bool { catchUp.joinedNewcomer }

    /// What has taken effect here, own writes included. Origins of retired servers stand at `VersionVector.retired`.
    package var vector: VersionVector { seen.vector(ownSeq: store.ownSeq) }
    /// What of it does not rest on the word of others alone. O(origins).
    package var sureVector: VersionVector { hearsay.sure(vector) }

    /// Digest of the live records, as KVD DIGEST replies it.
    package var digest: UInt64 { store.digest &+ plantedState.digestDrift }

    /// The member table, own row included, sorted by id.
    package var memberRows: [MemberRow] { members.rows }

    /// What KVD PEERS and INFO call this server: `alone` as long as nobody has answered its --join.
    package var ownState: String {
        if isCaughtUp, !isJoining { return "up" }
        return servers.contains(where: \.isContacted) ? "syncing" : "alone"
    }

    /// Where others are told that they reach this server; nil as long as it does not know.
    package var ownAddress: String? {
        members.row(uid.server).flatMap { $0.address.count > 0 ? $0.address.description : nil }
    }

    package var isJoining: Bool { members.row(uid.server)?.status == .joining }

    /// How much of what a newcomer fetches it has; 100 for who has caught up. Known to the actor that asks for all.
    package var caughtUpPercent: Int {
        !isJoining && isCaughtUp ? 100 : catchUp.asker?.percent ?? (isJoining ? 0 : 100)
    }

    /// Add this to the wall clock when stamping writes: 0 unless this machine's clock is far from the majority's.
    package func clockCorrectionMillis(_ at: Moment) -> Millis { clock.millis(at) }

    /// Record references held for siblings, and bytes waiting to be merged: bounded by the configuration.
    package var heldEntries: Int { log.entryCount }
    package var inboxBytesHeld: Int { inbox.byteCount }

    /// Nothing was merged beyond the vector, so equal vectors mean equal content.
    func isSettled(_ at: Moment) -> Bool {
        seen.isTight && inbox.isEmpty && isCaughtUp && hearsay.isSettled(at.steady)
    }

    func corrected(_ at: Moment) -> Millis { at.wall &+ clock.millis(at) }

    func server(_ id: UInt64) -> RemoteServer? {
        // A handful of servers: a loop beats a dictionary, and its order means nothing.
        for server in servers where server.id == id { return server }
        return nil
    }

    func sibling(_ index: Int) -> Sibling? {
        let at = index < config.actorIndex ? index : index - 1
        return at >= 0 && at < siblings.count && siblings[at].index == index ? siblings[at] : nil
    }

    /// The mistakes that the simulator planted: `planted(.x)`.
    @inline(__always)
    var planted: PlantedMistakes { config.planted }

    var spacing: Millis { planted(.spacing100) ? 100 : config.spacingMillis }

    // MARK: Driving

    /// Steady time at which `tick` wants to be called; not after `at.steady` means at once. O(1); asked once a turn.
    package func nextDeadline(_ at: Moment) -> Millis {
        if hasWork(at) { return at.steady }
        return schedule.next(ownSeq: store.ownSeq)
    }

    /// Sends what is due. Calling it early or late is harmless.
    package func tick(_ at: Moment, into effects: inout ReplicaEffects) {
        census.start(at.steady)
        followOwnClock(at, into: &effects)
        ages.note(store.ownSeq, at.steady)
        takeCensus(at, into: &effects)
        lookForGaps(at)
        lookForExpired(at)
        settleZeros(at, into: &effects)
        if !round.isOpen { openRound(at) }
        if round.isOpen, advanceRound(budget: config.entriesPerStep, at) >= 0, !round.isBuilding {
            closeRound(at, into: &effects)
        }
        scheduleNext(at)
        checkInvariants()
    }

    /// One slice of work, well under a millisecond: merging what arrived, walking for a scan, collecting tombstones,
    /// building a large delta. True if more is left: call it again in the next turn.
    package func step(_ at: Moment, into effects: inout ReplicaEffects) -> Bool {
        var budget = config.entriesPerStep
        if round.isOpen {
            budget -= advanceRound(budget: budget, at)
            if !round.isBuilding { closeRound(at, into: &effects) }
        }
        if budget > 0 { budget -= work(budget: budget, at, into: &effects) }
        if budget > 0, reconciliation != nil { budget -= reconcile(budget: budget, at, into: &effects) }
        if budget > 0 { budget -= advanceDonors(budget: min(budget, Replica.donorEntriesPerStep), at) }
        if budget > 0, mayAdoptMore(at) { budget -= advanceAdoption(budget: budget, at, into: &effects) }
        if budget > 0, expiry.isUnderWay { budget -= expire(budget: budget, at) }
        if budget > 0, collector.isSweeping { collect(budget: budget, at, into: &effects) }
        if budget > 0, !discards.isEmpty { _ = discards.release(budget: budget) }
        scheduleNext(at)
        checkInvariants()
        return hasWork(at)
    }

    func hasWork(_ at: Moment) -> Bool {
        if round.isOpen || !inbox.isEmpty || collector.isSweeping || !discards.isEmpty || mayAdoptMore(at) {
            return true
        }
        if expiry.isUnderWay || reconciliation != nil { return true }
        for server in servers { if let donor = server.donor, donor.wantsWork { return true } }
        for sibling in siblings { if let donor = sibling.donor, donor.wantsWork { return true } }
        return false
    }

    func scheduleNext(_ at: Moment) {
        let ownSeq = store.ownSeq
        var deadline = census.due(at.steady)
        // What arrives meanwhile must not put leaving off.
        if leaving.hasBegun, let next = census.next(spacing) { deadline = min(deadline, next) }
        if store.volatileCount > 0 { deadline = min(deadline, expiry.nextLook(at.steady)) }
        var token = Millis.max
        for sibling in siblings {
            deadline = min(deadline, due(sibling, at))
            token = min(token, sibling.pacer.earliest(spacing))
        }
        for server in servers {
            deadline = min(deadline, due(server, at))
            if mayCarryData(server, at) { token = min(token, server.pacer.earliest(spacing)) }
        }
        // With deltas waiting already, the next write changes nothing.
        if round.logged < ownSeq && siblings.isEmpty && servers.isEmpty { token = .max }
        schedule.plan(deadline, dataToken: token, ownSeq: ownSeq)
    }
}
