// One query actor in a simulated world: the real store and the real replication machine, driven with virtual time. Used
// by SimWorld only, one thread.
import KVBase
package import KVCore

/// Secret of every simulated cluster; frames of another cluster are refused.
private let simClusterID: UInt64 = 0x6B76_645F_7369_6D00
/// The store's seeds: constants, so that a key is hashed once for all actors of a world.
let simHashSeed: UInt64 = 0x1234_5678_9ABC_DEF1
private let simDigestKey: UInt64 = 0x0FED_CBA9_8765_4321

package final class SimActor {
    /// What a delete did.
    package enum DeleteOutcome {
        case absent
        case deleted(Record)
    }

    package let uid: ActorUID
    package let view: SimView
    /// Outlives every actor of it; a counted reference would be a cycle, a checked one costs on each use.
    private unowned(unsafe) let world: SimWorld
    private let origins: OriginTable
    let store: Store
    let replica: Replica
    /// Where the servers have disks.
    var log: SimLog?
    /// Dense numbers of actors by their index in this server's origin table, filled as they are met.
    private var dense: [Int32] = []
    package private(set) var isAlive = true
    package var effects = ReplicaEffects()
    /// A long turn: nothing is handled before.
    package var busyUntil: SimTime = 0
    package var scheduledTick: SimTime = .max
    package var lastLocalArrival: SimTime = 0
    /// Frames that arrived over connections and were not handled yet.
    var wireInbox: [SimMessage] = []
    private var hasMore = false
    private var isFirstLook = true
    private var lookDigest: UInt64 = 0
    private var lookVector = VersionVector()

    init(
        uid: ActorUID, actorCount: Int, address: Bytes, isJoining: Bool, origins: OriginTable, view: SimView,
        world: SimWorld, store: Store? = nil, recovered: RecoveredState? = nil
    ) {
        self.uid = uid
        self.view = view
        self.world = world
        self.origins = origins
        let options = world.options
        self.store = store ?? SimActor.emptyStore(uid, origins)
        let store = self.store
        world.keys.hashAll(with: store)
        var config = ReplicaConfig(
            clusterId: simClusterID, server: uid.server, actorIndex: Int(uid.index), actorCount: actorCount,
            address: address, joining: isJoining)
        config.planted = world.isRotten ? .advanceOverGap : world.bug?.bug ?? []
        if options.frameBytesMax > 0 { config.frameBytesMax = options.frameBytesMax }
        if options.scanEntriesPerTurn > 0 { config.entriesPerStep = options.scanEntriesPerTurn }
        if options.bootstrapChunkBytes > 0 { config.chunkBytesMax = options.bootstrapChunkBytes }
        config.chunkBytesMax = min(config.chunkBytesMax, config.frameBytesMax / 2)
        if options.localEntriesMax > 0 { config.localEntriesMax = options.localEntriesMax }
        config.adoptedAheadMax = max(1, options.journalCapacity / 2)
        if options.transport == .wire { config.transport = .connections }
        config.tombstoneAgeMillis = options.tombstoneAgeMillis
        config.collectEveryMillis = options.collectEveryMillis
        config.forgetEveryMillis = min(options.collectEveryMillis, 1_000)
        config.clockSkewMaxMillis = 500
        replica = Replica(config: config, store: store, origins: origins, recovered: recovered)
        replica.onRestamp = { [unowned self] in noteRestamp($0, $1) }
    }

    static func emptyStore(_ uid: ActorUID, _ origins: OriginTable) -> Store {
        Store(
            StoreConfig(
                hashSeed: simHashSeed, digestKey: simDigestKey, own: uid, origins: origins, journalCapacity: 4096))
    }

    private var at: Moment { world.moment(view.slot) }

    /// The process is gone; its memory with it.
    func die() {
        countPoints()
        isAlive = false
        wireInbox = []
        effects.removeAll()
        (replica.onLearned, replica.durableSource) = (nil, nil)
        log = nil
        store.destroy()
    }

    /// The world ended.
    func stop() { if isAlive { die() } }

    // MARK: Driving

    func receive(_ message: SimMessage) -> FrameVerdict {
        replica.receive(frame: message.bytes, from: message.from.server, at, into: &effects)
    }

    func receive(_ batch: LocalBatch) { replica.receive(batch, at, into: &effects) }

    /// What a loop does once a turn.
    func turn() {
        let at = self.at
        if log == nil { trimJournal() }
        if replica.nextDeadline(at) <= at.steady { replica.tick(at, into: &effects) }
        hasMore = replica.step(at, into: &effects)
        guard let log else { return }
        log.turnEnded()
        trimJournal()
    }

    /// A small journal: what does not fit is forgotten at once, whoever still needs it.
    private func trimJournal() {
        let capacity = UInt64(world.options.journalCapacity)
        guard store.ownSeq > capacity, !replica.isJoining else { return }
        store.trimJournal(through: min(store.ownSeq - capacity, log?.logged ?? .max))
    }

    /// True time at which the actor wants its next turn.
    func nextTurn() -> SimTime {
        if hasMore { return world.now + 100 }
        let at = self.at
        let deadline = replica.nextDeadline(at)
        guard deadline > at.steady else { return world.now + 50 }
        return world.now + min(deadline - at.steady, 60_000) * simMillisecond
    }

    func learn(_ row: MemberRow) { replica.learn(row, at, into: &effects) }
    func linkUp(_ server: UInt64, session: UInt64 = 0) { replica.linkUp(server, session: session, at) }
    func linkMoved(_ server: UInt64, _ progress: LinkProgress) { replica.linkMoved(server, progress, at) }
    func greet(_ session: UInt64) -> OutgoingFrame? { replica.greet(session: session, at) }
    func forge(
        _ bytes: [UInt8], _ lie: FrameLie, third: UInt64, key: [UInt8], knownTo: @escaping (ActorUID) -> UInt64,
        _ random: inout PRNG
    ) -> [UInt8]? {
        var forger = FrameForger(origins: origins, clusterId: simClusterID)
        (forger.third, forger.keys, forger.knownTo) = (third, [key], knownTo)
        return forger.forge(bytes, lie, random: &random)
    }
    func knows(_ server: UInt64) -> Bool { replica.memberRows.contains { $0.server == server } }
    func linkDown(_ server: UInt64, session: UInt64 = 0) { replica.linkDown(server, session: session, at) }
    func forget(_ server: UInt64) { replica.forget(server, at, into: &effects) }
    func beginLeave() { replica.beginLeave(at, into: &effects) }
    var hasLeft: Bool { replica.hasLeft }

    var rows: [MemberRow] { replica.memberRows }
    var ownRow: MemberRow? { replica.memberRows.first { $0.server == uid.server } }

    /// It has not left and does not know that others removed it.
    var countsItself: Bool { ownRow?.status.isMember ?? true }

    func countsAsMember(_ server: UInt64) -> Bool {
        server == uid.server || replica.memberRows.contains { $0.server == server && $0.status.isMember }
    }

    // MARK: Client operations

    func put(_ key: Int, _ value: [UInt8], deadline: DeadlineChoice = .none, floor: Millis) -> Record? {
        value.withUnsafeBytes {
            replica.put(key: world.keys.bytes(key), value: $0, deadline: deadline, floor: floor, at)
        }
    }

    func increment(_ key: Int, by step: Int64) -> IncrementOutcome {
        replica.increment(key: world.keys.bytes(key), by: step, at)
    }

    /// An actor's part of a counter, deleted ones too.
    func partRecord(_ key: Int, _ uid: ActorUID) -> Record? {
        store.partRecord(world.keys.hashed(key), uid)
    }

    func originUID(_ record: Record) -> ActorUID { origins.uid(record.origin) }

    /// Sets a deadline apart; 0 takes it away.
    func expire(_ key: Int, at deadline: Millis) -> TouchOutcome {
        replica.expire(key: world.keys.bytes(key), at: deadline, at)
    }

    /// When a key expires and the version of that, by its records alone; nil if there is no value.
    func effective(_ key: Int, _ oracle: SimOracle) -> (deadline: Millis, version: SimStamp)? {
        effective(find(key), findTouch(key), oracle)
    }

    /// The key's deadline set apart.
    private func findTouch(_ key: Int) -> Record? {
        world.keys.total > world.keys.count ? find(world.keys.count + key) : nil
    }

    private func effective(
        _ main: Record?, _ touch: Record?, _ oracle: SimOracle
    ) -> (deadline: Millis, version: SimStamp)? {
        guard let main, !main.isTombstone, let stamp = stamp(of: main, oracle) else { return nil }
        var best = (deadline: Millis(0), version: stamp)
        if main.isExtended { best = (main.addition.deadline, oracle.kept(by: main) ?? stamp) }
        guard let touch, let touched = self.stamp(of: touch, oracle), oracle.precedes(best.version, touched) else {
            return best
        }
        return (touch.addition.deadline, touched)
    }

    /// What a client must be shown: decided here, without the store's figures.
    func isShown(_ key: Int, _ oracle: SimOracle) -> Bool {
        if world.isCounter(key) { return world.expected(key, self) != nil }
        return effective(key, oracle).map { $0.deadline == 0 || corrected < $0.deadline } ?? false
    }

    func delete(_ key: Int) -> DeleteOutcome {
        replica.delete(key: world.keys.bytes(key), at).map { .deleted($0) } ?? .absent
    }

    /// No stamp for it is left that others would take.
    func refusesDelete(_ key: Int) -> Bool { get(key) != nil && !replica.mayOverwrite(key: world.keys.bytes(key), at) }

    var hasCaughtUp: Bool { replica.isCaughtUp }

    /// It counts above the floor: zeros from before are written again.
    var isSettled: Bool { !store.hasProvisionalZeros }
    /// Zeros that it begins to count with may yet be written again.
    var isUnsure: Bool { !isSettled || replica.joinedNewcomer }

    /// Its clock was set once, or it knows those of more than two others that were.
    var knowsTime: Bool {
        let (at, since) = (at, simEpochMillis - 24 * 3_600_000)
        return at.wall >= since
            || replica.peers(at).count { $0.clockOffsetMillis.map { at.wall + $0 >= since } ?? false } > 2
    }

    /// The greatest timestamp the write rule may give a write now, over a version stamped `seen`.
    func stampMillisMax(seen: Millis, floor: Millis) -> Millis {
        // Two more is over a delete or a counter.
        max(corrected, store.gcFloor + 1, floor > 0 ? floor + 1 : 0, seen + 2)
    }

    /// The greatest millisecond of what was collected here.
    var floor: Millis { store.gcFloor }

    var ownSeq: UInt64 { store.ownSeq }

    /// The clock that decides what is shown.
    var corrected: Millis { at.wall + replica.clockCorrectionMillis(at) }

    func get(_ key: Int) -> Record? {
        store.get(world.keys.hashed(key), now: corrected)
    }

    /// Names of the live keys with a prefix, page by page.
    func list(prefix: [UInt8], pageSize: Int) -> [[UInt8]] {
        var names: [[UInt8]] = []
        var after: [UInt8]?
        while true {
            let page = prefix.withUnsafeBytes { prefix in
                (after ?? []).withUnsafeBytes { last in
                    store.list(prefix: prefix, after: after == nil ? nil : last, limit: pageSize, now: corrected)
                }
            }
            for index in 0..<page.count { names.append(Array(page[index].key)) }
            if page.isLast { return names }
            after = page.position.map { Array($0) }
        }
    }

    // MARK: What the oracle looks at

    func find(_ key: Int) -> Record? {
        store.find(world.keys.hashed(key))
    }

    /// A write that was stamped again: old version and new one, what it says of its key's deadline, and when that ended
    /// before and since.
    struct Restamp {
        var old: SimStamp
        var new: SimStamp
        var deadline: Millis
        var kept: SimStamp?
        var endBefore: Millis
        var end: Millis
    }

    /// Those that the oracle was not told of yet, by sequence number.
    private var restamps: [UInt64: Restamp] = [:]

    func takeRestamp(_ seq: UInt64) -> Restamp? { restamps.removeValue(forKey: seq) }

    private func noteRestamp(_ old: Record, _ new: Record) {
        let oracle = world.oracle
        guard let key = world.keys.number(of: new.key), let before = stamp(of: old, oracle),
            let after = stamp(of: new, oracle)
        else { return }
        let main = key % world.keys.count
        let (earlier, touch) = key == main ? (old, findTouch(main)) : (find(main), old)
        restamps[new.seq] = Restamp(
            old: before, new: after, deadline: new.isExtended ? new.addition.deadline : 0, kept: oracle.kept(by: new),
            endBefore: effective(earlier, touch, oracle)?.deadline ?? 0, end: effective(main, oracle)?.deadline ?? 0)
    }

    /// The key of an own sequence number that names another actor's record: an adopted entry.
    func keyAdopted(by seq: UInt64) -> Int? {
        guard seq >= store.journalFirstSeq, seq <= store.ownSeq else { return nil }
        var key: Int?
        store.records(store.journalHash(seq)) { record in
            if record.origin != store.ownOrigin { key = world.keys.number(of: record.key) }
        }
        return key
    }

    /// The key of a part of a counter that an own sequence number is of, or that it names as another actor's record;
    /// and whose part that write has deleted.
    func part(_ seq: UInt64) -> (key: Int, buried: ActorUID?)? {
        guard seq >= store.journalFirstSeq, seq <= store.ownSeq else { return nil }
        var found: (key: Int, buried: ActorUID?)?
        store.records(store.journalHash(seq)) { record in
            guard record.isPart, let key = world.keys.number(of: record.companionOf.bytes) else { return }
            let isOwn = record.origin == store.ownOrigin && record.seq == seq
            found = (key, record.isTombstone && isOwn ? record.partUID : nil)
        }
        return found
    }

    /// A record's version with its actor as a dense number; nil when nobody has that identity.
    func stamp(of record: Record, _ oracle: SimOracle) -> SimStamp? {
        let index = Int(record.origin)
        while dense.count <= index { dense.append(-1) }
        if dense[index] < 0 {
            guard let number = oracle.index(of: origins.uid(record.origin)) else { return nil }
            dense[index] = Int32(number)
        }
        return SimStamp(ms: record.ms, origin: dense[index], seq: record.seq)
    }

    func liveStamp(_ key: Int, _ oracle: SimOracle) -> SimStamp? {
        get(key).flatMap { stamp(of: $0, oracle) }
    }

    func tombstoneMillis(_ key: Int) -> Millis? { find(key).flatMap { $0.isTombstone ? $0.ms : nil } }

    var vector: VersionVector { replica.vector }
    var sureVector: VersionVector { replica.sureVector }
    func covered(_ uid: ActorUID, in vector: VersionVector) -> UInt64 { origins.index(of: uid).map { vector[$0] } ?? 0 }
    func covered(_ uid: ActorUID) -> UInt64 { covered(uid, in: replica.vector) }

    /// Entries that cost anything: departed servers that were retired stand at a constant.
    var vectorSize: Int { vector.seqs.count { $0 != 0 && $0 != VersionVector.retired } }

    func chunkBytesWaiting(for server: UInt64) -> Int { replica.chunkBytesWaiting(for: server) }

    var digest: UInt64 { replica.digest }
    var steadyDigest: UInt64 { store.steadyDigest &+ replica.digest &- store.digest }
    var liveCount: Int { store.count }
    /// With deadlines set apart and parts of counters.
    var storedCount: Int { store.storedCount }
    /// Those of keys that are shown again as counters stay.
    var tombstoneCount: Int { store.tombstoneCount - store.revivedCount }
    var isJoining: Bool { replica.isJoining }
    var heldEntries: Int { replica.heldEntries }

    /// Whether anything changed since this was last asked.
    func changedSinceLook() -> Bool {
        let digest = store.digestAll
        let vector = replica.vector
        if !isFirstLook, digest == lookDigest, vector == lookVector { return false }
        isFirstLook = false
        lookDigest = digest
        lookVector = vector
        return true
    }

    func forceLook() { isFirstLook = true }

    /// About what its records are in a chunk.
    var recordBytes: Int {
        var sum = 0
        var cursor = WalkCursor()
        while !cursor.isDone {
            store.walk(&cursor, budget: 4096) { sum += $0.keyCount + $0.contentCount + 24 }
        }
        return sum
    }

    /// I9: what is kept incrementally equals what is computed afresh.
    func recomputeDigest() -> SimViolation? {
        var sum: UInt64 = 0
        var cursor = WalkCursor()
        while !cursor.isDone {
            store.walk(&cursor, budget: 4096) { record in if !record.isTombstone { sum &+= store.digestTerm(record) } }
        }
        return sum == replica.digest
            ? nil : SimViolation("I9", "actor \(view.origin) has digest \(replica.digest), its records sum to \(sum)")
    }

    /// What it has and whom it knows, for a trace.
    func summary(_ oracle: SimOracle) -> String {
        let vector = replica.vector
        let seen = oracle.uids.indices.map { number -> String in
            let value = covered(oracle.uids[number], in: vector)
            return value == VersionVector.retired ? "-" : "\(value)"
        }
        return "actor \(view.origin) has [\(seen.joined(separator: " "))] \(replica.description)"
    }

    // MARK: Sometimes points

    private func countPoints() {
        let s = replica.statistics
        let counts: [(String, UInt64)] = [
            ("gap seen", s.gapsSeen), ("repair asked (NACK)", s.repairsAsked), ("repair answered", s.repairsAnswered),
            ("repair relayed for another", s.repairsRelayed), ("resend after timeout", s.timeouts),
            ("redundant section sent", s.redundantSections), ("gateway failover", s.gatewayFailovers),
            ("L2 scan asked", s.scansAsked), ("L2 scan served", s.scansServed), ("L2 scan finished", s.scansFinished),
            ("L2 scan between siblings", s.localScansFinished), ("scan chunk resent", s.chunksResent),
            ("scan outgrown", s.scansOutgrown), ("journal overrun", s.journalOverruns),
            ("local log overrun", s.localLogOverruns),
            ("tombstone collected", s.tombstonesCollected), ("leftover collected", s.leftoversCollected),
            ("forget refused by clocks", s.forgetRefusedByClock), ("key expired", store.expiredTotal),
            ("GC refused by members", s.collectRefusedByMembers),
            ("GC refused by heads", s.collectRefusedByHeads), ("GC refused by age", s.collectRefusedByAge),
            ("insert refused by frontier", s.insertRefusedByFrontier),
            ("insert refused as covered", s.insertRefusedCovered), ("section held for a sibling", s.sectionsHeld),
            ("server forgotten", s.serversForgotten),
            ("server retired", s.serversRetired), ("retired server taken up again", s.serversReopened),
            ("clock reject", s.clockRejects),
            ("clock corrected", s.clockCorrections), ("L3 digest repair", s.digestRepairs),
            ("future stamp", s.futureStamps), ("frame rejected", s.framesRejected),
            ("frame refused: overloaded", s.framesOverloaded),
        ]
        for (name, count) in counts { world.outcome.points.hit(name, Int(clamping: count)) }
        if s.sectionsUnsaid > 0, world.options.profile == .calm {
            world.fail(SimViolation("I14", "actor \(view.origin) refused what its siblings had written"))
        }
        if s.versionCollisions > 0 {
            world.fail(SimViolation("I17", "actor \(view.origin) met two contents of one version"))
        }
    }

    /// Every point a good set of seeds reaches.
    static let pointNames = [
        "gap seen", "repair asked (NACK)", "repair answered", "repair relayed for another", "resend after timeout",
        "redundant section sent", "gateway failover", "L2 scan asked", "L2 scan served", "L2 scan finished",
        "L2 scan between siblings", "scan chunk resent", "journal overrun", "local log overrun", "tombstone collected",
        "leftover collected", "forget refused by clocks", "key expired",
        "GC refused by members", "GC refused by heads", "GC refused by age", "insert refused by frontier",
        "insert refused as covered", "section held for a sibling", "server forgotten", "server retired", "clock reject",
        "clock corrected", "L3 digest repair", "future stamp", "frame rejected", "frame refused: overloaded",
    ]
}
