// One simulated cluster: servers, actors, network and time, driven by events from one seed. One thread.
import KVBase
import KVCore

/// One address of the cluster. Each start is a new server with new identities; nothing survives a crash.
final class SimServer {
    let slot: Int
    var clock: SimClock
    var isUp = false
    var id: UInt64 = 0
    /// Dense numbers of the running actors.
    var actors: [Int] = []
    var frozenUntil: SimTime = 0
    /// Addresses it was told to join.
    var seeds: [Int] = []
    /// Starts so far; tells events of an earlier process apart.
    var starts = 0
    var leavingSince: SimTime?
    let disk = SimDisk()
    var home: SimHome?
    /// Its disk was slow, full or broken in this life.
    var hadDiskTrouble = false
    /// A backup was put into it, and it has not joined with that yet.
    var hasBackup = false

    init(slot: Int, clock: SimClock) {
        self.slot = slot
        self.clock = clock
    }
}

/// A seed that generates more events than this spins.
private let eventsMax = 20_000_000

package final class SimWorld {
    let options: SimOptions
    let bug: SimBug?
    var random: SimRandom
    var queue = SimQueue()
    let network: SimNetwork
    let keys: SimKeys
    let oracle: SimOracle
    let counts: SimCounts
    var servers: [SimServer] = []
    /// Every actor that ever ran; dense numbers are indexes.
    var actors: [SimActor] = []
    var localMail = SimLocalMail()
    var cuts: [SimCut] = []
    /// By pair of slots: the connection between them.
    var sessions: [SimSession?]
    var handshaking: [Bool]
    var handshakes: [SimHandshake] = []
    var wires: SimWires
    var now: SimTime = 0
    var calm = false
    var isHealed = false
    /// A difference was found that no invariant forbids: a delete that nobody could ask about.
    var hasUnaskedDelete = false
    var healedAt: SimTime = 0
    var loading = true
    var loadEnd: SimTime = 0
    /// What everybody agreed on after the last write.
    var agreedDigest: UInt64?
    var forgotLiving: Bool { oracle.forgotLiving }
    /// The living server that was removed last.
    var lastForgotten: UInt64?
    var outcome: SimOutcome
    var trace = SimTrace()
    var pace: SimPace
    var nextValueID: UInt32 = 1
    var scratch: [UInt8] = []
    var debts: [SimDebts]
    var jobs: [(() -> Void)?] = []
    var freeJobs: [Int] = []
    private let printer: ((String) -> Void)?
    /// What was told of the watched key last, by actor and record.
    var watched: [String: String] = [:]

    /// Runs one seed to its end or its first violation. `trace` receives a line for each thing that happens.
    package static func run(_ options: SimOptions, bug: SimBug?, trace: ((String) -> Void)?) -> SimOutcome {
        let world = SimWorld(options, bug: bug, trace: trace)
        if trace != nil { world.oracle.say = { [unowned world] text in world.say { text } } }
        world.live()
        return world.finish()
    }

    init(_ options: SimOptions, bug: SimBug?, trace: ((String) -> Void)?) {
        self.options = options
        self.bug = bug
        printer = trace
        random = SimRandom(seed: options.seed)
        network = SimNetwork(options: options, random: &random.network)
        wires = SimWorld.drawWires(options, &random.network)
        keys = SimKeys(count: options.keys, deadlines: options.expires)
        oracle = SimOracle(keys: keys)
        counts = SimCounts(keys: options.keys)
        outcome = SimOutcome(seed: options.seed)
        pace = SimPace(slots: options.slots)
        debts = Array(repeating: SimDebts(), count: options.slots)
        sessions = Array(repeating: nil, count: options.slots * options.slots)
        handshaking = Array(repeating: false, count: options.slots * options.slots)
        for slot in 0..<options.slots {
            let clock = SimClock(
                monotonicPPM: Int64(random.clocks.within(-200...200)),
                monotonicBase: SimTime(random.clocks.below(1_000_000_000)))
            servers.append(SimServer(slot: slot, clock: clock))
        }
    }

    // MARK: Life of a world

    private func live() {
        for slot in 0..<options.servers {
            start(servers[slot])
            if slot == 0 { prefill(percent: options.prefillPercent) }
        }
        for slot in options.servers..<options.slots {
            let at = options.joinAtMillis + Millis(random.faults.below(300))
            queue.push(.start, at: at * simMillisecond, slot)
        }
        // The cluster forms before faults begin, as an operator would let it.
        runUntil(3 * simSecond)
        loadEnd = now + options.loadMillis * simMillisecond
        armFaults()
        if let at = options.bandwidthAtMillis, isWired { queue.push(.bandwidth, at: now + at * simMillisecond) }
        queue.push(.operation, at: now + 1)
        queue.push(.check, at: now + options.checkMillis * simMillisecond)
        runUntil(loadEnd)
        loading = false
        if failed { return }
        if options.subsetFirst { subsetPhase() }
        if failed { return }
        wholePhase()
    }

    var failed: Bool { outcome.violation != nil }

    func runUntil(_ end: SimTime) {
        while !failed, let next = queue.nextTime, next <= end, let event = queue.pop() {
            now = event.time
            outcome.events += 1
            if outcome.events > eventsMax { fail(SimViolation("I8", "more than \(eventsMax) events")) }
            handle(event)
            if options.watched != nil { noteWatched(event) }
        }
        if !failed { now = max(now, end) }
    }

    private func handle(_ event: SimEvent) {
        switch event.kind {
        case .operation: operate()
        case .tick: tick(actor: Int(event.a))
        case .delivery: deliver(event)
        case .localDelivery: deliverLocal(event)
        case .fault: strike(Int(event.a))
        case .faultEnd: endCut(Int(event.a))
        case .start: if !servers[Int(event.a)].isUp { start(servers[Int(event.a)]) }
        case .check: periodicCheck()
        case .resume: restartForgotten(actors[Int(event.a)])
        case .forget: tellOfForgotten(actors[Int(event.a)])
        case .connect: attemptConnections(servers[Int(event.a)], id: Int(event.b))
        case .handshake: finishHandshake(Int(event.a))
        case .leave: continueLeave(servers[Int(event.a)], id: Int(event.b))
        case .dial: dial(servers[Int(event.a)], id: Int(event.b))
        case .bandwidth: changeBandwidth()
        case .job: run(job: event)
        default: handleWire(event)
        }
    }

    private func handleWire(_ event: SimEvent) {
        switch event.kind {
        case .wireHello: wireHello(event)
        case .wireWake: wireWake(event)
        case .wireArrive: wireArrive(event)
        case .wireAck: wireAck(event)
        case .wireResume: wireResume(event)
        case .wireDeliver: takeWired(actors[Int(event.a)])
        case .wireProgress: wireProgress(event)
        default: break
        }
    }

    func finish() -> SimOutcome {
        trace.fold(UInt64(bitPattern: now))
        for server in servers where server.isUp {
            for index in server.actors { trace.fold(actors[index].digest) }
        }
        for server in servers { server.home?.die() }
        for actor in actors { actor.stop() }
        jobs = []
        let counters = network.counters
        outcome.points.hit("net: lost", counters.lost)
        outcome.points.hit("net: duplicated", counters.duplicated)
        outcome.points.hit("net: corrupted", counters.corrupted)
        outcome.points.hit("net: stale", counters.stale)
        outcome.frames += counters.sent
        outcome.simulatedMillis = now / simMillisecond
        outcome.traceHash = trace.hash
        return outcome
    }

    func fail(_ violation: SimViolation) {
        guard outcome.violation == nil, !options.ignored.contains(violation.invariant) else { return }
        outcome.violation = violation
        say { "VIOLATION \(violation)" }
    }

    /// A line of the trace; built only when somebody reads it.
    func say(_ text: () -> String) {
        guard let printer else { return }
        let micros = now % simMillisecond
        let padded = String(repeating: "0", count: 3 - "\(micros)".count) + "\(micros)"
        printer("\(now / simMillisecond).\(padded) \(text())")
    }

    var isTraced: Bool { printer != nil }

    // MARK: Servers

    /// Those that run and do not lie.
    func upActors() -> [SimActor] {
        var up: [SimActor] = []
        for server in servers where server.isUp && !isLiar(server.slot) {
            for index in server.actors { up.append(actors[index]) }
        }
        return up
    }

    /// Starts a server on its address with a new identity and no data.
    func start(_ server: SimServer, seeds told: [Int]? = nil) {
        if options.disks != nil { return startFromDisk(server, seeds: told) }
        let isFirst = server.starts == 0
        server.isUp = true
        server.starts += 1
        server.leavingSince = nil
        // The planted mistake: the restarted process counts its writes from 1 again under its old id.
        if isFirst || !(bug?.bug.contains(.uidReused) ?? false) { server.id = random.identity.next() | 1 }
        if isFirst { initialClock(server) }
        // A server that is started again is told whom to join: without that it would begin a cluster of its own.
        let isFounder = server.slot == 0 && isFirst
        if isLiar(server.slot) {
            oracle.liars.insert(server.id)
            oracle.unlooked = { [unowned self] in server.isUp ? server.actors.map { self.actors[$0] } : [] }
        }
        server.seeds = isFounder ? [] : told ?? seeds(of: server.slot, isFirst)
        let origins = OriginTable()
        let count = options.actors[server.slot]
        server.actors = []
        for index in 0..<count {
            let uid = ActorUID(server: server.id, index: UInt16(index))
            let origin = oracle.register(uid)
            let actor = SimActor(
                uid: uid, actorCount: count, address: Self.address(server.slot), isJoining: !isFounder,
                origins: origins, view: SimView(origin: origin, slot: server.slot, keys: keys.total), world: self)
            actors.append(actor)
            server.actors.append(origin)
        }
        say { "start server \(server.slot) id \(String(server.id, radix: 16)) as actors \(server.actors)" }
        trace.fold(server.id)
        outcome.points.hit(isFirst ? "world: server starts" : "world: server restarts without its data")
        for index in server.actors { schedule(actors[index], at: now) }
        queue.push(.connect, at: now + 1, server.slot, server.starts)
    }

    /// What `--join` names: the founder at first; later some addresses, by which everybody reaches everybody (else it
    /// would be two clusters, and rightly so).
    func seeds(of slot: Int, _ isFirst: Bool) -> [Int] {
        guard options.slots > 1 else { return [] }
        let main = slot == 0 ? 1 : 0
        if isFirst, slot < options.servers { return [main] }
        return [main] + (0..<options.slots).filter { $0 != slot && $0 != main && random.faults.chance(0.3) }
    }

    /// The process is gone at once, with all it held, and comes back empty after a while.
    /// Returns the number of keys whose newest version nobody else had.
    @discardableResult
    func crash(_ server: SimServer, restartAfterMillis: Millis? = nil, mayCut: Bool = false) -> Int {
        examineAll()
        guard !failed else { return 0 }
        say { "crash server \(server.slot)" }
        noteCountsHeld(server)
        checkLag(server)
        server.isUp = false
        server.frozenUntil = 0
        for index in server.actors {
            actors[index].die()
            oracle.noteDeparted(index)
        }
        leaveDisk(server, mayCut: mayCut)
        server.actors = []
        for other in 0..<options.slots where other != server.slot {
            network.reset(other, server.slot, now: now)
            linkBroke(other, server.slot)
        }
        outcome.points.hit("world: crash")
        let lost = oracle.lowerFloors(to: survivors())
        rememberCollected()
        outcome.points.hit("world: write lost with its only holder", lost)
        if calm, restartAfterMillis == nil { return lost }
        let down = restartAfterMillis ?? Millis(random.faults.within(20...Int(max(21, options.downMillisMax))))
        queue.push(.start, at: now + down * simMillisecond, server.slot)
        return lost
    }

    /// What is collected binds as long as somebody who has seen that runs, or a disk proves it.
    func rememberCollected() {
        oracle.remember(
            (0..<keys.total).map { key in
                // What a disk still proves binds those who come back with theirs.
                if options.disks != nil, !oracle.precedes(oracle.floors[key], oracle.remembered[key]) {
                    return oracle.remembered[key]
                }
                return upActors().reduce(SimStamp.none) { oracle.greater($0, $1.view.collected[key]) }
            })
    }

    /// The best version of each key among the running actors.
    func survivors() -> [SimStamp] {
        var held = Array(repeating: SimStamp.none, count: keys.total)
        for actor in upActors() {
            for key in 0..<keys.total { held[key] = oracle.greater(held[key], actor.view.best(key, oracle)) }
        }
        addOwed(&held)
        return held
    }

    // MARK: Checks while running

    func periodicCheck() {
        examineAll()
        if loading || now < loadEnd || options.disks != nil {
            queue.push(.check, at: now + options.checkMillis * simMillisecond)
        }
    }

    func examineAll() {
        for actor in upActors() where !failed { examine(actor) }
    }

    /// A world in which the replicas damage each other on purpose, to prove that the digest exchange repairs it.
    var isRotten: Bool { options.faults.contains(.rotten) }

    /// Points that the summary shows even if no seed reached them.
    package static let expectedPoints = SimActor.pointNames

    func examine(_ actor: SimActor) {
        let view = actor.view
        defer { view.noteKnown(actor.rows) }
        guard !isRotten, actor.changedSinceLook() else { return }
        let promise = options.promisesVisibility && loading
        let violation = view.examine(actor, oracle, others: upActors()) { origin, write in
            guard promise else { return }
            let millis = (self.now - write.at) / simMillisecond
            if self.actors[origin].view.slot == view.slot {
                self.outcome.local.add(millis)
                self.notePromise(millis, limit: 500, write)
            } else {
                self.outcome.remote.add(millis)
                self.notePromise(millis, limit: 2000, write)
            }
        }
        if let violation { fail(violation) }
    }

    /// I14: every write of a calm world within the limit; of a world losing 1 % of its frames, 99.99 % over all seeds.
    private func notePromise(_ millis: Millis, limit: Millis, _ write: SimWrite) {
        outcome.countedWrites += 1
        guard millis >= limit + options.checkMillis else { return }
        outcome.lateWrites += 1
        if options.profile == .calm {
            fail(SimViolation("I14", "\(keys.name(Int(write.key))) visible only after \(millis) ms, limit \(limit)"))
        }
    }
}
