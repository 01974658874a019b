// The way of a message from a tell to the loop of its actor. Any thread; batched when the teller is on a loop.

import CSupport
import KVBase

/// Which actor the code now running on a loop belongs to.
struct ActingActor {
    /// 0: none, the code is a connection's or a timer's.
    var counter: UInt64 = 0
    var actors: Unmanaged<LoopActors>?
}

/// Envelopes from this loop to another one, collected during a turn and pushed as one chain at its end.
struct Outbox {
    static let count = Limits.actorsMax
    /// A chain this long goes at once.
    static let chainMax = 1024

    var target: Unmanaged<LoopActors>?
    var list = EnvelopeList()
    var length = 0
}

extension ActorRef {
    /// Sends `message`: in order per sender and receiver, at most once, never blocking. If the actor has gone or
    /// cannot be reached, nothing happens except that it is counted. From any thread; on a loop's thread it costs an
    /// allocation and no atomic operation, the rest is done once per turn and receiving loop.
    @inlinable
    public func tell(_ message: Message) {
        guard let actors = Delivery.localActors(addressId, counter) else { return Delivery.elsewhere(self, message) }
        let accounted = message.accountedByteCount
        let payload = Delivery.allocate(actors, counter, Message.self, MemoryLayout<Message>.size)
        #if KV_CHECKS
            payload.initializeMemory(as: Message.self, repeating: message.marshalled(), count: 1)
        #else
            payload.initializeMemory(as: Message.self, repeating: message, count: 1)
        #endif
        Delivery.submit(payload, actors, counter, accounted)
    }
}

@usableFromInline
enum Delivery {
    /// Counters with this bit are asks, not actors.
    static let askBit: UInt64 = 1 << 63

    /// Who takes a message for this actor if it goes without the network: its system runs here and is the one we are
    /// in (or we are in none).
    @usableFromInline
    static func localActors(_ addressId: UInt32, _ counter: UInt64) -> Unmanaged<LoopActors>? {
        guard counter & askBit == 0, let system = SystemRegistry.system(addressId) else { return nil }
        return system._withUnsafeGuaranteedRef { system in
            if let loop = currentLoop() {
                let acting = loop._withUnsafeGuaranteedRef { $0.state.pointee.acting.actors }
                if let acting, acting._withUnsafeGuaranteedRef({ $0.system !== system }) { return nil }
            }
            return system.actors(for: counter)
        }
    }

    static func currentLoop() -> Unmanaged<Loop>? { cs_thread_loop().map { Unmanaged.fromOpaque($0) } }

    /// Room for a payload behind an envelope's header.
    @usableFromInline
    static func allocate(
        _ actors: Unmanaged<LoopActors>, _ counter: UInt64, _ type: Any.Type, _ bytes: Int
    ) -> UnsafeMutableRawPointer {
        let receiver = Unmanaged<InboxReceiver>.fromOpaque(actors.toOpaque())
        return Envelope.payload(
            Envelope.allocate(
                to: receiver, sender: 0, target: counter, type: type, kind: EnvelopeKind.value, payload: bytes))
    }

    @usableFromInline
    static func submit(
        _ payload: UnsafeMutableRawPointer, _ actors: Unmanaged<LoopActors>, _ counter: UInt64, _ accounted: Int
    ) {
        let envelope = (payload - Envelope.headerBytes).assumingMemoryBound(to: Envelope.self)
        account(to: actors._withUnsafeGuaranteedRef { $0.system }, counter, accounted)
        send(envelope, actors)
    }

    private static func account(to system: ActorSystem, _ counter: UInt64, _ bytes: Int) {
        if let loop = currentLoop() {
            let acting = loop._withUnsafeGuaranteedRef { $0.state.pointee.acting }
            if acting.counter != 0, let sender = acting.actors {
                sender._withUnsafeGuaranteedRef {
                    $0.sent(by: acting.counter, to: system.addressId, counter, bytes: bytes)
                }
                return
            }
        }
        cs_counter_add_shared(&system.external.pointee.messagesSentExternal, 1)
    }

    /// Hands an envelope over, by the shortest way.
    static func send(_ envelope: EnvelopePointer, _ actors: Unmanaged<LoopActors>) {
        actors._withUnsafeGuaranteedRef { actors in
            guard let current = currentLoop() else {
                let node = Envelope.node(envelope)
                if actors.inbox.push(node) == .closed { actors.discard(envelope) }
                return
            }
            if current.toOpaque() == actors.loopIdentity { return actors.take(envelope) }
            current._withUnsafeGuaranteedRef { $0.later(envelope, to: actors) }
        }
    }

    /// To an ask, or to another system.
    @usableFromInline
    static func elsewhere<M: WireMessage>(_ ref: ActorRef<M>, _ message: M) {
        let acting = currentLoop()?._withUnsafeGuaranteedRef { $0.state.pointee.acting } ?? ActingActor()
        let within = acting.actors.map { $0._withUnsafeGuaranteedRef { $0.system } }
        if let local = SystemRegistry.system(ref.addressId) {
            let system = local.takeUnretainedValue()
            if within == nil || within === system { return system.answer(ref.counter, message) }
        }
        guard let system = within ?? SystemRegistry.onlySystem()?.takeUnretainedValue() else { return }
        system.tellRemote(ref, message, from: acting)
    }
}

extension Loop {
    /// From now on code on this loop acts for an actor; give the result to `leave`.
    func enter(_ counter: UInt64, of system: ActorSystem) -> ActingActor {
        let outer = state.pointee.acting
        state.pointee.acting = ActingActor(counter: counter, actors: system.actors(for: counter))
        return outer
    }

    func leave(_ outer: ActingActor) { state.pointee.acting = outer }

    /// Runs `receiver.run(item)` in this turn if messages are still being handled, else in the next one, which comes
    /// at once.
    func run(later receiver: InboxReceiver, _ item: UInt64) {
        state.pointee.ready.append(ReadyItem(receiver: Unmanaged.passUnretained(receiver), item: item))
    }

    func runReady() {
        guard !state.pointee.ready.isEmpty else { return }
        // Those that become ready meanwhile are for the next turn: sockets come first.
        swap(&state.pointee.ready, &state.pointee.running)
        for i in 0..<state.pointee.running.count {
            let item = state.pointee.running[i]
            item.receiver._withUnsafeGuaranteedRef { $0.run(item.item) }
        }
        state.pointee.running.removeAll(keepingCapacity: true)
    }

    func later(_ envelope: EnvelopePointer, to actors: LoopActors) {
        let index = actors.loopIndex & (Outbox.count - 1)
        let outbox = state.pointee.outboxes + index
        let target = Unmanaged.passUnretained(actors)
        if outbox.pointee.length > 0, outbox.pointee.target?.toOpaque() != target.toOpaque() { send(outbox) }
        if outbox.pointee.length == 0 { state.pointee.outboxesUsed.append(index) }
        outbox.pointee.target = target
        outbox.pointee.list.append(envelope)
        outbox.pointee.length += 1
        if outbox.pointee.length == Outbox.chainMax { send(outbox) }
    }

    func sendOutboxes() {
        guard !state.pointee.outboxesUsed.isEmpty else { return }
        for i in 0..<state.pointee.outboxesUsed.count {
            let outbox = state.pointee.outboxes + state.pointee.outboxesUsed[i]
            if outbox.pointee.length > 0 { send(outbox) }
        }
        state.pointee.outboxesUsed.removeAll(keepingCapacity: true)
    }

    private func send(_ outbox: UnsafeMutablePointer<Outbox>) {
        var list = outbox.pointee.list.takeAll()
        outbox.pointee.length = 0
        guard let first = list.first, let last = list.last, let target = outbox.pointee.target else { return }
        target._withUnsafeGuaranteedRef { actors in
            if actors.inbox.push(first: Envelope.node(first), last: Envelope.node(last)) != .closed { return }
            while let envelope = list.popFirst() { actors.discard(envelope) }
        }
    }
}

struct ReadyItem {
    var receiver: Unmanaged<InboxReceiver>
    var item: UInt64
}
