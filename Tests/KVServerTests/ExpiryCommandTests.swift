// Deadlines and counters as clients see them, in process; the clock is the tests'.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct ExpiryCommandTests {
    private func withSession(_ body: (LocalSession) throws -> Void) rethrows {
        let session = LocalSession(now: 1_700_000_000_000)
        defer { session.close() }
        try body(session)
    }

    @Test func aValueIsShownUntilItsDeadline() {
        withSession { s in
            s.expect("SET k v EX 10", "+OK")
            s.expect("TTL k", ":10")
            s.expect("PTTL k", ":10000")
            s.expect("EXPIRETIME k", ":1700000010")
            s.expect("PEXPIRETIME k", ":1700000010000")
            s.now += 9_999
            s.expect("GET k", "$1\r\nv")
            s.expect("PTTL k", ":1")
            s.now += 1
            for (request, reply) in [
                ("GET k", "$-1"), ("MGET k", "*1\r\n$-1"), ("EXISTS k", ":0"), ("TTL k", ":-2"), ("STRLEN k", ":0"),
                ("TYPE k", "+none"), ("KEYS *", "*0"), ("LIST", "*0"), ("DEL k", ":0"), ("GETEX k", "$-1"),
                ("PERSIST k", ":0"), ("EXPIRE k 100", ":0"), ("SET k w XX", "$-1"), ("RENAME k l", "-ERR no such key"),
                ("SCAN 0", "*2\r\n$1\r\n0\r\n*0"), ("RANDOMKEY", "$-1"), ("OBJECT ENCODING k", "$-1"),
            ] { s.expect(request, reply) }
            s.expect("SET k w NX", "+OK")
            s.expect("TTL k", ":-1")
        }
    }

    @Test func writesSetKeepAndTakeDeadlines() {
        withSession { s in
            s.expect("SETEX k 100 v", "+OK")
            s.expect("SET k w KEEPTTL", "+OK")
            s.expect("TTL k", ":100")
            s.expect("INCR n", ":1")
            s.expect("EXPIRE n 50", ":1")
            s.expect("INCRBY n 9", ":10")
            s.expect("TTL n", ":50")
            s.expect("SET n 5", "+OK")
            s.expect("TTL n", ":-1")
            s.expect("PSETEX n 1500 7", "+OK")
            s.expect("TTL n", ":2")
            s.expect("PERSIST n", ":1")
            s.expect("PERSIST n", ":0")
            s.expect("GETEX k PX 2500", "$1\r\nw")
            s.expect("PTTL k", ":2500")
            s.expect("GETEX k", "$1\r\nw")
            s.expect("PTTL k", ":2500")
            s.expect("GETEX k PERSIST", "$1\r\nw")
            s.expect("PTTL k", ":-1")
            s.expect("SET k x GET EXAT 1700000030", "$1\r\nw")
            s.expect("RENAME k l", "+OK")
            s.expect("TTL l", ":30")
            s.expect("COPY l m", ":1")
            s.expect("TTL m", ":30")
            s.expect("GETSET m y", "$1\r\nx")
            s.expect("TTL m", ":-1")
            s.expect("SET m z PXAT 1", "+OK")
            s.expect("GET m", "$-1")
            #expect(
                s.command("KVD", "VERSION", "l").contains("*4\r\n$8\r\ndeadline\r\n:1700000030000\r\n$16\r\ndeadline_v")
            )
            #expect(s.command("INFO", "keyspace").contains("db0:keys=2,expires=1,avg_ttl=30000"))
        }
    }

    @Test func conditionsOfExpireAreThoseOfRedis() {
        withSession { s in
            s.expect("EXPIRE none 10", ":0")
            s.expect("SET k v", "+OK")
            for (options, reply, after) in [
                ("100 XX", 0, -1), ("100 GT", 0, -1), ("100 LT", 1, 100), ("200 LT", 0, 100), ("50 GT", 0, 100),
                ("200 GT", 1, 200), ("300 NX", 0, 200), ("300 XX", 1, 300), ("400 XX GT", 1, 400), ("50 xx lt", 1, 50),
            ] {
                s.expect("EXPIRE k \(options)", ":\(reply)")
                s.expect("TTL k", ":\(after)")
            }
            s.expect("EXPIRE k 5 WHAT", "-ERR Unsupported option WHAT")
            s.expect("EXPIRE k 5 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible")
            s.expect("EXPIRE k 5 GT LT", "-ERR GT and LT options at the same time are not compatible")
            s.expect("PEXPIREAT k 1", ":1")
            s.expect("GET k", "$-1")
        }
    }

    @Test func wrongTimesAreRefused() {
        withSession { s in
            s.expect("SET k v", "+OK")
            for time in ["0", "-1", "9223372036854775807", "9223372036854775", "251702300800"] {
                s.expect("SET k w EX \(time)", "-ERR invalid expire time in 'set' command")
                s.expect("SETEX k \(time) w", "-ERR invalid expire time in 'setex' command")
                s.expect("GETEX k EX \(time)", "-ERR invalid expire time in 'getex' command")
            }
            for time in ["9223372036854775807", "9223372036854775", "251702300800", "-9223372036854775807"] {
                s.expect("EXPIRE k \(time)", "-ERR invalid expire time in 'expire' command")
            }
            s.expect("PEXPIREAT k 253402300800000", "-ERR invalid expire time in 'pexpireat' command")
            s.expect("PEXPIREAT k 253402300799999", ":1")
            s.expect("PEXPIRETIME k", ":253402300799999")
            for request in ["SET k w EX x", "EXPIRE k x", "SETEX k x w", "GETEX k PX 1.5"] {
                s.expect(request, "-ERR value is not an integer or out of range")
            }
            for options in ["EX", "EX 1 PX 1", "EX 1 KEEPTTL", "KEEPTTL PX 1", "NX XX", "IFEQ a NX", "EX 1 EXAT 1"] {
                s.expect("SET k w \(options)", "-ERR syntax error")
            }
            for options in ["EX", "EX 1 PX 1", "KEEPTTL", "NX", "PERSIST EX 1", "EX 1 PERSIST"] {
                s.expect("GETEX k \(options)", "-ERR syntax error")
            }
            s.expect("GET k", "$1\r\nv")
        }
    }

    @Test func countersAreThoseOfRedis() {
        withSession { s in
            s.expect("DECR n", ":-1")
            s.expect("INCRBY n 9223372036854775807", ":9223372036854775806")
            s.expect("INCR n", ":9223372036854775807")
            s.expect("INCR n", "-ERR increment or decrement would overflow")
            s.expect("DECRBY n -1", "-ERR increment or decrement would overflow")
            s.expect("DECRBY n -9223372036854775808", "-ERR decrement would overflow")
            s.expect("INCRBY n x", "-ERR value is not an integer or out of range")
            s.expect("GET n", "$19\r\n9223372036854775807")
            s.expect("SET t 3.5", "+OK")
            s.expect("INCR t", "-ERR value is not an integer or out of range")
            s.expect("INCR", "-ERR wrong number of arguments for 'incr' command")
        }
    }

    @Test func deadlinesTravelWithTheRecordsToTheirHomes() {
        let homes = LocalHomes(actors: 3, now: 1_700_000_000_000)
        let clients = (1...3).map { homes.client(of: $0) }
        defer {
            for client in clients { client.close(shardToo: false) }
            homes.close()
        }
        let key = homes.keys(of: 3)[0]
        clients[0].expect("SET \(key) 5", "+OK")
        // Set apart, at the client's own actor.
        clients[0].expect("EXPIRE \(key) 100", ":1")
        clients[0].expect("INCR \(key)", ":6")
        clients[0].expect("TTL \(key)", ":100")
        clients[1].expect("EXPIRE \(key) 50 LT", ":1")
        clients[2].expect("TTL \(key)", ":50")
        clients[2].expect("GETEX \(key) PERSIST", "$1\r\n6")
        clients[1].expect("GETEX \(key) EX 70", "$1\r\n6")
        clients[2].expect("WATCH \(key)", "+OK")
        clients[1].expect("PERSIST \(key)", ":1")
        clients[2].expect("MULTI", "+OK")
        clients[2].expect("TTL \(key)", "+QUEUED")
        clients[2].expect("EXEC", "*-1")
        clients[2].expect("TTL \(key)", ":-1")
    }

    @Test func aWatchedKeyThatExpiresStopsTheTransaction() {
        withSession { s in
            s.expect("SET k v PX 100", "+OK")
            s.expect("WATCH k", "+OK")
            s.now += 100
            s.expect("MULTI", "+OK")
            s.expect("PING", "+QUEUED")
            s.expect("EXEC", "*-1")
        }
    }

    @Test func aFlushSparesNoDeadline() {
        withSession { s in
            for k in 0..<500 { _ = s.command("SET", "k\(k)", "v", "EX", "\(k + 1)") }
            s.now += 100_000
            s.expect("FLUSHALL", "+OK")
            s.expect("KEYS *", "*0")
            s.now -= 100_000
            s.expect("EXISTS k200", ":0")
        }
    }
}
