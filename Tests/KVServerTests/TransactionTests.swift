// MULTI, EXEC, DISCARD, WATCH and UNWATCH, at one actor and over several. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct TransactionTests {
    private func withClients(_ body: (LocalSession, LocalSession) -> Void) {
        let first = LocalSession()
        let second = LocalSession(shard: first.shard, now: first.now)
        defer {
            second.close(shardToo: false)
            first.close()
        }
        body(first, second)
    }

    @Test func commandsAreQueuedAndRunTogether() {
        withClients { s, other in
            s.expect("SET k 1", "+OK")
            s.expect("MULTI", "+OK")
            s.expect("GET k", "+QUEUED")
            s.expect("SET k 2", "+QUEUED")
            s.expect("get k", "+QUEUED")
            s.expect("SET k 3 NX", "+QUEUED")
            s.expect("GETRANGE k x 1", "+QUEUED")
            s.expect("DEL k none", "+QUEUED")
            #expect(s.command("CLIENT", "INFO") == "+QUEUED\r\n")
            other.expect("GET k", "$1\r\n1")
            let reply = s.command("EXEC")
            #expect(
                reply.hasPrefix(
                    "*7\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n$-1\r\n-ERR value is not an integer or out of range\r\n:1\r\n$")
            )
            #expect(reply.contains("id=1 addr=local"))
            other.expect("GET k", "$-1")
            s.expect("MULTI", "+OK")
            s.expect("EXEC", "*0")
        }
    }

    @Test func errorsAreThoseOfRedis() {
        withClients { s, _ in
            s.expect("EXEC", "-ERR EXEC without MULTI")
            s.expect("DISCARD", "-ERR DISCARD without MULTI")
            s.expect("MULTI", "+OK")
            s.expect("MULTI", "-ERR MULTI calls can not be nested")
            s.expect("WATCH k", "-ERR WATCH inside MULTI is not allowed")
            s.expect("SET k 1", "+QUEUED")
            s.expect("EXEC", "*1\r\n+OK")
            for wrong in ["SET k", "NOSUCH", "APPEND k v", "WATCH"] {
                s.expect("MULTI", "+OK")
                s.expect("SET k 2", "+QUEUED")
                #expect(s.command(wrong.split(separator: " ").map(String.init)).hasPrefix("-ERR "))
                s.expect("SET k 3", "+QUEUED")
                s.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.")
            }
            s.expect("GET k", "$1\r\n1")
            s.expect("MULTI", "+OK")
            s.expect("SET k 2", "+QUEUED")
            s.expect("DISCARD", "+OK")
            s.expect("GET k", "$1\r\n1")
            s.expect("MULTI", "+OK")
            s.expect("RESET", "+RESET")
            s.expect("EXEC", "-ERR EXEC without MULTI")
        }
    }

    @Test func aWatchedKeyThatChangedStopsTheTransaction() {
        withClients { s, other in
            s.expect("SET k 1", "+OK")
            func attempt(_ reply: String, _ between: () -> Void) {
                s.expect("WATCH k none", "+OK")
                between()
                s.expect("MULTI", "+OK")
                s.expect("PING", "+QUEUED")
                s.expect("EXEC", reply)
            }
            attempt("*1\r\n+PONG") {}
            attempt("*1\r\n+PONG") { other.expect("SET x 1", "+OK") }
            attempt("*-1") { other.expect("SET k 1", "+OK") }
            attempt("*-1") { s.expect("SET k 1", "+OK") }
            attempt("*-1") { other.expect("SET none 1", "+OK") }
            attempt("*-1") { other.expect("DEL none", ":1") }
            attempt("*1\r\n+PONG") { other.expect("DEL none", ":0") }
            attempt("*-1") { other.expect("FLUSHALL", "+OK") }
            attempt("*1\r\n+PONG") { s.expect("UNWATCH", "+OK") }
            attempt("*-1") {
                other.expect("SET none 1", "+OK")
                other.expect("DEL none", ":1")
            }
            attempt("*1\r\n+PONG") {
                other.expect("SET k 5", "+OK")
                s.expect("UNWATCH", "+OK")
            }
            // DISCARD and EXEC forget what was watched.
            s.expect("WATCH k", "+OK")
            s.expect("MULTI", "+OK")
            s.expect("DISCARD", "+OK")
            other.expect("SET k 6", "+OK")
            attempt("*1\r\n+PONG") {}
        }
    }

    @Test func whatConcernsTheConnectionStaysBehindIt() {
        withClients { s, _ in
            let text = """
                MULTI\r\nSELECT 3\r\nSET k 3\r\nCLIENT SETNAME me\r\nCLIENT ID\r\nHELLO 3\r\nGET none\r\nEXEC\r\n\
                GET k\r\nCLIENT GETNAME\r\nGET none\r\nSELECT 0\r\nGET k\r\n
                """
            let reply = String(decoding: s.reply(to: Array(text.utf8)), as: UTF8.self)
            #expect(reply.contains("+QUEUED\r\n*6\r\n+OK\r\n+OK\r\n+OK\r\n:1\r\n%7\r\n"), "\(reply)")
            #expect(reply.hasSuffix("_\r\n$1\r\n3\r\n$2\r\nme\r\n_\r\n+OK\r\n_\r\n"), "\(reply)")
        }
    }

    @Test func longCommandsRunToTheirEndInATransaction() {
        withClients { s, _ in
            let keys = (0..<3000).map { Bytes("k\($0)") }
            s.expect("MULTI", "+OK")
            #expect(s.run(["MSET"] + keys.flatMap { [$0, $0] }) == "+QUEUED\r\n")
            s.expect("KEYS *", "+QUEUED")
            #expect(s.run(["SET", "large", Bytes([UInt8](repeating: 1, count: 400_000))]) == "+QUEUED\r\n")
            s.expect("GET large", "+QUEUED")
            #expect(s.run(["DEL"] + keys) == "+QUEUED\r\n")
            s.expect("FLUSHALL", "+QUEUED")
            s.expect("DBSIZE", "+QUEUED")
            let reply = s.command("EXEC")
            #expect(reply.hasPrefix("*7\r\n+OK\r\n*3000\r\n$2\r\nk0\r\n"))
            #expect(reply.hasSuffix("\r\n:3000\r\n+OK\r\n:0\r\n") && reply.utf8.count > 400_000)
        }
    }

    @Test func aTransactionRunsAtTheHomeOfItsFirstKey() {
        let homes = LocalHomes(actors: 3)
        let clients = (1...3).map { homes.client(of: $0) }
        defer {
            for client in clients { client.close(shardToo: false) }
            homes.close()
        }
        let (a, b) = (homes.keys(of: 2)[0], homes.keys(of: 3)[0])
        clients[2].expect("SET \(b) old", "+OK")
        clients[0].expect("MULTI", "+OK")
        clients[0].expect("SET \(a) 1", "+QUEUED")
        clients[0].expect("GETSET \(b) 2", "+QUEUED")
        clients[0].expect("GET \(a)", "+QUEUED")
        // The other key's record was fetched from its home.
        clients[0].expect("EXEC", "*3\r\n+OK\r\n$3\r\nold\r\n$1\r\n1")
        clients[0].expect("MGET \(a) \(b)", "*2\r\n$1\r\n1\r\n$1\r\n2")
        clients[1].expect("MGET \(a) \(b)", "*2\r\n$1\r\n1\r\n$1\r\n2")
        // What only the home has seen stops it.
        clients[0].expect("WATCH \(a)", "+OK")
        clients[1].expect("SET \(a) 9", "+OK")
        clients[0].expect("MULTI", "+OK")
        clients[0].expect("SET \(a) 3", "+QUEUED")
        clients[0].expect("EXEC", "*-1")
        clients[0].expect("GET \(a)", "$1\r\n9")
        // Own writes of before that the home has not seen do not.
        clients[0].expect("SET \(a) 4", "+OK")
        clients[0].expect("WATCH \(a)", "+OK")
        clients[0].expect("MULTI", "+OK")
        clients[0].expect("GET \(a)", "+QUEUED")
        clients[0].expect("EXEC", "*1\r\n$1\r\n4")
        // What empties a database does so where the client looks.
        clients[0].expect("MULTI", "+OK")
        clients[0].expect("FLUSHALL", "+QUEUED")
        clients[0].expect("SET \(b) 5", "+QUEUED")
        clients[0].expect("DBSIZE", "+QUEUED")
        clients[0].expect("EXEC", "*3\r\n+OK\r\n+OK\r\n:1")
        clients[0].expect("KEYS *", "*1\r\n$\(b.count)\r\n\(b)")
    }
}

extension LocalSession {
    fileprivate func command(_ words: [String]) -> String { run(words.map { Bytes($0) }) }
}
