// Links to other systems: the IO shell around RemoteLink. Lives on one loop; tells come to it from any thread as
// envelopes.

import CSupport
import KVBase

/// How a system reaches others and is reached. Made before the loop runs.
package struct RemoteConfiguration {
    /// `host:port` that is really listened on; empty for a system that only opens links.
    package let boundAddress: String
    let cluster: String
    let incarnation: UInt64
    let acceptor: LinkAcceptor?
    let listener: Listener?

    /// Listens on `address` (nil: opens links only). Only systems of the same `cluster` accept each other;
    /// `incarnation` tells restarts of a system apart.
    package init(
        listen address: SocketAddress?, cluster: String, incarnation: UInt64 = Machine.random(), loop: Loop
    ) throws {
        self.cluster = cluster
        self.incarnation = incarnation
        if let address {
            let acceptor = LinkAcceptor()
            let listener = try loop.listen(address, acceptor: acceptor)
            self.acceptor = acceptor
            self.listener = listener
            boundAddress = listener.localAddress.map { "\($0)" } ?? ""
        } else {
            acceptor = nil
            listener = nil
            boundAddress = ""
        }
    }

    init(listen text: String, cluster: String, loop: Loop) throws {
        guard let target = HostPort(text) else { throw ActorSystemError.unusableAddress(text) }
        try self.init(listen: try target.resolve()[0], cluster: cluster, loop: loop)
    }
}

final class LinkAcceptor: Acceptor {
    unowned(unsafe) var transport: RemoteTransport!

    override func accepted(_ connection: Connection) -> ConnectionHandler? { transport.accepted(connection) }
    override var overloadedReply: StaticString { "" }
}

/// A link to another system went up or down. `address` is the one it was asked for by, `peerAddress` what the peer
/// calls itself.
package struct LinkChange: Sendable, Equatable {
    package var address: String
    package var isUp: Bool
    package var peerAddress = ""
    /// Differs between two lives of a system.
    package var incarnation: UInt64 = 0
    /// Why it went down.
    package var reason = ""
}

final class RemoteTransport: @unchecked Sendable {
    static let tickMillis: Int64 = 25
    /// An incoming link that is silent this long is dead: its peer pings every second.
    static let incomingSilenceNanosMax: Nanos = 10_000_000_000
    /// One that has not said who it is by then is nobody.
    static let handshakeNanosMax: Nanos = 5_000_000_000
    static let incomingMax = 1024
    /// Peers whose first bad frame was logged; more than this are not logged at all.
    static let loggedPeersMax = 64

    unowned(unsafe) let system: ActorSystem
    let loop: Loop
    let cluster: String
    private let incarnation: UInt64
    private let listener: Listener?
    private let counters = UnsafeMutablePointer<TransportCounters>.allocate(capacity: 1)
    private let observers = Locked<Observers>(Observers())

    private struct Observers {
        var onChange: @Sendable (LinkChange) -> Void = { _ in }
        var onProblem: @Sendable (String) -> Void = { Machine.writeStandardError($0) }
    }

    // The loop's thread only.
    private var outgoing: [UInt32: OutgoingLink] = [:]
    private var incoming: [UInt64: IncomingLink] = [:]
    private var linksAccepted: UInt64 = 0
    private var incomingByPeer: [String: IncomingLink] = [:]
    private var logged: Set<String> = []
    private var isClosed = false
    private var timer: LoopTimer?

    init(system: ActorSystem, loop: Loop, configuration: RemoteConfiguration) throws {
        self.system = system
        self.loop = loop
        cluster = configuration.cluster
        incarnation = configuration.incarnation
        listener = configuration.listener
        counters.initialize(to: TransportCounters())
        configuration.acceptor?.transport = self
        timer = loop.schedule(everyMillis: Self.tickMillis) { [unowned(unsafe) self] in tick() }
    }

    deinit {
        timer?.cancel()
        counters.deallocate()
    }

    func observe(onChange: (@Sendable (LinkChange) -> Void)?, onProblem: (@Sendable (String) -> Void)?) {
        observers.withLock {
            if let onChange { $0.onChange = onChange }
            if let onProblem { $0.onProblem = onProblem }
        }
    }

    private func tick() {
        if isClosed { return }
        for link in outgoing.values { link.tick() }
        let now = loop.nowNanos
        for link in incoming.values {
            let isLate = link.peer == nil && now - link.acceptedAt > Self.handshakeNanosMax
            if isLate || now - link.lastHeard > Self.incomingSilenceNanosMax { link.connection.close() }
        }
    }

    // MARK: Outgoing

    /// Payload of an envelope: a retained tail or nil, the address it goes to (4 bytes), padding (4), the frame.
    static let envelopePrefixBytes = tailReferenceBytes + 8

    func take(_ envelope: EnvelopePointer) {
        defer { Envelope.deallocate(envelope) }
        let payload = UnsafeRawBufferPointer(
            start: Envelope.payload(envelope), count: Int(envelope.pointee.payloadBytes))
        let tail = takeTail(Envelope.payload(envelope))
        if isClosed { return countDropped(1) }
        let frame = UnsafeRawBufferPointer(rebasing: payload[Self.envelopePrefixBytes...])
        link(to: payload.load(fromByteOffset: tailReferenceBytes, as: UInt32.self)).send(frame, tail: tail)
    }

    private func link(to id: UInt32) -> OutgoingLink {
        if let found = outgoing[id] { return found }
        let made = OutgoingLink(addressId: id, transport: self)
        outgoing[id] = made
        return made
    }

    func keepLink(to id: UInt32) { if !isClosed { link(to: id).keep(true) } }

    func dropLink(to id: UInt32) { outgoing.removeValue(forKey: id)?.abandon() }

    func writeHello(_ writer: inout WireWriter, to address: String) {
        writer.write(cluster)
        writer.write(system.address)
        writer.write(address)
        writer.write(incarnation)
    }

    func writeWelcome(_ writer: inout WireWriter) {
        writer.write(system.address)
        writer.write(incarnation)
    }

    func report(_ change: LinkChange) {
        let handler = observers.withLock { $0.onChange }
        handler(change)
    }

    // MARK: Incoming

    func accepted(_ connection: Connection) -> ConnectionHandler? {
        guard !isClosed, incoming.count < Self.incomingMax else { return nil }
        linksAccepted += 1
        let link = IncomingLink(connection, number: linksAccepted, transport: self)
        incoming[link.number] = link
        return link
    }

    /// One connection per ordered pair: a new one replaces an older one whose end we have not noticed yet.
    func greeted(_ link: IncomingLink, _ peer: String) {
        if let older = incomingByPeer[peer], older !== link { older.connection.close() }
        incomingByPeer[peer] = link
    }

    func forget(_ link: IncomingLink) {
        incoming[link.number] = nil
        if let peer = link.peer, incomingByPeer[peer] === link { incomingByPeer[peer] = nil }
    }

    func refuse(link number: UInt64, _ reason: String) { incoming[number]?.refuse(reason) }
    func refuse(peer: String, _ reason: String) { incomingByPeer[peer]?.refuse(reason) }

    /// A message for one of our actors, or the answer to one of our asks, that came by the link of this number.
    func deliver(
        target: UInt64, sender: UInt64, by link: UInt64, _ bytes: UnsafeRawBufferPointer, tail: WireTail?
    ) {
        if target & Delivery.askBit != 0 {
            guard let ask = system.asks.remove(target) else { return system.countDeadLetter() }
            guard let tail else { return ask.answer(wire: bytes) }
            return (Array(bytes) + tail.bytes).withUnsafeBytes { ask.answer(wire: $0) }
        }
        let actors = system.actors(for: target)
        let envelope = Envelope.allocate(
            to: Unmanaged.fromOpaque(actors.toOpaque()), sender: sender, target: target,
            kind: EnvelopeKind.wire, payload: wirePrefixBytes + bytes.count)
        let payload = Envelope.payload(envelope)
        putTail(tail, at: payload)
        payload.storeBytes(of: link, toByteOffset: tailReferenceBytes, as: UInt64.self)
        if let base = bytes.baseAddress { (payload + wirePrefixBytes).copyMemory(from: base, byteCount: bytes.count) }
        Delivery.send(envelope, actors)
    }

    // MARK: Figures and trouble

    func countDropped(_ n: UInt64) { cs_counter_add(&counters.pointee.dropped, n) }
    func countReceived(_ n: Int) { cs_counter_add(&counters.pointee.received, UInt64(n)) }

    /// A link is about to be closed for what its peer sent. Logged once per peer.
    func bad(peer: String, _ error: any Error) {
        cs_counter_add(&counters.pointee.badFrames, 1)
        guard logged.count < Self.loggedPeersMax, logged.insert(peer).inserted else { return }
        let handler = observers.withLock { $0.onProblem }
        handler("link with \(peer) closed because of \(error is WireError ? LinkError.malformed : error)")
    }

    func addStatistics(to total: inout ActorSystemStatistics) {
        total.remoteDropped += cs_counter_read(&counters.pointee.dropped)
        total.remoteBytesReceived += cs_counter_read(&counters.pointee.received)
        total.badFrames += cs_counter_read(&counters.pointee.badFrames)
    }

    func close() {
        isClosed = true
        timer?.cancel()
        listener?.close()
        for link in outgoing.values { link.abandon() }
        for link in incoming.values { link.connection.close() }
    }
}

/// Written on the transport's loop, read anywhere.
struct TransportCounters {
    var dropped: UInt64 = 0
    var received: UInt64 = 0
    var badFrames: UInt64 = 0
}
