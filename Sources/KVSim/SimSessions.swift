// Who is connected to whom in a simulated world: attempts, handshakes that carry member rows, broken links. Part of
// SimWorld.
import KVBase
import KVCore

/// The two processes at the ends of an established connection.
struct SimSession: Equatable {
    var low: UInt64
    var high: UInt64
}

/// A handshake under way.
struct SimHandshake {
    var from: Int
    var to: Int
    var ids: SimSession
}

/// A server tries unconnected addresses about this often.
private let attemptMillis = 200...500

extension SimWorld {
    static func address(_ slot: Int) -> Bytes { Bytes("s\(slot):6000") }

    private static func slot(of address: Bytes) -> Int? {
        guard address.array.count > 2, address.array[0] == 115 else { return nil }
        return Int(address.array[1]) - 48
    }

    func place(_ a: Int, _ b: Int) -> Int { min(a, b) * options.slots + max(a, b) }

    private func ids(_ a: Int, _ b: Int) -> SimSession {
        SimSession(low: servers[min(a, b)].id, high: servers[max(a, b)].id)
    }

    func isConnected(_ a: Int, _ b: Int) -> Bool {
        if isWired { return wires.standing[place(a, b)] != nil }
        return servers[a].isUp && servers[b].isUp && sessions[place(a, b)] == ids(a, b)
    }

    /// Tries every address the server knows: what it was told to join, and what it learned since.
    func attemptConnections(_ server: SimServer, id: Int) {
        guard server.isUp, server.starts == id else { return }
        let wait = SimTime(random.network.within(attemptMillis)) * simMillisecond
        queue.push(.connect, at: now + wait, server.slot, id)
        dial(server, id: id)
    }

    func dial(_ server: SimServer, id: Int) {
        guard server.isUp, server.starts == id, server.frozenUntil <= now, let first = server.actors.first else {
            return
        }
        var targets = server.seeds
        for row in actors[first].rows where row.status.isMember {
            if let slot = Self.slot(of: row.address), !targets.contains(slot) { targets.append(slot) }
        }
        for target in targets where target != server.slot && servers[target].isUp {
            let at = place(server.slot, target)
            guard !isConnected(server.slot, target), !handshaking[at] else { continue }
            guard !network.isBlocked(server.slot, target), !network.isBlocked(target, server.slot) else { continue }
            handshaking[at] = true
            handshakes.append(SimHandshake(from: server.slot, to: target, ids: ids(server.slot, target)))
            let trip = network.latencyMillis(server.slot, target) + network.latencyMillis(target, server.slot)
            if isWired {
                queue.push(.handshake, at: now + trip * simMillisecond + 100, handshakes.count - 1)
                continue
            }
            queue.push(.handshake, at: now + (trip * 3 / 2 + 1) * simMillisecond, handshakes.count - 1)
        }
    }

    /// Both sides know who the other is: rows are exchanged as the transport's handshake does.
    func finishHandshake(_ number: Int) {
        let handshake = handshakes[number]
        let (a, b) = (servers[handshake.from], servers[handshake.to])
        let at = place(a.slot, b.slot)
        // The kernel of a stopped process answers for it.
        let frozen = isWired ? a.frozenUntil : max(a.frozenUntil, b.frozenUntil)
        if a.isUp, b.isUp, frozen > now {
            queue.push(.handshake, at: frozen, number)
            return
        }
        handshaking[at] = false
        guard a.isUp, b.isUp, ids(a.slot, b.slot) == handshake.ids else { return }
        guard !network.isBlocked(a.slot, b.slot), !network.isBlocked(b.slot, a.slot) else { return }
        if isWired {
            wireStands(handshake)
            return
        }
        sessions[at] = handshake.ids
        say { "connected \(a.slot)<>\(b.slot)" }
        introduce(a, to: b)
        introduce(b, to: a)
    }

    private func introduce(_ server: SimServer, to other: SimServer) {
        guard let row = actors[server.actors[0]].ownRow else { return }
        for index in other.actors {
            actors[index].learn(row)
            actors[index].linkUp(server.id)
            schedule(actors[index], at: now + 1)
        }
    }

    /// The connection between two addresses is gone; both sides notice.
    func linkBroke(_ a: Int, _ b: Int) {
        if isWired { return wireBroke(a, b) }
        let at = place(a, b)
        guard let session = sessions[at] else { return }
        sessions[at] = nil
        for (slot, other) in [(min(a, b), session.high), (max(a, b), session.low)] where servers[slot].isUp {
            for index in servers[slot].actors {
                actors[index].linkDown(other)
                schedule(actors[index], at: now + 1)
            }
        }
    }

    // MARK: Leaving and forgetting

    /// An orderly shutdown begins: the server accepts no more clients and hands over what it has.
    func leaveOne() {
        let staying = servers.filter { $0.isUp && $0.leavingSince == nil }
        guard staying.count > 1 else { return }
        let server = staying[random.faults.below(staying.count)]
        server.leavingSince = now
        outcome.points.hit("world: server leaves")
        say { "server \(server.slot) leaves" }
        for index in server.actors {
            actors[index].beginLeave()
            schedule(actors[index], at: now + 1)
        }
        queue.push(.leave, at: now + 20 * simMillisecond, server.slot, server.starts)
    }

    /// The process ends once every actor is done, or after ten seconds.
    func continueLeave(_ server: SimServer, id: Int) {
        guard server.isUp, server.starts == id, let since = server.leavingSince else { return }
        let isDone = server.actors.allSatisfy { actors[$0].hasLeft }
        guard isDone || now - since > 10 * simSecond else {
            queue.push(.leave, at: now + 20 * simMillisecond, server.slot, id)
            return
        }
        outcome.points.hit(
            isDone ? "world: server left, all handed over" : "world: server left after its patience ended")
        // Who knows nobody else that runs has nobody to hand over to.
        let running = servers.filter { $0.isUp && $0.slot != server.slot }.map(\.id)
        let knowsSomebody = actors[server.actors[0]].rows.contains { $0.status.isMember && running.contains($0.server) }
        let lost = crash(server)
        let harmless: SimFaults = [.leave, .join, .clockOffset, .clockStep, .clockDrift]
        if isDone, knowsSomebody, lost > 0, options.checksLeaving || options.faults.isSubset(of: harmless) {
            fail(SimViolation("I11", "server \(server.slot) left and took the newest version of \(lost) keys with it"))
        }
    }

    /// An operator removes a server that is gone for good; now and then one that is not. Who can be heard is not gone
    /// at one server's word, so it is said to all that run.
    func forgetOne() {
        let up = upActors()
        guard !up.isEmpty else { return }
        let actor = up[random.faults.below(up.count)]
        let alive = Set(servers.filter { $0.isUp }.map { $0.id })
        let mistaken = random.faults.chance(0.2) && options.forgetsLiving
        let rows = actor.rows.filter {
            $0.status.isMember && $0.server != actor.uid.server && alive.contains($0.server) == mistaken
        }
        guard !rows.isEmpty else { return }
        let row = rows[random.faults.below(rows.count)]
        // Two that forget each other are two clusters, and rightly so: the last one must have learned of it first.
        if mistaken, let last = lastForgotten, alive.contains(last) { return }
        if mistaken { lastForgotten = row.server }
        outcome.points.hit(mistaken ? "world: living server forgotten by hand" : "world: dead server forgotten by hand")
        if mistaken { oracle.forgotLiving = true }
        say { "actor \(actor.view.origin) forgets \(row.address)" }
        for server in servers where server.isUp && server.id != row.server {
            let told = server.id == actor.uid.server ? actor : actors[server.actors[0]]
            told.forget(row.server)
            schedule(told, at: now + 1)
        }
    }

    /// A row says that a living server is a member which was removed by hand.
    func hasRisen(_ row: MemberRow) -> Bool {
        row.server == lastForgotten && row.status.isMember && isRunning(row.server)
    }

    private func isRunning(_ id: UInt64) -> Bool { servers.contains { $0.isUp && $0.id == id } }

    /// Who joins by way of a removed server that lives hears it, so it does not believe the others: the operator has to
    /// say it there as well (docs/replication.md 13).
    func tellOfForgotten(_ actor: SimActor) {
        guard actor.isAlive, let id = lastForgotten, isRunning(id), id != actor.uid.server else { return }
        guard actor.countsAsMember(id) else { return }
        outcome.points.hit("world: newcomer told whom others have forgotten")
        say { "actor \(actor.view.origin) is told to forget as well" }
        actor.forget(id)
        schedule(actor, at: now + 1)
    }
}
