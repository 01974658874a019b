// A server with and without memory made ready beside its loops: the same replies, and without it nothing of it runs.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct MemoryTests {
    private static let keys = 100_000
    private static let keysAtOnce = 10_000

    private func key(_ i: Int) -> Bytes { Bytes("key:\(i)") }

    /// Names of the process's threads.
    private func threads(of server: KVDProcess) throws -> [String] {
        let folder = "/proc/\(server.process.processIdentifier)/task"
        return try FileManager.default.contentsOfDirectory(atPath: folder).map {
            try String(contentsOfFile: "\(folder)/\($0)/comm", encoding: .utf8).trimmingCharacters(in: .newlines)
        }
    }

    private func figure(_ name: String, of client: Client) throws -> String? {
        let info = try client.command("INFO", "memory")
        return info.split(separator: "\r\n").first { $0.hasPrefix("\(name):") }.map {
            String($0.dropFirst(name.count + 1))
        }
    }

    /// Grows, stores and answers a large value, forgets all of it, and grows again in what was freed.
    private func use(_ client: Client) throws {
        let large = Bytes([UInt8](repeating: 76, count: 20 << 20))
        for round in 0..<2 {
            for first in stride(from: 0, to: MemoryTests.keys, by: MemoryTests.keysAtOnce) {
                let range = first..<first + MemoryTests.keysAtOnce
                try client.send(range.flatMap { Client.encode(["SET", key($0), Bytes("value \($0) of \(round)")]) })
                #expect(try client.bytes(range.count * 5).elementsEqual(range.flatMap { _ in Array("+OK\r\n".utf8) }))
            }
            #expect(try client.command("DBSIZE") == ":\(MemoryTests.keys)\r\n")
            #expect(String(decoding: try client.call(["SET", "large", large]), as: UTF8.self) == "+OK\r\n")
            #expect(try client.call(["GET", "large"]) == Array("$\(large.count)\r\n".utf8) + large.array + [13, 10])
            #expect(
                String(decoding: try client.call(["GET", key(77)]), as: UTF8.self).contains("value 77 of \(round)"))
            for first in stride(from: 0, to: MemoryTests.keys, by: MemoryTests.keysAtOnce) {
                let gone = try client.call(["DEL", "large"] + (first..<first + MemoryTests.keysAtOnce).map { key($0) })
                let count = MemoryTests.keysAtOnce + (first == 0 ? 1 : 0)
                #expect(String(decoding: gone, as: UTF8.self) == ":\(count)\r\n")
            }
        }
    }

    private func text(_ client: Client, _ words: [Bytes]) throws -> String {
        String(decoding: try client.call(words), as: UTF8.self)
    }

    /// What a client sends is the client's matter: it is told, and the server goes on. With a limit of its own by
    /// `ulimit -v`, and where that is left out.
    @Test(arguments: backends, [[], ["--maxmemory", "0"]])
    func aRequestForWhichThereIsNoMemoryEndsItsClientOnly(_ backend: String, _ more: [String]) throws {
        let server = try KVDProcess(
            arguments: ["--io", backend, "--warm-memory", "no"] + more, before: "ulimit -v 500000")
        let client = try server.connect()
        let value = Bytes([UInt8](repeating: 76, count: 1 << 20))
        var reply = "+OK\r\n"
        var stored = 0
        while reply == "+OK\r\n", stored < 500 {
            reply = try text(client, ["SET", key(stored), value])
            stored += 1
        }
        #expect(reply.hasPrefix("-OOM "), "\(reply)")
        // Several, so that together they want more than writes leave free.
        let start = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n".utf8)
        var hungry: [Client] = []
        for _ in 0..<4 {
            hungry.append(try server.connect())
            // It may be closed meanwhile.
            try? hungry.last!.send(start + [UInt8](repeating: 7, count: 60 << 20))
        }
        #expect(try client.command("PING") == "+PONG\r\n")
        #expect(try client.command("INFO", "stats").contains("client_query_buffer_limit_disconnections:0") == false)
        #expect(server.process.isRunning)
    }

    /// While little is left writes are refused; reads and deletes go on, and writes when there is memory again.
    @Test(.waitingLimit) func aServerAtTheEndOfItsMemoryRefusesWrites() throws {
        let server = try KVDProcess(
            arguments: ["--warm-memory", "no", "--maxmemory", "0"], before: "ulimit -v 800000")
        let client = try server.connect()
        let value = Bytes([UInt8](repeating: 76, count: 1 << 20))
        var (stored, reply) = (0, "+OK\r\n")
        while reply == "+OK\r\n", stored < 1000 {
            reply = try text(client, ["SET", key(stored), value])
            if reply == "+OK\r\n" { stored += 1 }
        }
        #expect(reply.hasPrefix("-OOM this server can have no more memory"), "\(reply)")
        #expect(stored > 100)
        for write: [Bytes] in [["SET", "small", "v"], ["MSET", "small", "v"], ["KVD", "PUT", "small", "v"]] {
            #expect(try text(client, write).hasPrefix("-OOM "), "\(write[0])")
        }
        #expect(try client.command("GET", "small") == "$-1\r\n")
        #expect(try text(client, ["STRLEN", key(0)]) == ":1048576\r\n")
        #expect(try client.call(["GET", key(stored - 1)]).count == (1 << 20) + 12)
        #expect(try client.command("PING") == "+PONG\r\n")
        let deleted = try text(client, ["DEL"] + (0..<stored - 20).map { key($0) })
        #expect(deleted == ":\(stored - 20)\r\n")
        // What was deleted goes when nothing under way refers to it any more.
        let deadline = Date().addingTimeInterval(60)
        repeat { reply = try text(client, ["SET", "small", value]) } while reply != "+OK\r\n" && Date() < deadline
        #expect(reply == "+OK\r\n")
        #expect(server.process.isRunning)
    }

    @Test(arguments: backends) func aServerRunsWithoutMemoryMadeReady(_ backend: String) throws {
        let server = try KVDProcess(arguments: ["--warm-memory", "no"], backend: backend)
        let client = try server.connect()
        try use(client)
        #expect(!(try threads(of: server)).contains("kvd-warmer"))
        #expect(try figure("fresh_pages_ready", of: client) == "0")
        #expect(try figure("fresh_pages_late", of: client) == "0")
    }

    /// The other side: with it, in a build that has jemalloc, the thread is there and pages are counted.
    @Test func aServerMakesMemoryReadyUnlessTold() async throws {
        let server = try KVDProcess()
        let client = try server.connect()
        guard try figure("mem_allocator", of: client) == "jemalloc" else { return }
        try use(client)
        #expect(try threads(of: server).contains("kvd-warmer"))
        // INFO is a tenth of a second old: polls until a deadline.
        let deadline = Clock.millis() + 5000
        var ready = 0
        while ready == 0, Clock.millis() < deadline {
            ready = Int(try figure("fresh_pages_ready", of: client) ?? "") ?? 0
            _ = poll(nil, 0, 10)
        }
        #expect(ready > 0)
    }
}
