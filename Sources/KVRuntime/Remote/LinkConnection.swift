// One TCP connection with another system: handshake, messages both ways, what of them left. The transport's loop only.

import CSupport
import KVBase

final class LinkConnection: ConnectionHandler {
    /// Never used twice, and never 0.
    let number: UInt64
    /// Where this side dialled; nil if the other did.
    let target: SocketAddress?
    private unowned(unsafe) let transport: RemoteTransport
    private(set) var connection: Connection!
    /// Whom it belongs to; nil for a stranger who has not said who it is.
    weak var peer: LinkPeer?
    /// Who is at the other end; 0 before the handshake.
    private(set) var peerIncarnation: UInt64 = 0
    private(set) var peerAddress = ""
    private(set) var peerName = SystemName.none
    /// The address of this system that it shows.
    var shown: HostPort?
    /// The other one does not want this system, or is none.
    private(set) var isRefused = false
    /// It leads back to this system.
    private(set) var isItself = false
    /// The port that the one who dialled listens on.
    private var peerPort: UInt16 = 0
    /// The first bytes of one that has not said who it is.
    private var beginning: [UInt8] = []
    private static let beginningBytesMax = 64
    /// TCP stands, and both ends have proved what they must.
    private(set) var isOpen = false
    /// Another connection took over: what was begun here ends here.
    private(set) var isRetired = false
    /// The peer sends no more by it.
    private(set) var hasDelivered = false
    private(set) var reason = ""

    /// Nil where links are not protected.
    private var cipher: LinkCipher?
    /// Of a dialler that must prove itself.
    private var firstRecord: FirstRecord?
    private var isStepDue = false
    private var parser = LinkParser()
    private var arriving = ArrivingMessages()
    /// Frames that came after the peer moved here, while its other connection still delivers.
    private var held: [(kind: UInt8, number: UInt16, contents: [UInt8])]?
    private(set) var outbox = LinkOutbox()
    private(set) var flow = LinkFlow()
    private var congestion = LinkCongestion()
    private var hasSentMessages = false
    private(set) var hasBroughtMessages = false
    /// Since everything was sent the last time.
    private var pongsUnsent = 0
    let startedAt: Nanos
    private(set) var lastHeard: Nanos
    /// What is tracked, from its last byte on.
    private var tracked = TrackedMessages()

    init(number: UInt64, transport: RemoteTransport, target: SocketAddress?) {
        self.number = number
        self.transport = transport
        self.target = target
        startedAt = transport.loop.nowNanos
        lastHeard = startedAt
        super.init()
    }

    /// Inherited, and of no use without a connection.
    @available(*, unavailable)
    override init() { fatalError("unavailable") }

    deinit { parser.deallocate() }

    private var now: Nanos { transport.loop.nowNanos }

    func attach(_ connection: Connection) {
        self.connection = connection
        if !isDialed { stand() }
    }

    /// TCP stands. Nothing is said before both ends have proved themselves.
    private func stand() {
        connection.prepareForDistance()
        applyFlow()
        guard transport.context != nil else { return open() }
        if isDialed { awaitStep() } else { firstRecord = FirstRecord() }
    }

    /// Its next step waits for others' to end, and nothing more is read before.
    private func awaitStep() {
        guard !isStepDue else { return }
        isStepDue = true
        connection.pauseReading()
        transport.handshakes?.enqueue(self)
    }

    /// A step of its handshake is due.
    var isWaiting: Bool { isStepDue && !connection.isClosing && transport.links[number] === self }

    /// The next step of its handshake, with what has come.
    func takeStep() {
        isStepDue = false
        connection.resumeReading()
        if let cipher {
            prove(by: cipher)
        } else {
            let said = firstRecord?.bytes ?? []
            firstRecord = nil
            beginProof(said)
        }
        guard let cipher, cipher.isDone else { return }
        // What came with the last flight.
        do { try cipher.open { try take($0) } } catch { fail(error) }
    }

    /// With what the other side has said already.
    private func beginProof(_ said: [UInt8]) {
        guard let context = transport.context, let cipher = LinkCipher(context, isDialer: isDialed),
            said.withUnsafeBytes({ cipher.feed($0) })
        else { return close("memory is short") }
        self.cipher = cipher
        if !isDialed { transport.beginProof(of: self) }
        prove(by: cipher)
    }

    /// One that was accepted and has begun to prove itself.
    var isProving: Bool { cipher?.isUnderWay ?? false }

    /// Its handshake is in the way of others.
    func stopProving() {
        transport.bad(peer: remoteHost, LinkError.handshakes)
        cipher?.release()
        close("\(LinkError.handshakes)")
    }

    /// The first record of one that was accepted.
    private func takeFirst(_ bytes: UnsafeRawBufferPointer) {
        guard firstRecord!.append(bytes) else { return }
        if firstRecord!.isNone { return isRefused ? () : refusePlainly() }
        if transport.isFresh(firstRecord!.bytes, of: self) { awaitStep() }
    }

    private func prove(by cipher: LinkCipher) {
        var result = LinkCipher.Handshake.underWay
        append { result = cipher.shakeHands(&$0) }
        if result != .underWay { transport.proving.end(number) }
        switch result {
        case .underWay: break
        case .done: open()
        case .failed:
            isRefused = true
            report(LinkTrustError(description: cipher.reason))
            // With what tells the peer.
            connection.close(afterFlush: true)
        }
    }

    /// A dialler whose links are not protected is told so; nothing is spent on it.
    private func refusePlainly() {
        isRefused = true
        report(LinkTrustError(description: "the peer does not speak TLS 1.3"))
        append {
            LinkFrame.append(LinkFrame.Kind.reject, to: &$0) {
                $0.write(LinkFrame.RejectCode.unprotected)
                $0.write("links are protected there: start this one with the cluster's key or with certificates too")
            }
        }
        connection.close(afterFlush: true)
    }

    private func open() {
        isOpen = true
        if isDialed { peer?.opened(self) }
    }

    var isIdentified: Bool { peerIncarnation != 0 }
    var isDialed: Bool { target != nil }

    /// The other end, as the kernel has it.
    private var otherEnd: SocketAddress? { target?.unmapped ?? connection.peerAddress?.unmapped }
    /// How far away it may be.
    var reach: AddressReach { otherEnd?.reach ?? .network }
    /// Where the peer is, as seen from here; empty for one that listens nowhere.
    var seenAddress: String {
        if let target { return target.unmapped.description }
        guard peerPort != 0, let other = otherEnd else { return "" }
        return HostPort(host: other.host, port: peerPort).description
    }

    /// Whoever dialled, for both sides to choose the same one of two connections.
    var dialer: UInt64 { isDialed ? transport.incarnation : peerIncarnation }
    var unsentBytes: Int { outbox.byteCount + (connection?.unsentBytes ?? 0) }
    /// Everything that was given to it is on its way, and no more will be.
    private var isFlushed: Bool { isRetired && outbox.isEmpty && connection.unsentBytes == 0 }

    // MARK: Sending

    /// Bytes given to the connection ahead of what the kernel has taken, and unsent ones the kernel may hold: about 50
    /// ms of what the path carries, each. Ahead of them nothing can get.
    static let aheadBytesMin = 3 * 1024
    static let aheadBytesMax = 256 * 1024
    private var aheadBytes: Int { flow.share(millis: 50, in: Self.aheadBytesMin...Self.aheadBytesMax) }
    private var partBytes: Int { flow.share(millis: 50, in: LinkFrame.partBytesMin...LinkFrame.partBytes) }

    func send(_ frame: QueuedFrame) {
        outbox.append(frame)
        pump()
    }

    /// A message without a tail that nobody tracks, when nothing waits: without a queue.
    func sendAtOnce(_ frame: UnsafeRawBufferPointer) -> Bool {
        guard outbox.isEmpty, connection.unsentBytes < aheadBytes else { return false }
        hasSentMessages = true
        write { $0.append(frame) }
        tracked.finishedUntracked(sent: tracked.written - connection.unsentBytes)
        return true
    }

    func send(_ kind: UInt8, _ body: (inout WireWriter) -> Void) { write { LinkFrame.append(kind, to: &$0, body) } }

    /// Everything that goes to the connection passes here, so that it is known what has left.
    private func write(_ body: (inout OutputBuffer) -> Void) {
        guard let cipher else { return append(body) }
        append { output in do { try cipher.seal(into: &output, body) } catch { fail(error) } }
    }

    private func append(_ body: (inout OutputBuffer) -> Void) {
        let before = connection.output.pointee.count
        body(&connection.output.pointee)
        tracked.written += connection.output.pointee.count - before
        connection.outputMayHaveGrown()
    }

    /// Moves messages to the connection, as far as it has room.
    func pump() {
        guard isOpen, !connection.isClosing, !outbox.isEmpty else { return endIfFlushed() }
        let room = aheadBytes
        if outbox.byteCount > LinkFrame.partBytes { connection.expectMuchOutput() }
        while !outbox.isEmpty, connection.unsentBytes < room {
            let isFull = flow.room(written: tracked.written) == 0
            if isFull, !outbox.hasSmall { break }
            hasSentMessages = true
            var step = LinkOutbox.Step.nothing
            let (bytes, at, start) = (partBytes, now, tracked.written)
            write {
                step = outbox.writeNext(partBytes: bytes, smallOnly: isFull, at, to: &$0) { stream in
                    guard let peer else { return true }
                    guard peer.paces.mayBegin(stream, at) else { return false }
                    peer.paces.begun(stream, at: start, of: number, at)
                    return true
                }
            }
            if case .finished(let frame) = step { tracked.finished(frame) }
            if case .nothing = step { break }
        }
        if isAwaited { transport.watch() }
        if outbox.isEmpty { return endIfFlushed() }
        // Else `look` goes on when more was acknowledged.
        guard flow.room(written: tracked.written) > 0 else { return transport.watch() }
        connection.notifyWhenDrained(below: room / 2)
    }

    override func drained(_ connection: Connection) { pump() }

    /// Reads where the bytes are; tells those whose messages left or arrived. False if nothing is under way.
    func look() -> Bool {
        guard isOpen, !connection.isClosing else { return false }
        guard isAwaited || connection.unsentBytes > 0 || flow.isBusy else { return false }
        let before = flow.acknowledged
        guard let read = connection.readFlow() else { return false }
        flow.note(read, held: connection.unsentBytes, written: tracked.written, now)
        noteLosses(read)
        if flow.acknowledged > before {
            lastHeard = now
            peer?.heard(by: self)
        }
        applyFlow()
        peer?.paces.left(number, upTo: flow.sent, now)
        if !outbox.isEmpty { pump() }
        for progress in tracked.advance(
            given: flow.given, sent: flow.sent, acknowledged: flow.acknowledged, now)
        {
            peer?.report(progress, by: self)
        }
        return true
    }

    /// Somebody waits to hear that a message left it.
    var isAwaited: Bool { tracked.isWaiting || !outbox.isEmpty || peer?.paces.isWaiting ?? false }

    private func noteLosses(_ read: cs_conn_flow) {
        guard congestion.note(read, isKnownLossy: peer?.isLossy ?? false, now) else { return }
        peer?.isLossy = congestion.choice == .byRate
        _ = congestion.wanted(connection.congestion).first { connection.setCongestion($0) }
    }

    private func applyFlow() {
        if let bytes = flow.newUnsentMax(aheadBytes) { connection.setUnsentMax(bytes) }
    }

    // MARK: Two connections of one pair

    /// Another connection has taken over. Returns what was not begun.
    func retire() -> [QueuedFrame] {
        isRetired = true
        let rest = outbox.takeUnbegun()
        if isOpen { endIfFlushed() } else { close("another connection serves") }
        return rest
    }

    /// The first word on a connection that takes over from one over which messages went.
    func succeed(_ older: LinkConnection) { if older.hasSentMessages { send(LinkFrame.Kind.moved) { _ in } } }

    private func endIfFlushed() {
        guard isOpen, isFlushed else { return }
        if let cipher { append { cipher.end(into: &$0) } }
        connection.endSending()
    }

    /// The peer's other connection has delivered everything.
    func release() {
        guard let frames = held else { return }
        held = nil
        do {
            for frame in frames { try frame.contents.withUnsafeBytes { try handle(frame.kind, frame.number, $0) } }
            connection.resumeReading()
        } catch { fail(error) }
    }

    // MARK: Receiving

    override func connected(_ connection: Connection) { stand() }

    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        lastHeard = now
        transport.countReceived(bytes.count)
        peer?.heard(by: self)
        if !isIdentified, !(cipher?.isDone ?? false), isStranger(bytes) { return }
        do {
            if firstRecord != nil {
                takeFirst(bytes)
            } else if let cipher {
                guard cipher.feed(bytes) else { return close("memory is short") }
                if !cipher.isDone { return awaitStep() }
                try cipher.open { try take($0) }
            } else {
                try take(bytes)
            }
        } catch { fail(error) }
        if unfinishedBytes > Self.unfinishedBytesFree { transport.boundUnfinished() }
    }

    /// So much of one link needs no look at the others.
    private static let unfinishedBytesFree = 128 * 1024

    /// What the peer said.
    private func take(_ bytes: UnsafeRawBufferPointer) throws {
        try parser.feed(bytes, limit: { isIdentified ? LinkFrame.bodyBytesMax : LinkFrame.handshakeBytesMax }) {
            // The handshake may have refused the peer in the middle of these bytes.
            if connection.isClosing { return }
            if held != nil { held!.append(($0, $1, Array($2))) } else { try handle($0, $1, $2) }
        }
    }

    private func fail(_ error: any Error) {
        report(error)
        connection.close()
    }

    private func report(_ error: any Error) {
        reason = "\(error)"
        bad(error)
    }

    /// Whoever wants the link is told why there is none; of all others it is said.
    private func bad(_ error: any Error) {
        let name = peerAddress.isEmpty ? peer?.address ?? remoteHost : peerAddress
        transport.bad(peer: name, error, isSaid: isIdentified || !(peer?.isWanted ?? false))
    }

    /// Looks at the first bytes. A client of another kind is told where it is, on a connection that this side dialled
    /// nobody is told anything.
    private func isStranger(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard !connection.isClosing else { return true }
        beginning += bytes.prefix(max(0, LinkConnection.beginningBytesMax - beginning.count))
        guard let stranger = beginning.withUnsafeBytes({ Stranger($0) }) else { return false }
        // Where links are protected those two are for the cipher to judge.
        if transport.context != nil, stranger == .tls || stranger == .unknown { return false }
        isRefused = true
        reason = stranger.peer
        if isDialed {
            bad(LinkError.stranger(reason))
            connection.close()
            return true
        }
        transport.bad(peer: remoteHost, LinkError.stranger(stranger.client))
        if stranger == .unknown {
            connection.close()
        } else {
            append { $0.append(stranger.reply(transport.lineForStrangers)) }
            connection.close(afterFlush: true)
        }
        return true
    }

    /// It has not proved and said who it is in time. Counted, and said once a minute for its host. False if it is being
    /// closed already, which may take longer than until the next look.
    func giveUp() -> Bool {
        guard !connection.isClosing else { return false }
        let error = LinkError.silent(seconds: Int(RemoteTransport.handshakeNanosMax / 1_000_000_000))
        if !isDialed { transport.bad(peer: remoteHost, error) }
        close("it did not say who it is")
        return true
    }

    /// What has arrived of messages that are not whole.
    var unfinishedBytes: Int { parser.heldBytes + arriving.heldBytes }

    /// Written out once: among many handshakes it is looked at each time.
    private(set) lazy var remoteHost = connection.peerAddress?.host ?? "?"

    private func handle(_ kind: UInt8, _ number: UInt16, _ contents: UnsafeRawBufferPointer) throws {
        guard isIdentified else { return try shakeHands(kind, contents) }
        switch kind {
        case LinkFrame.Kind.data, LinkFrame.Kind.dataWithTail:
            hasBroughtMessages = true
            try receive(kind, number, contents)
        case LinkFrame.Kind.part:
            guard let message = try arriving.append(number, contents) else { return }
            message.head.withUnsafeBytes {
                transport.deliver(
                    target: message.target, sender: message.sender, by: self, $0, tail: WireTail(message.tail))
            }
        case LinkFrame.Kind.ping: answerPing()
        case LinkFrame.Kind.pong: break
        case LinkFrame.Kind.moved:
            guard peer?.isDelivering(besides: self) ?? false else { return }
            held = []
            connection.pauseReading()
        case LinkFrame.Kind.reject:
            // What the one who dialled found out of this one's answer.
            try rejected(contents)
        default: throw LinkError.unexpected(kind)
        }
    }

    /// A peer that asks for pongs and reads none is closed: an honest one pings once a second.
    private func answerPing() {
        if connection.unsentBytes == 0 { pongsUnsent = 0 }
        pongsUnsent += 1
        guard pongsUnsent <= Self.pongsUnsentMax else { return close("it reads nothing") }
        send(LinkFrame.Kind.pong) { _ in }
    }

    private static let pongsUnsentMax = 4096

    private func receive(_ kind: UInt8, _ number: UInt16, _ contents: UnsafeRawBufferPointer) throws {
        var reader = WireReader(contents)
        let tailBytes = Int(try reader.read(UInt32.self))
        let target: UInt64 = try reader.read()
        let sender: UInt64 = try reader.read()
        guard kind == LinkFrame.Kind.dataWithTail else {
            return transport.deliver(target: target, sender: sender, by: self, reader.readRest(), tail: nil)
        }
        guard tailBytes > 0, reader.remaining + tailBytes <= Limits.messageBytesMax else {
            throw LinkError.length(tailBytes)
        }
        try arriving.begin(
            number,
            ArrivingMessage(target: target, sender: sender, head: reader.readRest(), tailBytes: tailBytes))
    }

    private func shakeHands(_ kind: UInt8, _ contents: UnsafeRawBufferPointer) throws {
        switch (kind, isDialed) {
        case (LinkFrame.Kind.hello, false): try greet(try read { try Hello(from: contents) })
        case (LinkFrame.Kind.welcome, true): try take(try read { try Welcome(from: contents) })
        case (LinkFrame.Kind.reject, true): try rejected(contents)
        default: throw LinkError.unexpected(kind)
        }
    }

    private func rejected(_ contents: UnsafeRawBufferPointer) throws {
        var reader = WireReader(contents)
        let code = try read { try reader.read(UInt8.self) }
        let why = try read { try reader.readString() }
        isRefused = true
        if code == LinkFrame.RejectCode.epoch { throw LinkError.rejected("\(why); \(transport.epochAdvice)") }
        guard code == LinkFrame.RejectCode.itself, let target else { throw LinkError.rejected(why) }
        isItself = true
        transport.foundItself(at: target)
        close("it leads back to this server itself")
    }

    private func read<T>(_ body: () throws -> T) throws -> T {
        do { return try body() } catch { throw LinkError.malformed }
    }

    private func greet(_ hello: Hello) throws {
        if hello.incarnation == transport.incarnation {
            reject(LinkFrame.RejectCode.itself, "this is the very system that asks")
            return connection.close(afterFlush: true)
        }
        guard hello.incarnation != 0 else { throw LinkError.malformed }
        // With a key it has proved who it is: it may not be somebody else now.
        guard cipher == nil || cipher!.peer == 0 || cipher!.peer == hello.incarnation else { throw LinkError.borrowed }
        peerPort = hello.port
        guard isCertified(hello.name) else { throw LinkError.certified(hello.name.text, cipher!.peerName) }
        let address = transport.address(claimed: hello.address, seen: seenAddress, by: self)
        if let refusal = transport.refusal(of: hello, from: address) { return refuse(refusal, address) }
        transport.shownByAccepting(self)
        transport.agree(on: hello.epoch)
        (peerIncarnation, peerAddress, peerName) = (hello.incarnation, address, hello.name)
        send(LinkFrame.Kind.welcome) { transport.welcome(self).encode(into: &$0) }
        transport.identified(self)
    }

    private func take(_ welcome: Welcome) throws {
        guard welcome.protocolVersion == LinkFrame.protocolVersion else {
            throw LinkError.protocolVersion(welcome.protocolVersion)
        }
        guard welcome.incarnation != 0 else { throw LinkError.malformed }
        guard isCertified(welcome.name) else { throw LinkError.certified(welcome.name.text, cipher!.peerName) }
        let address = transport.address(claimed: welcome.address, seen: seenAddress, by: self)
        if let refusal = transport.refusal(of: welcome.epoch)
            ?? transport.refusal(of: welcome.name, welcome.incarnation, address)
        {
            return refuse(refusal, address)
        }
        transport.agree(on: welcome.epoch)
        if let seen = HostPort(welcome.seen) { transport.shown(seen, .seen, by: self) }
        (peerIncarnation, peerAddress, peerName) = (welcome.incarnation, address, welcome.name)
        transport.identified(self)
    }

    /// A name that a user gave is the one in the certificate, where there is one.
    private func isCertified(_ name: SystemName) -> Bool {
        guard let certified = cipher?.peerName, !certified.isEmpty, name.isGiven else { return true }
        return name.text == certified
    }

    private func refuse(_ refusal: LinkRefusal, _ address: String) {
        isRefused = true
        reason = "\(refusal.error)"
        reject(refusal.code, refusal.reply)
        transport.bad(peer: address.isEmpty ? remoteHost : address, refusal.error)
        connection.close(afterFlush: true)
    }

    private func reject(_ code: UInt8, _ why: String) {
        send(LinkFrame.Kind.reject) {
            $0.write(code)
            $0.write(why)
        }
    }

    /// What came by it was faulty in a way that only its receiver could tell. `isLasting`: it was not spoilt on the
    /// way, so its sender would send it again, and is told.
    func refuse(_ reason: String, isLasting: Bool = false) {
        guard !connection.isClosing else { return }
        guard isLasting else { return fail(LinkError.message(reason)) }
        isRefused = true
        report(LinkError.message(reason))
        reject(LinkFrame.RejectCode.message, reason)
        connection.close(afterFlush: true)
    }

    // MARK: The end

    func close(_ why: String) {
        if reason.isEmpty { reason = why }
        connection?.close()
    }

    /// Messages that did not get out of this process, now that the connection is gone.
    func countLost() -> Int {
        tracked.heldBack(sent: tracked.written - (connection?.unsentBytes ?? 0)) + outbox.removeAll()
    }

    override func ended(_ connection: Connection) {
        // An end that the peer has not sealed may be the work of whoever cut the line.
        guard cipher?.hasEnded ?? true else { return close("cut off") }
        hasDelivered = true
        peer?.delivered(self)
        // The peer retired it: this side does the same, or has done so and is still flushing.
        if !isRetired { connection.close() }
    }

    override func closed(_ connection: Connection) {
        if reason.isEmpty {
            let what = isOpen ? "connection lost" : "no connection"
            reason =
                connection.closeReason == 0
                ? "closed by the peer" : "\(SocketFailure(what, code: -connection.closeReason))"
        }
        hasDelivered = true
        transport.closed(self)
    }
}
