// The sixteen databases and what empties them, in process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct DatabaseTests {
    private func withSession(_ body: (LocalSession) throws -> Void) rethrows {
        let session = LocalSession()
        defer { session.close() }
        try body(session)
    }

    @Test func databasesKeepKeysApart() {
        withSession { s in
            s.expect("SET k 0", "+OK")
            s.expect("SELECT 1", "+OK")
            s.expect("GET k", "$-1")
            s.expect("SET k 1", "+OK")
            s.expect("MSET a x b y", "+OK")
            s.expect("DBSIZE", ":3")
            s.expect("KEYS *", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nk")
            s.expect("KEYS k", "*1\r\n$1\r\nk")
            s.expect("LIST a", "*2\r\n$1\r\na\r\n$1\r\nx")
            s.expect("LIST AFTER a LIMIT 1", "*2\r\n$1\r\nb\r\n$1\r\ny")
            s.expect("SCAN 0", "*2\r\n$1\r\n0\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nk")
            s.expect("EXISTS a k none", ":2")
            s.expect("DEL a none", ":1")
            s.expect("STRLEN b", ":1")
            #expect(s.command("KVD", "VERSION", "k").hasPrefix("*2\r\n"))
            s.expect("SELECT 15", "+OK")
            s.expect("DBSIZE", ":0")
            s.expect("RANDOMKEY", "$-1")
            s.expect("KVD PUT k z", ":1000000")
            s.expect("GET k", "$1\r\nz")
            #expect(
                s.command("INFO", "keyspace").contains(
                    "db0:keys=1,expires=0,avg_ttl=0\r\ndb1:keys=2,expires=0,avg_ttl=0\r\ndb15:keys=1,"))
            #expect(s.command("CLIENT", "INFO").contains(" db=15 "))
            s.expect("RESET", "+RESET")
            s.expect("GET k", "$1\r\n0")
            s.expect("DBSIZE", ":1")
            s.expect("LIST", "*2\r\n$1\r\nk\r\n$1\r\n0")
        }
    }

    /// The commands behind SELECT are parsed before it has run.
    @Test func selectTakesEffectWithinAPipeline() {
        withSession { s in
            let text = "SET k 0\r\nSELECT 2\r\nGET k\r\nSET k 2\r\nSELECT 0\r\nGET k\r\nSELECT 2\r\nGET k\r\n"
            let reply = String(decoding: s.reply(to: Array(text.utf8)), as: UTF8.self)
            #expect(reply == "+OK\r\n+OK\r\n$-1\r\n+OK\r\n+OK\r\n$1\r\n0\r\n+OK\r\n$1\r\n2\r\n")
        }
    }

    /// A session that adds keys runs its commands in steps of sixteen: SELECT and MULTI end one.
    @Test func whatChangesTheWayEndsAStep() {
        withSession { s in
            for place in 0..<40 {
                var text = "FLUSHALL\r\nSET first:\(place) v\r\n"
                for k in 0..<place { text += "SET \(place):\(k) v\r\n" }
                text += "MULTI\r\n" + String(repeating: "SET k v\r\n", count: 20) + "DISCARD\r\nSELECT 1\r\nSET k v\r\n"
                _ = s.reply(to: Array("SET warm:\(place) v\r\n".utf8))
                let reply = String(decoding: s.reply(to: Array(text.utf8)), as: UTF8.self)
                #expect(reply.split(separator: "\r\n").count { $0 == "+QUEUED" } == 20, "MULTI at \(place)")
                s.expect("DBSIZE", ":1")
                s.expect("SELECT 0", "+OK")
            }
        }
    }

    @Test func keysThatBeginWithTheMarkAreKeysOfDatabaseZero() {
        withSession { s in
            let keys = [
                [], [0xFE], [0xFF], [0xFF, 0], [0xFF, 1], [0xFF, 1, 107], [0xFF, 0xFF], [0xFF, 0xFF, 0xFF],
            ]
            .map { Bytes($0) }
            for key in keys { #expect(s.run(["SET", key, key]) == "+OK\r\n") }
            s.expect("SELECT 1", "+OK")
            s.expect("SET k 1", "+OK")
            s.expect("DBSIZE", ":1")
            s.expect("SELECT 0", "+OK")
            s.expect("DBSIZE", ":\(keys.count)")
            for (request, step) in [(["LIST"], 2), (["KEYS", "*"], 1)] as [([Bytes], Int)] {
                var expected = OutputBuffer()
                defer { expected.deallocate() }
                expected.arrayHeader(keys.count * step)
                for key in keys { for _ in 0..<step { expected.bulk(key) } }
                var bytes = OutputBuffer()
                defer { bytes.deallocate() }
                bytes.request(request)
                #expect(s.reply(to: Array(bytes.bytes)) == Array(expected.bytes), "\(request)")
            }
            for key in keys {
                #expect(s.run(["STRLEN", key]) == ":\(key.count)\r\n")
                #expect(s.run(["DEL", key]) == ":1\r\n")
            }
            s.expect("DBSIZE", ":0")
        }
    }

    @Test func aLongestKeyFitsIntoEveryDatabase() {
        withSession { s in
            for database in [0, 9] {
                s.expect("SELECT \(database)", "+OK")
                for first in [UInt8(107), 0xFF] {
                    let longest = Bytes([first] + [UInt8](repeating: 1, count: Limits.keyBytesMax - 1))
                    let longer = Bytes(longest.array + [1])
                    #expect(s.run(["SET", longest, "v"]) == "+OK\r\n")
                    #expect(s.run(["GET", longest]) == "$1\r\nv\r\n")
                    for request in [["SET", longer, "v"], ["GET", longer], ["DEL", "a", longer], ["TYPE", longer]] {
                        #expect(s.run(request) == "-ERR key is too long: the limit is 65536 bytes\r\n")
                    }
                    let many = ["EXISTS", longer] + (0..<1100).map { Bytes("k\($0)") }
                    #expect(s.run(many) == "-ERR key is too long: the limit is 65536 bytes\r\n")
                }
                s.expect("DBSIZE", ":2")
            }
        }
    }

    @Test func longAndLargeCommandsRunInTheirDatabase() {
        withSession { s in
            s.expect("SELECT 3", "+OK")
            let keys = (0..<2000).map { Bytes("k\($0)") }
            #expect(s.run(["MSET"] + keys.flatMap { [$0, $0] }) == "+OK\r\n")
            #expect(s.run(["EXISTS"] + keys) == ":2000\r\n")
            #expect(s.run(["MGET"] + keys).hasPrefix("*2000\r\n$2\r\nk0\r\n$2\r\nk1\r\n"))
            let large = Bytes([UInt8](repeating: 7, count: 3 * LargeSet.valueBytesMin))
            #expect(s.run(["SET", "large", large]) == "+OK\r\n")
            s.expect("STRLEN large", ":\(large.count)")
            s.expect("SELECT 0", "+OK")
            s.expect("DBSIZE", ":0")
            s.expect("EXISTS large", ":0")
            s.expect("SELECT 3", "+OK")
            #expect(s.run(["DEL"] + keys) == ":2000\r\n")
            s.expect("DBSIZE", ":1")
        }
    }

    /// Against a plain model: sizes, listings and scans of every database after random writes.
    @Test func databasesAgreeWithAModel() {
        withSession { s in
            var random = PRNG(seed: 19)
            var model = [[Bytes: Bytes]](repeating: [:], count: Keyspace.count)
            for step in 0..<4000 {
                let number = [0, 0, 0, 1, 2, 15][random.below(6)]
                s.expect("SELECT \(number)", "+OK")
                let key = Bytes((0..<random.below(4)).map { _ in [0, 1, 97, 0xFE, 0xFF][random.below(5)] })
                switch random.below(12) {
                case 0...6:
                    #expect(s.run(["SET", key, Bytes("v\(step)")]) == "+OK\r\n")
                    model[number][key] = Bytes("v\(step)")
                case 7...10:
                    let was = model[number].removeValue(forKey: key) != nil
                    #expect(s.run(["DEL", key]) == ":\(was ? 1 : 0)\r\n")
                default:
                    guard random.below(40) == 0 else { continue }
                    s.expect("FLUSHDB", "+OK")
                    model[number] = [:]
                }
                guard step % 50 == 0 else { continue }
                for (number, pairs) in model.enumerated() { compare(s, number, pairs) }
            }
            s.expect("FLUSHALL", "+OK")
            for number in 0..<Keyspace.count { compare(s, number, [:]) }
        }
    }

    private func compare(_ s: LocalSession, _ number: Int, _ pairs: [Bytes: Bytes]) {
        s.expect("SELECT \(number)", "+OK")
        s.expect("DBSIZE", ":\(pairs.count)")
        var expected = OutputBuffer()
        defer { expected.deallocate() }
        expected.arrayHeader(pairs.count * 2)
        for key in pairs.keys.sorted() {
            expected.bulk(key)
            expected.bulk(pairs[key]!)
        }
        #expect(s.reply(to: Array("LIST\r\n".utf8)) == Array(expected.bytes), "database \(number)")
        var (cursor, found) = ("0", 0)
        repeat {
            let reply = s.command("SCAN", cursor, "COUNT", "3").components("\r\n")
            cursor = reply[2]
            found += Int(reply[3].dropFirst())!
        } while cursor != "0"
        #expect(found == pairs.count, "SCAN of database \(number)")
    }
}

@Suite(.blocking) struct FlushTests {
    @Test func aFlushIsCutIntoSlicesAndSparesWhatIsWrittenMeanwhile() {
        let s = LocalSession()
        defer { s.close() }
        for first in stride(from: 0, to: 60_000, by: 500) {
            _ = s.run(["MSET"] + (first..<first + 500).flatMap { [Bytes("k\($0)"), "v"] })
        }
        s.expect("SELECT 1", "+OK")
        s.expect("SET other v", "+OK")
        let session = Session(shard: s.shard)
        var output = OutputBuffer()
        defer {
            session.close()
            output.deallocate()
        }
        s.shard.state.pointee.budget = TurnBudget()
        var status = Array("FLUSHDB\r\nGET k1\r\n".utf8).withUnsafeBytes {
            session.receive($0, output: &output, unsent: 0)
        }
        var turns = 0
        s.expect("SELECT 0", "+OK")
        while status == .ready {
            if turns == 1 { s.expect("SET zz:\(turns) v", "+OK") }
            s.shard.state.pointee.budget = TurnBudget()
            status = session.takeTurn(output: &output, unsent: -output.count)
            turns += 1
            #expect(output.count == 0 || status == .idle, "the reply comes when all is done")
        }
        #expect(String(decoding: output.bytes, as: UTF8.self) == "+OK\r\n$-1\r\n")
        #expect(turns > 10, "it took \(turns) turns")
        s.expect("KEYS *", "*1\r\n$4\r\nzz:1")
        s.expect("SELECT 1", "+OK")
        s.expect("GET other", "$1\r\nv")
        s.expect("FLUSHALL", "+OK")
        s.expect("DBSIZE", ":0")
    }

    @Test func asyncAnswersAtOnceAndTheClientSeesAnEmptyDatabase() {
        let s = LocalSession()
        defer { s.close() }
        for k in 0..<3000 { _ = s.command("SET", "k\(k)", "v") }
        let reply = s.reply(to: Array("FLUSHDB ASYNC\r\nDBSIZE\r\nflushall sync\r\nFLUSHALL NOW\r\n".utf8))
        #expect(String(decoding: reply, as: UTF8.self) == "+OK\r\n:0\r\n+OK\r\n-ERR syntax error\r\n")
        s.expect("FLUSHDB ASYNC SYNC", "-ERR syntax error")
        s.expect("KVD DIGEST", "$16\r\n0000000000000000")
    }
}

@Suite(.blocking) struct ObjectCommandTests {
    @Test func keysAreAskedAbout() {
        let s = LocalSession()
        defer { s.close() }
        s.expect("MSET n 12345 t text e ", "+OK")
        s.expect("SET long \(String(repeating: "x", count: 45))", "+OK")
        s.expect("TYPE n", "+string")
        s.expect("TYPE none", "+none")
        s.expect("TOUCH n t none n", ":3")
        s.expect("OBJECT ENCODING n", "$3\r\nint")
        s.expect("object encoding t", "$6\r\nembstr")
        s.expect("OBJECT ENCODING e", "$6\r\nembstr")
        s.expect("OBJECT ENCODING long", "$3\r\nraw")
        s.expect("OBJECT ENCODING none", "$-1")
        s.expect("OBJECT FREQ none", "$-1")
        s.expect("OBJECT IDLETIME n", ":0")
        s.expect("OBJECT REFCOUNT n", ":1")
        #expect(s.command("OBJECT", "FREQ", "n").hasPrefix("-ERR An LFU maxmemory policy is not selected, access freq"))
        s.expect("OBJECT ENCODING", "-ERR wrong number of arguments for 'object|encoding' command")
        s.expect("OBJECT foo n", "-ERR unknown subcommand 'foo'. Try OBJECT HELP.")
        s.expect("OBJECT", "-ERR wrong number of arguments for 'object' command")
        s.expect("MEMORY USAGE none", "$-1")
        s.expect("MEMORY USAGE n SAMPLES", "-ERR syntax error")
        s.expect("MEMORY USAGE n SAMPLES -1", "-ERR syntax error")
        s.expect("MEMORY USAGE n SAMPLES x", "-ERR value is not an integer or out of range")
        s.expect("MEMORY USAGE", "-ERR wrong number of arguments for 'memory|usage' command")
        s.expect("MEMORY FOO", "-ERR unknown subcommand 'FOO'. Try MEMORY HELP.")
        #expect(Int(s.command("MEMORY", "USAGE", "long").dropFirst().dropLast())! >= 64)
    }

    @Test func rangesAreThoseOfRedis() {
        let s = LocalSession()
        defer { s.close() }
        s.expect("SET k 0123456789", "+OK")
        for (first, last, part) in [
            (0, -1, "0123456789"), (2, 4, "234"), (-3, -1, "789"), (-3, -5, ""), (5, 2, ""), (-100, 2, "012"),
            (7, 100, "789"), (100, 200, ""), (0, 0, "0"), (-1, 0, ""), (0, -100, "0"),
        ] {
            s.expect("GETRANGE k \(first) \(last)", "$\(part.count)\r\n\(part)")
            s.expect("SUBSTR k \(first) \(last)", "$\(part.count)\r\n\(part)")
        }
        s.expect("GETRANGE none 0 -1", "$0\r\n")
        s.expect("GETRANGE none x -1", "-ERR value is not an integer or out of range")
    }

    @Test func randomKeysAreOfTheDatabaseAndAllComeUp() {
        let s = LocalSession()
        defer { s.close() }
        for number in [0, 7] {
            s.expect("SELECT \(number)", "+OK")
            for k in 0..<1500 { _ = s.command("SET", "\(number):\(k)", "v") }
        }
        for number in [7, 0] {
            s.expect("SELECT \(number)", "+OK")
            var seen: Set<String> = []
            for _ in 0..<20_000 {
                let key = s.command("RANDOMKEY").components("\r\n")[1]
                #expect(key.hasPrefix("\(number):"))
                seen.insert(key)
            }
            #expect(seen.count > 1450, "\(seen.count) of 1500 keys of database \(number)")
        }
    }

    @Test func refusedCommandsNameThePage() {
        let s = LocalSession()
        defer { s.close() }
        for name in ["APPEND", "setrange", "LPUSH", "HSET", "ZADD", "XADD", "EVAL", "SWAPDB", "MOVE", "INCRBYFLOAT"] {
            s.expect(
                "\(name) a b",
                "-ERR '\(name.lowercased())' is refused: docs/data-model.md, section 5, says why")
        }
    }

    @Test func commandTellsWhatRedisTells() {
        let s = LocalSession()
        defer { s.close() }
        s.expect(
            "COMMAND INFO object|help",
            "*1\r\n*10\r\n$11\r\nobject|help\r\n:2\r\n*2\r\n+loading\r\n+stale\r\n:0\r\n:0\r\n:0\r\n"
                + "*2\r\n+@keyspace\r\n+@slow\r\n*0\r\n*0\r\n*0")
        s.expect("COMMAND LIST FILTERBY ACLCAT dangerous FOO", "-ERR syntax error")
        s.expect("COMMAND LIST FILTERBY MODULE none", "*0")
        s.expect("COMMAND LIST FILTERBY ACLCAT none", "*0")
        s.expect("COMMAND LIST FILTERBY PATTERN flush*", "*2\r\n$7\r\nflushdb\r\n$8\r\nflushall")
        #expect(s.command("COMMAND", "LIST", "FILTERBY", "ACLCAT", "dangerous").contains("flushall\r\n"))
        s.expect("COMMAND GETKEYS OBJECT ENCODING a", "*1\r\n$1\r\na")
        s.expect("COMMAND GETKEYSANDFLAGS GET a", "*1\r\n*2\r\n$1\r\na\r\n*2\r\n+RO\r\n+access")
        s.expect("COMMAND GETKEYS PING", "-ERR The command has no key arguments")
        s.expect("COMMAND GETKEYS MGET", "-ERR Invalid number of arguments specified for command")
    }
}
