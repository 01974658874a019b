// Connections of a world whose transport is `.wire`: who dials, who greets, what leaves and arrives when, and what the
// actors are told of it. Part of SimWorld.
import KVBase
import KVCore

/// One connection of a pair of servers, both directions.
final class SimWire {
    let session: UInt64
    let dialer: Int
    let acceptor: Int
    let ids: SimSession
    /// From the dialer, and to it.
    let out: SimPipe
    let back: SimPipe
    /// The dialer has been told whose connection this is; the acceptor has, and may send.
    var isKnown = false
    var isAccepted = false

    init(session: UInt64, dialer: Int, acceptor: Int, ids: SimSession, out: SimPipe, back: SimPipe) {
        (self.session, self.dialer, self.acceptor, self.ids) = (session, dialer, acceptor, ids)
        (self.out, self.back) = (out, back)
    }

    func pipe(from slot: Int) -> SimPipe { slot == dialer ? out : back }
    func isOpen(for slot: Int) -> Bool { slot == dialer || isAccepted }
}

/// All connections of a world, and what their lines carry.
struct SimWires {
    /// By pair of slots.
    var standing: [SimWire?]
    /// By direction (from * slots + to): bytes a second, and bytes that left so far.
    var bandwidth: [Int]
    var sent: [Int]
    var sessions: UInt64 = 0
    /// By sending actor and addressed actor's place: when the last frame left, nil while one has begun and not left.
    var paces: [SimWirePair: SimTime?] = [:]
}

struct SimWirePair: Hashable {
    var from: ActorUID
    var fromSlot: Int
    var slot: Int
    var actor: UInt16
    /// Only with the planted mistake: a server that starts again gets a pace of its own.
    var server: UInt64

    init(_ frame: SimWireFrame, byId: Bool) {
        (from, fromSlot) = (frame.message.from, frame.message.fromSlot)
        (slot, actor) = (frame.message.toSlot, frame.message.to.index)
        server = byId ? frame.message.to.server : 0
    }
}

/// What the transport keeps frames of a pair apart where they leave.
private let leavingSpacing = 105 * simMillisecond

/// An actor is told of progress at most once in this time.
private let progressEvery = 3 * simMillisecond
/// Bytes one actor may leave waiting for one other server.
private let waitingBytesMax = 64 * 1024 * 1024

extension SimWorld {
    var isWired: Bool { options.transport == .wire }

    /// The connection and direction an event is about; nil if that connection has ended.
    private func find(_ direction: Int, _ session: Int32) -> (SimWire, SimPipe)? {
        let (from, to) = (direction / options.slots, direction % options.slots)
        guard let wire = wires.standing[place(from, to)], Int32(truncatingIfNeeded: wire.session) == session else {
            return nil
        }
        return (wire, wire.pipe(from: from))
    }

    private func push(_ kind: SimEvent.Kind, _ wire: SimWire, _ pipe: SimPipe, at time: SimTime) {
        queue.push(kind, at: time, pipe.from * options.slots + pipe.to, Int(wire.session))
    }

    // MARK: Standing up

    /// The answer to the dialer's first packet is back: its end stands, and it may say all it has to say.
    func wireStands(_ handshake: SimHandshake) {
        let (a, b) = (servers[handshake.from], servers[handshake.to])
        let (there, back) = (latency(a.slot, b.slot), latency(b.slot, a.slot))
        wires.sessions += 1
        let wire = SimWire(
            session: wires.sessions, dialer: a.slot, acceptor: b.slot, ids: handshake.ids,
            out: pipe(a, b, there + back), back: pipe(b, a, there + back))
        wires.standing[place(a.slot, b.slot)] = wire
        say { "connection \(wire.session) stands \(a.slot)>\(b.slot)" }
        queue.push(.wireHello, at: now + there, wire.acceptor * options.slots + wire.dialer, Int(wire.session))
        if a.actors.contains(where: { actors[$0].knows(b.id) }) {
            tellDialer(wire)
            return
        }
        var greetings: [(SimActor, OutgoingFrame)] = []
        for index in a.actors {
            if let frame = actors[index].greet(wire.session) { greetings.append((actors[index], frame)) }
        }
        for (actor, frame) in greetings {
            outcome.points.hit("wire: greeting")
            sendWired(frame, actor)
            schedule(actor, at: now + 1)
        }
    }

    private func pipe(_ from: SimServer, _ to: SimServer, _ roundTrip: SimTime) -> SimPipe {
        SimPipe(
            from: from.slot, to: to.slot, actors: from.actors.count, roundTrip: roundTrip,
            bandwidth: wires.bandwidth[from.slot * options.slots + to.slot])
    }

    /// What waits for a pause to end is looked at now and then: the pause may end before its time.
    private func lookAgain(at time: SimTime) -> SimTime { min(time, now + 20 * simMillisecond) }

    private func latency(_ from: Int, _ to: Int) -> SimTime { network.latencyMillis(from, to) * simMillisecond }

    /// The dialer's hello or the acceptor's answer arrives, or was due before a frame that does.
    func wireHello(_ event: SimEvent) {
        guard let (wire, pipe) = find(Int(event.a), event.b) else { return }
        let reader = servers[pipe.from]
        if reader.frozenUntil > now {
            queue.push(.wireHello, at: lookAgain(at: reader.frozenUntil), Int(event.a), Int(event.b))
            return
        }
        // What a cut holds back comes with the frames behind it.
        if network.isBlocked(pipe.to, pipe.from) {
            queue.push(.wireHello, at: lookAgain(at: .max), Int(event.a), Int(event.b))
            return
        }
        meet(wire, pipe.from)
    }

    /// The server at `slot` learns who is at the other end.
    private func meet(_ wire: SimWire, _ slot: Int) {
        if slot == wire.dialer {
            if !wire.isKnown { tellDialer(wire) }
            return
        }
        guard !wire.isAccepted else { return }
        wire.isAccepted = true
        linkUp(wire, at: wire.acceptor, other: wire.dialer)
        let at = now + latency(wire.acceptor, wire.dialer)
        queue.push(.wireHello, at: at, wire.dialer * options.slots + wire.acceptor, Int(wire.session))
    }

    private func tellDialer(_ wire: SimWire) {
        wire.isKnown = true
        linkUp(wire, at: wire.dialer, other: wire.acceptor)
    }

    private func linkUp(_ wire: SimWire, at slot: Int, other: Int) {
        for index in servers[slot].actors {
            actors[index].linkUp(servers[other].id, session: wire.session)
            schedule(actors[index], at: now + 1)
        }
    }

    /// The connection is gone with all that was in it; both sides notice.
    func wireBroke(_ a: Int, _ b: Int) {
        guard let wire = wires.standing[place(a, b)] else { return }
        wires.standing[place(a, b)] = nil
        // What has not left never will.
        for (pair, left) in wires.paces where left == nil && [[a, b], [b, a]].contains([pair.fromSlot, pair.slot]) {
            wires.paces[pair] = .some(now)
        }
        say { "connection \(wire.session) ended \(wire.dialer)>\(wire.acceptor)" }
        for (slot, wasTold) in [(wire.dialer, wire.isKnown), (wire.acceptor, wire.isAccepted)] where servers[slot].isUp
        {
            let other = slot == min(a, b) ? wire.ids.high : wire.ids.low
            for index in servers[slot].actors {
                actors[index].wireInbox.removeAll { $0.session == wire.session }
                if wasTold { actors[index].linkDown(other, session: wire.session) }
                schedule(actors[index], at: now + 1)
            }
        }
    }

    // MARK: Sending

    /// Takes over a frame for the connection it was made for.
    func sendWired(_ frame: OutgoingFrame, _ actor: SimActor) {
        let slot = actor.view.slot
        var wire: SimWire?
        if frame.to.server == 0 {
            wire = wires.standing.compactMap(\.self).first { $0.session == frame.session }
        } else if let to = servers.first(where: { $0.id == frame.to.server }) {
            // It may have no actor of that number, where somebody lied. What goes to it leaves all the same.
            wire = wires.standing[place(slot, to.slot)]
            if let found = wire, found.ids.low != frame.to.server, found.ids.high != frame.to.server { wire = nil }
        }
        guard let wire, wire.isOpen(for: slot), frame.session == 0 || frame.session == wire.session else {
            outcome.points.hit("net: no connection")
            return
        }
        let pipe = wire.pipe(from: slot)
        if let violation = pace.noteAddressee(
            from: actor.view.origin, server: pipe.to, to: Int(frame.to.index), now: now)
        {
            fail(violation)
        }
        say { "hand \(frame.byteCount) B \(frame.lane) \(actor.view.origin) > \(pipe.to).\(frame.to.index)" }
        outcome.frames += 1
        pipe.hand(
            SimMessage(from: actor.uid, to: frame.to, fromSlot: slot, toSlot: pipe.to, bytes: frame.bytes), frame.lane)
        if pipe.waitingBytes > waitingBytesMax * pipe.progress.count {
            fail(SimViolation("I8", "\(pipe.waitingBytes) bytes wait for server \(pipe.to) on server \(slot)"))
        }
        pump(wire, pipe)
    }

    func wireWake(_ event: SimEvent) {
        guard let (wire, pipe) = find(Int(event.a), event.b), pipe.wakeAt == now else { return }
        pipe.wakeAt = .max
        pump(wire, pipe)
    }

    /// Moves what can move: from user space to the kernel, from there onto the line.
    private func pump(_ wire: SimWire, _ pipe: SimPipe) {
        let direction = pipe.from * options.slots + pipe.to
        pipe.bandwidth = wires.bandwidth[direction]
        while true {
            let frozen = servers[pipe.from].frozenUntil
            if frozen <= now {
                feed(wire, pipe)
            } else if pipe.waitingBytes > 0 {
                wake(wire, pipe, at: lookAgain(at: frozen))
            }
            guard pipe.hasUnsent else { return }
            guard pipe.busyUntil <= now else {
                wake(wire, pipe, at: pipe.busyUntil)
                return
            }
            guard let segment = pipe.leave(now) else { return }
            wires.sent[direction] += segment.bytes
            for frame in segment.begun { noteLeaving(frame) }
            for frame in segment.begun + segment.ended { scheduleProgress(wire, pipe, frame.actor) }
            var at = network.arrival(pipe.from, pipe.to, leaving: pipe.busyUntil, random: &random.network)
            at = max(at, pipe.lastArrival + 1)
            pipe.lastArrival = at
            push(.wireArrive, wire, pipe, at: at)
        }
    }

    private func pair(_ frame: SimWireFrame) -> SimWirePair {
        SimWirePair(frame, byId: bug?.bug.contains(.paceById) ?? false)
    }

    /// Frames of one pair leave with their distance, whatever they waited for.
    private func feed(_ wire: SimWire, _ pipe: SimPipe) {
        var next = SimTime.max
        pipe.onBegin = { [unowned self] in wires.paces[pair($0)] = .some(nil) }
        pipe.feed { frame in
            guard let known = wires.paces[pair(frame)] else { return true }
            guard let left = known else { return false }
            if left + leavingSpacing > now { next = min(next, left + leavingSpacing) }
            return left + leavingSpacing <= now
        }
        pipe.onBegin = nil
        if next < .max { wake(wire, pipe, at: next) }
    }

    private func wake(_ wire: SimWire, _ pipe: SimPipe, at time: SimTime) {
        guard time < pipe.wakeAt else { return }
        pipe.wakeAt = time
        push(.wireWake, wire, pipe, at: time)
    }

    /// A message counts where its first byte leaves, and by the address it goes to.
    private func noteLeaving(_ frame: SimWireFrame) {
        let message = frame.message
        wires.paces[pair(frame)] = .some(now)
        guard let from = oracle.index(of: message.from) else { return }
        let to = (slot: message.toSlot, actor: Int(message.to.index))
        if let violation = pace.noteLeaving(from: from, to: to, now: now) { fail(violation) }
    }

    // MARK: Arriving

    func wireArrive(_ event: SimEvent) {
        guard let (wire, pipe) = find(Int(event.a), event.b) else { return }
        if network.isBlocked(pipe.from, pipe.to) || pipe.heldSegments > 0 {
            pipe.heldSegments += 1
            return
        }
        guard let segment = pipe.arrive() else { return }
        push(.wireAck, wire, pipe, at: now + latency(pipe.to, pipe.from))
        for frame in segment.ended {
            // A frame before it may have ended the connection.
            guard wires.standing[place(pipe.from, pipe.to)] === wire else { return }
            arrived(frame.message, wire)
        }
    }

    private func arrived(_ message: SimMessage, _ wire: SimWire) {
        var message = message
        message.session = wire.session
        let target: SimActor
        if message.to.server == 0 {
            target = actors[servers[message.toSlot].actors[0]]
        } else {
            guard let index = oracle.index(of: message.to), actors[index].isAlive else {
                outcome.points.hit("net: frame to a dead actor")
                return
            }
            target = actors[index]
        }
        target.wireInbox.append(message)
        if target.wireInbox.count == 1 { takeWired(target) }
    }

    /// Handles what arrived for an actor, in order, as soon as it can.
    func takeWired(_ target: SimActor) {
        while target.isAlive, let message = target.wireInbox.first {
            let ready = readyTime(target)
            guard ready <= now else {
                queue.push(.wireDeliver, at: lookAgain(at: ready), target.view.origin)
                return
            }
            target.wireInbox.removeFirst()
            guard let wire = wires.standing[place(message.fromSlot, message.toSlot)] else { continue }
            meet(wire, message.toSlot)
            var received = message
            network.disturb(&received, &random.network)
            accept(received, target)
        }
    }

    func wireAck(_ event: SimEvent) {
        guard let (wire, pipe) = find(Int(event.a), event.b) else { return }
        if network.isBlocked(pipe.to, pipe.from) || pipe.heldAcks > 0 {
            pipe.heldAcks += 1
            return
        }
        guard let segment = pipe.acknowledged(now) else { return }
        for frame in segment.ended { scheduleProgress(wire, pipe, frame.actor) }
        pump(wire, pipe)
    }

    /// The line from one address to another works again, and the connection over it did not end.
    func wireUnblocked(_ from: Int, _ to: Int) {
        guard let wire = wires.standing[place(from, to)] else { return }
        let wait = SimTime(random.network.within(1...400)) * simMillisecond
        push(.wireResume, wire, wire.pipe(from: from), at: now + wait)
    }

    /// The kernels repeat what was lost in the cut: data that way, acknowledgements of what came the other way.
    func wireResume(_ event: SimEvent) {
        guard let (wire, pipe) = find(Int(event.a), event.b), !network.isBlocked(pipe.from, pipe.to) else { return }
        let other = wire.pipe(from: pipe.to)
        let acks = other.heldAcks
        other.heldAcks = 0
        for _ in 0..<acks { push(.wireAck, wire, other, at: now) }
        if pipe.heldSegments > 0 {
            for at in pipe.resume(now, latency: latency(pipe.from, pipe.to)) { push(.wireArrive, wire, pipe, at: at) }
        }
    }

    // MARK: Telling

    private func scheduleProgress(_ wire: SimWire, _ pipe: SimPipe, _ actor: Int) {
        guard !pipe.progress[actor].isScheduled else { return }
        pipe.noteScheduled(actor)
        let told = pipe.progress[actor].toldAt
        let at = told == .min ? now + 1 : max(now + 1, told + progressEvery)
        queue.push(.wireProgress, at: at, (pipe.from * options.slots + pipe.to) << 8 | actor, Int(wire.session))
    }

    func wireProgress(_ event: SimEvent) {
        let index = Int(event.a) & 0xFF
        guard let (wire, pipe) = find(Int(event.a) >> 8, event.b) else { return }
        let server = servers[pipe.from]
        let actor = actors[server.actors[index]]
        let ready = readyTime(actor)
        if ready > now {
            queue.push(.wireProgress, at: lookAgain(at: ready), Int(event.a), Int(event.b))
            return
        }
        let peer = pipe.from == min(pipe.from, pipe.to) ? wire.ids.high : wire.ids.low
        let progress = pipe.tell(index, wire.session, now) { server.clock.monotonicMillis(at: $0) }
        actor.linkMoved(peer, progress)
        turn(actor)
    }

    // MARK: The lines

    /// By direction: what was handed over and has not left, and chunks that were built when there was more.
    var waitingBytes: [Int] {
        var waiting = Array(repeating: 0, count: wires.sent.count)
        for actor in upActors() {
            for other in servers.indices where servers[other].isUp && other != actor.view.slot {
                waiting[actor.view.slot * options.slots + other] += actor.chunkBytesWaiting(for: servers[other].id)
            }
        }
        for case let wire? in wires.standing {
            for pipe in [wire.out, wire.back] { waiting[pipe.from * options.slots + pipe.to] += pipe.unsentBytes }
        }
        return waiting
    }

    /// Bandwidths of all directions as the seed drew them.
    static func drawWires(_ options: SimOptions, _ random: inout PRNG) -> SimWires {
        let slots = options.slots
        var wires = SimWires(
            standing: Array(repeating: nil, count: slots * slots),
            bandwidth: Array(repeating: simUnlimitedBandwidth, count: slots * slots),
            sent: Array(repeating: 0, count: slots * slots))
        guard options.transport == .wire, options.bandwidth > 0 else { return wires }
        for a in 0..<slots {
            for b in 0..<slots where a != b {
                // Some lines are better than the worst.
                let factor = options.bandwidthVaries ? random.pick([1, 1, 2, 10]) : 1
                wires.bandwidth[a * slots + b] = options.bandwidth * factor
            }
        }
        return wires
    }

    /// Every line gets as bad as the seed says, or as good again.
    func changeBandwidth() {
        outcome.points.hit("wire: bandwidth changes")
        for direction in wires.bandwidth.indices {
            wires.bandwidth[direction] = max(10_000, wires.bandwidth[direction] / max(1, options.bandwidthDivisor))
        }
        say { "bandwidth falls to one in \(self.options.bandwidthDivisor)" }
    }
}
