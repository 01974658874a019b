// Deadlines, conditional writes, counters and transactions of the client and of kv, against a kvd process.

import Foundation
import KVClient
import KVTestTraits
import Testing

@testable import kv

@Suite(.serialized) struct ConditionalTests {
    private func withClient(_ body: (Server, KVClient) async throws -> Void) async throws {
        let server = try Server()
        let client = try KVClient(servers: server.addresses, configuration: .patient)
        try await body(server, client)
        await client.close()
    }

    @Test func writesObeyTheirConditions() async throws {
        try await withClient { _, client in
            #expect(try await client.put("k", "one", ifAbsent: true))
            #expect(try await !client.put("k", "two", ifAbsent: true))
            #expect(try await !client.put("k", "two", ifValue: "none"))
            #expect(try await client.put("k", "two", expiresIn: .seconds(100), ifValue: "one"))
            #expect(try await client.get("k") == "two")
            guard case .left(let left)? = try await client.timeToLive("k") else {
                Issue.record("no deadline")
                return
            }
            #expect(left > .seconds(90) && left <= .seconds(100))
            guard
                case .invalidArgument = await failure({ try await client.put("k", "x", expiresIn: .zero) }),
                case .invalidArgument = await failure({
                    try await client.put("k", "x", expiresIn: nil, ifAbsent: true, ifValue: "y")
                })
            else {
                Issue.record("a wrong call was sent")
                return
            }
        }
    }

    @Test func deadlinesAreSetToldAndTakenAway() async throws {
        try await withClient { _, client in
            #expect(try await client.timeToLive("k") == nil)
            #expect(try await !client.expire("k", in: .seconds(5)))
            try await client.put("k", "v")
            #expect(try await client.timeToLive("k") == .never)
            #expect(try await !client.persist("k"))
            #expect(try await client.expire("k", in: .seconds(50)))
            #expect(try await client.persist("k"))
            #expect(try await client.timeToLive("k") == .never)
            #expect(try await client.getAndDelete("k") == "v")
            #expect(try await client.getAndDelete("k") == nil)
        }
    }

    @Test func incrementsAddUp() async throws {
        try await withClient { _, client in
            #expect(try await client.increment("n") == 1)
            #expect(try await client.increment("n", by: -5) == -4)
            try await client.put("t", "text")
            guard case .server = await failure({ try await client.increment("t") }) else {
                Issue.record("a text was counted")
                return
            }
        }
    }

    @Test func aTransactionRunsWholeOrNotAtAll() async throws {
        try await withClient { _, client in
            let (old, stamp, sum) = try await client.transaction { pipeline in
                (pipeline.get("{a}1"), pipeline.put("{a}1", "v"), pipeline.send(["INCR", "{a}2"]))
            }
            #expect(try old.value == nil && stamp.value.millis > 0 && sum.value == .integer(1))
            let failing = try await client.transaction { pipeline in
                (pipeline.send(["INCR", "{a}1"]), pipeline.send(["INCR", "{a}2"]))
            }
            guard case .server = await failure({ try failing.0.value }) else {
                Issue.record("a text was counted")
                return
            }
            #expect(try failing.1.value == .integer(2))
            let refused = await failure {
                _ = try await client.transaction { pipeline in
                    (pipeline.send(["INCR", "{a}2"]), pipeline.send(["NOSUCH"]))
                }
            }
            guard case .server(let message) = refused else {
                Issue.record("an unknown command was run")
                return
            }
            #expect(message.contains("NOSUCH"), "\(message)")
            #expect(try await client.get("{a}2") == "2")
            #expect(try await client.transaction { $0.count } == 0)
        }
    }

    @Test func kvHasThemToo() async throws {
        let server = try Server()
        func kv(_ arguments: String...) throws -> (Int32, String) {
            let result = try Programs.kv(arguments, environment: ["KV_SERVER": server.addresses])
            return (result.code, String(decoding: result.output, as: UTF8.self))
        }
        #expect(try kv("put", "--ttl", "2h", "--if-absent", "k", "v") == (0, "OK\n"))
        #expect(try kv("put", "--if-absent", "k", "w") == (2, ""))
        #expect(try kv("get", "k") == (0, "v"))
        let (code, text) = try kv("ttl", "k")
        let seconds = Double(text.dropLast()) ?? 0
        #expect(code == 0 && seconds > 7_000 && seconds <= 7_200 && text.dropLast().suffix(4).first == ".", "\(text)")
        #expect(try kv("put", "k", "v") == (0, "OK\n") && kv("ttl", "k") == (0, "none\n"))
        #expect(try kv("ttl", "none") == (2, ""))
        #expect(try kv("incr", "n") == (0, "1\n") && kv("incr", "n", "41") == (0, "42\n"))
        #expect(try kv("put", "--ttl", "5", "k", "v").0 == 64)
        #expect(Request.time("500ms") == .milliseconds(500) && Request.time("15m") == .seconds(900))
        #expect(["", "5", "0s", "-5s", "5d", "99999999999999999h"].allSatisfy { Request.time($0) == nil })
        #expect(
            try Request(line: "put k v ttl 30s if-absent")
                == .putFor("k", "v", time: .seconds(30), ifAbsent: true))
    }
}
