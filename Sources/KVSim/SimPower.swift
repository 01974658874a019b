// Servers that come back with their disks: what the oracle demands of them. Part of SimWorld.
import KVBase
import KVCore

/// How far an actor's own writes must be found on its server's disk.
struct SimPromise {
    /// After the process was killed: what was answered.
    var kill: UInt64 = 0
    /// After the power went.
    var power: UInt64 = 0
}

/// What a slot's disk owes, through all lives of its server.
struct SimDebts {
    /// By dense number of the actor.
    var promises: [Int: SimPromise] = [:]
    /// Backups that were taken of it.
    var images: [SimDisk] = []
    /// Dense numbers of the actors of all its lives.
    var lives: [Int] = []
}

extension SimWorld {
    // MARK: Jobs

    /// Runs a closure at a time; `on`: on that actor's loop, as soon as that gets to it, with a turn behind it.
    func later(at time: SimTime, on actor: Int = -1, _ job: @escaping () -> Void) {
        let id: Int
        if let free = freeJobs.popLast() {
            id = free
            jobs[id] = job
        } else {
            id = jobs.count
            jobs.append(job)
        }
        queue.push(.job, at: time, id, actor)
    }

    func run(job event: SimEvent) {
        let id = Int(event.a)
        guard let job = jobs[id] else { return }
        let actor = event.b < 0 ? nil : actors[Int(event.b)]
        if let actor, actor.isAlive, readyTime(actor) > now {
            queue.push(.job, at: readyTime(actor), id, Int(event.b))
            return
        }
        jobs[id] = nil
        freeJobs.append(id)
        if let actor, !actor.isAlive { return }
        job()
        if let actor, actor.isAlive { turn(actor) }
    }

    // MARK: Promises

    func note(promise seq: UInt64, of actor: SimActor, power: Bool) {
        var promise = debts[actor.view.slot].promises[actor.view.origin] ?? SimPromise()
        promise.kill = max(promise.kill, seq)
        if power { promise.power = max(promise.power, seq) }
        debts[actor.view.slot].promises[actor.view.origin] = promise
    }

    /// A snapshot that covers `vector` is on the disk.
    func notePromised(_ slot: Int, through vector: VersionVector) {
        guard let first = servers[slot].actors.first else { return }
        for (origin, promise) in debts[slot].promises {
            let covered = actors[first].covered(oracle.uids[origin], in: vector)
            guard covered != VersionVector.retired else { continue }
            debts[slot].promises[origin]!.power = max(promise.power, min(promise.kill, covered))
        }
    }

    /// The greatest version of each key that disks owe.
    func addOwed(_ held: inout [SimStamp]) {
        guard options.disks != nil else { return }
        for slot in 0..<options.slots { addOwed(slot, &held) }
    }

    private func addOwed(_ slot: Int, _ held: inout [SimStamp]) {
        for (origin, promise) in debts[slot].promises {
            for index in 0..<Int(promise.kill) {
                let write = oracle.history[origin][index]
                guard write.key >= 0, write.ms > 0 else { continue }
                let stamp = SimStamp(ms: write.ms, origin: Int32(origin), seq: UInt64(index) + 1)
                held[Int(write.key)] = oracle.greater(held[Int(write.key)], stamp)
            }
        }
    }

    /// The process is gone; if `mayCut`, perhaps with what the disk had not written.
    func leaveDisk(_ server: SimServer, mayCut: Bool) {
        guard let disks = options.disks else { return }
        server.home?.die()
        server.home = nil
        guard mayCut, disks.faults.contains(.power), random.disks.chance(0.5) else { return }
        server.disk.cutPower(&random.disks)
        for (origin, promise) in debts[server.slot].promises {
            debts[server.slot].promises[origin]!.kill = promise.power
        }
        outcome.points.hit("disk: power cut")
        say { "the power of server \(server.slot) is cut" }
    }

    /// I27: of what was answered no more than the last second and a sync is not on the disk, if that works.
    func checkLag(_ server: SimServer) {
        guard let disks = options.disks, disks.policy == .everysec, server.hadDiskTrouble == false,
            server.frozenUntil <= now
        else { return }
        for number in server.actors {
            let actor = actors[number]
            guard let log = actor.log, log.plan.isWell, actor.busyUntil + 3 * simSecond < now,
                let since = log.unsyncedSince
            else { continue }
            // Two syncs, each behind the making of a file.
            let limit =
                simSecond + 6 * SimTime(disks.microsMax) + (50 + 2 * disks.slowSyncMillis) * simMillisecond
            if now - since > limit {
                fail(SimViolation("I27", "actor \(number) had not synced for \((now - since) / simMillisecond) ms"))
            }
        }
    }

    // MARK: Coming back

    /// I18, I26: what was promised is there, and nothing that was never written.
    func checkReturned(_ server: SimServer, _ restored: [SimActor]) {
        var owed = Array(repeating: SimStamp.none, count: keys.total)
        addOwed(server.slot, &owed)
        for actor in restored where !failed {
            let promises = debts[server.slot].promises
            let violation = actor.view.restore(actor, oracle) { promises[$0]?.kill ?? 0 }
            if let violation { return fail(violation) }
        }
        guard let first = restored.first else { return }
        for key in 0..<keys.total where !failed && !owed[key].isNone {
            let held = first.view.seen[key]
            guard oracle.precedes(held, owed[key]), oracle.precedes(oracle.collected[key], owed[key]) else { continue }
            fail(
                SimViolation(
                    "I18",
                    "server \(server.slot) came back with \(oracle.name(held)) of \(keys.name(key)), acknowledged was "
                        + oracle.name(owed[key])))
        }
        excuse(restored)
    }

    /// What only this disk had is new to the others, whatever they have collected of the key meanwhile. So is what lies
    /// beyond a gap of a writer that has gone (docs/replication.md 13): no vector says that they had it.
    func excuse(_ restored: [SimActor]) {
        guard let first = restored.first else { return }
        let others = upActors().filter { $0.view.slot != first.view.slot }
        for key in 0..<keys.total {
            let held = first.view.seen[key]
            guard !held.isNone, oracle.precedes(held, oracle.collected[key]) else { continue }
            let isCovered = others.contains { $0.view.covers(held) }
            let isGone = !others.isEmpty && !actors[Int(held.origin)].isAlive
            let isKnown = actors.contains { $0.view.slot != first.view.slot && $0.view.covers(held) }
            if !isKnown || isGone && !isCovered { oracle.excuse(held) }
        }
    }
}
