// Carries out what RemoteLink decides: one outgoing connection and its queue. The transport's loop only.

import CSupport
import KVBase

final class OutgoingLink: ConnectionHandler {
    let addressId: UInt32
    let address: String
    private unowned(unsafe) let transport: RemoteTransport
    private(set) var link: RemoteLink
    private var connection: Connection?
    /// Frames in order, the first perhaps partly sent.
    private var queue: [QueuedFrame] = []
    private var queueHead = 0
    private var queueBytes = 0
    /// Bytes ever appended to this connection's output, and where in them the last frames ended.
    private var writtenBytes = 0
    private var frameEnds: [Int] = []
    /// Length at which those that have left are taken off the list: doubles, so that appending stays O(1).
    private var frameEndsMax = 256
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

    deinit { parser.deallocate() }

    private var now: Nanos { transport.loop.nowNanos }

    func keep(_ kept: Bool) {
        link.isKept = kept
        if kept { carryOut(link.wanted(now: now)) }
    }

    func send(_ frame: UnsafeRawBufferPointer, tail: WireTail?) {
        let bytes = frame.count + (tail?.bytes.count ?? 0)
        switch link.admit(bytes: bytes, unsent: queueBytes + (connection?.unsentBytes ?? 0), now: now) {
        case .send:
            if queueHead == queue.count, tail == nil {
                write { $0.append(frame) }
                noteFrameEnd()
            } else {
                enqueue(frame, tail)
                pump()
            }
        case .queue:
            enqueue(frame, tail)
            carryOut(link.wanted(now: now))
        case .drop:
            countDrops()
        }
    }

    /// Everything that goes to the connection passes here, so that it is known which frames have left when it dies.
    private func write(_ body: (inout OutputBuffer) -> Void) {
        guard let connection else { return }
        let before = connection.output.pointee.count
        body(&connection.output.pointee)
        writtenBytes += connection.output.pointee.count - before
        connection.outputMayHaveGrown()
    }

    private func noteFrameEnd() {
        frameEnds.append(writtenBytes)
        guard frameEnds.count >= frameEndsMax else { return }
        let left = writtenBytes - (connection?.unsentBytes ?? 0)
        frameEnds.removeAll { $0 <= left }
        frameEndsMax = max(256, 2 * frameEnds.count)
    }

    /// The connection died or is given up: what waited for it and what it still held is lost. What the kernel had taken
    /// may be lost too; nobody can tell.
    private func countLost() {
        let left = writtenBytes - (connection?.unsentBytes ?? 0)
        let held = frameEnds.reduce(0) { $0 + ($1 > left ? 1 : 0) }
        transport.countDropped(UInt64(held + queue.count - queueHead))
        forgetQueue()
        frameEnds.removeAll()
    }

    private func enqueue(_ frame: UnsafeRawBufferPointer, _ tail: WireTail?) {
        queue.append(QueuedFrame(frame: Array(frame), tail: tail))
        queueBytes += queue[queue.count - 1].bytesLeft
    }

    /// Unsent bytes up to which the connection is filled. More than half of `Limits.outputBytesHigh`, so that `drained`
    /// asks for the rest when the kernel has taken them; small enough to be checksummed and copied in a moment.
    static let pumpBytes = 576 * 1024

    /// Moves frames from the queue to the connection, as far as it has room.
    private func pump() {
        guard let connection, link.state == .up, queueHead < queue.count else { return }
        if queue[queueHead].bytesLeft > LinkFrame.partBytes { connection.expectMuchOutput() }
        while queueHead < queue.count, connection.unsentBytes < Self.pumpBytes {
            let before = queue[queueHead].bytesLeft
            write { queue[queueHead].appendNext(to: &$0) }
            queueBytes -= before - queue[queueHead].bytesLeft
            if queue[queueHead].bytesLeft == 0 {
                noteFrameEnd()
                queue[queueHead] = QueuedFrame(frame: [], tail: nil)
                queueHead += 1
            }
        }
        if queueHead == queue.count {
            queue.removeAll(keepingCapacity: queue.count < 64)
            queueHead = 0
            return
        }
        if queueHead > 64, queueHead * 2 > queue.count {
            queue.removeFirst(queueHead)
            queueHead = 0
        }
        connection.notifyWhenDrained()
    }

    override func drained(_ connection: Connection) { pump() }

    func tick() { carryOut(link.tick(now: now)) }

    /// No reconnecting any more; the owner forgets this link.
    func abandon() {
        isAbandoned = true
        link.isKept = false
        countLost()
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
        if effects.contains(.sendQueue) { pump() }
        if effects.contains(.sendPing) { append(LinkFrame.Kind.ping) { _ in } }
    }

    private func append(_ kind: UInt8, _ body: (inout WireWriter) -> Void) {
        write { LinkFrame.append(kind, to: &$0, body) }
    }

    /// Brings the transport's figure up to what the link has dropped.
    private func countDrops() {
        transport.countDropped(link.dropped - countedDrops)
        countedDrops = link.dropped
    }

    private func dropQueue() {
        countDrops()
        forgetQueue()
    }

    private func forgetQueue() {
        queue.removeAll()
        queueHead = 0
        queueBytes = 0
    }

    private func connect() {
        reason = ""
        writtenBytes = 0
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
        // Before the handshake was over nothing of the queue had been sent: it waits for the next connection.
        if link.state == .up, !isAbandoned { countLost() }
        frameEnds.removeAll()
        self.connection = nil
        if !isAbandoned { failed() }
    }
}

/// A frame waiting for its turn on a connection.
struct QueuedFrame {
    private let frame: [UInt8]
    private let tail: WireTail?
    private var isBegun = false
    private var tailSent = 0

    init(frame: [UInt8], tail: WireTail?) { (self.frame, self.tail) = (frame, tail) }

    var bytesLeft: Int { (isBegun ? 0 : frame.count) + (tail?.bytes.count ?? 0) - tailSent }

    /// Appends the frame itself, or the next part of its tail.
    mutating func appendNext(to output: inout OutputBuffer) {
        if !isBegun {
            isBegun = true
            frame.withUnsafeBytes { output.append($0) }
        } else if let tail {
            tailSent = LinkFrame.appendPart(of: tail.bytes, from: tailSent, to: &output)
        }
    }
}
