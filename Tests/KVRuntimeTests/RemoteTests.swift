// Two actor systems in one process, talking over TCP, on every backend.

import CSupport
import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

/// An actor system on a thread of its own, with a chosen backend and port.
final class Node {
    let system: ActorSystem
    let changes = Locked<[LinkChange]>([])
    let problems = Locked<[String]>([])
    let ownAddresses = Locked<[String]>([])
    let epochs = Locked<[UInt64]>([])
    private let threads: [LoopThread]

    init(
        _ backend: LoopBackend, host: String = "127.0.0.1", port: UInt16 = 0, cluster: String = "test",
        advertiseHost: String? = nil, trust: LinkTrust = .network, name: SystemName = .none, loops count: Int = 1,
        resolver: NameResolver? = nil, epoch: UInt64 = RemoteConfiguration.firstEpoch
    ) throws {
        let loops = try (0..<count).map { try Loop(backend: backend, index: $0) }
        let address = SocketAddress(host: host, port: port)!
        var remote = try RemoteConfiguration(
            listen: address, cluster: cluster, trust: trust, name: name, loop: loops[0])
        remote.lineForStrangers = "this port is for servers"
        if let resolver { remote.resolver = resolver }
        (remote.epoch, remote.epochAdvice) = (epoch, "begin anew")
        let bound = HostPort(remote.boundAddress)!
        let advertised = HostPort(host: advertiseHost ?? bound.host, port: bound.port).description
        system = try ActorSystem(address: advertised, loops: loops, remote: remote)
        threads = loops.map { LoopThread(loop: $0) }
        system.onLinkChange { [changes = Box(self)] change in changes.value?.changes.withLock { $0.append(change) } }
        system.onLinkProblem { [changes = Box(self)] line in changes.value?.problems.withLock { $0.append(line) } }
        system.onOwnAddress { [changes = Box(self)] text in changes.value?.ownAddresses.withLock { $0.append(text) } }
        system.onEpoch { [epochs = Box(self)] epoch in epochs.value?.epochs.withLock { $0.append(epoch) } }
        for thread in threads { thread.start() }
    }

    /// Weak, so that a node ends when its test does.
    final class Box: @unchecked Sendable {
        weak var value: Node?
        init(_ value: Node) { self.value = value }
    }

    var port: UInt16 { HostPort(system.address)!.port }

    func close() {
        system.close()
        for thread in threads { try! thread.stopAndJoin() }
    }
}

/// A message of any size.
struct Blob: WireMessage {
    var bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    func encode(into writer: inout WireWriter) { bytes.withUnsafeBytes { writer.write(raw: $0) } }
    init(from reader: inout WireReader) throws { bytes = Array(reader.readRest()) }
}

struct BlobCounter: Actor {
    let log: Log
    mutating func receive(_ message: Blob, _ context: ActorContext<Blob>) { log.append(message.bytes.count) }
}

@Suite struct RemoteTests {
    @Test(arguments: backends) func tellsArriveInOrderAndAsksAreAnswered(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend, loops: 2))
        defer { a.close(); b.close() }
        let log = Log()
        let receiver = b.system.start(on: 1) { Recorder(log: log) }
        // A reference by position, as a peer that only knows the address makes it; counter 2 is the second loop's
        // first.
        let remote = ActorRef<Note>(address: b.system.address, counter: 2)!
        #expect(remote == receiver)
        for i in 0..<3000 { a.system.tell(remote, .add(i)) }
        let sum: Int = try await a.system.ask(remote) { .read(replyTo: $0) }
        #expect(sum == 3000 * 2999 / 2)
        #expect(log.all == Array(0..<3000))
        #expect(a.system.statistics.remoteBytesReceived > 0)
        #expect(b.system.statistics.remoteBytesReceived > 3000 * 30)
        #expect(b.system.statistics.repliesSent == 1)
        #expect(a.system.statistics.remoteDropped == 0)
    }

    @Test(arguments: backends) func actorsOfTwoSystemsPlayPingPong(_ backend: LoopBackend) async throws {
        struct Player: Actor {
            let log: Log
            mutating func receive(_ message: Note, _ context: ActorContext<Note>) {
                guard case .forward(let other, let n) = message else { return }
                log.append(n)
                if n > 0 { context.tell(other, .forward(to: context.me, n - 1)) }
            }
        }
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close(); b.close() }
        let (logA, logB) = (Log(), Log())
        let playerA = a.system.start { Player(log: logA) }
        let playerB = b.system.start { Player(log: logB) }
        a.system.tell(playerA, .forward(to: playerB, 100))
        #expect(await eventuallyYielding { logA.all.last == 0 })
        #expect(logA.all == stride(from: 100, through: 0, by: -2).map { $0 })
        #expect(logB.all == stride(from: 99, through: 1, by: -2).map { $0 })
        #expect(a.system.statistics.messagesSentActor == 50)
    }

    @Test(arguments: backends) func aDeadPeerCostsBoundedMemoryAndNoWaiting(_ backend: LoopBackend) async throws {
        let a = try Node(backend)
        defer { a.close() }
        let nobody = ActorRef<Blob>(address: "127.0.0.1:1", counter: 1)!
        let piece = [UInt8](repeating: 1, count: 1 << 20)
        let tells = 36
        for _ in 0..<tells { a.system.tell(nobody, Blob(piece)) }
        // On a slow machine what was queued may have expired too, hence the range.
        let least = UInt64(tells - Limits.linkBytesMax / ((1 << 20) + 32))
        #expect(await eventuallyYielding { a.system.statistics.remoteDropped >= least })
        #expect(a.system.statistics.remoteDropped <= UInt64(tells))
    }

    @Test(arguments: backends) func aRestartedPeerIsReachedAgain(_ backend: LoopBackend) async throws {
        let a = try Node(backend)
        defer { a.close() }
        let port = UInt16(FreePorts.take(1))
        var b = try Node(backend, port: port)
        let address = b.system.address
        a.system.keepLink(to: address)
        #expect(await eventuallyYielding { a.changes.withLock { $0.count == 1 } })
        b.close()
        #expect(await eventuallyYielding { a.changes.withLock { $0.count == 2 } })
        b = try Node(backend, port: port)
        defer { b.close() }
        let log = Log()
        _ = b.system.start { Recorder(log: log) }
        #expect(await eventuallyYielding { a.changes.withLock { $0.count == 3 } })
        a.system.tell(ActorRef<Note>(address: address, counter: 1)!, .add(5))
        #expect(await eventuallyYielding { log.all == [5] })
        let changes = a.changes.withLock { $0 }
        #expect(changes.map(\.isUp) == [true, false, true])
        #expect(changes.allSatisfy { $0.address == address })
        #expect(changes[0].incarnation != changes[2].incarnation)
        a.system.dropLink(to: address)
    }

    @Test(arguments: backends) func hostNamesAndAdvertisedNamesWork(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend, advertiseHost: "localhost"))
        defer { a.close(); b.close() }
        #expect(b.system.address == "localhost:\(b.port)")
        let log = Log()
        let receiver = b.system.start { Recorder(log: log) }
        a.system.tell(receiver, .add(1))
        #expect(await eventuallyYielding { log.all == [1] })
        #expect(a.changes.withLock { $0.first?.peerAddress } == b.system.address)
    }

    @Test(arguments: backends) func anotherClusterIsRefusedAndLoggedOnce(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend, cluster: "one"), try Node(backend, cluster: "two"))
        defer { a.close(); b.close() }
        a.system.keepLink(to: b.system.address)
        #expect(await eventuallyYielding { b.system.statistics.badFrames >= 2 && a.system.statistics.badFrames >= 2 })
        // Told that the link does not come about, and why; each attempt that was told of has an end.
        #expect(a.changes.withLock { !$0.isEmpty && $0.allSatisfy { !$0.isUp } })
        #expect(a.changes.withLock { $0[0].reason } == "refused: this system belongs to another cluster")
        #expect(a.problems.withLock { $0.isEmpty })
        #expect(b.problems.withLock { $0.count } == 1)
    }

    static func hello(
        cluster: String, version: UInt8 = LinkFrame.version, address: String = "127.0.0.1:9", incarnation: UInt64 = 7,
        port: UInt16 = 0, name: SystemName = .none
    ) -> [UInt8] {
        var buffer = OutputBuffer()
        defer { buffer.deallocate() }
        LinkFrame.append(LinkFrame.Kind.hello, to: &buffer) {
            Hello(
                cluster: cluster, address: address, target: "127.0.0.1:10", incarnation: incarnation, port: port,
                name: name
            ).encode(into: &$0)
        }
        var bytes = Array(buffer.bytes)
        if version != LinkFrame.version {
            bytes[8] = version
            let crc = bytes[8...].withUnsafeBytes { crc32c($0) }
            withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(4..<8, with: $0) }
        }
        return bytes
    }

    /// A peer that asks for pongs and takes none is not kept in memory.
    @Test(arguments: backends) func whoTakesNoPongsIsClosed(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let stranger = try TestSocket(port: node.port, receiveBufferBytes: 4096)
        try stranger.send(Self.hello(cluster: "test"))
        _ = try stranger.receiveSome()
        var pings = WireWriter()
        defer { pings.deallocate() }
        for _ in 0..<4096 { LinkFrame.append(LinkFrame.Kind.ping, to: &pings.buffer) { _ in } }
        let bytes = Array(pings.buffer.bytes)
        var sent = 0
        #expect(throws: TestSocket.Failure.self) {
            while sent < 256 * 1024 * 1024 {
                try stranger.send(bytes)
                sent += bytes.count
            }
        }
        #expect(node.system.statistics.badFrames == 0)
    }

    @Test(arguments: backends) func garbageClosesThatLinkOnly(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close(); b.close() }
        let log = Log()
        let receiver = b.system.start { Recorder(log: log) }
        a.system.tell(receiver, .add(1))
        var flipped = Self.hello(cluster: "test")
        flipped[20] ^= 1
        let hello = Self.hello(cluster: "test")
        let cases: [[UInt8]] = [
            Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8),
            [0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            flipped,
            Self.hello(cluster: "test", version: 9),
            // A good handshake, then a second one.
            hello + hello,
        ]
        for (i, bytes) in cases.enumerated() {
            let stranger = try TestSocket(port: b.port)
            try stranger.send(bytes)
            _ = try? stranger.receiveAll()
            #expect(await eventuallyYielding { b.system.statistics.badFrames == UInt64(i + 1) }, "case \(i)")
        }
        a.system.tell(receiver, .add(2))
        #expect(await eventuallyYielding { log.all == [1, 2] })
        #expect(a.changes.withLock { $0.count } == 1)
    }

    @Test(arguments: backends) func largestMessagesPassAndLargerOnesAreReported(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close(); b.close() }
        let failures = Locked(0)
        a.system.onError { _ in failures.withLock { $0 += 1 } }
        let log = Log()
        let receiver = b.system.start { BlobCounter(log: log) }
        a.system.tell(receiver, Blob([UInt8](repeating: 5, count: Limits.frameBytesMax)))
        a.system.tell(receiver, Blob([UInt8](repeating: 5, count: Limits.messageBytesMax + 1)))
        a.system.tell(receiver, Blob([]))
        #expect(await eventuallyYielding { log.all.count == 2 })
        #expect(log.all == [Limits.frameBytesMax, 0])
        #expect(failures.withLock { $0 } == 1)
        [1, 2, 3].withUnsafeBytes { a.system.tellRaw(receiver, from: 0, $0) }
        #expect(await eventuallyYielding { log.all.count == 3 })
    }

    @Test(arguments: backends) func undecodableMessagesAreCountedNotFatal(_ backend: LoopBackend) async throws {
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close(); b.close() }
        let log = Log()
        b.system.onError { _ in }
        let receiver = b.system.start { Recorder(log: log) }
        a.system.tell(ActorRef<Blob>(uid: receiver.uid)!, Blob([99, 1, 2]))
        a.system.tell(receiver, .add(4))
        #expect(await eventuallyYielding { log.all == [4] })
        #expect(b.system.statistics.failures == 1)
    }
}
