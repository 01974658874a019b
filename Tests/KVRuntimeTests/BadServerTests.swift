// Servers that come with what is wrong: another version, a certificate that is over, links for nothing, messages that
// never end. Each has one clear line on both sides, is counted and bounded, and others are served.

import CSupport
import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct BadServerTests {
    private static func frame(_ kind: UInt8, _ body: (inout WireWriter) -> Void = { _ in }) -> [UInt8] {
        var buffer = OutputBuffer()
        defer { buffer.deallocate() }
        LinkFrame.append(kind, to: &buffer, body)
        return Array(buffer.bytes)
    }

    private static func lines(_ node: Node) -> [String] { node.problems.withLock { $0 } }

    /// Whether what an honest system tells arrives.
    private static func serves(_ node: Node, cluster: String = "test") throws -> Bool {
        let honest = try Node(backends[0], cluster: cluster)
        defer { honest.close() }
        let log = Log()
        let receiver = node.system.start { Recorder(log: log) }
        honest.system.tell(receiver, .add(7))
        return eventually(seconds: 20) { log.all == [7] }
    }

    /// So many sockets as a test needs; false if the system does not allow them.
    private static func mayOpen(_ count: UInt) -> Bool {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        if limit.rlim_cur < count {
            limit.rlim_cur = min(limit.rlim_max, count)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        return limit.rlim_cur >= count
    }

    @Test(arguments: backends) func anotherVersionOfTheProtocolIsRefusedOnBothSides(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        var hello = Hello(cluster: "test", address: "127.0.0.1:9", target: "", incarnation: 7)
        hello.protocolVersion = 99
        let client = try TestSocket(port: node.port)
        try client.send(Self.frame(LinkFrame.Kind.hello) { hello.encode(into: &$0) })
        let answer = try client.receiveAll()
        let text = String(decoding: answer, as: UTF8.self)
        #expect(text.contains("this system speaks version \(LinkFrame.protocolVersion) of the protocol"))
        #expect(answer[9] == LinkFrame.Kind.reject)
        #expect(node.system.statistics.badFrames == 1)
        #expect(
            Self.lines(node) == [
                "link with 127.0.0.1:9 closed because of version 99 of the protocol, not \(LinkFrame.protocolVersion)"
            ])
        #expect(try Self.serves(node))
        // The other way round.
        let port = try HeldPort()
        try port.listen()
        node.system.keepLink(to: "127.0.0.1:\(port.port)")
        var welcome = Welcome(address: "127.0.0.1:\(port.port)", incarnation: 8)
        welcome.protocolVersion = 99
        let accepted = try port.accept(saying: Self.frame(LinkFrame.Kind.welcome) { welcome.encode(into: &$0) })
        defer { accepted.close() }
        let reason = "version 99 of the protocol, not \(LinkFrame.protocolVersion)"
        #expect(eventually { node.changes.withLock { $0.contains { !$0.isUp && $0.reason == reason } } })
        #expect(node.system.statistics.badFrames == 2)
    }

    /// A system that can more than this one is taken for what both can, whoever dials.
    @Test func featuresThatAreNotKnownHereChangeNothing() throws {
        let node = try Node(backends[0])
        defer { node.close() }
        var hello = Hello(cluster: "test", address: "127.0.0.1:9", target: "", incarnation: 7)
        hello.features = .max
        let client = try TestSocket(port: node.port)
        try client.send(Self.frame(LinkFrame.Kind.hello) { hello.encode(into: &$0) })
        #expect(try client.receive(LinkFrame.headerBytes + 2)[9] == LinkFrame.Kind.welcome)
        let port = try HeldPort()
        try port.listen()
        let address = "127.0.0.1:\(port.port)"
        node.system.keepLink(to: address)
        var welcome = Welcome(address: address, incarnation: 8)
        welcome.features = .max
        let accepted = try port.accept(saying: Self.frame(LinkFrame.Kind.welcome) { welcome.encode(into: &$0) })
        defer { accepted.close() }
        #expect(eventually { node.changes.withLock { $0.contains { $0.isUp && $0.address == address } } })
        #expect(node.system.statistics.badFrames == 0)
    }

    /// First messages of a dialler with the right key.
    private struct Diallers {
        let trust = LinkTrust.keys([[UInt8](repeating: 1, count: ClusterKey.bytes)])
        let context: LinkContext

        init() throws { context = try LinkContext(trust, cluster: "test", incarnation: 77) }

        func hello() -> [UInt8] {
            let cipher = LinkCipher(context, isDialer: true)!
            var buffer = OutputBuffer()
            defer { buffer.deallocate() }
            #expect(cipher.shakeHands(&buffer) == .underWay)
            return Array(buffer.bytes)
        }
    }

    @Test func aRecordedFirstMessageIsRefusedAtOnce() throws {
        let diallers = try Diallers()
        let node = try Node(backends[0], trust: diallers.trust)
        defer { node.close() }
        let recorded = diallers.hello()
        let first = try TestSocket(port: node.port)
        try first.send(recorded)
        // It is answered: the handshake has begun.
        #expect(try !first.receive(5).isEmpty)
        // However it is cut, and whatever follows it.
        for bytes in [recorded, recorded + [1, 2, 3]] {
            let second = try TestSocket(port: node.port)
            try second.send(Array(bytes[..<20]))
            try second.send(Array(bytes[20...]))
            #expect(try second.receiveAll().isEmpty)
        }
        #expect(node.system.statistics.badFrames == 2)
        let lines = Self.lines(node)
        #expect(lines.count == 1 && lines[0].contains("which was said before"), "\(lines)")
        let third = try TestSocket(port: node.port)
        try third.send(diallers.hello())
        #expect(try !third.receive(5).isEmpty)
        withExtendedLifetime(first) {}
    }

    /// Who has the key begins handshakes and ends none.
    @Test func handshakesThatNeverEndGiveWayToOthers() throws {
        let count = RemoteTransport.handshakesMax + 100
        guard Self.mayOpen(UInt(2 * count + 200)) else { return }
        let diallers = try Diallers()
        let trust = diallers.trust
        let node = try Node(backends[0], trust: trust)
        defer { node.close() }
        var clients: [TestSocket] = []
        for _ in 0..<count {
            clients.append(try TestSocket(port: node.port))
            try clients.last!.send(diallers.hello())
        }
        // The oldest ones are closed, without a word.
        for client in clients[..<100] { _ = try client.receiveAll() }
        #expect(node.system.statistics.badFrames >= 100)
        let lines = Self.lines(node)
        #expect(lines.count == 1 && lines[0].contains("its handshakes: more are under way"), "\(lines)")
        let honest = try Node(backends[0], trust: trust)
        defer { honest.close() }
        let log = Log()
        honest.system.tell(node.system.start { Recorder(log: log) }, .add(7))
        #expect(eventually(seconds: 4) { log.all == [7] })
        withExtendedLifetime(clients) {}
    }

    @Test func aCertificateThatIsOverIsRefusedOnBothSides() throws {
        let folder = TemporaryFolder()
        defer { folder.remove() }
        try LinkCertificate(role: .authority, cluster: "test", name: "ca", days: 1).make(in: folder.path)
        func node(_ name: String, days: Int) throws -> Node {
            try LinkCertificate(role: .server, cluster: "test", name: name, days: days).make(in: folder.path)
            return try Node(
                backends[0],
                trust: .certificates(
                    certificate: "\(folder.path)/\(name).pem", key: "\(folder.path)/\(name).key",
                    authority: "\(folder.path)/ca.pem"))
        }
        let (good, other, over) = (try node("a", days: 1), try node("b", days: 1), try node("c", days: -1))
        defer { good.close(); other.close(); over.close() }
        over.system.keepLink(to: good.system.address)
        #expect(eventually(seconds: 20) { Self.lines(good).contains { $0.contains("certificate has expired") } })
        #expect(
            eventually(seconds: 20) {
                over.changes.withLock { $0.contains { !$0.isUp && $0.reason.contains("certificate has expired") } }
            }, "\(over.changes.withLock { $0.map(\.reason) })")
        #expect(good.system.statistics.badFrames > 0 && Self.lines(good).count == 1)
        // Who dials it finds the same.
        good.system.keepLink(to: over.system.address)
        #expect(
            eventually(seconds: 20) {
                good.changes.withLock { $0.contains { !$0.isUp && $0.reason.contains("certificate has expired") } }
            })
        let log = Log()
        other.system.tell(good.system.start { Recorder(log: log) }, .add(7))
        #expect(eventually(seconds: 20) { log.all == [7] })
    }

    /// They have said who they are, and are of no use: the oldest gives way to whoever comes.
    @Test func linksThatOnlyPingGiveWayToOthers() throws {
        guard Self.mayOpen(4096) else { return print("4096 open files are not allowed: the test is skipped") }
        let node = try Node(backends[0])
        defer { node.close() }
        let ping = Self.frame(LinkFrame.Kind.ping)
        var links: [TestSocket] = []
        for number in 0..<RemoteTransport.incomingMax {
            let link = try TestSocket(port: node.port)
            try link.send(
                RemoteTests.hello(cluster: "test", address: "pings\(number)", incarnation: UInt64(1000 + number)))
            try link.send(ping)
            links.append(link)
        }
        for link in links { #expect(try link.receive(10)[9] == LinkFrame.Kind.welcome) }
        for link in links { try link.send(ping) }
        #expect(node.system.statistics.badFrames == 0)
        #expect(try Self.serves(node))
        // One for each that came, and never more than there may be.
        #expect(eventually { node.system.statistics.badFrames >= 1 })
        #expect(node.system.statistics.badFrames <= 4)
        let lines = Self.lines(node)
        #expect(lines.count == 1 && lines[0].contains("its silence: all links are taken"), "\(lines)")
    }

    /// A hundred messages of which twenty megabytes came, and then no more.
    @Test func unfinishedMessagesOfAHundredLinksAreBounded() throws {
        let node = try Node(backends[0])
        defer { node.close() }
        var sent: UInt64 = 0
        var links: [TestSocket?] = try (0..<100).map { number in
            let link = try TestSocket(port: node.port)
            let beginning =
                RemoteTests.hello(cluster: "test", address: "half\(number)", incarnation: UInt64(1000 + number))
                + LinkFrameTests.header(announcing: 40 << 20)
            try link.send(beginning)
            sent += UInt64(beginning.count)
            return link
        }
        // Each has said who it is before the first one floods: a busy machine may read them seconds apart.
        #expect(eventually { node.system.statistics.remoteBytesReceived >= sent })
        let piece = [UInt8](repeating: 5, count: 1 << 18)
        for _ in 0..<80 {
            for index in links.indices { if (try? links[index]?.send(piece)) == nil { links[index] = nil } }
        }
        let most = Limits.unfinishedBytesMax / (20 << 20)
        // Who was closed finds out with the next byte.
        let isBounded = eventually {
            for index in links.indices { if (try? links[index]?.send([5])) == nil { links[index] = nil } }
            return links.count { $0 != nil } <= most
        }
        #expect(isBounded)
        #expect(eventually { node.system.statistics.badFrames >= UInt64(100 - most) })
        let lines = Self.lines(node)
        #expect(lines.count <= RemoteTransport.loggedPeersMax)
        let others = lines.filter { !$0.contains("bytes of unfinished messages") }
        #expect(others.isEmpty, "\(others.prefix(3))")
        #expect(try Self.serves(node))
    }
}
