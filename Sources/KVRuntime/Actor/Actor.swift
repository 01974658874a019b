// What a user of the actor library writes and is given: the protocol of actors and the context of a call.

/// Private state and one message at a time. Created by its factory on the loop it lives on and touched by no other
/// thread.
public protocol Actor {
    associatedtype Message: WireMessage
    /// Handles one message. An error goes to the system's error handler; the actor goes on with the next message.
    mutating func receive(_ message: Message, _ context: ActorContext<Message>) throws
    /// The last call, when the actor is stopped or its system closes.
    mutating func stopped()
}

extension Actor {
    public mutating func stopped() {}
}

/// An actor's view of its system. May be kept by the actor and used in its own calls, never on another thread.
public struct ActorContext<Message: WireMessage> {
    public let system: ActorSystem
    let counter: UInt64
    unowned(unsafe) let actors: LoopActors

    /// The reference others can use to tell this actor.
    public var me: ActorRef<Message> { ActorRef(addressId: system.addressId, counter: counter) }

    /// Milliseconds since 1970 as of this turn of the loop.
    public var nowMillis: Int64 { actors.loop.nowMillis }

    package var loop: Loop { actors.loop }

    /// As `ref.tell`, and also outside of `receive` (timers of the loop) known to come from this actor.
    public func tell<M>(_ ref: ActorRef<M>, _ message: M) {
        let outer = actors.loop.enter(counter, of: system)
        ref.tell(message)
        actors.loop.leave(outer)
    }

    /// Tells in `after` milliseconds, unless the system closes before.
    public func tell<M>(_ ref: ActorRef<M>, _ message: M, after millis: Int64) {
        let context = self
        actors.loop.schedule(afterMillis: millis) { context.tell(ref, message) }
    }

    /// Starts another actor, by default on the loop that is next in turn.
    public func start<A: Actor>(on loop: Int? = nil, _ factory: @escaping @Sendable () -> A) -> ActorRef<A.Message> {
        system.start(on: loop, factory)
    }

    /// What the message now being handled says shows that its sender is faulty: the link it came by is closed, counted
    /// among bad frames and logged once for the peer. Nothing happens for a message of this system.
    package func refuseLink(because reason: String) { refuse(arrivedBy, because: reason) }

    /// The link that the message now being handled came by; 0 for one of this system. For who only later finds out what
    /// the message was worth: then `refuse`.
    package var arrivedBy: UInt64 { actors.arrivedBy }

    /// The incarnation of the system that the message now being handled came from; 0 for one of this system.
    package var arrivedFrom: UInt64 { actors.arrivedFrom }

    /// `isLasting`: its sender would send the same again, so the next link comes later and later.
    package func refuse(_ link: UInt64, because reason: String, isLasting: Bool = false) {
        if link != 0 { system.refuse(link: link, reason, isLasting: isLasting) }
    }

    /// Ends this actor after the current call. Messages not yet handled are dropped, and counted.
    public func stop() { actors.stop(counter) }
}

/// What went wrong in an actor, for the error handler.
public struct ActorFailure: Error, Sendable, CustomStringConvertible {
    /// `address/counter`.
    public let uid: String
    public let message: String

    public var description: String { "actor \(uid): \(message)" }
}
