// Limits and places of a real server: its memory beside another server's, and a socket in the file system. Processes.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct LimitProcessTests {
    private func text(_ client: Client, _ words: [Bytes]) throws -> String {
        String(decoding: try client.call(words), as: UTF8.self)
    }

    private func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Clock.millis() + 30_000
        while Clock.millis() < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 50)
        }
        return false
    }

    /// A server above its limit takes no writes of clients, and all of its peers': else the two would differ.
    @Test(.waitingLimit) func aServerAtItsLimitStaysEqualToOthers() throws {
        let first = try KVDProcess(arguments: ["--maxmemory", "150mb"])
        let second = try KVDProcess(arguments: ["--join", "127.0.0.1:\(first.port)"])
        let (client, other) = (try first.connect(), try second.connect())
        let value = Bytes([UInt8](repeating: 76, count: 1 << 20))
        var (stored, reply) = (0, "+OK\r\n")
        while reply == "+OK\r\n", stored < 1000 {
            reply = try text(client, ["SET", Bytes("key:\(stored)"), value])
            if reply == "+OK\r\n" { stored += 1 }
        }
        #expect(reply == "-OOM command not allowed when used memory > 'maxmemory'.\r\n")
        #expect(stored > 50 && stored < 160, "\(stored)")
        for i in 0..<40 { #expect(try text(other, ["SET", Bytes("other:\(i)"), value]) == "+OK\r\n") }
        let all = ":\(stored + 40)\r\n"
        #expect(try eventually { try client.command("DBSIZE") == all && other.command("DBSIZE") == all })
        #expect(try client.command("KVD", "DIGEST") == other.command("KVD", "DIGEST"))
        #expect(try text(client, ["GET", "other:39"]).utf8.count == (1 << 20) + 12)
        #expect(try text(client, ["SET", "key:0", value]) == "+OK\r\n", "it is no larger")
        #expect(try text(client, ["SET", "small", "v"]).hasPrefix("-OOM"))
        #expect(try text(client, ["DEL"] + (0..<stored).map { Bytes("key:\($0)") }) == ":\(stored)\r\n")
        #expect(try eventually { try text(client, ["SET", "small", "v"]) == "+OK\r\n" })
        #expect(Int(try first.info("maxmemory_refused_writes") ?? "") ?? 0 >= 2)
    }

    @Test(arguments: ["io_uring", "epoll"]) func aSocketInTheFileSystem(backend: String) throws {
        guard let cli = Tool.path("redis-cli") else { return print("redis-cli is not installed: its test is skipped") }
        let path = NSTemporaryDirectory() + "kvd-\(UUID().uuidString).sock"
        let arguments = ["--unixsocket", path, "--unixsocketperm", "600"]
        let server = try KVDProcess(arguments: arguments, actors: 2, backend: backend)
        func run(_ words: String...) throws -> String {
            let ended = try Tool.run(cli, ["-s", path] + words)
            return (ended.output + ended.errors).trimmingCharacters(in: .newlines)
        }
        #expect(try run("SET", "k", "v") == "OK")
        #expect(try run("GET", "k") == "v")
        #expect(try run("CLIENT", "INFO").contains("addr=\(path):0 "))
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
        // Another server may not take it.
        func refusal(_ path: String) throws -> String {
            try KVDProcess.run(["--unixsocket", path, "--port", "\(FreePorts.take(2))", "--actors", "1"]).errors
        }
        #expect(try refusal(path).contains("--unixsocket \(path): another server listens on it"))
        // What a dead one left is replaced; a server that ends leaves nothing.
        _ = server.end(SIGKILL)
        #expect(stat(path, &status) == 0)
        let next = try KVDProcess(arguments: arguments, backend: backend)
        #expect(try run("PING") == "PONG")
        _ = next.end(SIGTERM)
        #expect(stat(path, &status) != 0)
        // No other file is touched.
        try "mine".write(toFile: path, atomically: true, encoding: .utf8)
        defer { unlink(path) }
        #expect(try refusal(path).contains("--unixsocket \(path): there is a file that is no socket"))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
    }
}
