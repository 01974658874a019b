// Every command's reply on the wire, on both event loop backends, from a real kvd.

import Foundation
import KVBase
import KVTestTraits
import Testing

/// io_uring may be forbidden where the tests run (most container runtimes); then only epoll is tested, and that is
/// said.
let backends: [String] = {
    let probe = try? KVDProcess(backend: "io_uring")
    if probe != nil { return ["io_uring", "epoll"] }
    print("io_uring is not available here: testing epoll only")
    return ["epoll"]
}()

@Suite(.blocking) struct CommandTests {
    @Test(arguments: backends) func everyCommandAnswersOnTheWire(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        /// Request, and how its reply begins.
        let exchanges: [(String, String)] = [
            ("SET a 1", "+OK\r\n"), ("PUT b 2", "+OK\r\n"), ("GET a", "$1\r\n1\r\n"), ("GET none", "$-1\r\n"),
            ("MSET c 3 d 4", "+OK\r\n"), ("MGET a none d", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n4\r\n"),
            ("EXISTS a b x", ":2\r\n"),
            ("STRLEN a", ":1\r\n"), ("DBSIZE", ":4\r\n"), ("LIST", "*8\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n"),
            ("LIST a LIMIT 1", "*2\r\n"), ("LIST AFTER c", "*2\r\n$1\r\nd\r\n"), ("KEYS *", "*4\r\n"),
            ("KEYS a*", "*1\r\n$1\r\na\r\n"),
            ("SCAN 0 COUNT 100", "*2\r\n$1\r\n0\r\n*4\r\n"), ("SCAN 0 MATCH b*", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nb\r\n"),
            ("DEL a x", ":1\r\n"), ("DELETE b", ":1\r\n"), ("UNLINK c", ":1\r\n"), ("PING", "+PONG\r\n"),
            ("PING x", "$1\r\nx\r\n"),
            ("ECHO x", "$1\r\nx\r\n"), ("TIME", "*2\r\n$10\r\n"), ("SELECT 0", "+OK\r\n"), ("CLIENT ID", ":"),
            ("CLIENT SETNAME n", "+OK\r\n"), ("CLIENT GETNAME", "$1\r\nn\r\n"),
            ("CLIENT SETINFO LIB-NAME l", "+OK\r\n"),
            ("CLIENT INFO", "$"), ("CLIENT LIST", "$"), ("CLIENT NO-EVICT on", "+OK\r\n"), ("COMMAND COUNT", ":"),
            ("COMMAND", "*"),
            ("COMMAND DOCS get", "*2\r\n$3\r\nget\r\n"), ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
            ("INFO", "$"),
            ("INFO server", "$"), ("AUTH x", "-ERR AUTH <password> called without"), ("KVD PUT k v", ":"),
            ("KVD VERSION k", "*2\r\n:"),
            ("DEL k", ":1\r\n"), ("KVD VERSION k", "*3\r\n:"), ("KVD DIGEST", "$16\r\n"), ("KVD DIGEST ALL", "$16\r\n"),
            ("KVD PEERS", "*0\r\n"), ("HELLO", "*14\r\n"), ("HELLO 3", "%7\r\n"), ("GET none", "_\r\n"),
            ("LIST", "%1\r\n"),
            ("RESET", "+RESET\r\n"), ("GET none", "$-1\r\n"),
            ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
            ("foo bar", "-ERR unknown command 'foo', with args beginning with: 'bar' \r\n"), ("QUIT", "+OK\r\n"),
        ]
        for (request, reply) in exchanges {
            let got = String(
                decoding: try client.call(request.split(separator: " ").map { Bytes(String($0)) }), as: UTF8.self)
            #expect(got.hasPrefix(reply), "\(request) answered \(got)")
        }
        #expect(try client.rest() == "", "QUIT closes")
        let info = try server.connect().command("INFO", "server")
        #expect(info.contains("io_backend:\(backend)\r\n") && info.contains("tcp_port:\(server.clientPort)\r\n"))
        let id = try #require(server.description.firstMatch(of: /"id":"([0-9a-f]{16})"/)?.1)
        #expect(info.contains("server_id:\(id)\r\n"))
    }

    @Test(arguments: backends) func everyActorServesOnItsPortAndOnTheSharedOne(_ backend: String) throws {
        let shared = FreePorts.take(1)
        let server = try KVDProcess(arguments: ["--shared-port", "\(shared)"], actors: 3, backend: backend)
        for actor in 1...3 {
            #expect(try server.connect(actor).command("INFO", "server").contains("tcp_port:\(server.port + actor)\r\n"))
            #expect(server.description.contains("\"127.0.0.1:\(server.port + actor)\""))
        }
        #expect(server.description.contains("\"address\":\"127.0.0.1:\(server.port)\""))
        // The kernel spreads connections over the listeners by hash: with 64 of them nearly surely over more than one.
        let clients = try (0..<64).map { _ in try Client(port: shared) }
        let ports = try clients.map { try $0.command("INFO", "server") }.compactMap {
            $0.firstMatch(of: /tcp_port:(\d+)/)?.1
        }
        #expect(ports.count == 64 && Set(ports).count > 1)
    }

    @Test(arguments: backends) func largeValuesTravelWhole(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        var random = PRNG(seed: 7)
        for size in [0, 1, 255, 256, 65_535, 4_000_003] {
            let value = Bytes((0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) })
            #expect(try client.call(["SET", "k", value]) == Array("+OK\r\n".utf8))
            let expected = Array("$\(size)\r\n".utf8) + value.array + [13, 10]
            try client.send(Client.encode(["GET", "k"]))
            #expect(try client.bytes(expected.count) == expected, "\(size) bytes")
        }
    }

    @Test(arguments: backends) func aLongListingArrivesInOrder(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        let n = 30_000
        var load: [UInt8] = []
        for k in 0..<n { load += Client.encode(["SET", Bytes("key:\(100_000 + k)"), Bytes("v\(k)")]) }
        try client.send(load)
        for _ in 0..<n { _ = try client.bytes(5) }
        let parts = String(decoding: try client.call(["LIST", "key:"]), as: UTF8.self).split(separator: "\r\n")
        #expect(parts[0] == "*\(n * 2)" && parts.count == n * 4 + 1)
        let wrong = (0..<n).first { (k: Int) -> Bool in
            let (key, value) = ("key:\(100_000 + k)", "v\(k)")
            return parts[2 + k * 4] != key || parts[4 + k * 4] != value
        }
        #expect(wrong == nil)
        #expect(try client.command("KEYS", "*9999").hasPrefix("*3\r\n"))
        let (other, started) = (try server.connect(), Clock.millis())
        try client.send(Client.encode(["LIST"]))
        #expect(try other.command("PING") == "+PONG\r\n", "others are served meanwhile")
        #expect(Clock.millis() - started < 2000)
    }
}
