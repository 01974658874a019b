// Who connects to the port of systems without being one, told by the first bytes; and what such a client is told.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct StrangerTests {
    private func stranger(_ bytes: [UInt8]) -> Stranger? { bytes.withUnsafeBytes { Stranger($0) } }
    private func stranger(_ text: String) -> Stranger? { stranger(Array(text.utf8)) }

    private static let tlsHello: [UInt8] = [0x16, 3, 1, 0, 0xF1, 1, 0, 0, 0xED, 3, 3]

    @Test func theFirstBytesTellWhoItIs() {
        for text in [
            "*1\r\n$4\r\nPING\r\n", "PING\r\n", "+OK\r\n", "-ERR x\r\n", "$-1\r\n", "GET key\r\n", "PUT k v\r\n",
        ] {
            #expect(stranger(text) == .resp, "\(text)")
        }
        for text in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"] {
            #expect(stranger(text) == .http, "\(text)")
        }
        #expect(stranger(Self.tlsHello) == .tls)
        #expect(stranger([0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0]) == .unknown)
        for few in [[], [42], [42, 49, 13]] as [[UInt8]] { #expect(stranger(few) == nil) }
        // No first frame of a system, whatever is in it.
        for length in [1, 64, 254] {
            let hello = RemoteTests.hello(cluster: String(repeating: "c", count: length))
            for count in 0...hello.count { #expect(stranger(Array(hello[..<count])) == nil) }
        }
    }

    @Test(arguments: backends) func eachIsToldInItsOwnLanguageAndClosed(_ backend: LoopBackend) throws {
        let node = try Node(backend)
        defer { node.close() }
        let line = "this port is for servers"
        let cases: [([UInt8], String)] = [
            (Array("*1\r\n$4\r\nPING\r\n".utf8), "-ERR \(line)\r\n"),
            (Array("PING\r\n".utf8), "-ERR \(line)\r\n"),
            (
                Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8),
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: \(line.utf8.count + 2)\r\n"
                    + "Connection: close\r\n\r\n\(line)\r\n"
            ),
            (Self.tlsHello, "-ERR \(line)\r\n"),
            ([0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0], ""),
        ]
        for (i, (bytes, reply)) in cases.enumerated() {
            let client = try TestSocket(port: node.port)
            try client.send(bytes)
            #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == reply)
            #expect(node.system.statistics.badFrames == UInt64(i + 1))
        }
        // Byte by byte, too.
        let slow = try TestSocket(port: node.port)
        for byte in Array("PING\r\n".utf8) { try? slow.send([byte]) }
        #expect(String(decoding: try slow.receiveAll(), as: UTF8.self) == "-ERR \(line)\r\n")
        // One line of the host they all come from.
        #expect(
            node.problems.withLock { $0 } == [
                "link with 127.0.0.1 closed because of a client that speaks the Redis protocol"
            ])
    }

    /// Where links are protected, too: only TLS is for the cipher to judge.
    @Test(arguments: backends) func aProtectedPortTellsClientsAsWell(_ backend: LoopBackend) throws {
        let node = try Node(backend, trust: .keys([[UInt8](repeating: 1, count: ClusterKey.bytes)]))
        defer { node.close() }
        let client = try TestSocket(port: node.port)
        try client.send("*1\r\n$4\r\nPING\r\n")
        #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == "-ERR this port is for servers\r\n")
        let browser = try TestSocket(port: node.port)
        try browser.send("GET / HTTP/1.1\r\n\r\n")
        let page = String(decoding: try browser.receiveAll(), as: UTF8.self)
        #expect(page.hasPrefix("HTTP/1.1 400") && page.hasSuffix("\r\n\r\nthis port is for servers\r\n"))
        let secure = try TestSocket(port: node.port)
        try secure.send(Self.tlsHello)
        secure.endSending()
        #expect(try !secure.receiveAll().contains(UInt8(ascii: "-")))
    }

    /// Who dialled a port of another kind says what is there, and comes again slowly.
    @Test(arguments: backends) func whoDialledAClientPortSaysSo(_ backend: LoopBackend) throws {
        let port = try HeldPort()
        try port.listen()
        let node = try Node(backend)
        defer { node.close() }
        node.system.keepLink(to: "127.0.0.1:\(port.port)")
        let client = try port.accept(saying: Array("-ERR Protocol error\r\n".utf8))
        defer { client.close() }
        #expect(eventually { node.changes.withLock { !$0.isEmpty } })
        let change = node.changes.withLock { $0[0] }
        #expect(!change.isUp && change.incarnation == 0)
        #expect(
            change.reason
                == "an answer in the Redis protocol: it is a port for clients, not the servers' port below those")
        #expect(!port.isConnected(withinMillis: 1000))
        #expect(node.system.statistics.badFrames == 1)
    }
}
