// Every command's reply, in process. Error texts are those of Redis 7.0.15 where Redis has the case.

import FuzzSupport
import KVBase
import KVCore
import RESP
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct CommandTests {
    private func withSession(_ body: (LocalSession) throws -> Void) rethrows {
        let session = LocalSession()
        defer { session.close() }
        try body(session)
    }

    private func expect(
        _ session: LocalSession, _ request: String, _ reply: String, _ at: SourceLocation = #_sourceLocation
    ) {
        let parts = request.split(separator: " ", omittingEmptySubsequences: false).map { Bytes(String($0)) }
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(parts)
        let answer = String(decoding: session.reply(to: Array(bytes.bytes)), as: UTF8.self)
        #expect(answer == reply + "\r\n", "\(request)", sourceLocation: at)
    }

    @Test func stringsAreStoredReadAndDeleted() {
        withSession { s in
            expect(s, "GET a", "$-1")
            expect(s, "SET a 1", "+OK")
            expect(s, "get a", "$1\r\n1")
            expect(s, "PuT b 22", "+OK")
            expect(s, "GeT b", "$2\r\n22")
            expect(s, "SET a ", "+OK")
            expect(s, "GET a", "$0\r\n")
            expect(s, "STRLEN b", ":2")
            expect(s, "STRLEN none", ":0")
            expect(s, "MSET x 1 y 2 x 3", "+OK")
            expect(s, "MGET x none y", "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n2")
            expect(s, "EXISTS x y none x", ":3")
            expect(s, "DBSIZE", ":4")
            expect(s, "DEL x none x", ":1")
            expect(s, "DELETE y", ":1")
            expect(s, "UNLINK y", ":0")
            expect(s, "GET x", "$-1")
            expect(s, "DBSIZE", ":2")
        }
    }

    /// What the clock of this server would stamp, others would not take.
    @Test func aWriteThatOthersWouldRefuseIsAnsweredWithCLOCK() {
        withSession { s in
            expect(s, "MSET a 1 b 2", "+OK")
            s.shard.state.pointee.store.boundStamps(to: s.now - 1)
            let error = "-" + "\(ShardState.clockError)"
            for request in [
                "SET a 2", "SET a 2 EX 9", "SETNX new 1", "MSET a 2 b 3", "INCR a", "EXPIRE a 9", "DEL a b",
                "DEL a none", "GETDEL a", "GETEX a EX 9", "MSETNX new 1 other 2", "SETEX a 9 2", "GETSET a 2",
                "RENAME a other", "COPY a other", "DELEX a", "KVD PUT a 2", "UNLINK a",
            ] { expect(s, request, error) }
            expect(s, "DEL none", ":0")
            expect(s, "MGET a b new", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1")
            s.shard.state.pointee.store.boundStamps(to: s.now + 10)
            expect(s, "DEL a b", ":2")
        }
    }

    @Test func emptyKeysAreKeys() {
        withSession { s in
            expect(s, "SET  v", "+OK")
            expect(s, "GET ", "$1\r\nv")
            expect(s, "EXISTS ", ":1")
            expect(s, "LIST", "*2\r\n$0\r\n\r\n$1\r\nv")
            expect(s, "KEYS ", "*1\r\n$0\r\n")
            expect(s, "DEL ", ":1")
        }
    }

    @Test func wrongArityIsWordedAsInRedis() {
        withSession { s in
            for (request, name) in [
                ("GET", "get"), ("GET a b", "get"), ("SET a", "set"), ("PUT a", "put"), ("MGET", "mget"),
                ("MSET a", "mset"),
                ("MSET a b c", "mset"), ("DEL", "del"), ("DELETE", "delete"), ("UNLINK", "unlink"),
                ("EXISTS", "exists"),
                ("STRLEN", "strlen"), ("ECHO", "echo"), ("ECHO a b", "echo"), ("PING a b", "ping"),
                ("DBSIZE x", "dbsize"),
                ("KEYS", "keys"), ("KEYS a b", "keys"), ("SCAN", "scan"), ("SELECT", "select"), ("TIME x", "time"),
                ("CLIENT", "client"), ("CONFIG", "config"), ("CONFIG GET", "config|get"), ("CLIENT ID x", "client|id"),
                ("CLIENT SETNAME", "client|setname"), ("AUTH", "auth"), ("RESET x", "reset"), ("KVD", "kvd"),
                ("KVD PUT a", "kvd|put"), ("KVD VERSION", "kvd|version"), ("KVD RESTAMP", "kvd|restamp"),
                ("KVD FORGET", "kvd|forget"), ("KVD FORGET a b", "kvd|forget"),
                ("KVD DIGEST a b", "kvd|digest"),
                ("KVD PEERS x", "kvd|peers"), ("CLIENT NO-EVICT", "client|no-evict"),
                ("COMMAND COUNT x", "command|count"),
            ] {
                expect(s, request, "-ERR wrong number of arguments for '\(name)' command")
            }
        }
    }

    @Test func unknownCommandsAndOptionsAreWordedAsInRedis() {
        withSession { s in
            expect(s, "foo bar baz", "-ERR unknown command 'foo', with args beginning with: 'bar' 'baz' ")
            expect(s, "foo", "-ERR unknown command 'foo', with args beginning with: ")
            expect(s, " x", "-ERR unknown command '', with args beginning with: 'x' ")
            let long = String(repeating: "a", count: 200)
            expect(
                s, "\(long) \(long) b",
                "-ERR unknown command '\(long.prefix(128))', with args beginning with: '\(long.prefix(128))' ")
            expect(s, "SET a b WHAT 1", "-ERR syntax error")
            expect(s, "CLIENT foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.")
            expect(s, "CONFIG foo x", "-ERR unknown subcommand 'foo'. Try CONFIG HELP.")
            expect(s, "COMMAND foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP.")
            expect(s, "KVD foo", "-ERR unknown subcommand 'foo'. Try KVD HELP.")
            expect(s, "SELECT 16", "-ERR DB index is out of range")
            expect(s, "SELECT -1", "-ERR DB index is out of range")
            expect(s, "SELECT x", "-ERR value is not an integer or out of range")
            let beyond = "-ERR value is out of range, value must between -2147483648 and 2147483647"
            expect(s, "SELECT 2147483647", "-ERR DB index is out of range")
            expect(s, "SELECT 2147483648", beyond)
            expect(s, "SELECT -2147483649", beyond)
            expect(s, "COPY a b DB 2147483648", beyond)
            expect(s, "COPY a b DB 16", "-ERR DB index is out of range")
            expect(s, "SCAN x", "-ERR invalid cursor")
            expect(s, "SCAN 0 COUNT 0", "-ERR syntax error")
            expect(s, "SCAN 0 COUNT x", "-ERR value is not an integer or out of range")
            expect(s, "SCAN 0 MATCH", "-ERR syntax error")
            expect(s, "SCAN 0 FOO bar", "-ERR syntax error")
            expect(s, "LIST a LIMIT x", "-ERR value is not an integer or out of range")
            expect(s, "LIST a FOO x", "-ERR syntax error")
            expect(s, "CONFIG SET a b", "-ERR Unknown option or number of arguments for CONFIG SET - 'a'")
            expect(
                s, "AUTH x",
                "-ERR AUTH <password> called without any password configured for the default user. "
                    + "Are you sure your configuration is correct?")
            expect(s, "AUTH a b", "-WRONGPASS invalid username-password pair or user is disabled.")
            expect(s, "AUTH default b", "+OK")
        }
    }

    @Test func connectionCommandsAnswer() {
        withSession { s in
            expect(s, "PING", "+PONG")
            expect(s, "PING hi", "$2\r\nhi")
            expect(s, "ECHO hi", "$2\r\nhi")
            expect(s, "SELECT 0", "+OK")
            expect(s, "CLIENT ID", ":1")
            expect(s, "CLIENT GETNAME", "$-1")
            expect(s, "CLIENT SETNAME me", "+OK")
            expect(s, "CLIENT GETNAME", "$2\r\nme")
            expect(s, "CLIENT SETINFO LIB-NAME lib", "+OK")
            expect(s, "CLIENT SETINFO lib-ver 1.0", "+OK")
            expect(s, "CLIENT SETINFO what 1.0", "-ERR Unrecognized option 'what'")
            expect(s, "CLIENT NO-EVICT on", "+OK")
            expect(s, "CLIENT NO-EVICT maybe", "-ERR syntax error")
            expect(s, "CLIENT NO-TOUCH off", "+OK")
            let line = s.command("CLIENT", "LIST")
            #expect(
                line.contains("id=1 addr=local") && line.contains("name=me")
                    && line.contains("lib-name=lib lib-ver=1.0"))
            #expect(s.command("CLIENT", "SETNAME", "a b").hasPrefix("-ERR Client names cannot contain spaces"))
            expect(s, "RESET", "+RESET")
            expect(s, "CLIENT GETNAME", "$-1")
            #expect(!s.isClosed)
            expect(s, "QUIT", "+OK")
            #expect(s.isClosed)
        }
    }

    @Test func helloSwitchesTheProtocol() {
        withSession { s in
            #expect(s.command("HELLO").hasPrefix("*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n"))
            #expect(s.command("HELLO", "3", "SETNAME", "n").hasPrefix("%7\r\n"))
            expect(s, "CLIENT GETNAME", "$1\r\nn")
            expect(s, "GET none", "_")
            expect(s, "SET k v", "+OK")
            expect(s, "LIST", "%1\r\n$1\r\nk\r\n$1\r\nv")
            expect(s, "CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n")
            expect(s, "KVD VERSION none", "_")
            #expect(s.command("INFO", "keyspace").hasPrefix("="))
            expect(s, "HELLO 4", "-NOPROTO unsupported protocol version")
            expect(s, "HELLO x", "-ERR Protocol version is not an integer or out of range")
            expect(s, "HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'")
            expect(s, "HELLO 2 AUTH a b SETNAME c", "-WRONGPASS invalid username-password pair or user is disabled.")
            #expect(s.command("HELLO", "2").hasPrefix("*14\r\n"))
            expect(s, "GET none", "$-1")
        }
    }

    @Test func aProtocolSwitchTakesEffectForTheNextCommandOfThePipeline() {
        withSession { s in
            let reply = String(
                decoding: s.reply(to: Array("GET a\r\nHELLO 3\r\nGET a\r\nRESET\r\nGET a\r\n".utf8)), as: UTF8.self)
            #expect(reply.hasPrefix("$-1\r\n%7\r\n") && reply.hasSuffix("*0\r\n_\r\n+RESET\r\n$-1\r\n"), "\(reply)")
        }
    }

    @Test func listIsInByteOrderWithPrefixLimitAndAfter() {
        withSession { s in
            for key in ["b", "a", "ab", "aa", "LIMIT", "c"] { expect(s, "SET \(key) v\(key)", "+OK") }
            func keys(_ request: String...) -> [String] {
                var bytes = OutputBuffer()
                defer { bytes.deallocate() }
                bytes.request(request.map { Bytes($0) })
                let parts = String(decoding: s.reply(to: Array(bytes.bytes)), as: UTF8.self).components("\r\n")
                return stride(from: 2, to: parts.count, by: 4).map { parts[$0] }
            }
            #expect(keys("LIST") == ["LIMIT", "a", "aa", "ab", "b", "c"])
            #expect(keys("LIST", "a") == ["a", "aa", "ab"])
            #expect(keys("LIST", "a", "LIMIT", "2") == ["a", "aa"])
            #expect(keys("LIST", "a", "AFTER", "aa") == ["ab"])
            #expect(keys("LIST", "AFTER", "ab", "LIMIT", "1") == ["b"])
            #expect(keys("LIST", "LIMIT", "2") == ["LIMIT", "a"])
            #expect(keys("LIST", "LIMIT") == ["LIMIT"])
            #expect(keys("list", "zz") == [])
            #expect(keys("LIST", "a", "LIMIT", "0") == [])
            expect(s, "DEL aa", ":1")
            #expect(keys("LIST", "a") == ["a", "ab"])
        }
    }

    @Test func clientReplyTakesRepliesBack() {
        withSession { s in
            func run(_ text: String) -> String { String(decoding: s.reply(to: Array(text.utf8)), as: UTF8.self) }
            #expect(run("CLIENT REPLY MAYBE\r\n") == "-ERR syntax error\r\n")
            #expect(run("PING\r\nCLIENT REPLY OFF\r\nPING\r\nSET k v\r\nNOSUCH\r\nGET k\r\n") == "+PONG\r\n")
            #expect(run("PING\r\n") == "")
            #expect(run("GET k\r\nCLIENT REPLY SKIP\r\nGET k\r\nCLIENT REPLY ON\r\nGET k\r\n") == "+OK\r\n$1\r\nv\r\n")
            #expect(run("CLIENT REPLY SKIP\r\nGET k\r\nPING\r\n") == "+PONG\r\n")
            #expect(run("CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nGET k\r\nPING\r\n") == "+PONG\r\n")
            #expect(run("CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING\r\n") == "+OK\r\n+PONG\r\n")
            #expect(run("CLIENT REPLY SKIP\r\n") + run("GE") + run("T k\r\nPI") + run("NG\r\n") == "+PONG\r\n")
            // Commands in slices, and a protocol error, which is answered.
            for k in 0..<1000 { _ = s.command("SET", "key\(k)", "v") }
            #expect(run("CLIENT REPLY SKIP\r\nKEYS *\r\nPING\r\n") == "+PONG\r\n")
            let keys = (0..<2000).map { "key\($0)" }.joined(separator: " ")
            #expect(run("CLIENT REPLY SKIP\r\nEXISTS \(keys)\r\nPING\r\n") == "+PONG\r\n")
            #expect(run("CLIENT REPLY OFF\r\nMGET \(keys)\r\nPING\r\nRESET\r\nPING\r\n") == "+RESET\r\n+PONG\r\n")
            #expect(run("CLIENT REPLY OFF\r\nPING\r\n*x\r\n").hasPrefix("-ERR Protocol error"))
        }
    }

    @Test func clientLinesHaveTheFieldsOfRedis() {
        withSession { s in
            let fields = [
                "id", "addr", "laddr", "fd", "name", "age", "idle", "flags", "db", "sub", "psub", "ssub", "multi",
                "qbuf",
                "qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl", "oll", "omem", "tot-mem", "events", "cmd",
                "user", "redir", "resp", "lib-name", "lib-ver",
            ]
            for sub in ["INFO", "LIST"] {
                let line = s.command("CLIENT", sub).components("\r\n")[1]
                let words = line.split(separator: " ").map {
                    $0.split(separator: "=", omittingEmptySubsequences: false)
                }
                #expect(words.map { String($0[0]) } == fields)
                #expect(line.contains(" cmd=client|\(sub.lowercased()) "))
                // *2 $6 CLIENT $4 INFO, as it came.
                #expect(line.contains(" qbuf=26 ") && line.contains(" argv-mem=10 "), "\(line)")
            }
            _ = s.command("DBSIZE")
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            _ = s.reply(to: Array("*2\r\n$3\r\nGET".utf8))
            let first = other.command("CLIENT", "LIST").components("\r\n")[1].split(separator: "\n")[0]
            #expect(first.contains(" cmd=dbsize ") && first.contains(" qbuf=11 "), "\(first)")
        }
    }

    @Test func infoHasTheSectionsOfRedis() {
        withSession { s in
            for _ in 0..<3 { _ = s.command("GET", "k") }
            for _ in 0..<2 { _ = s.command("SET", "k", "v") }
            _ = s.command("SET", "k", "v", "NX", "WHAT")
            _ = s.command("EXISTS", "k")
            _ = s.command("GET")
            _ = s.command("NOSUCH")
            _ = s.command("SET", "k", String(repeating: "v", count: 300_000))
            func sections(_ name: String...) -> [Substring] {
                s.reply(to: Array(("INFO " + name.joined(separator: " ") + "\r\n").utf8)).split(separator: 10)
                    .map { Substring(decoding: $0.dropLast(), as: UTF8.self) }
            }
            for name in ["all", "everything"] {
                let lines = sections(name)
                for section in [
                    "Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules",
                    "Commandstats",
                    "Errorstats", "Latencystats", "Cluster", "Keyspace",
                ] { #expect(lines.contains("# \(section)"), "\(name): \(section)") }
                #expect(lines.contains { $0.hasPrefix("master_repl_offset:") } && lines.contains("cluster_enabled:0"))
                for (calls, end) in [
                    ("get:calls=3,usec=", ",rejected_calls=1,failed_calls=0"),
                    ("set:calls=4,usec=", ",rejected_calls=0,failed_calls=1"),
                    ("exists:calls=1,usec=", ",rejected_calls=0,failed_calls=0"),
                ] {
                    #expect(lines.contains { $0.hasPrefix("cmdstat_\(calls)") && $0.hasSuffix(end) }, "\(calls)")
                }
                #expect(lines.contains("errorstat_ERR:count=3"))
            }
            #expect(!sections("default").contains("# Commandstats") && sections("default").contains("# Cluster"))
            #expect(sections("commandstats").first { $0.hasPrefix("#") } == "# Commandstats")
            expect(s, "CONFIG RESETSTAT", "+OK")
            #expect(!sections("all").contains { $0.hasPrefix("cmdstat_get") || $0.hasPrefix("errorstat_") })
        }
    }

    @Test func keysAndScanFindWhatMatches() {
        withSession { s in
            for k in 0..<100 { expect(s, "SET user:\(k) v", "+OK") }
            for k in 0..<50 { expect(s, "SET other\(k) v", "+OK") }
            #expect(s.command("KEYS", "user:*").hasPrefix("*100\r\n"))
            #expect(s.command("KEYS", "user:?").hasPrefix("*10\r\n"))
            #expect(s.command("KEYS", "*1").hasPrefix("*15\r\n"))
            expect(s, "KEYS user:7", "*1\r\n$6\r\nuser:7")
            expect(s, "KEYS user:x", "*0")
            #expect(s.command("KEYS", "*").hasPrefix("*150\r\n"))
            for (options, count) in [
                ([], 150), (["MATCH", "user:*"], 100), (["MATCH", "*1", "COUNT", "7"], 15),
                (["MATCH", "user:?", "COUNT", "3"], 10),
                (["COUNT", "1000"], 150), (["TYPE", "string"], 150), (["TYPE", "hash"], 0), (["MATCH", "none*"], 0),
            ] as [([String], Int)] {
                #expect(scan(s, options).count == count, "\(options)")
            }
        }
    }

    private func scan(_ s: LocalSession, _ options: [String]) -> Set<String> {
        var found: Set<String> = []
        var cursor = "0"
        repeat {
            var bytes = OutputBuffer()
            defer { bytes.deallocate() }
            bytes.request((["SCAN", cursor] + options).map { Bytes($0) })
            let parts = String(decoding: s.reply(to: Array(bytes.bytes)), as: UTF8.self).components("\r\n")
            cursor = parts[2]
            for k in stride(from: 5, to: parts.count, by: 2) { found.insert(parts[k]) }
        } while cursor != "0"
        return found
    }

    @Test func scanSurvivesTheDeathOfTheKeyItsCursorNames() {
        withSession { s in
            for k in 10..<60 { expect(s, "SET user:\(k) v", "+OK") }
            let first = s.command("SCAN", "0", "MATCH", "user:*", "COUNT", "10").components("\r\n")
            let last = first[first.count - 1]
            expect(s, "DEL \(last)", ":1")
            let second = s.command("SCAN", first[2], "MATCH", "user:*", "COUNT", "10").components("\r\n")
            #expect(second[5] == "user:20", "\(second)")
            // A cursor that names nothing begins again instead of losing keys.
            #expect(s.command("SCAN", "4503599627370497", "MATCH", "user:*", "COUNT", "1").contains("user:10"))
        }
    }

    @Test func kvdCommandsTellAndSetVersions() {
        withSession { s in
            let uid = s.shard.context.uid(1).description
            expect(s, "KVD VERSION k", "*-1")
            expect(s, "KVD PUT k v", ":1000000")
            expect(s, "KVD VERSION k", "*2\r\n:1000000\r\n$21\r\n\(uid)")
            expect(s, "KVD PUT k w FLOOR 2000000", ":2000001")
            expect(s, "SET k x", "+OK")
            expect(s, "KVD VERSION k", "*2\r\n:2000001\r\n$21\r\n\(uid)")
            expect(s, "KVD PUT k w FLOOR 1000", ":2000001")
            expect(s, "KVD PUT k w FLOOR 999999999999", "-ERR FLOOR is more than a day in the future")
            expect(s, "KVD PUT k w FLOOR x", "-ERR value is not an integer or out of range")
            expect(s, "KVD PUT k w BAR 1", "-ERR syntax error")
            expect(s, "DEL k", ":1")
            expect(s, "KVD VERSION k", "*3\r\n:2000001\r\n$21\r\n\(uid)\r\n$9\r\ntombstone")
            expect(s, "KVD DIGEST", "$16\r\n0000000000000000")
            #expect(s.command("KVD", "DIGEST", "ALL") != "$16\r\n0000000000000000\r\n")
            expect(s, "KVD DIGEST x", "-ERR syntax error")
            expect(s, "KVD PEERS", "*0")
            expect(s, "SET k v", "+OK")
            #expect(s.command("KVD", "DIGEST") == s.command("kvd", "digest", "all"))
        }
    }

    /// What it does: `BadMemberTests.anInventedMemberIsForgottenAtAnOperatorsWord`.
    @Test func kvdForgetTakesTheIdOfAMember() {
        withSession { s in
            for word in ["x", "-1", "123456789abcdef01"] {
                expect(s, "KVD FORGET \(word)", "-ERR an id is 16 hex digits, as KVD PEERS shows it")
            }
            expect(s, "KVD FORGET 123456789abcdef0", ":0")
        }
    }

    @Test func kvdRestampBringsAKeyBackUnderTheClock() {
        withSession { s in
            let uid = s.shard.context.uid(1).description
            expect(s, "KVD RESTAMP none", ":0")
            expect(
                s, "KVD RESTAMP \(String(repeating: "k", count: 65_537))",
                "-ERR key is too long: the limit is 65536 bytes")
            s.now += 60_001
            expect(s, "SET k v", "+OK")
            s.now = 1_000_001
            expect(s, "KVD RESTAMP k", ":0")
            s.now = 1_000_000
            expect(s, "KVD RESTAMP k", ":1")
            expect(s, "KVD RESTAMP k", ":0")
            expect(s, "KVD VERSION k", "*3\r\n:1000000\r\n$21\r\n\(uid)\r\n*2\r\n$9\r\nrestamped\r\n:1")
            expect(s, "GET k", "$1\r\nv")
            expect(s, "KVD PUT k w FLOOR 1000007", ":1000008")
            s.now += 60_009
            expect(s, "SET k x", "+OK")
            s.now = 1_000_000
            expect(s, "KVD RESTAMP k", "-ERR the key was restamped before, and is ahead of the clock again")
            expect(s, "DEL k", ":1")
            s.now = 2_000_000
            expect(s, "SET late v", "+OK")
            s.now = 1_000_000
            s.shard.state.pointee.store.boundStamps(to: s.now - 1)
            expect(s, "KVD RESTAMP late", "-" + "\(ShardState.clockError)")
            expect(s, "KVD VERSION k", "*3\r\n:1060009\r\n$21\r\n\(uid)\r\n$9\r\ntombstone")
        }
    }

    @Test func commandDescribesEveryCommand() {
        withSession { s in
            let rows = CommandTable.standard.rows
            expect(s, "COMMAND COUNT", ":\(rows.count)")
            #expect(s.command("COMMAND").hasPrefix("*\(rows.count)\r\n*10\r\n$3\r\nget\r\n:2\r\n"))
            #expect(s.command("COMMAND", "DOCS").hasPrefix("*\(rows.count * 2)\r\n"))
            #expect(s.command("COMMAND", "DOCS", "get", "nosuch").hasPrefix("*2\r\n$3\r\nget\r\n*8\r\n"))
            #expect(s.command("COMMAND", "INFO", "nosuch") == "*1\r\n*-1\r\n")
            #expect(s.command("COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2") == "*2\r\n$1\r\na\r\n$1\r\nb\r\n")
            for row in rows {
                #expect(s.command("COMMAND", "INFO", row.nameText).hasPrefix("*1\r\n*10\r\n"), "\(row.nameText)")
            }
        }
    }

    @Test func configGetAnswersWhatToolsAsk() {
        withSession { s in
            expect(s, "CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n")
            expect(s, "CONFIG GET appendonly", "*2\r\n$10\r\nappendonly\r\n$2\r\nno")
            expect(s, "CONFIG GET SAVE port", "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$4\r\nport\r\n$4\r\n6000")
            expect(s, "CONFIG GET nosuch", "*0")
            #expect(s.command("CONFIG", "GET", "max*").contains("maxclients"))
        }
    }

    @Test func infoHasTheFieldsThatAreRead() {
        withSession { s in
            expect(s, "SET k v", "+OK")
            let all = s.command("INFO")
            for field in [
                "kvd_version:", "redis_version:7", "server_id:", "io_backend:", "actors:1", "tcp_port:6001",
                "uptime_in_seconds:",
                "connected_clients:", "used_memory:", "used_memory_rss:", "db0:keys=1,", "total_commands_processed:1",
                "total_connections_received:1", "instantaneous_ops_per_sec:", "messages_sent_actor:",
                "messages_sent_external:",
                "replies_sent:", "bytes_sent:", "remote_bytes_received:", "max_message_rate:", "servers:1",
                "max_turn_micros:", "max_turn_work:other\r\n", "max_turn_cpu_micros:", "max_turn_cpu_work:other\r\n",
                "turns_over_1ms:0\r\n", "fresh_pages_ready:0\r\nfresh_pages_late:0\r\n",
            ] {
                #expect(all.contains("\r\n\(field)"), "\(field)")
            }
            for section in ["Server", "Clients", "Memory", "Stats", "Replication", "Actors", "Keyspace"] {
                #expect(all.contains("# \(section)\r\n"))
                #expect(s.command("INFO", section.lowercased()).contains("# \(section)\r\n"))
            }
            #expect(!s.command("INFO", "clients").contains("# Server"))
            #expect(s.command("INFO", "clients", "server").contains("# Server"))
            expect(s, "INFO nosuch", "$0\r\n")
        }
    }

    @Test func countersBeginAgainAfterConfigResetstat() {
        withSession { s in
            expect(s, "SET k v", "+OK")
            expect(s, "GET k", "$1\r\nv")
            expect(s, "CONFIG RESETSTAT", "+OK")
            let stats = s.command("INFO", "stats")
            #expect(stats.contains("keyspace_hits:0\r\n"))
            #expect(stats.contains("total_connections_received:0\r\n"))
            #expect(stats.contains("max_turn_micros:0\r\n"))
            #expect(stats.contains("max_turn_cpu_micros:0\r\n"))
            expect(s, "GET k", "$1\r\nv")
            #expect(s.command("INFO", "stats").contains("keyspace_hits:1\r\n"))
        }
    }
}

extension String {
    func components(_ separator: String) -> [String] {
        var parts: [String] = []
        var rest = Substring(self)
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        if !rest.isEmpty { parts.append(String(rest)) }
        return parts
    }
}
