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
        #expect(try !HostPort(host: "localhost", port: 6000).resolve().isEmpty)
        #expect(throws: SocketFailure.self) { try HostPort(host: "no-such-host.invalid", port: 1).resolve() }
    }
}
