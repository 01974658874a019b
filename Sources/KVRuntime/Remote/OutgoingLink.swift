// Carries out what RemoteLink decides: one outgoing connection and its queue. The transport's loop only.

import CSupport
import KVBase

final class OutgoingLink: ConnectionHandler {
    let addressId: UInt32
    let address: String
    private unowned(unsafe) let transport: RemoteTransport
    private(set) var link: RemoteLink
    private var connection: Connection?
    private var queue = OutputBuffer()
    private var parser = LinkParser()
    private var countedDrops: UInt64 = 0
    private var reason = ""
    private var isResolving = false
    private var isAbandoned = false

    init(addressId: UInt32, transport: RemoteTransport) {
        self.addressId = addressId
        self.transport = transport
        address = SystemRegistry.name(addressId)
        link = RemoteLink(seed: cs_random())
        super.init()
    }

    /// Inherited, and of no use without an address.
    @available(*, unavailable)
    override init() { fatalError("unavailable") }

    deinit {
        queue.deallocate()
        parser.deallocate()
    }

    private var now: Nanos { transport.loop.nowNanos }

    func keep(_ kept: Bool) {
        link.isKept = kept
        if kept { carryOut(link.wanted(now: now)) }
    }

    func send(_ frame: UnsafeRawBufferPointer) {
        switch link.admit(bytes: frame.count, unsent: connection?.unsentBytes ?? 0, now: now) {
        case .send:
            connection?.output.pointee.append(frame)
            connection?.outputMayHaveGrown()
        case .queue:
            queue.append(frame)
            carryOut(link.wanted(now: now))
        case .drop:
            countDrops()
        }
    }

    func tick() { carryOut(link.tick(now: now)) }

    /// No reconnecting any more; the owner forgets this link.
    func abandon() {
        isAbandoned = true
        link.isKept = false
        transport.countDropped(UInt64(link.queuedFrames))
        connection?.close()
    }

    private func carryOut(_ effects: LinkEffects) {
        if effects.isEmpty || isAbandoned { return }
        if effects.contains(.close) {
            if reason.isEmpty { reason = "timed out" }
            if let connection { connection.close() } else if !isResolving { failed() }
        }
        if effects.contains(.reportDown) { transport.report(LinkChange(address: address, isUp: false, reason: reason)) }
        if effects.contains(.dropQueue) { dropQueue() }
        if effects.contains(.connect) { connect() }
        if effects.contains(.sendHello) { append(LinkFrame.Kind.hello) { transport.writeHello(&$0, to: address) } }
        if effects.contains(.sendQueue) {
            connection?.output.pointee.append(queue.bytes)
            queue.count = 0
            queue.shrink(to: 64)
            connection?.outputMayHaveGrown()
        }
        if effects.contains(.sendPing) { append(LinkFrame.Kind.ping) { _ in } }
    }

    private func append(_ kind: UInt8, _ body: (inout WireWriter) -> Void) {
        guard let connection else { return }
        LinkFrame.append(kind, to: &connection.output.pointee, body)
        connection.outputMayHaveGrown()
    }

    /// Brings the transport's figure up to what the link has dropped.
    private func countDrops() {
        transport.countDropped(link.dropped - countedDrops)
        countedDrops = link.dropped
    }

    private func dropQueue() {
        countDrops()
        queue.count = 0
        queue.shrink(to: 64)
    }
    private func connect() {
        reason = ""
        parser.deallocate()
        parser = LinkParser()
        guard let target = HostPort(address) else { return unusable("'\(address)' is no host:port") }
        if let numeric = SocketAddress(host: target.host, port: target.port) { return connect(to: numeric) }
        isResolving = true
        let loop = transport.loop
        let held = UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())
        Resolver.resolve(target) { result in
            let returned = loop.perform {
                let this = Unmanaged<OutgoingLink>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).takeRetainedValue()
                this.resolved(result)
            }
            // The loop has ended: nobody uses the link any more.
            if !returned { Unmanaged<OutgoingLink>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).release() }
        }
    }

    private func resolved(_ result: Result<[SocketAddress], SocketFailure>) {
        isResolving = false
        if isAbandoned { return }
        switch result {
        case .success(let found): connect(to: found[link.choice(of: found.count)])
        case .failure(let failure): unusable("\(failure)")
        }
    }

    private func unusable(_ why: String) {
        reason = why
        failed()
    }

    private func failed() { carryOut(link.closed(now: now)) }

    private func connect(to target: SocketAddress) {
        do { connection = try transport.loop.connect(target, handler: self) } catch { unusable("\(error)") }
    }

    override func connected(_ connection: Connection) { carryOut(link.connected(now: now)) }

    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        link.heard(now: now)
        transport.countReceived(bytes.count)
        do {
            try parser.feed(bytes) { kind, contents in try handle(kind, contents) }
        } catch {
            reason = "\(error)"
            transport.bad(peer: address, error)
            connection.close()
        }
    }

    private func handle(_ kind: UInt8, _ contents: UnsafeRawBufferPointer) throws {
        switch kind {
        case LinkFrame.Kind.welcome:
            var reader = WireReader(contents)
            let peer = try reader.readString()
            let incarnation: UInt64 = try reader.read()
            let effects = link.welcomed(now: now)
            if effects.contains(.reportUp) {
                transport.report(
                    LinkChange(address: address, isUp: true, peerAddress: peer, incarnation: incarnation))
            }
            carryOut(effects)
        case LinkFrame.Kind.pong: break
        case LinkFrame.Kind.reject:
            var reader = WireReader(contents)
            throw LinkError.rejected(try reader.readString())
        default: throw LinkError.unexpected(kind)
        }
    }

    override func ended(_ connection: Connection) { connection.close() }

    override func closed(_ connection: Connection) {
        if reason.isEmpty {
            reason =
                connection.closeReason == 0
                ? "closed by the peer" : "\(SocketFailure("connection lost", code: -connection.closeReason))"
        }
        self.connection = nil
        if !isAbandoned { failed() }
    }
}
