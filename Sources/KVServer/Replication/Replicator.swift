// The shell around one query actor's replication machine: gives it time and messages, carries out what it decides. Loop
// thread of its actor; made on the main thread before the loop runs.

import KVBase
package import KVCore
package import KVRuntime
import Logging

/// The actor that siblings and other servers address: query actor i (from 1) is actor i of its system.
package struct ReplicaActor: KVRuntime.Actor {
    let replicator: Replicator

    package mutating func receive(_ message: SyncMessage, _ context: ActorContext<SyncMessage>) {
        replicator.receive(message)
    }
}

package final class Replicator {
    package let replica: Replica
    private unowned let loop: Loop
    private unowned let system: ActorSystem
    private let state: UnsafeMutablePointer<ShardState>
    private let log: Logger
    /// Set when the actor is installed on its loop; nothing is sent before.
    var context: ActorContext<SyncMessage>?
    /// Joining, and links to other servers: one actor of the process sees to them.
    private var joinLinks: JoinLinks?
    /// The member table has changed.
    var onRows: (() -> Void)?
    /// What a stale directory had too much is dropped.
    var onReconciled: (() -> Void)?

    private var effects = ReplicaEffects()
    private var siblings: [ActorRef<SyncMessage>] = []
    /// By server id, then actor index.
    private var remotes: [UInt64: [ActorRef<SyncMessage>]] = [:]
    /// Where members say that they are reached.
    private var addresses: [UInt64: String] = [:]
    /// Who answered last at an address, and the connections that stand.
    private var lastAnswered: [String: UInt64] = [:]
    private var links: [UInt64: Link] = [:]
    /// Links that are kept to members, and to whom.
    private var dialled: [String: UInt64] = [:]
    private var timer: LoopTimer?
    private var timerDeadline = Millis.max
    private let status: ReplicatorStatus
    private var frames = FramesInProgress()
    /// Entries between two looks at the clock.
    static let entriesPerStep = 16
    /// While clients are served, who wait for the end of the turn, replication's share is shorter: unless that has not
    /// been enough for so many turns.
    private static let turnsServingMax = 64
    private var turnsBehind = 0
    private var commandsSeen = 0
    private let clockOffset: Millis
    private var gate: Gate
    /// As KVD PEERS says it.
    var encryption = "none"

    private struct Link {
        /// By which the transport knows it, and where the server is reached.
        var address: String
        var seen: String
        var session: UInt64
    }

    init(
        replica: Replica, state: UnsafeMutablePointer<ShardState>, loop: Loop, system: ActorSystem, log: Logger,
        status: ReplicatorStatus, joinLinks: JoinLinks?, gate: Gate
    ) {
        (self.replica, self.state, self.loop, self.system) = (replica, state, loop, system)
        (self.log, self.status, self.joinLinks, self.gate) = (log, status, joinLinks, gate)
        clockOffset = state.pointee.clockShift
        siblings = (0..<replica.config.actorCount).map {
            ActorRef<SyncMessage>(address: system.address, counter: UInt64($0 + 1))!
        }
    }

    /// The first actor logs for all and keeps the links.
    private var speaks: Bool { replica.config.actorIndex == 0 }

    var moment: Moment { Moment(wall: loop.nowMillis &+ clockOffset, steady: loop.nowNanos / 1_000_000) }

    // MARK: Inputs

    func receive(_ message: SyncMessage) {
        let at = moment
        loop.note(.receive)
        switch message {
        case .batch(let batch): replica.receive(batch, at, into: &effects)
        case .frame(let bytes): receive(frame: bytes, at)
        case .refused(let reason): context?.refuseLink(because: reason)
        }
        carryOut(at)
    }

    private func receive(frame bytes: [UInt8], _ at: Moment) {
        let link = context?.arrivedBy ?? 0
        let peer = context?.arrivedFrom ?? 0
        if frames.mustWait(bytes) {
            frames.append(bytes, link, from: peer)
        } else {
            take(bytes, crc: nil, link, from: peer, at)
        }
    }

    private func take(_ bytes: [UInt8], crc: UInt32?, _ link: UInt64, from peer: UInt64, _ at: Moment) {
        let verdict = replica.receive(frame: bytes, crc: crc, from: peer, at, into: &effects)
        if let fault = verdict.closesLink { context?.refuse(link, because: "\(fault)", isLasting: fault.isLasting) }
    }

    /// TCP stands to an address: what may be known of who is there goes out with the greeting of the systems.
    func linkOpened(_ opening: LinkOpening) {
        let at = moment
        if let id = lastAnswered[opening.address], addresses[id] != nil, links[id] == nil, !replica.isReplaced(id) {
            replica.linkUp(id, session: opening.session, at)
        } else {
            greet(opening.address, opening.session, at)
        }
        carryOut(at)
    }

    private func greet(_ address: String, _ session: UInt64, _ at: Moment) {
        guard context != nil, let frame = replica.greet(session: session, at),
            let ref = ActorRef<SyncMessage>(address: address, counter: 1)
        else { return }
        system.tell(
            ref, .frame(frame.bytes), from: UInt64(replica.config.actorIndex + 1), over: session,
            lane: frame.lane.rawValue)
    }

    /// A link to another server came, was taken over by another connection, or went.
    func linkChanged(_ change: LinkChange) {
        let at = moment
        let before = lastAnswered[change.address]
        if change.isUp {
            let id = change.incarnation
            // It was spoken to as the one who was there before.
            if let before, before != id { replica.linkDown(before, session: change.session, at) }
            lastAnswered[change.address] = id
            links[id] = Link(address: change.address, seen: change.peerAddress, session: change.session)
            remotes[id] = nil
            replica.linkUp(id, session: change.session, at)
            // Whoever opened a connection speaks first.
            if addresses[id] == nil, change.isDialed { greet(change.address, change.session, at) }
        } else if change.incarnation != 0 {
            let id = change.incarnation
            replica.linkDown(id, session: change.session, at)
            if links[id]?.session == change.session { links[id] = nil }
        } else {
            // In vain: neither who was there before nor who is said to be.
            if let before, links[before] == nil { replica.linkDown(before, at) }
            for (id, address) in addresses where change.addresses.contains(address) && links[id] == nil {
                replica.linkDown(id, at)
            }
        }
        joinLinks?.linkChanged(change)
        if change.isUp || change.incarnation != 0 { updateDials() }
        if change.isUp, addresses[change.incarnation] != nil { joinLinks?.known(change.incarnation) }
        carryOut(at)
    }

    /// This server's own address became known, or changed.
    func addressChanged(_ address: String) {
        let at = moment
        log.info("other servers reach this one at \(address)")
        replica.changeAddress(Bytes(address), at, into: &effects)
        carryOut(at)
    }

    /// Frames of this actor left a connection, or arrived.
    func linkMoved(_ movement: LinkMovement) {
        let id = movement.incarnation != 0 ? movement.incarnation : lastAnswered[movement.address] ?? 0
        var progress = LinkProgress(session: movement.session)
        func lane(_ lane: FrameLane) -> LaneProgress {
            LaneProgress(
                left: movement.left(Int(lane.rawValue)), delivered: movement.delivered(Int(lane.rawValue)))
        }
        (progress.live, progress.bulk) = (lane(.live), lane(.bulk))
        progress.begunAt = movement.begunNanos / 1_000_000
        progress.bytesPerSecond = movement.bytesPerSecond
        progress.roundTripMillis = movement.roundTripMillis
        replica.linkMoved(id, progress, moment)
        status.noteProgress()
    }

    // MARK: Time

    /// After every turn of the loop: sends what is due, does a slice of pending work, sets the alarm for the next.
    func turnEnded() {
        let at = moment
        var deadline = replica.nextDeadline(at)
        if deadline > at.steady, frames.isEmpty {
            if deadline < timerDeadline { arm(deadline, at) }
            return
        }
        guard context != nil else { return }
        gate.look(replica, at, state)
        if speaks { status.noteCaughtUp(replica.caughtUpPercent) }
        loop.note(.sync)
        if deadline <= at.steady { replica.tick(at, into: &effects) }
        let end = shareEnd()
        // A page that is not ready would hold the loop longer than all of this share.
        var isShort = false
        var isLeft: Bool
        repeat {
            let framesLeft = advanceFrames(at)
            isLeft = replica.step(at, into: &effects) || framesLeft
            isShort = isLeft && loop.isMemoryShort
        } while isLeft && !isShort && Machine.monotonicNanos < end
        carryOut(at)
        guard !isLeft, frames.isEmpty else {
            turnsBehind += 1
            return isShort ? loop.requestTurn(afterMillis: 1) : loop.requestTurn()
        }
        turnsBehind = 0
        deadline = replica.nextDeadline(at)
        if deadline > at.steady, deadline < timerDeadline { arm(deadline, at) }
    }

    /// When replication's share of this turn is over.
    private func shareEnd() -> Nanos {
        let isServing = state.pointee.counters.commands != commandsSeen
        commandsSeen = state.pointee.counters.commands
        let isShort = isServing && turnsBehind < Replicator.turnsServingMax
        return state.pointee.budget.deadline(
            for: isShort ? .replicationServing : .replication, now: Machine.monotonicNanos)
    }

    /// A slice of each large frame that is on its way in or out; true if any is left.
    private func advanceFrames(_ at: Moment) -> Bool {
        if let check = frames.checked() { take(check.bytes, crc: check.crc, check.link, from: check.peer, at) }
        if let frame = frames.sealed() { tell(frame) }
        return !frames.isEmpty
    }

    private func arm(_ deadline: Millis, _ at: Moment) {
        timer?.cancel()
        timerDeadline = deadline
        // The turn that the alarm causes ends with `turnEnded`; the alarm itself has nothing to do.
        timer = loop.schedule(afterMillis: deadline - at.steady) { [unowned self] in timerDeadline = .max }
    }

    // MARK: Effects

    private func carryOut(_ at: Moment) {
        guard !effects.isEmpty, let context else { return }
        for outgoing in effects.batches { context.tell(siblings[outgoing.toIndex], .batch(outgoing.batch)) }
        // Before frames: an event may bring the address a frame goes to.
        for event in effects.events { handle(event, at) }
        for outgoing in effects.frames {
            if frames.mustWait(outgoing) { frames.append(outgoing) } else { tell(outgoing) }
        }
        effects.removeAll()
        state.pointee.clockShift = clockOffset &+ replica.clockCorrectionMillis(at)
    }

    private func tell(_ frame: OutgoingFrame) {
        guard context != nil, let ref = remote(frame.to) else { return }
        system.tell(
            ref, .frame(frame.bytes), from: UInt64(replica.config.actorIndex + 1), over: frame.session,
            lane: frame.lane.rawValue)
    }

    private func remote(_ uid: ActorUID) -> ActorRef<SyncMessage>? {
        // Without a link, an id that had this very address before a restart: nobody is there any more.
        guard let address = links[uid.server]?.address ?? addresses[uid.server], !address.isEmpty,
            address != system.address
        else { return nil }
        var known = remotes[uid.server] ?? []
        while known.count <= Int(uid.index) {
            guard let ref = ActorRef<SyncMessage>(address: address, counter: UInt64(known.count + 1)) else {
                return nil
            }
            known.append(ref)
        }
        remotes[uid.server] = known
        return known[Int(uid.index)]
    }

    private func handle(_ event: ReplicaEvent, _ at: Moment) {
        switch event {
        case .member(let row): memberChanged(row)
        case .serverState(let server, let state):
            guard speaks else { return }
            log.info("server \(hex16(server)) at \(shownAddress(server)) is \(state.rawValue)")
        case .forgotten:
            guard speaks else { return }
            log.error("the other servers have removed this one: it starts again under a new id")
            status.noteForgotten(addresses.values.filter { $0 != system.address && !$0.isEmpty })
        case .joined: if speaks { log.info("joined: all existing data has arrived") }
        case .staleDisk:
            guard speaks else { return }
            log.warning("others have deleted what this server's disk still has: everything is fetched and compared")
        case .reconciled(let dropped):
            guard speaks else { return }
            log.warning("\(dropped) keys that were deleted while this server was away are dropped")
            onReconciled?()
        case .malformed(let server):
            if let link = links[server] {
                system.refuseLink(from: link.address, because: "\(FrameFault.malformed)")
            }
        case .divergence(let server):
            log.critical("replicas with equal histories differ; repairing", metadata: ["server": "\(hex16(server))"])
        case .restamped(let seqs):
            log.debug(
                "actor \(replica.uid.index) stamped \(seqs.count) early writes again, above what others collected")
        case .buried(let seqs):
            log.debug("actor \(replica.uid.index) deleted \(seqs.count) spent parts of counters")
        case .rowsRefused(let server):
            log.warning(
                "server \(hex16(server)) at \(shownAddress(server)) tells of more servers than there is room for")
        case .clockSkewed(let millis):
            if speaks { log.warning("this machine's clock is off by \(millis) ms from the other servers'") }
        }
    }

    /// An operator's word that a member which is down never comes back. False if it is not down, nil if there is none.
    func forget(_ id: UInt64) -> Bool? {
        let at = moment
        guard let peer = replica.peers(at).first(where: { $0.server == id }) else { return nil }
        guard peer.state == .down else { return false }
        log.warning("server \(hex16(id)) at \(shownAddress(id)) is forgotten, as a client asked")
        replica.forget(id, at, into: &effects)
        carryOut(at)
        return true
    }

    /// Servers that are known from the directory. Once, before anything else.
    func learn(_ rows: [MemberRow]) {
        let at = moment
        for row in rows { replica.learn(row, at, into: &effects) }
        carryOut(at)
    }

    private func memberChanged(_ row: MemberRow) {
        onRows?()
        let address = row.address.description
        guard row.server != replica.uid.server else { return }
        let before = addresses[row.server]
        addresses[row.server] = address
        if before != address { remotes[row.server] = nil }
        guard speaks else { return }
        if before == nil {
            let name = row.name.count > 0 ? "\(row.name) " : ""
            let isFormer = row.status.isMember && (address == system.address || replica.isReplaced(row.server))
            // Whether it is up is said once it is heard.
            let word =
                isFormer ? "ended, another one is in its place" : row.status == .up ? "a member" : "\(row.status)"
            log.info("server \(name)\(hex16(row.server)) at \(shownAddress(row.server)): \(word)")
        }
        updateDials()
        if links[row.server] != nil { joinLinks?.known(row.server) }
    }

    /// Links are kept to every member that is not known to be gone, where it says that it is reached.
    private func updateDials() {
        guard speaks else { return }
        var wanted: [String: UInt64] = [:]
        for row in replica.memberRows where row.server != replica.uid.server && row.status.isMember {
            let address = row.address.description
            guard row.address.count > 0, address != system.address, !replica.isReplaced(row.server) else { continue }
            if wanted[address] == nil || links[row.server] != nil { wanted[address] = row.server }
        }
        // First: who moved keeps the connection it has.
        for (address, id) in wanted where dialled[address] != id || links[id] != nil {
            system.keepLink(to: address, of: id)
        }
        for (address, _) in dialled where wanted[address] == nil { joinLinks?.dropLink(to: address) }
        dialled = wanted
    }

    /// As it says, or as it is seen where it says nothing, or what is of no use here.
    private func shownAddress(_ id: UInt64) -> String {
        let (said, seen) = (addresses[id] ?? "", links[id]?.seen)
        guard let seen, said != seen, said.isEmpty || HostPort(said)?.reach == .machine else {
            return said.isEmpty ? "?" : said
        }
        return seen
    }

    // MARK: Figures and the end

    /// Of the whole server; a moment old.
    var caughtUpPercent: Int { replica.ownState == "up" ? 100 : status.caughtUpPercent }
    var lagMillis: Millis { replica.lagMillis(moment) }

    func peers() -> [PeerRow] {
        replica.peers(moment).map { peer in
            var row = PeerRow(
                id: peer.server, address: shownAddress(peer.server),
                state: PeerRow.State(rawValue: peer.state.rawValue) ?? .down, pending: Int(peer.pendingDeltas),
                heardMillisAgo: peer.silentMillis ?? -1)
            if peer.name.count > 0 { row.name = peer.name.description }
            row.caughtUpPercent = peer.caughtUpPercent
            row.lagMillis = peer.lagMillis
            row.encryption = encryption
            row.roundTripMillis = peer.roundTripMillis ?? -1
            row.clockOffsetMillis = peer.clockOffsetMillis ?? 0
            (row.backlogBytes, row.bytesPerSecond) = (peer.backlogBytes, peer.bytesPerSecond)
            return row
        }
    }

    /// The process is about to end: own writes go to whoever can be heard.
    func leave() {
        let at = moment
        guard !replica.peers(at).isEmpty || replica.owedWrites > 0 else { return status.noteLeft() }
        replica.beginLeave(at, into: &effects)
        carryOut(at)
        noteLeaving(since: nil)
    }

    /// How long the good-bye may take to arrive once it was said.
    private static let farewellMillisMax: Millis = 1_000

    /// Says so once this actor has left; looks every few milliseconds.
    private func noteLeaving(since saidAt: Millis?) {
        let now = moment.steady
        let saidAt = saidAt ?? (replica.hasLeft && frames.isEmpty ? now : nil)
        status.noteOwed(replica.owedWrites, by: replica.config.actorIndex)
        if let saidAt, replica.hasDelivered || now - saidAt > Replicator.farewellMillisMax {
            return status.noteLeft()
        }
        loop.schedule(afterMillis: 5) { [unowned self] in noteLeaving(since: saidAt) }
    }
}
