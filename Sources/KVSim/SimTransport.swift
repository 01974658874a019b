// How messages and time reach the actors of a simulated world, and what they want done in return. Part of SimWorld.
import KVBase
import KVCore

/// Batches on their way between siblings: handed over by reference, in order, within microseconds.
struct SimLocalMail {
    struct Letter {
        var to: Int
        var batch: LocalBatch
    }

    private var slab: [Letter?] = []
    private var free: [Int] = []

    mutating func put(_ letter: Letter) -> Int {
        if let id = free.popLast() {
            slab[id] = letter
            return id
        }
        slab.append(letter)
        return slab.count - 1
    }

    mutating func take(_ id: Int) -> Letter? {
        guard let letter = slab[id] else { return nil }
        slab[id] = nil
        free.append(id)
        return letter
    }

    func target(_ id: Int) -> Int? { slab[id]?.to }
}

extension SimWorld {
    // MARK: Time

    func moment(_ slot: Int) -> Moment {
        let clock = servers[slot].clock
        return Moment(wall: clock.wallMillis(at: now), steady: clock.monotonicMillis(at: now))
    }

    /// The earliest moment an actor can handle something: later than now while its process is stopped or its turn is
    /// long.
    func readyTime(_ actor: SimActor) -> SimTime {
        max(servers[actor.view.slot].frozenUntil, actor.busyUntil)
    }

    func tick(actor number: Int) {
        let actor = actors[number]
        guard actor.isAlive, actor.scheduledTick == now else { return }
        actor.scheduledTick = .max
        let ready = readyTime(actor)
        if ready > now {
            schedule(actor, at: ready)
            return
        }
        turn(actor)
    }

    /// Wakes an actor at a time, unless it wakes earlier anyway.
    func schedule(_ actor: SimActor, at time: SimTime) {
        guard time < actor.scheduledTick else { return }
        actor.scheduledTick = time
        queue.push(.tick, at: time, actor.view.origin)
    }

    // MARK: Messages

    func deliver(_ event: SimEvent) {
        let id = Int(event.a)
        guard let uid = network.target(id) else { return }
        let target = oracle.index(of: uid).map { actors[$0] }
        if let target, target.isAlive, readyTime(target) > now {
            queue.push(.delivery, at: readyTime(target), id)
            return
        }
        guard let message = network.arrive(id, now: now, random: &random.network) else { return }
        // Once faults ended, nothing arrives any more from processes that are gone: what they knew last is settled.
        if calm, oracle.index(of: message.from).map({ !actors[$0].isAlive }) ?? true { return }
        guard let target, target.isAlive else {
            outcome.points.hit("net: frame to a dead actor")
            return
        }
        accept(message, target)
    }

    /// An actor takes a frame and ends its turn.
    func accept(_ message: SimMessage, _ target: SimActor) {
        message.bytes.withUnsafeBytes { trace.fold($0) }
        let verdict = target.receive(message)
        say {
            "frame \(message.bytes.count) B \(self.label(message.from)) > \(target.view.origin): \(verdict)"
        }
        if verdict.closesLink != nil {
            outcome.points.hit("frame rejected: \(verdict)")
            network.reset(message.fromSlot, message.toSlot, now: now)
            linkBroke(message.fromSlot, message.toSlot)
        }
        turn(target)
    }

    private func label(_ uid: ActorUID) -> String { oracle.index(of: uid).map { "\($0)" } ?? "\(uid)" }

    func deliverLocal(_ event: SimEvent) {
        let id = Int(event.a)
        guard let number = localMail.target(id) else { return }
        let target = actors[number]
        if target.isAlive, readyTime(target) > now {
            queue.push(.localDelivery, at: readyTime(target), id)
            return
        }
        guard let letter = localMail.take(id), target.isAlive else { return }
        trace.fold(UInt64(letter.batch.entryCount) << 8 | UInt64(letter.batch.fromIndex))
        say { "batch \(letter.batch.entryCount) entries from sibling \(letter.batch.fromIndex) > \(number)" }
        target.receive(letter.batch)
        turn(target)
    }

    // MARK: Turns

    /// The end of a loop turn: the actor does what is due, and its effects are carried out.
    func turn(_ actor: SimActor) {
        actor.turn()
        carryOut(actor)
        if actor.isAlive { schedule(actor, at: actor.nextTurn()) }
    }

    private func carryOut(_ actor: SimActor) {
        if actor.ownSeq != UInt64(oracle.history[actor.view.origin].count) { noteRestamped(actor) }
        let from = actor.view.origin
        let slot = actor.view.slot
        for honest in actor.effects.frames {
            let frame = bent(honest, of: actor)
            if isWired {
                noteSize(frame, from)
                sendWired(frame, actor)
                continue
            }
            guard let to = oracle.index(of: frame.to) else { continue }
            let target = actors[to]
            if let violation = pace.note(from: from, to: to, server: to - Int(frame.to.index), now: now) {
                fail(violation)
            }
            noteSize(frame, from)
            say { "send \(frame.bytes.count) B \(from) > \(to)" }
            if options.transport == .stream, !isConnected(slot, target.view.slot) {
                outcome.points.hit("net: no connection")
                continue
            }
            network.send(
                SimMessage(
                    from: actor.uid, to: frame.to, fromSlot: slot, toSlot: target.view.slot, bytes: frame.bytes),
                now: now, queue: &queue, random: &random.network)
        }
        for outgoing in actor.effects.batches { sendLocal(outgoing, actor) }
        for event in actor.effects.events { note(event, actor) }
        actor.effects.removeAll()
    }

    private func noteSize(_ frame: OutgoingFrame, _ from: Int) {
        guard frame.byteCount > frameLimit else { return }
        fail(SimViolation("I8", "actor \(from) sent a frame of \(frame.byteCount) bytes"))
    }

    /// Largest frame allowed: the configured cap, and room for one largest value and the frame's own head.
    private var frameLimit: Int {
        let cap = options.frameBytesMax > 0 ? options.frameBytesMax : Limits.frameBytesMax
        return 2 * cap + options.valueBytesMax + 64 * 1024
    }

    private func sendLocal(_ outgoing: OutgoingBatch, _ actor: SimActor) {
        let server = servers[actor.view.slot]
        let to = server.actors[outgoing.toIndex]
        if let violation = pace.note(from: actor.view.origin, to: to, server: nil, now: now) { fail(violation) }
        outcome.frames += 1
        if options.localDropPerMille > 0, network.isDisturbed(at: actor.view.slot),
            random.network.below(1000) < options.localDropPerMille
        {
            outcome.points.hit("world: local batch lost")
            return
        }
        let id = localMail.put(SimLocalMail.Letter(to: to, batch: outgoing.batch))
        let at = max(now + SimTime(random.network.within(2...60)), actor.lastLocalArrival + 1)
        actor.lastLocalArrival = at
        queue.push(.localDelivery, at: at, id)
    }

    private func note(_ event: ReplicaEvent, _ actor: SimActor) {
        say { "actor \(actor.view.origin): \(event)" }
        switch event {
        case .divergence(let server):
            outcome.points.hit("divergence detected")
            // Only a world that damages its replicas on purpose may ever see this (I17).
            if isUnasked(server, actor) {
                hasUnaskedDelete = true
                return outcome.points.hit("divergence by a delete nobody could ask about")
            }
            if !isRotten, !forgotLiving, oracle.excusedKeys.isEmpty, !isLiar(actor.view.slot), !isOfLiar(server) {
                describe(upActors())
                say { self.difference(self.upActors()) }
                fail(SimViolation("I17", "actor \(actor.view.origin) detected a divergence"))
            }
        case .joined:
            outcome.points.hit("server joined")
            if actor.uid.index == 0 { servers[actor.view.slot].hasBackup = false }
        case .staleDisk: outcome.points.hit("disk: stale, compared")
        case .reconciled(let dropped): noteReconciled(actor, dropped)
        case .forgotten:
            noteForgottenAmongLies(actor)
            queue.push(.resume, at: now + simMillisecond, actor.view.origin)
        case .clockSkewed: outcome.points.hit("clock skew noticed")
        // Writes stamped again are learned from the counter, before anything is sent.
        case .member(let row):
            actor.view.noteMet(row.server, now, floor: actor.floor)
            if actor.uid.index == 0 { actor.log?.noteRows() }
            if hasRisen(row) { queue.push(.forget, at: now + simMillisecond, actor.view.origin) }
            // Who is new is dialled at once.
            if isWired { queue.push(.dial, at: now + simMillisecond, actor.view.slot, servers[actor.view.slot].starts) }
            // Said good-bye: from now on others take over what they hold of its writes, though its process may linger.
            guard row.server == actor.uid.server, row.status == .left else { break }
            for index in servers[actor.view.slot].actors { oracle.noteDeparted(index) }
        case .malformed(let server):
            if !isRotten, !isOfLiar(server) {
                fail(SimViolation("I17", "actor \(actor.view.origin) cannot read what a member sent"))
            }
        case .serverState, .restamped, .buried, .rowsRefused: break
        }
    }

    /// Whether each difference of an actor and a server is of the one kind that is known (docs/replication.md 13):
    /// a delete was collected by an actor that met the server of an older write only afterwards, and whoever has that
    /// write counts the delete as seen by the word of that actor. The digests must repair it (I10, I16).
    private func isUnasked(_ server: UInt64, _ actor: SimActor) -> Bool {
        let others = upActors().filter { $0.uid.server == server && $0 !== actor }
        var isDifferent = false
        for key in 0..<keys.count {
            for other in others {
                let pair = [actor, other].map { ($0, steadyStamp(key, $0)) }
                if pair[0].1 == pair[1].1 { continue }
                isDifferent = true
                guard pair.contains(where: { isLeft($0.1, of: key, at: $0.0) }) else { return false }
            }
        }
        return isDifferent
    }

    /// A write of a key that an actor holds, although it covers a newer delete.
    private func isLeft(_ held: SimStamp, of key: Int, at actor: SimActor) -> Bool {
        guard !held.isNone else { return false }
        return oracle.deletes(of: key, after: held).contains { delete in
            guard let write = oracle.write(delete), actor.covered(oracle.uids[Int(delete.origin)]) >= delete.seq else {
                return false
            }
            return upActors().contains { $0.floor >= delete.ms && $0.view.metLate(oracle.server(held), write.at) }
        }
    }

    /// What an actor has of a key that no clock takes away.
    private func steadyStamp(_ key: Int, _ actor: SimActor) -> SimStamp {
        guard let effective = actor.effective(key, oracle), effective.deadline == 0 else { return .none }
        return actor.find(key).flatMap { actor.stamp(of: $0, oracle) } ?? .none
    }

    /// A server that others removed goes on under a new identity, as the shell of a real one does. An event of its own:
    /// the actor that reports it is still in its turn.
    func restartForgotten(_ actor: SimActor) {
        let server = servers[actor.view.slot]
        guard server.isUp, actor.isAlive else { return }
        outcome.points.hit("world: forgotten server restarts")
        crash(server, restartAfterMillis: 50)
    }
}
