// What must not go wrong with the commands of the data model, against the program: keys as long as they may be, a home
// that is busy.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct DataModelTests {
    /// K, L and M stand for keys.
    private static let commands = """
        GET K|SET K v|PUT K v|SET K v XX GET EX 100|SET K 5 IFEQ v|SETNX K v|GETSET K v|GETDEL K|MSETNX K v L v
        MSET K v L v|SETEX K 10 v|PSETEX K 10000 v|GETEX K EX 100|EXPIRE K 100|PEXPIRE K 100000
        EXPIREAT K 9999999999|PEXPIREAT K 9999999999000|EXPIRE K 100 LT|TTL K|PTTL K|EXPIRETIME K|PEXPIRETIME K
        PERSIST K|DELEX K IFEQ x|DELIFEQ K x|RENAME K L|COPY L K|RENAMENX L M|MGET K L M|STRLEN K|GETRANGE K 0 1
        TYPE K|TOUCH K|OBJECT ENCODING K|OBJECT IDLETIME K|MEMORY USAGE K|EXISTS K L|UNLINK K|DEL M|INCR K|DECR K
        INCRBY K 5|DECRBY K 5|WATCH K|UNWATCH|KVD PUT K v|KVD VERSION K|KVD RESTAMP K|DEL K L
        """.split(whereSeparator: { "|\n".contains($0) }).map { $0.split(separator: " ").map(String.init) }

    /// In each database, and with the first byte that is doubled there.
    @Test(arguments: [0, 15], [UInt8(ascii: "a"), 0xFF]) func eachCommandTakesTheLongestKeys(
        _ database: Int, _ byte: UInt8
    ) throws {
        let server = try KVDProcess(actors: 3)
        let client = try Client(port: server.port + 1)
        #expect(try client.command("SELECT", "\(database)") == "+OK\r\n")
        for count in [Limits.keyBytesMax, Limits.keyBytesMax + 1] {
            var key = [UInt8](repeating: byte, count: count)
            var keys: [String: Bytes] = [:]
            for (name, last) in [("K", 1), ("L", 2), ("M", 3)] as [(String, UInt8)] {
                key[count - 1] = last
                keys[name] = Bytes(key)
            }
            for words in Self.commands where count == Limits.keyBytesMax || words.contains("K") {
                let reply = String(decoding: try client.call(words.map { keys[$0] ?? Bytes($0) }), as: UTF8.self)
                if count == Limits.keyBytesMax {
                    #expect(!reply.hasPrefix("-"), "\(words): \(reply.prefix(80))")
                } else {
                    #expect(
                        reply == "-ERR key is too long: the limit is 65536 bytes\r\n", "\(words): \(reply.prefix(80))")
                }
            }
            // Within a transaction each is answered in its place.
            #expect(try client.command("MULTI") == "+OK\r\n")
            for words in [["SET", "K", "1"], ["INCR", "K"], ["GETDEL", "K"]] {
                #expect(try client.call(words.map { keys[$0] ?? Bytes($0) }) == Array("+QUEUED\r\n".utf8))
            }
            let long = "-ERR key is too long: the limit is 65536 bytes\r\n"
            let replies = count == Limits.keyBytesMax ? "+OK\r\n:2\r\n$1\r\n2\r\n" : long + long + long
            #expect(try client.command("EXEC") == "*3\r\n" + replies)
        }
        #expect(try client.command("PING") == "+PONG\r\n")
    }

    /// A transaction holds an actor up for seconds: who asks it is told so in time, in the order of the commands, and
    /// nothing that came behind was run.
    @Test(arguments: ["io_uring", "epoll"]) func aBusyHomeIsToldOfInOrder(_ backend: String) throws {
        let server = try KVDProcess(actors: 2, backend: backend)
        let (client, other) = (try Client(port: server.port + 1), try Client(port: server.port + 2))
        let names = (0..<20_000).map { Bytes("key:\($0)") }
        try other.send(names.flatMap { Client.encode(["SET", $0, "v"]) })
        for _ in names { _ = try other.reply() }
        let began = Date()
        for _ in 0..<10 { #expect(try other.command("KEYS", "*nothing") == "*0\r\n") }
        let one = Date().timeIntervalSince(began) / 10
        let count = max(10, Int(6 / one))
        // Without keys a transaction runs at the client's own actor.
        try other.send(
            Client.encode(["MULTI"]) + (0..<count).flatMap { _ in Client.encode(["KEYS", "*nothing"]) })
        for _ in 0...count { _ = try other.reply() }
        try other.send(Client.encode(["EXEC"]))
        let busy = "-BUSY the actor that runs this command is busy; it was not run, try again\r\n"
        var (counters, replies, waited) = ([Bytes](), [String](), 0.0)
        var round = 0
        // The transaction may not have begun yet.
        while !replies.contains(busy), round < 400 {
            round += 1
            counters = (0..<20).map { Bytes("counter:\(round):\($0)") }
            let asked = Date()
            try client.send(
                counters.flatMap { Client.encode(["INCR", $0]) } + Client.encode(["PING"])
                    + Client.encode(["GET", "none"]))
            replies = try counters.map { _ in String(decoding: try client.reply(), as: UTF8.self) }
            #expect(try client.reply() == Array("+PONG\r\n".utf8))
            #expect(try client.reply() == Array("$-1\r\n".utf8))
            waited = Date().timeIntervalSince(asked)
        }
        // Whose turn came before is counted; from there on nothing is.
        let counted = replies.prefix { $0 == ":1\r\n" }
        #expect(replies.dropFirst(counted.count).allSatisfy { $0 == busy }, "\(Set(replies))")
        #expect(replies.contains(busy), "\(Set(replies)), \(count) times \(one) s")
        #expect(waited > 0.9, "\(waited) s")
        #expect(try other.reply().prefix(3) == Array("*\(count)".utf8).prefix(3))
        // What was answered so was not run, and nothing else was lost.
        for (counter, reply) in zip(counters, replies) {
            #expect(try client.call(["INCR", counter]) == Array((reply == busy ? ":1\r\n" : ":2\r\n").utf8))
        }
    }
}
