// WAITAOF between real servers with and without directories.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct WaitDiskTests {
    private func start(_ directory: TestDirectory, _ name: String, _ policy: String, join: KVDProcess? = nil) throws
        -> KVDProcess
    {
        let join = join.map { ["--join", "127.0.0.1:\($0.port)"] } ?? []
        return try KVDProcess(
            arguments: ["--dir", directory.path(name), "--appendfsync", policy] + join, actors: 2)
    }

    private func answer(_ client: Client, _ words: [String]) throws -> String {
        String(decoding: try client.call(words.map { Bytes($0) }), as: UTF8.self)
    }

    /// Repeats it until it answers so.
    private func expect(_ client: Client, _ words: [String], _ wanted: String) throws {
        let deadline = Clock.millis() + 20_000
        var reply = ""
        while reply != wanted, Clock.millis() < deadline { reply = try answer(client, words) }
        #expect(reply == wanted, "\(words)")
    }

    @Test(arguments: ["always", "everysec"]) func theDisksOfOtherServersCount(_ policy: String) throws {
        let directory = TestDirectory()
        let first = try start(directory, "first", policy)
        let client = try first.connect()
        #expect(try client.command("SET", "alone", "v") == "+OK\r\n")
        #expect(try client.command("WAITAOF", "1", "0", "20000") == "*2\r\n:1\r\n:0\r\n")
        #expect(try client.command("WAITAOF", "1", "1", "20") == "*2\r\n:1\r\n:0\r\n", "the time was up")
        let second = try start(directory, "second", policy, join: first)
        try expect(client, ["WAITAOF", "1", "1", "5000"], "*2\r\n:1\r\n:1\r\n")
        // At the homes of both actors.
        for k in 0..<20 { #expect(try client.command("SETNX", "w\(k)", "v") == ":1\r\n") }
        #expect(try client.command("WAITAOF", "1", "1", "0") == "*2\r\n:1\r\n:1\r\n")
        #expect(try client.command("WAITAOF", "0", "2", "10") == "*2\r\n:1\r\n:1\r\n")
        _ = second.end()
        _ = first.end()
        // It comes back from its disk alone.
        let back = try KVDProcess(arguments: ["--dir", directory.path("second")], actors: 1)
        for k in 0..<20 { #expect(try back.connect().command("GET", "w\(k)") == "$1\r\nv\r\n") }
    }

    @Test func serversWithoutADiskOrWithoutSyncsCountAsNone() throws {
        let directory = TestDirectory()
        let first = try KVDProcess(actors: 1)
        let second = try KVDProcess(arguments: ["--join", "127.0.0.1:\(first.port)"])
        let third = try start(directory, "third", "no", join: first)
        let client = try first.connect()
        #expect(try client.command("SET", "k", "v") == "+OK\r\n")
        try expect(client, ["WAIT", "2", "1000"], ":2\r\n")
        #expect(try client.command("WAITAOF", "0", "1", "3000") == "*2\r\n:0\r\n:0\r\n")
        #expect(try client.command("WAITAOF", "0", "0", "0") == "*2\r\n:0\r\n:0\r\n")
        // One that syncs counts beside them.
        let fourth = try start(directory, "fourth", "always", join: first)
        try expect(client, ["WAITAOF", "0", "1", "5000"], "*2\r\n:0\r\n:1\r\n")
        for server in [second, third, fourth] { #expect(server.process.isRunning) }
    }

    @Test func aTransactionDoesNotWait() throws {
        let directory = TestDirectory()
        let server = try start(directory, "data", "everysec")
        let client = try server.connect()
        #expect(try client.command("MULTI") == "+OK\r\n")
        #expect(try client.command("WAITAOF", "0", "5", "0") == "+QUEUED\r\n")
        #expect(try client.command("EXEC") == "*1\r\n*2\r\n:1\r\n:0\r\n")
    }

    @Test func wrongArgumentsAreRefusedInRedisWords() throws {
        let server = try KVDProcess()
        let client = try server.connect()
        let rows: [([String], String)] = [
            (["1", "0"], "ERR wrong number of arguments for 'waitaof' command"),
            (["x", "0", "0"], "ERR value is not an integer or out of range"),
            (["2", "0", "0"], "ERR value is out of range, must be between 0 and 1"),
            (["-1", "0", "0"], "ERR value is out of range, must be between 0 and 1"),
            (["0", "x", "0"], "ERR value is not an integer or out of range"),
            (["0", "-1", "0"], "ERR value is out of range, must be positive"),
            (["0", "1", "x"], "ERR timeout is not an integer or out of range"),
            (["0", "1", "-1"], "ERR timeout is negative"),
            (["1", "0", "0"], "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."),
        ]
        for (words, error) in rows { #expect(try answer(client, ["WAITAOF"] + words) == "-\(error)\r\n") }
    }
}
