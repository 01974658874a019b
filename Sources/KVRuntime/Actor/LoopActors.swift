// The actors of one system on one loop: table, delivery, runs with a cap per turn. Loop's thread, except where noted.

import CSupport
import KVBase

/// Receives every envelope for this loop's actors. Addressing by counter, looked up here, on the owning thread: so
/// actors can come and go without any reference of another thread dangling.
@usableFromInline
package final class LoopActors: InboxReceiver {
    unowned(unsafe) let system: ActorSystem
    unowned(unsafe) let loop: Loop
    /// Any thread. Outlives the loop, so that late tellers find a closed door instead of freed memory.
    let inbox: Mailbox
    let loopIdentity: UnsafeMutableRawPointer
    let loopIndex: Int
    /// Written by the loop's thread, read anywhere.
    let counters: UnsafeMutablePointer<ActorCounters>
    private var cells: [UInt64: ActorCell] = [:]
    private var rates = PairRates()
    /// Number of the link that the message being handled came by; 0 for one of this system.
    var arrivedBy: UInt64 = 0
    /// The incarnation of the system at its other end, as the link has proved it.
    var arrivedFrom: UInt64 = 0

    init(system: ActorSystem, loop: Loop) {
        self.system = system
        self.loop = loop
        inbox = loop.inbox
        loopIndex = loop.index
        loopIdentity = Unmanaged.passUnretained(loop).toOpaque()
        counters = .allocate(capacity: 1)
        counters.initialize(to: ActorCounters())
    }

    deinit { counters.deallocate() }

    var actorCount: Int { cells.count }

    override package func take(_ envelope: UnsafeMutablePointer<Envelope>) {
        if envelope.pointee.kind == EnvelopeKind.install {
            let cell = Envelope.payload(envelope).load(as: Unmanaged<ActorCell>.self).takeRetainedValue()
            Envelope.deallocate(envelope)
            return install(cell)
        }
        if envelope.pointee.kind == EnvelopeKind.outgoing, let transport = system.transport {
            return transport.take(envelope)
        }
        guard let cell = cells[envelope.pointee.target], !cell.isStopped else { return drop(envelope) }
        // A reference made by hand may lie about the type: never reinterpret memory on its word.
        if envelope.pointee.kind == EnvelopeKind.value, envelope.pointee.type != cell.messageType {
            return drop(envelope)
        }
        cell.mailbox.append(envelope)
        schedule(cell)
    }

    override package func discard(_ envelope: UnsafeMutablePointer<Envelope>) { drop(envelope) }

    private func drop(_ envelope: UnsafeMutablePointer<Envelope>) {
        if EnvelopeKind.isMessage(envelope.pointee.kind) { cs_counter_add_shared(&counters.pointee.deadLetters, 1) }
        destroyPayload(envelope)
    }

    private func schedule(_ cell: ActorCell) {
        guard !cell.isScheduled else { return }
        cell.isScheduled = true
        loop.run(later: self, cell.counter)
    }

    private func install(_ cell: ActorCell) {
        cells[cell.counter] = cell
        let outer = loop.enter(cell.counter, of: system)
        cell.start(self)
        loop.leave(outer)
    }

    /// One run of an actor: at most `Limits.messagesPerTurnMax` messages, then the others' turn.
    override package func run(_ counter: UInt64) {
        guard let cell = cells[counter] else { return }
        cell.isScheduled = false
        let outer = loop.enter(counter, of: system)
        defer { loop.leave(outer) }
        var left = Limits.messagesPerTurnMax
        while left > 0, !cell.isStopped, let envelope = cell.mailbox.popFirst() {
            if envelope.pointee.kind == EnvelopeKind.stop {
                Envelope.deallocate(envelope)
                stop(counter)
            } else {
                cell.receive(envelope, self)
                (arrivedBy, arrivedFrom) = (0, 0)
                left -= 1
            }
        }
        cs_counter_add(&counters.pointee.delivered, UInt64(Limits.messagesPerTurnMax - left))
        if cell.isStopped { remove(cell) } else if !cell.mailbox.isEmpty { schedule(cell) }
    }

    private func remove(_ cell: ActorCell) {
        cells[cell.counter] = nil
        while let envelope = cell.mailbox.popFirst() { drop(envelope) }
        cell.stopped(self)
    }

    /// Takes effect when the current call ends.
    func stop(_ counter: UInt64) {
        guard let cell = cells[counter], !cell.isStopped else { return }
        cell.isStopped = true
        schedule(cell)
    }

    /// When the loop has ended: on the thread that closes the system.
    func close() {
        for counter in cells.keys.sorted() {
            guard let cell = cells[counter] else { continue }
            cell.isStopped = true
            remove(cell)
        }
    }

    func failed(_ counter: UInt64, _ error: any Error, undecodable: Bool) {
        cs_counter_add(&counters.pointee.failures, 1)
        let text = undecodable ? "undecodable message: \(error)" : "\(error)"
        system.report(ActorFailure(uid: "\(system.address)/\(counter)", message: text))
    }

    /// Accounts a message from an actor of this loop, local or remote.
    func sent(by sender: UInt64, to address: UInt32, _ target: UInt64, bytes: Int) {
        cs_counter_add(&counters.pointee.messagesSentActor, 1)
        if bytes > 0 { cs_counter_add(&counters.pointee.bytesSent, UInt64(bytes)) }
        let rate = rates.record(sender, address, target, now: loop.nowNanos)
        cs_counter_raise(&counters.pointee.maxMessageRate, UInt64(rate))
    }
}
