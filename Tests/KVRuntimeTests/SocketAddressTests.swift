// Texts of addresses, in and out.

import Testing

@testable import KVRuntime

@Suite struct SocketAddressTests {
    @Test func parsesAndPrintsHostAndPort() {
        #expect(HostPort("localhost:6000") == HostPort(host: "localhost", port: 6000))
        #expect(HostPort("[::1]:7")?.host == "::1")
        #expect(HostPort("[::1]:7")?.description == "[::1]:7")
        #expect(HostPort("10.0.0.1:65535")?.description == "10.0.0.1:65535")
        for bad in [
            "", "host", "host:", ":1", "host:65536", "host:-1", "host:+1", "::1:6000", "a b:1", "[::1:6", "host:1x",
        ] {
            #expect(HostPort(bad) == nil, "\(bad)")
        }
    }

    @Test func numericAddressesSurviveTheRoundTrip() throws {
        for text in ["127.0.0.1:80", "[2001:db8::17]:6001", "0.0.0.0:0"] {
            let parts = try #require(HostPort(text))
            let address = try #require(SocketAddress(host: parts.host, port: parts.port))
            #expect(address.description == text)
            #expect(try parts.resolve().first == address)
        }
        #expect(SocketAddress(host: "localhost", port: 1) == nil)
    }

    @Test func namesResolveAndUnknownOnesFail() throws {
        #expect(throws: SocketFailure.self) { try HostPort(host: "no-such-host.invalid", port: 1).resolve() }
        let failure = SocketFailure("cannot resolve x", code: 6, reason: "there is no such host name")
        #expect("\(failure)" == "cannot resolve x: there is no such host name")
    }

    @Test func localhostIsBothKindsOfAddress() throws {
        let found = Set(try HostPort(host: "localhost", port: 6000).resolve().map(\.description))
        #expect(found.isSuperset(of: ["127.0.0.1:6000", "[::1]:6000"]))
    }

    @Test func addressesTellHowFarTheyAreOfUse() {
        let cases: [(String, AddressReach)] = [
            ("0.0.0.0", .nowhere), ("::", .nowhere), ("::ffff:0.0.0.0", .nowhere), ("fe80::1", .nowhere),
            ("127.0.0.1", .machine), ("127.9.9.9", .machine), ("::1", .machine), ("::ffff:127.0.0.1", .machine),
            ("10.0.0.1", .network), ("169.254.1.1", .network), ("fd00::2", .network), ("2001:db8::1", .network),
            ("::ffff:10.0.0.1", .network), ("::2", .network),
        ]
        for (host, reach) in cases {
            #expect(SocketAddress(host: host, port: 1)?.reach == reach, "\(host)")
            #expect(HostPort(host: host, port: 1).reach == reach, "\(host)")
        }
        #expect(HostPort(host: "localhost", port: 1).reach == .machine)
        #expect(HostPort(host: "host.example", port: 1).reach == nil)
        #expect(AddressReach.nowhere < .machine && AddressReach.machine < .network)
    }

    @Test func anIPv4AddressThatCameByIPv6IsItself() {
        #expect(SocketAddress(host: "::ffff:10.1.2.3", port: 5)?.unmapped.description == "10.1.2.3:5")
        for host in ["::1", "10.1.2.3", "2001:db8::ffff:1"] {
            let address = SocketAddress(host: host, port: 5)!
            #expect(address.unmapped == address)
        }
    }
}
