// The receiving end of another system's link: handshake, then messages to our actors. The transport's loop only.

import KVBase

final class IncomingLink: ConnectionHandler {
    private unowned(unsafe) let transport: RemoteTransport
    private var parser = LinkParser()
    private var arriving: ArrivingMessage?
    /// Address the peer says it has; nil before the handshake.
    private(set) var peer: String?
    private(set) var lastHeard: Nanos
    let acceptedAt: Nanos
    /// Never used twice.
    let number: UInt64
    let connection: Connection

    init(_ connection: Connection, number: UInt64, transport: RemoteTransport) {
        self.number = number
        self.transport = transport
        self.connection = connection
        acceptedAt = transport.loop.nowNanos
        lastHeard = acceptedAt
        super.init()
    }

    /// Inherited, and of no use without a connection.
    @available(*, unavailable)
    override init() { fatalError("unavailable") }

    deinit { parser.deallocate() }

    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        lastHeard = transport.loop.nowNanos
        transport.countReceived(bytes.count)
        do {
            try parser.feed(bytes) { kind, contents in
                // The handshake may have refused the peer in the middle of these bytes.
                if !connection.isClosing { try handle(kind, contents) }
            }
        } catch {
            transport.bad(peer: peer ?? connection.peerAddress?.host ?? "?", error)
            connection.close()
        }
        // A peer that asks for pongs and reads none: an honest one pings once a second.
        if connection.unsentBytes > Limits.outputBytesHigh { connection.close() }
        // From the next call on; that is early enough, because the peer sends nothing before it has our answer.
        if peer != nil { parser.bodyBytesMax = LinkFrame.bodyBytesMax }
    }

    private func handle(_ kind: UInt8, _ contents: UnsafeRawBufferPointer) throws {
        switch (kind, peer) {
        case (LinkFrame.Kind.hello, nil): try greet(contents)
        case (LinkFrame.Kind.data, .some), (LinkFrame.Kind.dataWithTail, .some): try receive(kind, contents)
        case (LinkFrame.Kind.part, .some):
            guard arriving != nil else { throw LinkError.unexpected(kind) }
            try arriving!.append(contents)
            guard arriving!.isComplete, let message = arriving.take() else { return }
            message.head.withUnsafeBytes {
                transport.deliver(
                    target: message.target, sender: message.sender, by: number, $0, tail: WireTail(message.tail))
            }
        case (LinkFrame.Kind.ping, .some):
            LinkFrame.append(LinkFrame.Kind.pong, to: &connection.output.pointee) { _ in }
        default: throw LinkError.unexpected(kind)
        }
    }

    private func receive(_ kind: UInt8, _ contents: UnsafeRawBufferPointer) throws {
        // The parts of one message follow each other; only pings may come between.
        guard arriving == nil else { throw LinkError.unexpected(kind) }
        var reader = WireReader(contents)
        let tailBytes = Int(try reader.read(UInt32.self))
        let target: UInt64 = try reader.read()
        let sender: UInt64 = try reader.read()
        guard kind == LinkFrame.Kind.dataWithTail else {
            return transport.deliver(target: target, sender: sender, by: number, reader.readRest(), tail: nil)
        }
        guard tailBytes > 0, reader.remaining + tailBytes <= Limits.messageBytesMax else {
            throw LinkError.length(tailBytes)
        }
        arriving = ArrivingMessage(target: target, sender: sender, head: reader.readRest(), tailBytes: tailBytes)
    }

    private func greet(_ contents: UnsafeRawBufferPointer) throws {
        var reader = WireReader(contents)
        let cluster: String
        let from: String
        do {
            cluster = try reader.readString()
            from = try reader.readString()
            _ = try reader.readString()
            _ = try reader.read(UInt64.self)
        } catch { throw LinkError.malformed }
        guard cluster == transport.cluster else {
            LinkFrame.append(LinkFrame.Kind.reject, to: &connection.output.pointee) {
                $0.write("this system belongs to another cluster")
            }
            connection.close(afterFlush: true)
            transport.bad(peer: from, LinkError.cluster(cluster))
            return
        }
        peer = from
        transport.greeted(self, from)
        LinkFrame.append(LinkFrame.Kind.welcome, to: &connection.output.pointee) { transport.writeWelcome(&$0) }
    }

    /// What came by it was faulty in a way that only its receiver could tell.
    func refuse(_ reason: String) {
        guard !connection.isClosing else { return }
        transport.bad(peer: peer ?? connection.peerAddress?.host ?? "?", LinkError.message(reason))
        connection.close()
    }

    override func closed(_ connection: Connection) { transport.forget(self) }
}
