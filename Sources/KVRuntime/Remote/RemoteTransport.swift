// Links to other systems: who is reached how, who came, what goes where. Lives on one loop; tells come to it from any
// thread as envelopes.

import CSupport
package import KVBase

/// How a system reaches others and is reached. Made before the loop runs.
package struct RemoteConfiguration {
    /// `host:port` that is really listened on; empty for a system that only opens links.
    package let boundAddress: String
    let cluster: String
    let incarnation: UInt64
    let trackedSpacing: Nanos
    let acceptor: LinkAcceptor?
    let listener: Listener?
    /// Nil where whoever reaches the port is believed.
    let context: LinkContext?
    let name: SystemName
    /// What a client of another kind is told that connects to the port of systems: one line.
    package var lineForStrangers = "this port is for actor systems only"
    /// Grows with each restore of the whole: systems of different epochs refuse each other. 0: that of the first that
    /// is met.
    package var epoch = firstEpoch
    /// How one begins anew that is of an earlier epoch.
    package var epochAdvice = "start it again without its data"

    package static let firstEpoch: UInt64 = 1
    package var resolver: NameResolver = { try $0.resolve() }

    /// Listens on `address` (nil: opens links only). Only systems of the same `cluster` accept each other, and only
    /// those that prove what `trust` asks; `incarnation` tells restarts of a system apart, `name` is the same over
    /// them. Tracked messages of one actor to another leave this far apart.
    package init(
        listen address: SocketAddress?, cluster: String, trust: LinkTrust = .network,
        incarnation: UInt64 = Machine.random(), name: SystemName = .none, loop: Loop, trackedSpacingMillis: Int64 = 0
    ) throws {
        context = trust == .network ? nil : try LinkContext(trust, cluster: cluster, incarnation: incarnation)
        trackedSpacing = trackedSpacingMillis * 1_000_000
        self.cluster = cluster
        self.incarnation = incarnation
        self.name = name
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

    init(listen text: String, cluster: String, trust: LinkTrust, loop: Loop) throws {
        guard let target = HostPort(text) else { throw ActorSystemError.unusableAddress(text) }
        try self.init(listen: try target.resolve()[0], cluster: cluster, trust: trust, loop: loop)
    }
}

final class LinkAcceptor: Acceptor {
    unowned(unsafe) var transport: RemoteTransport!

    override func accepted(_ connection: Connection) -> ConnectionHandler? { transport.accepted(connection) }
    override var overloadedReply: StaticString { "" }
}

/// A link to another system went up or down. `address` is the one it was asked for by, or what the peer calls itself if
/// it came to us; `peerAddress` where the peer is reached, as it says or as it is seen.
package struct LinkChange: Sendable, Equatable {
    package var address: String
    package var isUp: Bool
    /// Every address that led to this link.
    package var addresses: [String] = []
    package var peerAddress = ""
    package var name = SystemName.none
    /// Differs between two lives of a system. 0 where nobody has answered: an attempt was in vain.
    package var incarnation: UInt64 = 0
    /// Numbers the connection: what is told over it is tracked. An up after an up means that another connection took
    /// over without loss.
    package var session: UInt64 = 0
    /// This side opened the connection.
    package var isDialed = false
    /// Why it went down.
    package var reason = ""
    /// The address leads back to this system.
    package var isItself = false
    /// Whoever is there does not want this system, or is none.
    package var isRefused = false
}

/// TCP stands to an address; nobody has answered yet, and what is told over `session` goes out with the greeting.
package struct LinkOpening: Sendable, Equatable {
    package var address: String
    package var session: UInt64
}

/// How far the messages got that one actor told over a connection.
package struct LinkMovement: Sendable {
    package var address: String
    /// 0 before the peer has answered.
    package var incarnation: UInt64
    package var session: UInt64
    private let progress: SenderProgress
    package var bytesPerSecond: Int
    package var roundTripMillis: Int64?

    init(
        address: String, incarnation: UInt64, session: UInt64, progress: SenderProgress, bytesPerSecond: Int,
        roundTripMillis: Int64?
    ) {
        (self.address, self.incarnation, self.session) = (address, incarnation, session)
        (self.progress, self.bytesPerSecond, self.roundTripMillis) = (progress, bytesPerSecond, roundTripMillis)
    }

    /// The telling actor's counter.
    package var sender: UInt64 { progress.sender }
    /// Messages of a lane of which nothing waits here any more, and that the peer's kernel has, since the session
    /// began.
    package func left(_ lane: Int) -> UInt64 { progress.left[lane] }
    package func delivered(_ lane: Int) -> UInt64 { progress.delivered[lane] }
    /// Loop time at which the last of them that left began to leave.
    package var begunNanos: Nanos { progress.begunAt }
}

final class RemoteTransport: @unchecked Sendable {
    static let tickMillis: Int64 = 25
    /// How often is looked at messages that are about to leave.
    static let watchMillis: Int64 = 5
    /// One that has not proved and said who it is by then is nobody.
    static let handshakeNanosMax: Nanos = 5_000_000_000
    static let incomingMax = 1024
    /// Handshakes under way of those that were accepted: some 45 KiB each. An honest one takes a round trip.
    static let handshakesMax = 512
    /// So many strangers are no crowd.
    static let strangersFew = 64
    /// Strangers that are closed at a time, as each takes some microseconds: so many of a tick, the rest of later ones.
    static let givenUpPerTick = 32
    /// One line about a peer a minute, and about so many peers.
    static let loggedPeersMax = 64
    static let logAgainNanos: Nanos = 60_000_000_000

    unowned(unsafe) let system: ActorSystem
    let loop: Loop
    let cluster: String
    let incarnation: UInt64
    let name: SystemName
    let trackedSpacing: Nanos
    /// What new connections are protected by; nil: by nothing.
    var context: LinkContext?
    /// Nil without `context`: then nobody has one.
    let handshakes: LinkHandshakes?
    let lineForStrangers: String
    let resolver: Resolver
    let listener: Listener?
    private let counters = UnsafeMutablePointer<TransportCounters>.allocate(capacity: 1)
    private let observers = Locked<Observers>(Observers())

    struct Observers {
        var onChange: @Sendable (LinkChange) -> Void = { _ in }
        var onOpening: @Sendable (LinkOpening) -> Void = { _ in }
        var onMovement: @Sendable (LinkMovement) -> Void = { _ in }
        var onProblem: @Sendable (String) -> Void = { Machine.writeStandardError($0) }
        var onOwnAddress: @Sendable (String) -> Void = { _ in }
        var onEpoch: @Sendable (UInt64) -> Void = { _ in }
    }

    // The loop's thread only.
    /// By each address that leads to one.
    var peers: [UInt32: LinkPeer] = [:]
    /// Every one, once.
    private(set) var allPeers: [LinkPeer] = []
    /// Those accepted, until they have said who they are or are closed.
    var strangers: [UInt64: LinkConnection] = [:] {
        didSet { loop.boundEvents(strangers.count > Self.strangersFew) }
    }
    var proving = ProvingLinks()
    private var hellos = SeenHellos()
    private(set) var links: [UInt64: LinkConnection] = [:]
    private var linksMade: UInt64 = 0
    private var logged: [String: Nanos] = [:]
    private(set) var isClosed = false
    var epoch: UInt64
    let epochAdvice: String
    var own: OwnAddress
    private var timer: LoopTimer?
    private var isWatching = false

    init(system: ActorSystem, loop: Loop, configuration: RemoteConfiguration) throws {
        self.system = system
        self.loop = loop
        cluster = configuration.cluster
        incarnation = configuration.incarnation
        name = configuration.name
        trackedSpacing = configuration.trackedSpacing
        lineForStrangers = configuration.lineForStrangers
        resolver = Resolver(resolve: configuration.resolver)
        (epoch, epochAdvice) = (configuration.epoch, configuration.epochAdvice)
        listener = configuration.listener
        context = configuration.context
        handshakes = context.map { _ in LinkHandshakes(loop: loop) }
        let given = HostPort(system.address).flatMap { $0.reach == .nowhere ? nil : $0 }
        own = OwnAddress(given: listener == nil ? nil : given, bound: listener?.localAddress)
        counters.initialize(to: TransportCounters())
        configuration.acceptor?.transport = self
        timer = loop.schedule(everyMillis: Self.tickMillis) { [unowned(unsafe) self] in tick() }
    }

    deinit {
        timer?.cancel()
        counters.deallocate()
    }

    func observe(_ change: (inout Observers) -> Void) { observers.withLock { change(&$0) } }

    private func tick() {
        if isClosed { return }
        for peer in allPeers {
            peer.tick()
            for connection in peer.connections { _ = connection.look() }
            if peer.isIdle { forget(peer) }
        }
        let now = loop.nowNanos
        var left = Self.givenUpPerTick
        for link in strangers.values where now - link.startedAt > Self.handshakeNanosMax && link.giveUp() {
            left -= 1
            if left == 0 { break }
        }
    }

    /// Somebody waits to hear that a message left: looks soon, and again until it has.
    func watch() {
        guard !isWatching else { return }
        isWatching = true
        loop.schedule(afterMillis: 1) { [unowned(unsafe) self] in look() }
    }

    private func look() {
        if isClosed { return }
        var isLeft = false
        for peer in allPeers {
            for connection in peer.connections where connection.isAwaited {
                _ = connection.look()
                isLeft = isLeft || connection.isAwaited
            }
        }
        isWatching = isLeft
        guard isLeft else { return }
        loop.schedule(afterMillis: Self.watchMillis) { [unowned(unsafe) self] in look() }
    }

    // MARK: Peers

    func peer(_ id: UInt32) -> LinkPeer {
        if let found = peers[id] { return found }
        let made = LinkPeer(addressId: id, transport: self)
        peers[id] = made
        allPeers.append(made)
        return made
    }

    func forget(_ peer: LinkPeer) {
        for id in peer.addresses where peers[id] === peer { peers[id] = nil }
        allPeers.removeAll { $0 === peer }
    }

    func dial(_ target: SocketAddress, for peer: LinkPeer) throws -> LinkConnection {
        linksMade += 1
        let link = LinkConnection(number: linksMade, transport: self, target: target)
        link.peer = peer
        link.attach(try loop.connect(target, handler: link))
        links[link.number] = link
        return link
    }

    func accepted(_ connection: Connection) -> ConnectionHandler? {
        guard !isClosed, links.count < Self.incomingMax || makeRoom() else { return nil }
        linksMade += 1
        let link = LinkConnection(number: linksMade, transport: self, target: nil)
        link.attach(connection)
        links[link.number] = link
        strangers[link.number] = link
        return link
    }

    /// All links are taken: the oldest one that was opened here and over which no message came gives way.
    private func makeRoom() -> Bool {
        let idle = links.values.lazy.filter { !$0.isDialed && !$0.hasBroughtMessages }
        guard let oldest = idle.min(by: { $0.number < $1.number }) else { return false }
        bad(peer: oldest.remoteHost, LinkError.idle)
        oldest.close("there are too many links, and nothing came by this one")
        return true
    }

    /// What one that was accepted has said first was not said before. Else it is closed.
    func isFresh(_ said: [UInt8], of link: LinkConnection) -> Bool {
        if hellos.isFresh(said) { return true }
        bad(peer: link.remoteHost, LinkError.recording)
        link.close("\(LinkError.recording)")
        return false
    }

    /// The handshake of one that was accepted begins: if there are too many, one gives way.
    func beginProof(of link: LinkConnection) {
        proving.begin(link.number, of: link.remoteHost)
        guard proving.count > Self.handshakesMax, let most = proving.oldestOfMost else { return }
        links[most]?.stopProving()
        proving.end(most)
    }

    /// Bytes of messages that have begun to arrive, of all links; above the bound the link that holds most is closed.
    func boundUnfinished() {
        let held = links.values.reduce(0) { $0 + $1.unfinishedBytes }
        guard held > Limits.unfinishedBytesMax else { return }
        links.values.max { $0.unfinishedBytes < $1.unfinishedBytes }?.refuse("\(held) bytes of unfinished messages")
    }

    func closed(_ link: LinkConnection) {
        links[link.number] = nil
        strangers[link.number] = nil
        proving.end(link.number)
        link.peer?.closed(link)
    }

    func refuse(link number: UInt64, _ reason: String, isLasting: Bool) {
        links[number]?.refuse(reason, isLasting: isLasting)
    }

    func refuse(peer address: String, _ reason: String) {
        guard let id = SystemRegistry.intern(address) else { return }
        peers[id]?.current?.refuse(reason)
    }

    func report(_ change: LinkChange) {
        let handler = observers.withLock { $0.onChange }
        handler(change)
    }

    func reportOpened(_ opening: LinkOpening) {
        let handler = observers.withLock { $0.onOpening }
        handler(opening)
    }

    func report(_ movement: LinkMovement) {
        let handler = observers.withLock { $0.onMovement }
        handler(movement)
    }

    // MARK: Messages

    /// What stands before the frame in an envelope's payload: a retained tail or nil, the session (8, 0 for any), the
    /// address it goes to (4), lane (4), the target's counter (8).
    static let envelopePrefixBytes = tailReferenceBytes + 24

    func take(_ envelope: EnvelopePointer) {
        defer { Envelope.deallocate(envelope) }
        let payload = UnsafeRawBufferPointer(
            start: Envelope.payload(envelope), count: Int(envelope.pointee.payloadBytes))
        let tail = takeTail(Envelope.payload(envelope))
        if isClosed { return countDropped(1) }
        let frame = UnsafeRawBufferPointer(rebasing: payload[Self.envelopePrefixBytes...])
        let session = payload.load(fromByteOffset: tailReferenceBytes, as: UInt64.self)
        let address = payload.load(fromByteOffset: tailReferenceBytes + 8, as: UInt32.self)
        let stream = LinkStream(
            sender: envelope.pointee.sender,
            target: payload.load(fromByteOffset: tailReferenceBytes + 16, as: UInt64.self),
            lane: UInt8(payload.load(fromByteOffset: tailReferenceBytes + 12, as: UInt32.self)))
        guard session != 0 else { return peer(address).send(frame, tail, stream) }
        guard let peer = links[session]?.peer ?? peers[address] else { return countDropped(1) }
        peer.send(frame, tail, stream, over: session)
    }

    /// A message for one of our actors, or the answer to one of our asks, that came by this link.
    func deliver(
        target: UInt64, sender: UInt64, by link: LinkConnection, _ bytes: UnsafeRawBufferPointer, tail: WireTail?
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
        payload.storeBytes(of: link.number, toByteOffset: tailReferenceBytes, as: UInt64.self)
        payload.storeBytes(of: link.peerIncarnation, toByteOffset: tailReferenceBytes + 8, as: UInt64.self)
        if let base = bytes.baseAddress { (payload + wirePrefixBytes).copyMemory(from: base, byteCount: bytes.count) }
        Delivery.send(envelope, actors)
    }

    // MARK: Figures and trouble

    func countDropped(_ n: UInt64) { cs_counter_add(&counters.pointee.dropped, n) }
    func countReceived(_ n: Int) { cs_counter_add(&counters.pointee.received, UInt64(n)) }

    /// A link is about to be closed for what its peer sent. Logged once per peer.
    func bad(peer: String, _ error: any Error, isSaid: Bool = true) {
        cs_counter_add(&counters.pointee.badFrames, 1)
        guard isSaid else { return }
        say("link with \(peer) closed because of \(error is WireError ? LinkError.malformed : error)", about: peer)
    }

    /// Another line about the same one only after a while.
    func say(_ line: String, about peer: String) {
        let now = loop.nowNanos
        if logged.count >= Self.loggedPeersMax { logged = logged.filter { now - $0.value < Self.logAgainNanos } }
        guard logged.count < Self.loggedPeersMax, logged[peer].map({ now - $0 >= Self.logAgainNanos }) ?? true else {
            return
        }
        logged[peer] = now
        let handler = observers.withLock { $0.onProblem }
        handler(line)
    }

    func report(epoch: UInt64) {
        let handler = observers.withLock { $0.onEpoch }
        handler(epoch)
    }

    func reportOwnAddress(_ address: String) {
        let handler = observers.withLock { $0.onOwnAddress }
        handler(address)
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
        for peer in allPeers { peer.abandon() }
        for link in links.values { link.close("this system ends") }
    }
}

/// Written on the transport's loop, read anywhere.
struct TransportCounters {
    var dropped: UInt64 = 0
    var received: UInt64 = 0
    var badFrames: UInt64 = 0
}
