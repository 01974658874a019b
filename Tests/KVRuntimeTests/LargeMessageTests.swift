// Messages whose tail crosses in parts, and what happens to them on a bad or dying link. Real sockets, every backend.

import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

/// A number and a body that goes by reference.
private struct Parcel: WireMessage, Equatable {
    var number: Int
    var body: [UInt8]

    init(_ number: Int, _ body: [UInt8]) { (self.number, self.body) = (number, body) }

    /// A body that says where it was cut wrongly.
    static func numbered(_ number: Int, bytes: Int) -> Parcel {
        Parcel(number, (0..<bytes).map { UInt8(truncatingIfNeeded: $0 / 251 &+ $0 &+ number) })
    }

    func encode(into writer: inout WireWriter) {
        number.encode(into: &writer)
        writer.write(tail: body)
    }
    init(from reader: inout WireReader) throws {
        number = try Int(from: &reader)
        body = reader.readTail()
    }
}

private struct Collector: Actor {
    let log: Locked<[Parcel]>
    mutating func receive(_ message: Parcel, _ context: ActorContext<Parcel>) { log.withLock { $0.append(message) } }
}

@Suite struct LargeMessageTests {
    @Test(arguments: backends) func partsBecomeTheMessageAgainInOrder(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend, loops: 2))
        defer { a.close(); b.close() }
        let log = Locked<[Parcel]>([])
        let receiver = b.system.start(on: 1) { Collector(log: log) }
        let lengths = [
            0, 1, WireTail.bytesMin, WireTail.bytesMin + 1, LinkFrame.partBytes - 1, LinkFrame.partBytes,
            LinkFrame.partBytes + 1, 3 * LinkFrame.partBytes, LinkConnection.aheadBytesMax + 7,
            Limits.frameBytesMax + 13, 5,
        ]
        let parcels = lengths.enumerated().map { Parcel.numbered($0.offset, bytes: $0.element) }
        for parcel in parcels { a.system.tell(receiver, parcel) }
        #expect(await eventuallyYielding { log.withLock { $0.count } == parcels.count })
        #expect(log.withLock { $0 } == parcels)
        #expect(a.system.statistics.remoteDropped == 0)
        #expect(b.system.statistics.badFrames == 0)
    }

    fileprivate static func frame(_ kind: UInt8, _ body: (inout WireWriter) -> Void) -> [UInt8] {
        var buffer = OutputBuffer()
        defer { buffer.deallocate() }
        LinkFrame.append(kind, to: &buffer, body)
        return Array(buffer.bytes)
    }

    private static func begin(tailBytes: UInt32) -> [UInt8] {
        frame(LinkFrame.Kind.dataWithTail) {
            $0.write(tailBytes)
            $0.write(1 as UInt64)
            $0.write(0 as UInt64)
            $0.write(7 as Int64)
        }
    }

    private static func part(_ bytes: Int) -> [UInt8] {
        frame(LinkFrame.Kind.part) { writer in
            [UInt8](repeating: 1, count: bytes).withUnsafeBytes { writer.write(raw: $0) }
        }
    }

    @Test(arguments: backends) func partsOutOfPlaceCloseTheLinkAndDeliverNothing(_ backend: LoopBackend) async throws {
        let b = try Node(backend)
        defer { b.close() }
        let log = Locked<[Parcel]>([])
        _ = b.system.start { Collector(log: log) }
        let (begin, part) = (Self.begin(tailBytes: 100), Self.part(60))
        var flipped = Self.part(40)
        flipped[flipped.count - 1] ^= 1
        let cases: [[UInt8]] = [
            part, begin + Self.part(0), begin + begin, begin + part + part, begin + part + flipped,
            begin + RemoteTests.hello(cluster: "test"), Self.begin(tailBytes: 0), Self.begin(tailBytes: .max),
        ]
        for (i, bytes) in cases.enumerated() {
            let stranger = try TestSocket(port: b.port)
            try stranger.send(RemoteTests.hello(cluster: "test"))
            _ = try stranger.receive(LinkFrame.headerBytes)
            try stranger.send(bytes)
            _ = try? stranger.receiveAll()
            #expect(await eventuallyYielding { b.system.statistics.badFrames == UInt64(i + 1) }, "case \(i)")
        }
        // A link that ends in the middle of a message is no fault; the message is gone.
        let cut = try TestSocket(port: b.port)
        try cut.send(RemoteTests.hello(cluster: "test") + begin + part)
        cut.endSending()
        _ = try? cut.receiveAll()
        // A ping between parts is in order, and the sum is the message.
        let good = try TestSocket(port: b.port)
        try good.send(RemoteTests.hello(cluster: "test"))
        _ = try good.receive(LinkFrame.headerBytes)
        try good.send(begin + part + Self.frame(LinkFrame.Kind.ping) { _ in } + Self.part(40))
        #expect(await eventuallyYielding { log.withLock { $0.count } == 1 })
        #expect(log.withLock { $0 } == [Parcel(7, [UInt8](repeating: 1, count: 100))])
        #expect(b.system.statistics.badFrames == UInt64(cases.count))
    }
}

@Suite(.blocking) struct DyingLinkTests {
    /// The kernel's buffers take some of it; what never left this process must be counted.
    @Test(arguments: backends) func whatADyingLinkHeldIsCounted(_ backend: LoopBackend) throws {
        let a = try Node(backend)
        defer { a.close() }
        let peer = try SilentPeer()
        let address = "127.0.0.1:\(peer.port)"
        a.system.keepLink(to: address)
        let link = try peer.accept(
            saying: LargeMessageTests.frame(LinkFrame.Kind.welcome) {
                Welcome(address: address, incarnation: 9).encode(into: &$0)
            })
        #expect(eventually { a.changes.withLock { $0.count >= 1 } })
        let receiver = ActorRef<Parcel>(address: address, counter: 1)!
        let (tells, bytes) = (60, 512 * 1024)
        // Cheap to make: a peer that says nothing for four seconds counts as gone.
        let body = [UInt8](repeating: 1, count: bytes)
        for i in 0..<tells { a.system.tell(receiver, Parcel(i, body)) }
        a.system.tell(receiver, Parcel(0, [1]))
        // Behind the tells, in order: the link has taken them all.
        let isTaken = Locked(false)
        a.system.transport!.loop.perform { isTaken.withLock { $0 = true } }
        #expect(eventually { isTaken.withLock { $0 } })
        peer.reset(link)
        #expect(eventually { a.changes.withLock { $0.count >= 2 } })
        // At most what fits into both socket buffers went out.
        let kernelBytesMax = 12 << 20
        let lost = a.system.statistics.remoteDropped
        #expect(lost >= UInt64(tells - kernelBytesMax / bytes))
        #expect(lost <= UInt64(tells + 1))
    }
}

/// Listens, says one thing, reads nothing more.
private final class SilentPeer {
    private let held: HeldPort
    private var fd: Int32 { held.fd }
    var port: UInt16 { held.port }

    init() throws {
        held = try HeldPort()
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        try held.listen()
    }

    func accept(saying bytes: [UInt8]) throws -> Int32 {
        var link = Glibc.accept(fd, nil, nil)
        while link < 0, errno == EINTR { link = Glibc.accept(fd, nil, nil) }
        guard link >= 0, send(link, bytes, bytes.count, 0) == bytes.count else {
            throw TestSocket.Failure("accept: errno \(errno)")
        }
        return link
    }

    func reset(_ link: Int32) {
        var value = linger(l_onoff: 1, l_linger: 0)
        setsockopt(link, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
        Glibc.close(link)
    }
}
