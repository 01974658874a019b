// Conditional writes and transactions of clients at all actors of a real server, at the same time.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct RaceTests {
    private static let actors = 4

    private func withServer(_ backend: String, _ body: (KVDProcess, [Client]) throws -> Void) throws {
        let server = try KVDProcess(actors: RaceTests.actors, backend: backend)
        let clients = try (1...RaceTests.actors).map { try Client(port: server.port + $0) }
        try body(server, clients)
    }

    @Test(arguments: ["io_uring", "epoll"]) func ofManyRacesOneWinsEach(_ backend: String) throws {
        let (races, batch) = (4000, 200)
        try withServer(backend) { _, clients in
            var winners = [Int](repeating: 0, count: races)
            for first in stride(from: 0, to: races, by: batch) {
                for (index, client) in clients.enumerated() {
                    var bytes: [UInt8] = []
                    for race in first..<first + batch {
                        bytes += Client.encode(["SET", Bytes("lock:\(race)"), Bytes("\(index)"), "NX"])
                        bytes += Client.encode(["GET", Bytes("lock:\(race)")])
                    }
                    try client.send(bytes)
                }
                for race in first..<first + batch {
                    var holders: Set<[UInt8]> = []
                    for client in clients {
                        if try client.reply() == Array("+OK\r\n".utf8) { winners[race] += 1 }
                        holders.insert(try client.reply())
                    }
                    #expect(holders.count == 1, "all see the one who won")
                }
            }
            #expect(winners.allSatisfy { $0 == 1 })
        }
    }

    @Test func aDeletedKeyIsCountedByOneClient() throws {
        try withServer("auto") { _, clients in
            for round in 0..<20 {
                let keys = (0..<100).map { Bytes("d\(round):\($0)") }
                // By the reply of the first client all homes know the keys, and by the others' all actors.
                for client in clients {
                    for key in keys { try client.send(Client.encode(["SETNX", key, "v"])) }
                    for _ in keys { _ = try client.reply() }
                }
                for client in clients { try client.send(Client.encode(["DEL"] + keys)) }
                let counts = try clients.map {
                    Int(String(decoding: try $0.reply().dropFirst().dropLast(2), as: UTF8.self)) ?? -1000
                }
                #expect(counts.reduce(0, +) == 100, "\(counts)")
            }
        }
    }

    /// Each adds to a number with WATCH, GET, MULTI, SET, EXEC until it succeeds: nothing is lost.
    @Test func transactionsThatWatchLoseNothing() throws {
        try withServer("auto") { _, clients in
            let each = 25
            try clients[0].send(Client.encode(["SETNX", "sum", "0"]))
            _ = try clients[0].reply()
            var left = [Int](repeating: each, count: clients.count)
            let deadline = Date() + 30
            while left.contains(where: { $0 > 0 }), Date() < deadline {
                for client in clients {
                    try client.send(Client.encode(["WATCH", "sum"]) + Client.encode(["GET", "sum"]))
                }
                for (index, client) in clients.enumerated() {
                    _ = try client.reply()
                    let value = String(decoding: try client.reply(), as: UTF8.self).split(separator: "\r\n")
                    let sum = value.count == 2 ? Int(value[1]) ?? 0 : 0
                    guard left[index] > 0 else { continue }
                    try client.send(
                        Client.encode(["MULTI"]) + Client.encode(["SET", "sum", Bytes("\(sum + 1)")])
                            + Client.encode(["EXEC"]))
                }
                for (index, client) in clients.enumerated() where left[index] > 0 {
                    for _ in 0..<2 { _ = try client.reply() }
                    if try client.reply() == Array("*1\r\n+OK\r\n".utf8) { left[index] -= 1 }
                }
            }
            #expect(left.allSatisfy { $0 == 0 })
            // The home of the key, by a command that runs there.
            try clients[1].send(Client.encode(["SET", "sum", "0", "NX", "GET"]))
            let total = each * clients.count
            #expect(try clients[1].reply() == Array("$3\r\n\(total)\r\n".utf8))
        }
    }

    @Test func waitCountsTheServersThatHaveIt() throws {
        let first = try KVDProcess(actors: 2)
        let client = try Client(port: first.port + 1)
        func reply(_ words: Bytes...) throws -> String {
            try client.send(Client.encode(words))
            return String(decoding: try client.reply(), as: UTF8.self)
        }
        #expect(try reply("WAIT", "0", "0") == ":0\r\n")
        #expect(try reply("WAIT", "1", "20") == ":0\r\n")
        let second = try KVDProcess(arguments: ["--join", "127.0.0.1:\(first.port)"], actors: 2)
        let other = try Client(port: second.port + 1)
        let deadline = Date() + 20
        while try reply("WAIT", "1", "1000") != ":1\r\n", Date() < deadline {}
        for k in 0..<20 {
            // At the homes of both actors.
            #expect(try reply("SETNX", Bytes("w\(k)"), "v") == ":1\r\n")
        }
        #expect(try reply("WAIT", "1", "0") == ":1\r\n")
        #expect(try reply("WAIT", "2", "10") == ":1\r\n")
        try other.send(Client.encode(["EXISTS"] + (0..<20).map { Bytes("w\($0)") }))
        #expect(String(decoding: try other.reply(), as: UTF8.self).hasPrefix(":"))
        #expect(second.process.isRunning)
    }
}
