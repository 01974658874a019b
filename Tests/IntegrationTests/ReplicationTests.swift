// What servers of a cluster show and survive beyond the scenarios of ClusterTests. Real processes on loopback.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking, .serialized) struct ReplicationTests {
    private func eventually(withinMillis: Int = 60_000, _ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Clock.millis() + withinMillis
        while Clock.millis() < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 10)
        }
        return false
    }

    private func address(_ server: KVDProcess) -> String { "127.0.0.1:\(server.port)" }

    private func digests(_ servers: [KVDProcess]) throws -> Set<String> {
        var all: Set<String> = []
        for server in servers {
            for actor in 1...server.actors { all.insert(try server.connect(actor).command("KVD", "DIGEST")) }
        }
        return all
    }

    @Test func valuesLargerThanAFrameCrossToOtherServersAndToNewcomers() throws {
        let first = try KVDProcess(actors: 2)
        let second = try KVDProcess(arguments: ["--join", address(first)], actors: 1)
        let client = try first.connect()
        let value = Bytes([UInt8](repeating: 90, count: Limits.frameBytesMax + 1_000_000))
        #expect(try client.call(["SET", "large", value]) == Array("+OK\r\n".utf8))
        #expect(try client.command("SET", "small", "1") == "+OK\r\n")
        #expect(try eventually { try second.connect().command("EXISTS", "large", "small") == ":2\r\n" })
        #expect(try second.connect().command("STRLEN", "large") == ":\(value.count)\r\n")
        let third = try KVDProcess(arguments: ["--join", address(second)], actors: 2)
        #expect(try eventually { try digests([first, second, third]).count == 1 })
    }

    /// The frames for several servers, each with the value, are put together at once.
    @Test func aValueOfManyMegabytesReachesEveryServer() throws {
        let first = try KVDProcess()
        let others = try (0..<3).map { _ in try KVDProcess(arguments: ["--join", address(first)]) }
        for server in [first] + others {
            #expect(
                try eventually {
                    let peers = try server.connect().command("KVD", "PEERS")
                    return peers.split(separator: "\r\n").count { $0.contains(" up ") } == 3
                })
        }
        let value = Bytes([UInt8](repeating: 90, count: 40 << 20))
        #expect(try first.connect().call(["SET", "large", value]) == Array("+OK\r\n".utf8))
        for server in others {
            #expect(try eventually { try server.connect().command("STRLEN", "large") == ":\(value.count)\r\n" })
        }
    }

    @Test func serversThatJoinEachOtherBecomeOneCluster() throws {
        let ports = (FreePorts.take(2), FreePorts.take(2))
        // The first is told of a server that is not there yet, and serves meanwhile.
        let first = try KVDProcess(arguments: ["--join", "127.0.0.1:\(ports.1)"], port: ports.0)
        #expect(try first.connect().command("SET", "a", "1") == "+OK\r\n")
        let second = try KVDProcess(arguments: ["--join", "127.0.0.1:\(ports.0)"], port: ports.1)
        #expect(try second.connect().command("SET", "b", "2") == "+OK\r\n")
        #expect(try eventually { try first.connect().command("EXISTS", "a", "b") == ":2\r\n" })
        #expect(try eventually { try second.connect().command("EXISTS", "a", "b") == ":2\r\n" })
        #expect(try eventually { try digests([first, second]).count == 1 })
        for server in [first, second] {
            #expect(try eventually { try server.connect().command("KVD", "PEERS").contains(" up 0 ") })
        }
    }

    @Test func peersAndInfoTellAboutOtherServers() throws {
        let first = try KVDProcess(actors: 2)
        let second = try KVDProcess(arguments: ["--join", first.description], actors: 1)
        let id = try #require(second.description.firstMatch(of: /"id":"([0-9a-f]{16})"/)?.1)
        #expect(
            try eventually {
                try first.connect().command("KVD", "PEERS").contains("\(id) \(address(second)) up 0 ")
            })
        #expect(try first.connect().command("SET", "k", "v") == "+OK\r\n")
        let info = try first.connect().command("INFO")
        #expect(info.contains("servers:2\r\n"))
        #expect(info.contains("peer1:id=\(id),address=\(address(second)),state=up,pending="))
        for field in ["messages_sent_actor", "bytes_sent", "remote_bytes_received", "max_message_rate"] {
            #expect(info.firstMatch(of: try Regex("\(field):[1-9]")) != nil, "\(field)")
        }
        // A server that shut down in good order is gone from the list, and nobody waits for it.
        second.signal(SIGTERM)
        #expect(second.exitCode(withinMillis: 30_000) == 0)
        #expect(try eventually { try first.connect().command("KVD", "PEERS") == "*0\r\n" })
    }

    @Test func theLastWritesBeforeAShutdownReachTheOthers() throws {
        let first = try KVDProcess(actors: 2)
        let second = try KVDProcess(arguments: ["--join", address(first)], actors: 2)
        #expect(try eventually { try second.connect().command("KVD", "PEERS").contains(" up ") })
        let client = try second.connect(2)
        for k in 0..<500 { try client.send(Client.encode(["SET", Bytes("last:\(k)"), "v"])) }
        #expect(try client.bytes(500 * 5).count == 2500)
        second.signal(SIGTERM)
        #expect(second.exitCode(withinMillis: 30_000) == 0)
        #expect(try eventually { try first.connect(1).command("DBSIZE") == ":500\r\n" })
        #expect(try eventually { try first.connect(2).command("DBSIZE") == ":500\r\n" })
    }

    @Test func serversOfDifferentClustersRefuseEachOther() throws {
        let first = try KVDProcess()
        let second = try KVDProcess(arguments: ["--cluster", "other", "--join", address(first)])
        #expect(try first.connect().command("SET", "a", "1") == "+OK\r\n")
        let started = Clock.millis()
        while Clock.millis() - started < 600 {
            #expect(try second.connect().command("DBSIZE") == ":0\r\n")
            _ = poll(nil, 0, 50)
        }
        #expect(try first.connect().command("KVD", "PEERS") == "*0\r\n")
    }
}
