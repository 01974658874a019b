// How systems find and name each other: names, addresses that are believed and that are not, names that stand for
// several addresses. Real sockets on loopback.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct MeetingTests {
    private func given(_ name: String) -> SystemName { SystemName(name, isGiven: true) }
    private func made(_ name: String) -> SystemName { SystemName(name, isGiven: false) }

    private func ups(_ node: Node) -> [LinkChange] { node.changes.withLock { $0.filter(\.isUp) } }

    /// Says hello and reads the first frame of the answer.
    private func greet(
        _ node: Node, as address: String, incarnation: UInt64, port: UInt16 = 0, name: SystemName = .none
    ) throws -> TestSocket {
        let socket = try TestSocket(port: node.port)
        try socket.send(
            RemoteTests.hello(cluster: "test", address: address, incarnation: incarnation, port: port, name: name))
        let header = try socket.receive(LinkFrame.headerBytes)
        let length = header.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        let body = try socket.receive(Int(length))
        guard body[1] == LinkFrame.Kind.welcome else { throw TestSocket.Failure("not welcome") }
        return socket
    }

    // MARK: Epochs

    @Test(arguments: backends) func whoIsOfAnEarlierEpochIsRefusedAndToldWhatToDo(_ backend: LoopBackend) throws {
        let (old, new) = (try Node(backend, epoch: 1), try Node(backend, epoch: 5))
        let (newcomer, other) = (try Node(backend, epoch: 0), try Node(backend, epoch: 0))
        defer { for node in [old, new, newcomer, other] { node.close() } }
        old.system.keepLink(to: new.system.address)
        #expect(eventually { old.changes.withLock { !$0.isEmpty } && new.problems.withLock { !$0.isEmpty } })
        let told = "\(RemoteTransport.restored); begin anew"
        #expect(old.changes.withLock { $0[0].isRefused && $0[0].reason == "refused: \(told)" })
        #expect(new.problems.withLock { $0[0].contains("data of before the cluster was restored") })
        // The other way round the older one knows by itself.
        old.system.dropLink(to: new.system.address)
        let before = old.problems.withLock { $0.count }
        new.system.keepLink(to: old.system.address)
        #expect(eventually { new.changes.withLock { $0.contains { $0.isRefused } } })
        #expect(eventually { old.problems.withLock { $0.dropFirst(before).contains { $0.contains(told) } } })
        // One without takes that of the first it meets, and no other after that.
        newcomer.system.keepLink(to: new.system.address)
        #expect(eventually { !ups(newcomer).isEmpty })
        #expect(newcomer.epochs.withLock { $0 } == [5])
        newcomer.system.keepLink(to: old.system.address)
        #expect(eventually { newcomer.changes.withLock { $0.contains { $0.isRefused } } })
        other.system.keepLink(to: newcomer.system.address)
        #expect(eventually { other.epochs.withLock { $0 } == [5] })
        #expect(ups(old).isEmpty)
    }

    // MARK: Names

    @Test(arguments: backends) func bothSidesLearnTheOthersName(_ backend: LoopBackend) throws {
        let (a, b) = (try Node(backend, name: given("a")), try Node(backend, name: made("b:1")))
        defer { a.close(); b.close() }
        a.system.keepLink(to: b.system.address)
        #expect(eventually { !ups(a).isEmpty && !ups(b).isEmpty })
        #expect(ups(a)[0].name == made("b:1") && ups(b)[0].name == given("a"))
        #expect(ups(a)[0].peerAddress == b.system.address && ups(b)[0].peerAddress == a.system.address)
    }

    @Test(arguments: backends) func aNameThatALivingSystemHasIsRefused(_ backend: LoopBackend) throws {
        let (a, b) = (try Node(backend, name: given("a")), try Node(backend, name: given("b")))
        let (c, d) = (try Node(backend, name: given("b")), try Node(backend, name: given("a")))
        defer { for node in [a, b, c, d] { node.close() } }
        b.system.keepLink(to: a.system.address)
        #expect(eventually { !ups(a).isEmpty })
        for node in [c, d] { node.system.keepLink(to: a.system.address) }
        #expect(eventually { [c, d].allSatisfy { $0.changes.withLock { !$0.isEmpty } } })
        let why = "belongs to the server at"
        #expect(
            c.changes.withLock { $0[0].reason }
                == "refused: the name b \(why) \(b.system.address); give this one another")
        #expect(
            d.changes.withLock { $0[0].reason }
                == "refused: the name a \(why) \(a.system.address); give this one another")
        #expect(eventually { a.problems.withLock { $0.count == 2 } })
        #expect(
            Set(a.problems.withLock { $0 }) == [
                "link with \(c.system.address) closed because of the name b, which \(why) \(b.system.address)",
                "link with \(d.system.address) closed because of the name a, which \(why) \(a.system.address)",
            ])
        // The one who dialled finds out as well, and tells the other.
        let e = try Node(backend, name: given("b"))
        defer { e.close() }
        a.system.keepLink(to: e.system.address)
        #expect(eventually { e.problems.withLock { !$0.isEmpty } })
        #expect(
            e.problems.withLock { $0[0] }
                == "link with \(a.system.address) closed because of refused: the name b \(why) \(b.system.address);"
                + " give this one another")
        #expect(ups(a).count == 1 && ups(a)[0].peerAddress == b.system.address)
    }

    /// Host names and ports are the same on machines that are copies of each other.
    @Test(arguments: backends) func namesThatNobodyGaveMayBeTheSame(_ backend: LoopBackend) throws {
        let nodes = try [made("x:1"), made("x:1"), given("x:1")].map { try Node(backend, name: $0) }
        defer { for node in nodes { node.close() } }
        for node in nodes[1...] { node.system.keepLink(to: nodes[0].system.address) }
        #expect(eventually { ups(nodes[0]).count == 2 })
        #expect(nodes[0].problems.withLock { $0.isEmpty })
    }

    /// A new life under the old name at another address: the old one's end is known by its connection's.
    @Test(arguments: backends) func aNameMovesToAnotherAddress(_ backend: LoopBackend) throws {
        let a = try Node(backend, name: given("a"))
        var b = try Node(backend, name: given("b"))
        defer { a.close(); b.close() }
        b.system.keepLink(to: a.system.address)
        #expect(eventually { ups(a).count == 1 })
        b.close()
        #expect(eventually { a.changes.withLock { $0.count == 2 } })
        b = try Node(backend, name: given("b"))
        b.system.keepLink(to: a.system.address)
        #expect(eventually { ups(a).count == 2 })
        let changes = a.changes.withLock { $0 }
        #expect(changes.map(\.isUp) == [true, false, true])
        #expect(changes[1].incarnation == changes[0].incarnation && changes[1].session == changes[0].session)
        #expect(changes[2].peerAddress == b.system.address && changes[2].name == given("b"))
    }

    // MARK: Addresses

    @Test(arguments: backends) func whoIsBoundToAllAddressesLearnsItsOwn(_ backend: LoopBackend) throws {
        let (a, b) = (try Node(backend, host: "0.0.0.0"), try Node(backend, host: "0.0.0.0"))
        defer { a.close(); b.close() }
        let (at, bt) = ("127.0.0.1:\(a.port)", "127.0.0.1:\(b.port)")
        b.system.keepLink(to: at)
        #expect(eventually { !ups(a).isEmpty && !ups(b).isEmpty })
        #expect(ups(a)[0].peerAddress == bt && ups(b)[0].peerAddress == at)
        #expect(a.ownAddresses.withLock { $0 } == [at] && b.ownAddresses.withLock { $0 } == [bt])
        // Dialled back there when the connection is lost.
        #expect(a.system.statistics.badFrames == 0 && b.problems.withLock { $0.isEmpty })
    }

    @Test(arguments: backends) func whatCannotBeIsNotBelieved(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let seen = "127.0.0.1:4711"
        let claims = [
            "", "0.0.0.0:4711", "[::]:4711", "[fe80::1]:4711", "127.0.0.1:0", "nonsense", "a b:1", "x\u{1B}[2J:1",
            node.system.address,
        ]
        for (i, claim) in claims.enumerated() {
            let link = try greet(node, as: claim, incarnation: UInt64(100 + i), port: 4711)
            #expect(eventually { ups(node).count == i + 1 })
            #expect(ups(node)[i].peerAddress == seen, "\(claim)")
            _ = link
            link.endSending()
            #expect(eventually { node.changes.withLock { $0.last?.isUp == false } })
        }
        // Only that is worth a word.
        #expect(
            node.problems.withLock { $0 } == [
                "\(seen) says that it is reached at \(node.system.address), which is this server's own address"
            ])
        for (i, good) in ["10.1.2.3:5", "kvd-1.example:6000", "127.0.0.1:4712"].enumerated() {
            let link = try greet(node, as: good, incarnation: UInt64(200 + i), port: 4711)
            #expect(eventually { ups(node).count == claims.count + i + 1 })
            #expect(ups(node).last?.peerAddress == good)
            link.endSending()
        }
    }

    /// A mistaken --advertise: neither loses its connection to the other, again and again.
    @Test(arguments: backends) func twoThatLiveAtOneAddressBothStay(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let first = try greet(node, as: "10.0.0.1:6000", incarnation: 7)
        #expect(eventually { ups(node).count == 1 })
        let second = try greet(node, as: "10.0.0.1:6000", incarnation: 8)
        #expect(eventually { ups(node).count == 2 })
        #expect(ups(node).map(\.address) == ["10.0.0.1:6000", "10.0.0.1:6000#8"])
        #expect(ups(node).map(\.peerAddress) == ["10.0.0.1:6000", "10.0.0.1:6000"])
        // Pinged at once, the first has answered, if only its machine: it stays.
        #expect(try first.receiveSome().count > 0)
        #expect(node.changes.withLock { $0.count } == 2)
        // A new life is at the old one's place once that has ended.
        first.endSending()
        #expect(eventually { node.changes.withLock { $0.count } == 3 })
        #expect(node.changes.withLock { $0[2].incarnation } == 7)
        let third = try greet(node, as: "10.0.0.1:6000", incarnation: 9)
        #expect(eventually { ups(node).count == 3 })
        #expect(ups(node)[2].address == "10.0.0.1:6000")
        _ = (second, third)
    }

    @Test(arguments: backends) func whoReachesItselfSaysSoOnceAndStops(_ backend: LoopBackend) throws {
        let asked = Locked(0)
        let node = try Node(backend, host: "0.0.0.0") { _ in
            asked.withLock { $0 += 1 }
            return [SocketAddress(host: "127.0.0.1", port: 1)!]
        }
        defer { node.close() }
        let own = "127.0.0.1:\(node.port)"
        node.system.keepLink(to: own)
        #expect(eventually { node.changes.withLock { $0.contains { $0.isItself } } })
        #expect(
            node.problems.withLock { $0 } == ["\(own) leads back to this server itself; it is not dialled any more"])
        // Known from now on: not even tried, whoever asks.
        let bytes = node.system.statistics.remoteBytesReceived
        node.system.dropLink(to: own)
        node.system.keepLink(to: own)
        #expect(eventually { node.changes.withLock { $0.count { $0.isItself } } == 2 })
        #expect(node.system.statistics.remoteBytesReceived == bytes && node.problems.withLock { $0.count } == 1)
        #expect(node.system.statistics.badFrames == 0)
        // A server's own address, said to be another's, is not dialled.
        let fixed = try Node(backend)
        defer { fixed.close() }
        fixed.system.keepLink(to: fixed.system.address, of: 99)
        fixed.system.keepLink(to: own, of: 98)
        #expect(eventually { ups(fixed).count == 1 })
        #expect(fixed.changes.withLock { $0.count } == 1)
    }

    // MARK: Names that stand for addresses

    @Test(arguments: backends) func aNameIsLookedUpAtEveryAttempt(_ backend: LoopBackend) throws {
        let answers = Locked<[SocketAddress]>([])
        let asked = Locked(0)
        let a = try Node(backend) { target in
            #expect(target.description == "seed.test:6000")
            asked.withLock { $0 += 1 }
            let found = answers.withLock { $0 }
            if found.isEmpty { throw SocketFailure("cannot resolve seed.test", code: 6, reason: "no such name") }
            return found
        }
        defer { a.close() }
        a.system.keepLink(to: "seed.test:6000")
        #expect(eventually { asked.withLock { $0 } >= 3 })
        #expect(a.changes.withLock { $0.map(\.reason) } == ["cannot resolve seed.test: no such name"])
        // Nobody is at the first of its addresses.
        let nobody = try HeldPort()
        func addresses(_ node: Node) -> [SocketAddress] {
            [nobody.port, node.port].map { SocketAddress(host: "127.0.0.1", port: $0)! }
        }
        var b = try Node(backend)
        answers.withLock { $0 = addresses(b) }
        #expect(eventually { ups(a).count == 1 })
        #expect(ups(a)[0].address == "seed.test:6000" && ups(a)[0].peerAddress == b.system.address)
        // The server moves behind its name.
        let port = b.port
        b.close()
        let held = try HeldPort(port)
        b = try Node(backend)
        defer { b.close() }
        answers.withLock { $0 = addresses(b) }
        #expect(eventually { ups(a).count == 2 })
        #expect(ups(a)[1].peerAddress == b.system.address && held.port == port)
    }

    /// Many name servers tell of the addresses of a name in another order each time.
    @Test(arguments: backends) func allAddressesOfANameAreTriedWhateverTheirOrder(_ backend: LoopBackend) throws {
        let (nobody, b) = (try HeldPort(), try Node(backend))
        let addresses = Locked([nobody.port, b.port].map { SocketAddress(host: "127.0.0.1", port: $0)! })
        let a = try Node(backend) { _ in
            addresses.withLock { addresses in
                defer { addresses.reverse() }
                return addresses
            }
        }
        defer { a.close(); b.close() }
        a.system.keepLink(to: "seed.test:6000")
        #expect(eventually(seconds: 20) { !ups(a).isEmpty })
    }

    /// What a name server takes, as where the first one is gone, is no part of the time that a connection has.
    @Test func aSlowNameServerLeavesTheConnectionItsTime() throws {
        let silent = try HeldPort()
        try silent.listen()
        let address = SocketAddress(host: "127.0.0.1", port: silent.port)!
        let node = try Node(backends[0], trust: .keys([[UInt8](repeating: 1, count: ClusterKey.bytes)])) { _ in
            let began = Machine.monotonicNanos
            #expect(eventually { Machine.monotonicNanos - began > RemoteLink.connectNanosMax + 100_000_000 })
            return [address]
        }
        defer { node.close() }
        node.system.keepLink(to: "seed.test:6000")
        let link = try silent.accept(saying: [])
        defer { link.close() }
        // Its greeting comes at once; then it waits for the answer as long as for that of any other.
        let began = Machine.monotonicNanos
        #expect(!link.receiveAll(withinMillis: 60_000).isEmpty)
        #expect(Machine.monotonicNanos - began > RemoteLink.connectNanosMax / 2)
    }

    /// A name led to another server for a while, as after two have changed places. It is not that one's for ever.
    @Test(arguments: backends) func aNameThatLedToAnotherServerIsLookedUpAgain(_ backend: LoopBackend) throws {
        let places = Locked<[String: UInt16]>([:])
        let a = try Node(backend) { target in
            guard let port = places.withLock({ $0[target.host] }) else {
                throw SocketFailure("cannot resolve \(target.host)", code: 6)
            }
            return [SocketAddress(host: "127.0.0.1", port: port)!]
        }
        let (b, c) = (try Node(backend, advertiseHost: "b.test"), try Node(backend, advertiseHost: "c.test"))
        defer { for node in [a, b, c] { node.close() } }
        places.withLock { $0["b.test"] = c.port }
        // As a member's row has it.
        a.system.keepLink(to: "c.test:\(c.port)", of: 0xC)
        a.system.keepLink(to: "b.test:\(b.port)", of: 0xB)
        #expect(eventually { ups(a).contains { $0.peerAddress == "c.test:\(c.port)" } })
        places.withLock { $0 = ["b.test": b.port, "c.test": c.port] }
        #expect(eventually(seconds: 30) { ups(a).contains { $0.peerAddress == "b.test:\(b.port)" } })
        let states = a.changes.withLock { Dictionary($0.map { ($0.peerAddress, $0.isUp) }) { $1 } }
        #expect(states["c.test:\(c.port)"] == true && states["b.test:\(b.port)"] == true)
    }

    /// The user's wish and what others tell are given up each by itself.
    @Test(arguments: backends) func aLinkIsKeptAsLongAsAnybodyWantsIt(_ backend: LoopBackend) throws {
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close(); b.close() }
        let at = b.system.address
        a.system.keepLink(to: at)
        #expect(eventually { ups(a).count == 1 && ups(b).count == 1 })
        a.system.keepLink(to: at, of: ups(a)[0].incarnation)
        a.system.dropLink(to: at, closing: false)
        b.system.refuseLink(from: a.system.address, because: "the test")
        #expect(eventually { ups(a).count == 2 && ups(b).count == 2 })
        a.system.dropLink(to: at, isTold: true, closing: false)
        b.system.refuseLink(from: a.system.address, because: "the test")
        #expect(eventually { a.changes.withLock { $0.count { !$0.isUp } } == 2 })
        // Nobody opens it again.
        a.system.keepLink(to: "127.0.0.1:1")
        #expect(eventually { a.changes.withLock { $0.last?.address == "127.0.0.1:1" } })
        #expect(ups(a).count == 2)
    }

    /// A member that is connected under one address and is said to be at another one has one connection.
    @Test(arguments: backends) func oneSystemOfTwoAddressesHasOneConnection(_ backend: LoopBackend) throws {
        let a = try Node(backend) { _ in [SocketAddress(host: "127.0.0.1", port: 1)!] }
        let b = try Node(backend, host: "0.0.0.0")
        defer { a.close(); b.close() }
        let at = "127.0.0.1:\(b.port)"
        a.system.keepLink(to: at)
        #expect(eventually { ups(a).count == 1 })
        let id = ups(a)[0].incarnation
        // Where it cannot be reached from here: as on another network. What worked is tried as well.
        a.system.keepLink(to: "192.0.2.77:6000", of: id)
        a.system.dropLink(to: at, closing: false)
        #expect(eventually { ups(b).count == 1 })
        b.system.refuseLink(from: a.system.address, because: "the test")
        #expect(eventually { ups(a).count == 2 })
        #expect(ups(a)[1].incarnation == id)
        a.system.dropLink(to: "192.0.2.77:6000", isTold: true)
        #expect(eventually { b.changes.withLock { $0.count { !$0.isUp } } >= 2 })
    }
}
