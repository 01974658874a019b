// What an actor system offers about other systems: tells over the network, links, their changes. Any thread.

import CSupport
import KVBase

extension ActorSystem {
    /// Calls `handler`, on the transport's loop, when a link goes up or down. Set it before the loops run to see every
    /// change.
    package func onLinkChange(_ handler: @escaping @Sendable (LinkChange) -> Void) {
        transport?.observe { $0.onChange = handler }
    }

    /// Where one line goes for each peer that sends garbage; by default to standard error.
    package func onLinkProblem(_ handler: @escaping @Sendable (String) -> Void) {
        transport?.observe { $0.onProblem = handler }
    }

    /// Calls `handler`, on the transport's loop, when TCP stands to an address and before anybody has answered there.
    package func onLinkOpening(_ handler: @escaping @Sendable (LinkOpening) -> Void) {
        transport?.observe { $0.onOpening = handler }
    }

    /// Calls `handler`, on the transport's loop, when messages told over a session have left or arrived.
    package func onLinkMovement(_ handler: @escaping @Sendable (LinkMovement) -> Void) {
        transport?.observe { $0.onMovement = handler }
    }

    /// New connections prove what `trust` asks from now on; those that stand go on. Reads files on the calling thread;
    /// throws, and changes nothing, if one cannot be used. Not for a system that began without protection.
    package func replaceTrust(_ trust: LinkTrust) throws {
        guard let transport else { return }
        let context = try LinkContext(trust, cluster: transport.cluster, incarnation: transport.incarnation)
        transport.loop.perform { transport.context = context }
    }

    /// Calls `handler`, on the transport's loop, when it becomes known, or changes, where others reach this system: one
    /// that is bound to every address of its machine hears that from its peers.
    package func onOwnAddress(_ handler: @escaping @Sendable (String) -> Void) {
        transport?.observe { $0.onOwnAddress = handler }
    }

    /// Calls `handler`, once and on the transport's loop, when a system that began without an epoch has one.
    package func onEpoch(_ handler: @escaping @Sendable (UInt64) -> Void) {
        transport?.observe { $0.onEpoch = handler }
    }

    /// Opens the link to `address` and keeps reopening it until `dropLink`, traffic or not. `incarnation`: the system
    /// that others say is there; 0 for whoever is.
    package func keepLink(to address: String, of incarnation: UInt64 = 0) {
        guard let transport, let id = SystemRegistry.intern(address) else { return }
        transport.loop.perform { transport.keepLink(to: id, of: incarnation) }
    }

    /// Closes the link to `address` and forgets what was queued for it. With `closing` false a connection that stands
    /// stays, but is not opened again. `isTold`: it was kept to a system that others told of, not to whoever is there;
    /// each wish is given up by itself.
    package func dropLink(to address: String, isTold: Bool = false, closing: Bool = true) {
        guard let transport, let id = SystemRegistry.intern(address) else { return }
        transport.loop.perform { transport.dropLink(to: id, isTold ? .told : .given, closing: closing) }
    }

    /// Finds out, on a thread of its own, what a name stands for; `done` is called on the transport's loop.
    package func resolve(
        _ target: HostPort, _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void
    ) {
        guard let transport else { return }
        transport.resolver.start([target]) { result in transport.loop.perform { done(result) } }
    }

    /// Closes the link that `address` opened to this system, for what came by it; it may open another.
    package func refuseLink(from address: String, because reason: String) {
        guard let transport else { return }
        transport.loop.perform { transport.refuse(peer: address, reason) }
    }

    func refuse(link: UInt64, _ reason: String, isLasting: Bool) {
        guard let transport else { return }
        transport.loop.perform { transport.refuse(link: link, reason, isLasting: isLasting) }
    }

    /// Sends bytes that are a message's wire form already. `sender` is the telling actor's counter, 0 from outside.
    package func tellRaw<M>(_ ref: ActorRef<M>, from sender: UInt64, _ bytes: UnsafeRawBufferPointer) {
        sendRemote(ref.addressId, ref.counter, from: acting(sender)) { $0.write(raw: bytes) }
    }

    private func acting(_ sender: UInt64) -> ActingActor {
        guard sender != 0, Loop.current != nil else { return ActingActor() }
        return ActingActor(counter: sender, actors: actors(for: sender))
    }

    /// Tells over one connection only, which may have opened a moment ago, and has the message tracked: see
    /// `onLinkMovement`. Messages of one sender, receiver and lane keep their order. If the connection is gone, so is
    /// the message.
    package func tell<M>(
        _ ref: ActorRef<M>, _ message: M, from sender: UInt64, over session: UInt64, lane: UInt8
    ) {
        sendRemote(ref.addressId, ref.counter, from: acting(sender), session: session, lane: lane) {
            message.encode(into: &$0)
        }
    }

    func tellRemote<M>(_ ref: ActorRef<M>, _ message: M, from acting: ActingActor) {
        sendRemote(ref.addressId, ref.counter, from: acting) { message.encode(into: &$0) }
    }

    /// Builds the frame here, on the teller's thread, and hands it to the transport's loop. A tail goes by reference:
    /// the transport cuts it up when its turn comes.
    private func sendRemote(
        _ addressId: UInt32, _ counter: UInt64, from acting: ActingActor, session: UInt64 = 0, lane: UInt8 = 0,
        _ encode: (inout WireWriter) -> Void
    ) {
        guard transport != nil else { return countDeadLetter() }
        var writer = WireWriter()
        defer { writer.deallocate() }
        LinkFrame.beginData(&writer, target: counter, sender: acting.counter)
        let overhead = writer.count
        encode(&writer)
        let tail = writer.tail
        let payload = writer.count - overhead + (tail?.bytes.count ?? 0)
        account(acting, addressId, counter, payload)
        guard payload <= Limits.messageBytesMax else {
            countDeadLetter()
            let uid = "\(SystemRegistry.name(addressId))/\(counter)"
            return report(ActorFailure(uid: uid, message: "a message of \(payload) bytes is too large to be sent"))
        }
        LinkFrame.finishData(&writer, tailBytes: tail?.bytes.count)
        // The transport lives on the first loop; any of its actors' counters leads there.
        let gate = actors(for: 1)
        let envelope = Envelope.allocate(
            to: Unmanaged.fromOpaque(gate.toOpaque()), sender: acting.counter, kind: EnvelopeKind.outgoing,
            payload: RemoteTransport.envelopePrefixBytes + writer.count)
        let target = Envelope.payload(envelope)
        putTail(tail, at: target)
        target.storeBytes(of: session, toByteOffset: tailReferenceBytes, as: UInt64.self)
        target.storeBytes(of: addressId, toByteOffset: tailReferenceBytes + 8, as: UInt32.self)
        target.storeBytes(of: UInt32(lane), toByteOffset: tailReferenceBytes + 12, as: UInt32.self)
        target.storeBytes(of: counter, toByteOffset: tailReferenceBytes + 16, as: UInt64.self)
        (target + RemoteTransport.envelopePrefixBytes).copyMemory(from: writer.buffer.base, byteCount: writer.count)
        Delivery.send(envelope, gate)
    }

    private func account(_ acting: ActingActor, _ addressId: UInt32, _ counter: UInt64, _ bytes: Int) {
        if counter & Delivery.askBit != 0 { countReply() }
        if acting.counter != 0, let sender = acting.actors {
            sender._withUnsafeGuaranteedRef { $0.sent(by: acting.counter, to: addressId, counter, bytes: bytes) }
        } else {
            cs_counter_add_shared(&external.pointee.messagesSentExternal, 1)
            cs_counter_add_shared(&external.pointee.bytesSent, UInt64(bytes))
        }
    }
}
