// The disturbances of a simulated world: when each kind strikes, what it does, and how it ends. Part of SimWorld.
import KVBase
import KVCore

/// Directions a cut blocks; kept so that the cut can be ended at its time or when all faults end.
struct SimCut {
    var links: [(from: Int, to: Int)]
    var active = true
}

extension SimWorld {
    /// Arms every fault the seed switched on.
    func armFaults() {
        for (number, (fault, _)) in SimFaults.names.enumerated() where options.faults.contains(fault) {
            guard let mean = meanInterval(fault) else { continue }
            queue.push(.fault, at: now + random.faults.interval(mean: mean), number)
        }
        armDiskFaults()
    }

    private func meanInterval(_ fault: SimFaults) -> SimTime? {
        switch fault {
        case .partition, .oneWay, .partial, .flapping, .clog, .reset: options.netFaultMeanMillis * simMillisecond
        case .crash: options.crashMeanMillis * simMillisecond
        case .freeze: options.freezeMeanMillis * simMillisecond
        case .slowActor: 3 * simSecond
        case .clockStep: options.clockMeanMillis * simMillisecond
        case .clockWild: 4 * simSecond
        case .forget: options.forgetMeanMillis * simMillisecond
        case .leave: 6 * simSecond
        default: nil
        }
    }

    func strike(_ number: Int) {
        let fault = SimFaults.names[number].0
        guard !calm, let mean = meanInterval(fault) else { return }
        queue.push(.fault, at: now + random.faults.interval(mean: mean), number)
        switch fault {
        case .partition: cut(splitLinks(), note: "partition")
        case .oneWay: cutPair(bothWays: false, note: "one-way cut")
        case .partial: cutPair(bothWays: true, note: "partial partition")
        case .flapping: flap()
        case .clog: swizzleClog()
        case .reset: resetPair()
        case .crash: crashSome()
        case .freeze: freezeOne()
        case .slowActor: slowOne()
        case .clockStep: stepClock()
        case .clockWild: wildClock()
        case .forget: forgetOne()
        case .leave: leaveOne()
        default: break
        }
    }

    // MARK: Network

    func cut(_ links: [(from: Int, to: Int)], note: String, forAtMost limit: SimTime? = nil) {
        guard !links.isEmpty else { return }
        for link in links { network.block(link.from, link.to) }
        cuts.append(SimCut(links: links))
        let most = limit ?? options.cutMillisMax * simMillisecond
        let length = SimTime(random.faults.within(50...max(51, Int(most / simMillisecond)))) * simMillisecond
        queue.push(.faultEnd, at: now + length, cuts.count - 1)
        outcome.points.hit("world: \(note)")
        say { "\(note) \(links.map { "\($0.from)>\($0.to)" }) for \(length / simMillisecond) ms" }
    }

    func endCut(_ number: Int) {
        guard cuts[number].active else { return }
        cuts[number].active = false
        for link in cuts[number].links {
            unblock(link)
        }
        say { "cut \(number) ended" }
    }

    private func unblock(_ link: (from: Int, to: Int)) {
        let broke = network.unblock(link.from, link.to, now: now, queue: &queue, random: &random.network)
        if broke {
            linkBroke(link.from, link.to)
        } else if isWired {
            wireUnblocked(link.from, link.to)
        }
    }

    /// All links between two random halves.
    private func splitLinks() -> [(from: Int, to: Int)] {
        let side = (0..<options.slots).map { _ in random.faults.chance(0.5) }
        return linksWhere { side[$0] != side[$1] }
    }

    func linksWhere(_ chosen: (Int, Int) -> Bool) -> [(from: Int, to: Int)] {
        var links: [(from: Int, to: Int)] = []
        for a in 0..<options.slots {
            for b in 0..<options.slots where a != b && chosen(a, b) { links.append((from: a, to: b)) }
        }
        return links
    }

    private func randomPair() -> (Int, Int) {
        let a = random.faults.below(options.slots)
        let b = (a + 1 + random.faults.below(options.slots - 1)) % options.slots
        return (a, b)
    }

    private func cutPair(bothWays: Bool, note: String) {
        let (a, b) = randomPair()
        cut(bothWays ? [(from: a, to: b), (from: b, to: a)] : [(from: a, to: b)], note: note)
    }

    private func flap() {
        let (a, b) = randomPair()
        for _ in 0..<random.faults.within(2...10) {
            cut([(from: a, to: b), (from: b, to: a)], note: "flapping", forAtMost: 400 * simMillisecond)
        }
    }

    /// Clogs the links of a random subset of servers and lets them go in another random order (FoundationDB's name).
    private func swizzleClog() {
        for slot in 0..<options.slots where random.faults.chance(0.5) {
            let until = now + SimTime(random.faults.within(50...4_000)) * simMillisecond
            for other in 0..<options.slots where other != slot {
                network.clog(slot, other, until: until)
                network.clog(other, slot, until: until)
            }
        }
        outcome.points.hit("world: swizzle-clog")
        say { "swizzle-clog" }
    }

    private func resetPair() {
        let (a, b) = randomPair()
        network.reset(a, b, now: now)
        network.reset(b, a, now: now)
        linkBroke(a, b)
        outcome.points.hit("world: connection reset")
        say { "reset \(a)<>\(b)" }
    }

    // MARK: Processes

    private func crashSome() {
        let up = servers.filter { $0.isUp }
        guard !up.isEmpty else { return }
        if random.faults.chance(0.04) {
            outcome.points.hit("world: all servers crash")
            for server in up { crash(server, mayCut: true) }
            return
        }
        // Somebody stays, so that there is something left to be consistent about.
        guard up.count > 1 else { return }
        crash(up[random.faults.below(up.count)], mayCut: true)
    }

    private func freezeOne() {
        let up = servers.filter { $0.isUp && $0.frozenUntil <= now }
        guard !up.isEmpty else { return }
        let server = up[random.faults.below(up.count)]
        let length = SimTime(random.faults.within(200...Int(options.freezeMillisMax))) * simMillisecond
        server.frozenUntil = now + length
        outcome.points.hit("world: freeze")
        say { "freeze server \(server.slot) for \(length / simMillisecond) ms" }
    }

    private func slowOne() {
        let up = servers.filter { $0.isUp }
        guard !up.isEmpty else { return }
        let server = up[random.faults.below(up.count)]
        let actor = actors[server.actors[random.faults.below(server.actors.count)]]
        actor.busyUntil = now + SimTime(random.faults.within(200...2_000)) * simMillisecond
        outcome.points.hit("world: slow actor")
        say { "actor \(actor.view.origin) busy" }
    }

    // MARK: Clocks

    /// Offsets and drifts a server starts with.
    func initialClock(_ server: SimServer) {
        if options.newcomerClockIsUnset, server.slot >= options.servers {
            outcome.points.hit("world: clock never set")
            return server.clock.set(at: now, wallMillis: 1_000)
        }
        if options.faults.contains(.clockOffset) {
            server.clock.step(at: now, byMillis: randomOffset())
        }
        if options.faults.contains(.clockDrift) {
            server.clock.setRate(at: now, ppm: Int64(random.clocks.within(-500...500)))
        }
    }

    private func randomOffset() -> Millis {
        let most = Int(options.clockOffsetMillisMax)
        return Millis(random.clocks.within(-most...most))
    }

    private func stepClock() {
        let server = servers[random.faults.below(servers.count)]
        let step = randomOffset()
        server.clock.step(at: now, byMillis: step)
        outcome.points.hit(step < 0 ? "world: clock steps back" : "world: clock steps forward")
        say { "clock of server \(server.slot) steps \(step) ms" }
    }

    private func wildClock() {
        let server = servers[random.faults.below(servers.count)]
        switch random.faults.below(5) {
        case 0: server.clock.setRate(at: now, ppm: -1_000_000)
        case 1: server.clock.setRate(at: now, ppm: -2_000_000)
        case 2: server.clock.set(at: now, wallMillis: 1_000)
        case 3: server.clock.set(at: now, wallMillis: simEpochMillis + now / simMillisecond + 20 * 3_600_000)
        default: server.clock.correct(at: now)
        }
        outcome.points.hit("world: wild clock")
        say { "wild clock on server \(server.slot), now off by \(server.clock.errorMillis(at: self.now)) ms" }
    }

    // MARK: The end of faults

    /// Ends all faults, or those within a subset of slots while the rest stays as broken as it is.
    func heal(among subset: Set<Int>?) {
        calm = true
        network.calm(among: subset)
        for number in cuts.indices where cuts[number].active {
            guard let subset else {
                endCut(number)
                continue
            }
            let inside = cuts[number].links.filter { subset.contains($0.from) && subset.contains($0.to) }
            cuts[number].links.removeAll { subset.contains($0.from) && subset.contains($0.to) }
            for link in inside { unblock(link) }
        }
        for server in servers where subset?.contains(server.slot) ?? true {
            server.clock.correct(at: now)
            server.disk.heal()
            if server.leavingSince != nil { crash(server) }
            // Whoever shall find together without the rest must be told of each other.
            server.seeds = (subset ?? Set(0..<options.slots)).subtracting([server.slot]).sorted()
            server.frozenUntil = min(server.frozenUntil, now)
            for index in server.actors {
                actors[index].busyUntil = min(actors[index].busyUntil, now)
                if isWired { schedule(actors[index], at: now + 1) }
            }
            if !server.isUp { start(server, seeds: server.seeds) }
        }
        say { "healed \(subset.map { "\($0.sorted())" } ?? "everything")" }
    }
}
