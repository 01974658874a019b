// The loop's side of an actor: its queue of messages and its state. Loop's thread only.

import CSupport
import KVBase

typealias EnvelopePointer = UnsafeMutablePointer<Envelope>

/// A first-in first-out list of envelopes linked by their node. The owner's thread only.
struct EnvelopeList {
    private(set) var first: EnvelopePointer?
    private(set) var last: EnvelopePointer?

    var isEmpty: Bool { first == nil }

    mutating func append(_ envelope: EnvelopePointer) {
        envelope.pointee.node.next = nil
        if let last { last.pointee.node.next = Envelope.node(envelope) } else { first = envelope }
        last = envelope
    }

    mutating func popFirst() -> EnvelopePointer? {
        guard let envelope = first else { return nil }
        first = envelope.pointee.node.next.map(Envelope.of)
        if first == nil { last = nil }
        return envelope
    }

    mutating func takeAll() -> EnvelopeList {
        let all = self
        self = EnvelopeList()
        return all
    }
}

/// What an envelope's payload is.
enum EnvelopeKind {
    /// A value of `type`.
    static let value: UInt32 = 1
    /// Its wire form, as it came from another system: a retained `WireTail` or nil, the number of the link it came by,
    /// the bytes before the tail.
    static let wire: UInt32 = 2
    /// No payload: stop the actor.
    static let stop: UInt32 = 4
    /// A retained cell to be entered into the loop's table.
    static let install: UInt32 = 5
    /// A frame for the transport.
    static let outgoing: UInt32 = 6

    static func isMessage(_ kind: UInt32) -> Bool { kind <= wire }
}

/// Base of the typed cells, so that a loop can hold actors of all types.
class ActorCell {
    let counter: UInt64
    let messageType: Any.Type
    var mailbox = EnvelopeList()
    var isScheduled = false
    var isStopped = false

    init(counter: UInt64, messageType: Any.Type) {
        self.counter = counter
        self.messageType = messageType
    }

    /// Creates the actor if need be.
    func start(_ actors: LoopActors) {}

    /// Handles a value or wire payload and frees the envelope.
    func receive(_ envelope: EnvelopePointer, _ actors: LoopActors) {}

    func stopped(_ actors: LoopActors) {}
}

final class TypedCell<A: Actor>: ActorCell {
    enum Factory {
        case plain(@Sendable () -> A)
        case contextual(@Sendable (ActorContext<A.Message>) -> A)
    }

    private let factory: Factory
    private var actor: A?

    init(counter: UInt64, factory: Factory) {
        precondition(MemoryLayout<A.Message>.alignment <= 16, "messages of larger alignment are not supported")
        self.factory = factory
        super.init(counter: counter, messageType: A.Message.self)
    }

    private func context(_ actors: LoopActors) -> ActorContext<A.Message> {
        ActorContext(system: actors.system, counter: counter, actors: actors)
    }

    override func start(_ actors: LoopActors) {
        guard actor == nil else { return }
        switch factory {
        case .plain(let make): actor = make()
        case .contextual(let make): actor = make(context(actors))
        }
    }

    override func receive(_ envelope: EnvelopePointer, _ actors: LoopActors) {
        let payload = Envelope.payload(envelope)
        let message: A.Message
        if envelope.pointee.kind == EnvelopeKind.value {
            message = payload.assumingMemoryBound(to: A.Message.self).move()
            Envelope.deallocate(envelope)
        } else {
            defer { Envelope.deallocate(envelope) }
            let whole = UnsafeRawBufferPointer(start: payload, count: Int(envelope.pointee.payloadBytes))
            let tail = takeTail(payload)
            actors.arrivedBy = payload.load(fromByteOffset: tailReferenceBytes, as: UInt64.self)
            actors.arrivedFrom = payload.load(fromByteOffset: tailReferenceBytes + 8, as: UInt64.self)
            let bytes = UnsafeRawBufferPointer(rebasing: whole[wirePrefixBytes...])
            do {
                message = try A.Message.decode(bytes, tail: tail)
            } catch {
                actors.failed(counter, error, undecodable: true)
                return
            }
        }
        do {
            try actor!.receive(message, context(actors))
        } catch {
            actors.failed(counter, error, undecodable: false)
        }
    }

    override func stopped(_ actors: LoopActors) {
        actor?.stopped()
        actor = nil
    }
}

/// Room in front of a payload for the reference to its tail; for that, the link's number and the peer's incarnation.
let tailReferenceBytes = MemoryLayout<Unmanaged<WireTail>?>.size
let wirePrefixBytes = tailReferenceBytes + 2 * MemoryLayout<UInt64>.size

func putTail(_ tail: WireTail?, at payload: UnsafeMutableRawPointer) {
    payload.storeBytes(of: tail.map { Unmanaged.passRetained($0) }, as: Unmanaged<WireTail>?.self)
}

/// Once per `putTail`.
func takeTail(_ payload: UnsafeMutableRawPointer) -> WireTail? {
    payload.load(as: Unmanaged<WireTail>?.self)?.takeRetainedValue()
}

/// Destroys a payload whose type is only known at run time.
func destroyPayload(_ envelope: EnvelopePointer) {
    func destroy<T>(_ type: T.Type) {
        Envelope.payload(envelope).assumingMemoryBound(to: type).deinitialize(count: 1)
    }
    if envelope.pointee.kind == EnvelopeKind.value { _openExistential(envelope.pointee.type, do: destroy) }
    if envelope.pointee.kind == EnvelopeKind.install {
        Envelope.payload(envelope).load(as: Unmanaged<ActorCell>.self).release()
    }
    if envelope.pointee.kind == EnvelopeKind.wire || envelope.pointee.kind == EnvelopeKind.outgoing {
        _ = takeTail(Envelope.payload(envelope))
    }
    Envelope.deallocate(envelope)
}
