// Two connections of one pair of systems: which stays, what is told of the other one. Real sockets on loopback.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct TakeoverTests {
    private static let peer = "10.0.0.1:6000"

    /// One that says hello as this system and reads the answer.
    private func dial(_ node: Node, as incarnation: UInt64, receiveBufferBytes: Int32? = nil) throws -> TestSocket {
        let socket = try TestSocket(port: node.port, receiveBufferBytes: receiveBufferBytes)
        try socket.send(RemoteTests.hello(cluster: "test", address: Self.peer, incarnation: incarnation))
        let header = try socket.receive(LinkFrame.headerBytes)
        let body = try socket.receive(Int(header.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }))
        guard body[1] == LinkFrame.Kind.welcome else { throw TestSocket.Failure("not welcome") }
        return socket
    }

    /// A peer dials again only when it has lost the connection: what was under way on that is lost, and whoever told it
    /// must hear so. Else it waited many seconds before it told that again.
    @Test(arguments: backends) func aConnectionThatItsDiallerReplacesIsToldOfAsLost(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let first = try dial(node, as: 7)
        let second = try dial(node, as: 7)
        #expect(eventually { node.changes.withLock { $0.count { $0.isUp } } == 2 })
        let changes = node.changes.withLock { $0 }
        #expect(changes.map(\.isUp) == [true, false, true], "\(changes)")
        #expect(changes.allSatisfy { $0.incarnation == 7 && $0.address == Self.peer })
        #expect(changes[1].session == changes[0].session && changes.last!.session != changes[0].session)
        // It is closed, and its end is no news.
        #expect(try first.receiveAll().isEmpty)
        node.system.keepLink(to: "127.0.0.1:1")
        #expect(eventually { node.changes.withLock { $0.last?.address == "127.0.0.1:1" } })
        #expect(node.changes.withLock { $0.count { !$0.isUp && $0.incarnation == 7 } } == 1)
        withExtendedLifetime(second) {}
    }

    /// What was begun on the one that gave way goes on as the path takes it: nobody else asks where its bytes are.
    @Test(arguments: backends) func aConnectionThatGaveWayIsLookedAtUntilItsEnd(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let first = try dial(node, as: .max, receiveBufferBytes: 4096)
        #expect(eventually { node.changes.withLock { $0.count } == 1 })
        // More than the kernel takes.
        let bytes = 16 << 20
        node.system.tell(ActorRef<Blob>(address: Self.peer, counter: 1)!, Blob([UInt8](repeating: 1, count: bytes)))
        _ = try first.receive(4096)
        let port = try HeldPort()
        try port.listen()
        node.system.keepLink(to: "127.0.0.1:\(port.port)")
        var buffer = OutputBuffer()
        defer { buffer.deallocate() }
        LinkFrame.append(LinkFrame.Kind.welcome, to: &buffer) {
            Welcome(address: Self.peer, incarnation: .max).encode(into: &$0)
        }
        let second = try port.accept(saying: Array(buffer.bytes))
        defer { second.close() }
        #expect(eventually { node.changes.withLock { $0.count } == 2 })
        let transport = node.system.transport!
        let looked = Locked<[Int]?>(nil)
        transport.loop.perform {
            looked.withLock { $0 = transport.allPeers.flatMap(\.connections).map(\.unsentBytes) }
        }
        #expect(eventually { looked.withLock { $0 != nil } })
        #expect(looked.withLock { $0!.contains { $0 > 0 } }, "\(looked.withLock { $0! })")
        _ = try first.receive(bytes - 4096)
    }
}
