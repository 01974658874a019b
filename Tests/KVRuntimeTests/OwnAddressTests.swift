// What a system says of its own address, as peers show it one, in any order.

import Testing

@testable import KVRuntime

@Suite struct OwnAddressTests {
    private func address(_ text: String) -> HostPort { HostPort(text)! }
    private func socket(_ host: String) -> SocketAddress { SocketAddress(host: host, port: 6000)! }

    @Test func whatWasGivenOrBoundToStays() {
        for own in [
            OwnAddress(given: HostPort("kvd.example:7000"), bound: socket("0.0.0.0")),
            OwnAddress(given: nil, bound: socket("10.0.0.1")),
        ] {
            var own = own
            let before = own.announced
            #expect(own.isFixed && before != nil)
            #expect(own.learn(address("10.9.9.9:6000"), .seen, isShown: false) == false)
            #expect(own.announced == before)
        }
        // One that only opens connections is reached nowhere.
        var closed = OwnAddress(given: nil, bound: nil)
        #expect(closed.learn(address("10.9.9.9:6000"), .seen, isShown: false) == false)
        #expect(closed.announced == nil)
    }

    @Test func oneBoundToAllOfItsMachineLearnsFromItsPeers() {
        for wildcard in ["0.0.0.0", "::"] {
            var own = OwnAddress(given: nil, bound: socket(wildcard))
            #expect(own.announced == nil && own.reach == .nowhere)
            #expect(own.learn(address("0.0.0.0:6000"), .seen, isShown: false) == false)
            #expect(own.learn(address("127.0.0.1:6000"), .dialled, isShown: false) == true)
            // On loopback only as long as all peers are.
            #expect(own.learn(address("10.0.0.1:6000"), .dialled, isShown: true) == true)
            #expect(own.learn(address("127.0.0.1:6000"), .seen, isShown: false) == false)
            // Behind a translation of addresses others see another one than it has.
            #expect(own.learn(address("192.0.2.1:6000"), .seen, isShown: true) == true)
            #expect(own.learn(address("10.0.0.1:6000"), .dialled, isShown: true) == false)
            #expect(own.announced == address("192.0.2.1:6000"))
        }
    }

    /// Two interfaces: the first stays while a connection shows it.
    @Test func amongEquallyGoodOnesTheOneInUseStays() {
        var own = OwnAddress(given: nil, bound: socket("0.0.0.0"))
        #expect(own.learn(address("10.0.1.1:6000"), .seen, isShown: false) == true)
        #expect(own.learn(address("10.0.2.1:6000"), .seen, isShown: true) == false)
        #expect(own.learn(address("10.0.2.1:6000"), .seen, isShown: false) == true)
    }

    @Test func loopbackIsToldToNobodyElsewhere() {
        let near = OwnAddress(given: nil, bound: socket("127.0.0.1"))
        #expect(near.announced(to: .machine) == address("127.0.0.1:6000"))
        #expect(near.announced(to: .network) == nil)
        let named = OwnAddress(given: HostPort("localhost:6000"), bound: socket("127.0.0.1"))
        #expect(named.announced(to: .network) == nil)
        let far = OwnAddress(given: nil, bound: socket("10.0.0.1"))
        #expect(far.announced(to: .network) == address("10.0.0.1:6000"))
        #expect(far.announced(to: .machine) == address("10.0.0.1:6000"))
    }

    @Test func itsOwnAddressesAreKnown() {
        var own = OwnAddress(given: HostPort("10.0.0.5:6000"), bound: socket("10.0.0.1"))
        #expect(own.isOwn(socket("10.0.0.5")) && own.isOwn(socket("10.0.0.1")) && own.isOwn(socket("::ffff:10.0.0.1")))
        #expect(!own.isOwn(socket("10.0.0.2")) && !own.isOwn(SocketAddress(host: "10.0.0.1", port: 6001)!))
        own.prove(socket("10.0.0.2"))
        #expect(own.isOwn(socket("10.0.0.2")))
        for i in 0..<2 * OwnAddress.provenMax { own.prove(SocketAddress(host: "10.2.0.1", port: UInt16(i + 1))!) }
        #expect(own.provenOwn.count == OwnAddress.provenMax)
    }
}

@Suite struct SystemNameTests {
    @Test func onlyNamesThatUsersGaveExcludeEachOther() {
        let (given, made) = (SystemName("a", isGiven: true), SystemName("a", isGiven: false))
        #expect(given.excludes(given))
        #expect(!given.excludes(made) && !made.excludes(given) && !made.excludes(made))
        #expect(!given.excludes(SystemName("b", isGiven: true)))
        #expect(!SystemName("", isGiven: true).excludes(SystemName("", isGiven: true)))
    }

    @Test func namesAreWords() {
        for good in ["a", "kvd-0.kvd:6000", "A_b@c/1", String(repeating: "x", count: 255)] {
            #expect(SystemName.isUsable(good), "\(good)")
        }
        for bad in ["", "a b", "a,b", "a=b", "a\n", "é", "\"", String(repeating: "x", count: 256)] {
            #expect(!SystemName.isUsable(bad), "\(bad)")
        }
    }
}
