// What an operator asks: slow commands, latencies, memory, clients, pauses, settings that change. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct OperationTests {
    private func withSession(_ body: (LocalSession) throws -> Void) rethrows {
        let session = LocalSession()
        defer { session.close() }
        try body(session)
    }

    private func lines(_ s: LocalSession, _ words: String...) -> [String] {
        s.run(words.map { Bytes($0) }).components("\r\n").map { String($0) }
    }

    // MARK: SLOWLOG

    @Test func theSlowLogKeepsWhatTookLong() {
        withSession { s in
            s.expect("SLOWLOG LEN", ":0")
            s.expect("SLOWLOG GET", "*0")
            s.expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
            s.expect("SLOWLOG RESET", "+OK")
            s.expect("SET key value", "+OK")
            s.expect("GET key", "$5\r\nvalue")
            s.expect("SLOWLOG LEN", ":3")
            let first = lines(s, "SLOWLOG", "GET", "2")
            // SLOWLOG LEN, then GET: newest first, six fields each.
            #expect(
                first[0] == "*2" && first[1] == "*6" && first.contains("LEN") && first.contains("local"), "\(first)")
            #expect(first.suffix(6) == ["$3", "key", "$5", "local", "$0", ""], "\(first)")
            s.expect("CONFIG SET slowlog-log-slower-than -1", "+OK")
            s.expect("SLOWLOG RESET", "+OK")
            s.expect("GET key", "$5\r\nvalue")
            s.expect("SLOWLOG LEN", ":0")
            for (request, reply) in [
                ("SLOWLOG GET x", "ERR count should be greater than or equal to -1"),
                ("SLOWLOG GET -2", "ERR count should be greater than or equal to -1"),
                ("SLOWLOG", "ERR wrong number of arguments for 'slowlog' command"),
                ("SLOWLOG nosuch", "ERR unknown subcommand 'nosuch'. Try SLOWLOG HELP."),
                ("SLOWLOG LEN x", "ERR wrong number of arguments for 'slowlog|len' command"),
            ] { s.expect(request, "-\(reply)") }
            #expect(s.command("SLOWLOG", "HELP").hasPrefix("*12\r\n+SLOWLOG <sub"))
        }
    }

    @Test func argumentsInTheSlowLogAreCutAndSecretsAreNot() {
        withSession { s in
            s.expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
            let long = String(repeating: "x", count: 200)
            s.expect("SET \(long) v", "+OK")
            #expect(s.command("SLOWLOG", "GET", "1").contains("\r\n\(long.prefix(128))... (72 more bytes)\r\n"))
            let many = (1...40).map { "k\($0)" }
            _ = s.run((["MGET"] + many).map { Bytes($0) })
            let text = s.command("SLOWLOG", "GET", "1")
            #expect(text.contains("k30\r\n") && text.contains("... (10 more arguments)") && !text.contains("k31"))
            _ = s.command("AUTH", "default", "a secret")
            _ = s.command("HELLO", "2", "AUTH", "default", "another secret", "SETNAME", "me")
            _ = s.command("ACL", "SETUSER", "x", ">third-secret")
            let all = s.command("SLOWLOG", "GET", "-1")
            #expect(!all.contains("secret") && all.contains("(redacted)"), "\(all)")
        }
    }

    @Test func theSlowLogIsAsLongAsItIsSaid() {
        withSession { s in
            s.expect("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 5", "+OK")
            for k in 0..<100 { s.expect("SET k\(k) v", "+OK") }
            s.expect("SLOWLOG LEN", ":5")
            #expect(lines(s, "SLOWLOG", "GET", "-1")[0] == "*5")
            #expect(s.shard.context.slowLog.newest(.max, keeping: .max).count <= 5)
            #expect(s.shard.context.slowLog.total > 100)
        }
    }

    @Test func aCommandInSlicesIsLoggedWithAllOfItsTime() {
        withSession { s in
            s.expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
            let value = String(repeating: "v", count: 1 << 20)
            s.expect("SET large \(value)", "+OK")
            _ = s.command("GET", "large")
            _ = s.run([Bytes("MGET")] + (0..<5000).map { Bytes("k\($0)") })
            let names = s.shard.context.slowLog.newest(4, keeping: 128).map { $0.words[0].description.lowercased() }
            #expect(names == ["mget", "get", "set", "config"], "\(names)")
            let all = s.command("INFO", "commandstats")
            for name in ["mget", "get", "set"] { #expect(all.contains("cmdstat_\(name):calls=1,"), "\(all)") }
            #expect(s.shard.context.statistics.histogram(of: CommandTable.setRow).total == 1)
        }
    }

    @Test func aTransactionIsMeasuredByItsCommands() {
        withSession { s in
            s.expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
            for (request, reply) in [("MULTI", "+OK"), ("SET a 1", "+QUEUED"), ("INCR a", "+QUEUED")] {
                s.expect(request, reply)
            }
            s.expect("EXEC", "*2\r\n+OK\r\n:2")
            let names = s.shard.context.slowLog.newest(3, keeping: 128).map { $0.words[0].description.lowercased() }
            #expect(names == ["incr", "set", "multi"], "EXEC is not slow itself: \(names)")
            let all = s.command("INFO", "commandstats")
            for name in ["set", "incr", "exec"] { #expect(all.contains("cmdstat_\(name):calls=1,"), "\(name)") }
        }
    }

    // MARK: LATENCY

    @Test func latenciesAreCountedForEachCommand() {
        withSession { s in
            for k in 0..<10 { s.expect("SET k\(k) v", "+OK") }
            for _ in 0..<20 { s.expect("GET k1", "$1\r\nv") }
            s.expect("EXISTS k1", ":1")
            let text = s.command("INFO", "latencystats", "commandstats")
            for name in ["get", "set", "exists"] {
                #expect(text.contains("latency_percentiles_usec_\(name):p50="), "\(text)")
            }
            #expect(
                text.contains("cmdstat_get:calls=20,")
                    && !text.contains("cmdstat_get:calls=20,usec=0,usec_per_call=0.00"))
            let reply = lines(s, "LATENCY", "HISTOGRAM", "get", "nosuch", "set", "get")
            #expect(reply[0] == "*4" && reply.contains("get") && reply.contains("set"), "\(reply)")
            #expect(reply[3] == "*4" && reply[5] == "calls" && reply[6] == ":20", "\(reply)")
            // The last step counts all.
            let all = s.shard.context.statistics.histogram(of: CommandTable.getRow)
            #expect(all.total == 20 && all.count(below: 35) == 20)
            #expect(s.command("LATENCY", "HISTOGRAM").contains("exists"))
            s.expect("LATENCY HISTOGRAM nosuch", "*0")
            s.expect("CONFIG RESETSTAT", "+OK")
            #expect(!s.command("INFO", "latencystats").contains("usec_get"))
        }
    }

    @Test func eventsAreWhatTookLongerThanTheThreshold() {
        withSession { s in
            let events = s.shard.context.latencyEvents
            s.expect("LATENCY LATEST", "*0")
            events.add("command", seconds: 7, millis: 20)
            events.add("command", seconds: 7, millis: 10)
            events.add("command", seconds: 9, millis: 15)
            events.add("fast-command", seconds: 8, millis: 5)
            s.expect(
                "LATENCY LATEST",
                "*2\r\n*4\r\n$7\r\ncommand\r\n:9\r\n:15\r\n:20\r\n*4\r\n$12\r\nfast-command\r\n:8\r\n:5\r\n:5")
            s.expect("LATENCY HISTORY command", "*2\r\n*2\r\n:7\r\n:20\r\n*2\r\n:9\r\n:15")
            s.expect("LATENCY HISTORY nosuch", "*0")
            s.expect("LATENCY RESET nosuch command", ":1")
            s.expect("LATENCY RESET", ":1")
            s.expect("LATENCY LATEST", "*0")
            for second in 0..<1000 { events.add("command", seconds: second, millis: 1) }
            #expect(events.event("command")?.samples.count == LatencyEvents.samplesMax)
            #expect(s.command("LATENCY", "DOCTOR").contains("Single commands are not watched"))
            s.expect("CONFIG SET latency-monitor-threshold 10", "+OK")
            #expect(s.command("LATENCY", "DOCTOR").contains("command: 160 seconds"))
            s.expect("LATENCY GRAPH nosuch", "-ERR No samples available for event 'nosuch'")
            s.expect("LATENCY GRAPH", "-ERR wrong number of arguments for 'latency|graph' command")
            #expect(
                s.command("LATENCY", "GRAPH", "command").contains("command - high 1 ms, low 1 ms (all time high 1 ms"))
            s.expect("LATENCY HISTORY", "-ERR wrong number of arguments for 'latency|history' command")
            s.expect("LATENCY nosuch", "-ERR unknown subcommand 'nosuch'. Try LATENCY HELP.")
        }
    }

    // MARK: MEMORY

    @Test func memoryIsToldInRedissNames() {
        withSession { s in
            s.expect("SET k v", "+OK")
            let stats = lines(s, "MEMORY", "STATS")
            for name in ["peak.allocated", "total.allocated", "keys.count", "dataset.bytes", "fragmentation"] {
                #expect(stats.contains(name), "\(stats)")
            }
            #expect(stats[stats.firstIndex(of: "keys.count")! + 1] == ":1")
            #expect(s.command("MEMORY", "DOCTOR").hasPrefix("$"))
            s.expect("MEMORY PURGE", "+OK")
            s.expect("MEMORY STATS x", "-ERR wrong number of arguments for 'memory|stats' command")
            let info = s.command("INFO", "memory")
            for field in ["used_memory_peak:", "total_system_memory:", "mem_fragmentation_ratio:"] {
                #expect(info.contains("\r\n\(field)"), "\(field)")
            }
            #expect(
                Advice.onMemory(used: 1 << 30, resident: 2 << 30, peak: 3 << 30, clients: 1, unfinished: 1 << 30)
                    .split(separator: "\n").count == 3)
        }
    }

    @Test func figuresHaveTheirDigits() {
        for (value, digits, text) in [
            (45.6, 0, "46"), (0, 2, "0.00"), (1.005, 1, "1.0"), (12.3456, 3, "12.346"), (-0.5, 2, "-0.50"),
            (0.05, 2, "0.05"), (99.999, 2, "100.00"),
        ] { #expect(Info.fixed(value, digits) == text) }
    }

    // MARK: CONFIG SET

    @Test func settingsChangeAllOrNone() {
        withSession { s in
            s.expect("CONFIG SET maxclients 50 slowlog-max-len 7", "+OK")
            s.expect("CONFIG GET maxclients", "*2\r\n$10\r\nmaxclients\r\n$2\r\n50")
            #expect(s.shard.context.clientsAtMost == 50)
            let failed = "-ERR CONFIG SET failed (possibly related to argument "
            for (request, reply) in [
                ("maxclients 60 nosuch 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"),
                ("maxclients 60 maxclients 61", "\(failed)'maxclients') - duplicate parameter"),
                ("maxclients 60 port 1", "\(failed)'port') - can't set immutable config"),
                ("maxclients x", "\(failed)'maxclients') - argument couldn't be parsed into an integer"),
                ("maxclients 0", "\(failed)'maxclients') - argument must be between 1 and 1000000 inclusive"),
                (
                    "loglevel foo",
                    "\(failed)'loglevel') - argument(s) must be one of the following: debug, verbose, notice, warning"
                ),
                ("maxclients 60 max-lag", "-ERR wrong number of arguments for 'config|set' command"),
                ("max-lag 0", "\(failed)'max-lag') - argument must be between 1 and 86400 inclusive"),
            ] { s.expect("CONFIG SET \(request)", reply) }
            #expect(s.shard.context.clientsAtMost == 50, "nothing of a refused change counts")
            s.expect("CONFIG SET max-lag 5 drain-timeout 9 latency-monitor-threshold 3", "+OK")
            s.expect("CONFIG GET max-lag", "*2\r\n$7\r\nmax-lag\r\n$1\r\n5")
            #expect(s.shard.context.live.drainSeconds == 9)
            s.expect("CONFIG SET max-lag off", "+OK")
            #expect(s.command("INFO", "replication").contains("max_lag_ms:off"))
            // What can be set is shown.
            let shown = Set(s.shard.context.settings.map(\.name))
            for setting in LiveSetting.all { #expect(shown.contains(setting.name), "\(setting.name)") }
        }
    }

    // MARK: CLIENT

    @Test func clientsAreKilledByFilters() {
        withSession { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            let ids = [s, other].map { Int($0.command("CLIENT", "ID").dropFirst().dropLast())! }
            s.expect("CLIENT KILL ID \(ids[1])", ":1")
            s.expect("CLIENT KILL ID \(ids[1]) USER default", ":1")
            s.expect("CLIENT KILL ID 99999", ":0")
            s.expect("CLIENT KILL TYPE pubsub", ":0")
            s.expect("CLIENT KILL TYPE normal", ":1")
            s.expect("CLIENT KILL LADDR local ADDR local", ":1")
            s.expect("CLIENT KILL MAXAGE 1", ":0")
            s.now += 2000
            s.expect("CLIENT KILL MAXAGE 1", ":1")
            s.expect("CLIENT KILL 1.2.3.4:5", "-ERR No such client")
            for (request, reply) in [
                ("", "ERR wrong number of arguments for 'client|kill' command"),
                (" ID 0", "ERR client-id should be greater than 0"),
                (" TYPE x", "ERR Unknown client type 'x'"), (" USER nosuch", "ERR No such user 'nosuch'"),
                (" SKIPME maybe", "ERR syntax error"), (" ADDR a b", "ERR syntax error"),
                (" FOO a", "ERR syntax error"),
            ] { s.expect("CLIENT KILL\(request)", "-\(reply)") }
            #expect(!s.isClosed)
            s.expect("CLIENT KILL ID \(ids[0]) SKIPME no", ":1")
            #expect(s.isClosed)
        }
    }

    @Test func aPauseHoldsCommandsBackUntilItsEnd() {
        withSession { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            s.expect("CLIENT PAUSE 500 WRITE", "+OK")
            other.expect("GET k", "$-1")
            var looks = 0
            other.whileSuspended = {
                looks += 1
                #expect(s.command("INFO", "clients").contains("blocked_clients:1\r\n"))
                s.expect("GET k", "$-1")
                if looks == 2 {
                    s.now += 500
                    s.shard.endPause()
                }
                return true
            }
            // In the order in which they came, each once.
            let request = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\nINCR k\r\nGET k\r\n"
            #expect(String(decoding: other.reply(to: Array(request.utf8)), as: UTF8.self) == "+OK\r\n:2\r\n$1\r\n2\r\n")
            #expect(looks == 2)
            s.expect("GET k", "$1\r\n2")
            #expect(s.command("INFO", "clients").contains("blocked_clients:0\r\n"))
        }
    }

    /// CLIENT REPLY SKIP means the command behind it, also where that one waits.
    @Test(arguments: ["SKIP", "OFF"]) func aPausedCommandWhoseReplyIsNotWantedHasNone(mode: String) {
        withSession { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            var waits = 0
            other.whileSuspended = {
                waits += 1
                s.expect("CLIENT UNPAUSE", "+OK")
                return true
            }
            #expect(other.reply(to: Array("CLIENT REPLY \(mode)\r\n".utf8)).isEmpty)
            s.expect("CLIENT PAUSE 100000 WRITE", "+OK")
            let replies = String(decoding: other.reply(to: Array("SET k v\r\nGET k\r\n".utf8)), as: UTF8.self)
            #expect(replies == (mode == "SKIP" ? "$1\r\nv\r\n" : ""))
            #expect(waits == 1)
            s.expect("GET k", "$1\r\nv")
        }
    }

    @Test func unpausingEndsAPauseOfEverything() {
        withSession { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            s.expect("CLIENT PAUSE 100000", "+OK")
            other.whileSuspended = {
                s.expect("CLIENT UNPAUSE", "+OK")
                return true
            }
            other.expect("GET k", "$-1")
            s.expect("SET k v", "+OK")
            s.expect("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range")
            s.expect("CLIENT PAUSE -1", "-ERR timeout is negative")
            s.expect("CLIENT PAUSE 1 foo", "-ERR CLIENT PAUSE mode must be WRITE or ALL")
        }
        #expect(
            Pause(until: 5, isOfAll: true).joined(with: Pause(until: 9, isOfAll: false))
                == Pause(until: 9, isOfAll: true))
    }

    @Test func aTransactionThatWritesWaitsWithItsExec() {
        withSession { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            other.expect("MULTI", "+OK")
            other.expect("SET k 1", "+QUEUED")
            s.expect("CLIENT PAUSE 1000 WRITE", "+OK")
            var waited = false
            other.whileSuspended = {
                waited = true
                s.expect("GET k", "$-1")
                s.expect("CLIENT UNPAUSE", "+OK")
                return true
            }
            other.expect("EXEC", "*1\r\n+OK")
            #expect(waited)
        }
    }

    // MARK: KVD STATUS, DOCTOR

    @Test func theServerTellsOfItself() {
        withSession { s in
            s.expect("SET k v", "+OK")
            let json = s.command("KVD", "STATUS")
            #expect(json.contains("\"state\":\"up\"") && json.contains("\"actors\":[{\"index\":1,"))
            let table = lines(s, "KVD", "STATUS", "TABLE")
            #expect(table[0] == "*2" && table[2].hasPrefix("SERVER\tADDRESS\tSTATE"), "\(table)")
            #expect(table[4].split(separator: "\t").count == table[2].split(separator: "\t").count)
            s.expect("KVD STATUS FOO", "-ERR syntax error")
            s.expect("KVD DOCTOR x", "-ERR wrong number of arguments for 'kvd|doctor' command")
            #expect(s.command("KVD", "DOCTOR").hasPrefix("*"))
            s.expect("CONFIG REWRITE", "-ERR The server is running without a config file")
        }
    }

    // MARK: Several actors

    @Test func allActorsAreAsked() {
        let homes = LocalHomes(actors: 3)
        let clients = (1...3).map { homes.client(of: $0) }
        defer {
            for client in clients { client.close(shardToo: false) }
            homes.close()
        }
        let list = clients[1].command("CLIENT", "LIST")
        #expect(list.matches(of: /id=\d+ addr=local/).count == 3, "\(list)")
        let id = clients[2].command("CLIENT", "ID").dropFirst().dropLast()
        clients[0].expect("CLIENT KILL ID \(id)", ":1")
        clients[0].expect("CLIENT KILL TYPE normal", ":2")
        clients[0].expect("CLIENT PAUSE 1000", "+OK")
        _ = homes.deliver()
        #expect(homes.shards.allSatisfy { $0.state.pointee.pause?.isOfAll == true })
        clients[0].expect("CLIENT UNPAUSE", "+OK")
        _ = homes.deliver()
        #expect(homes.shards.allSatisfy { $0.state.pointee.pause == nil && !$0.state.pointee.wantsEach })
        clients[0].expect("CONFIG SET slowlog-log-slower-than 0", "+OK")
        _ = homes.deliver()
        #expect(homes.shards.allSatisfy { $0.state.pointee.wantsEach })
        // What runs at a home is measured there and logged once.
        let key = homes.keys(of: 3)[0]
        clients[0].expect("SLOWLOG RESET", "+OK")
        clients[0].expect("INCR \(key)", ":1")
        let entries = homes.shards[0].context.slowLog.newest(10, keeping: 10).filter {
            $0.words[0].description == "INCR"
        }
        #expect(entries.count == 1 && entries[0].client == "local")
        let actors = clients[0].command("INFO", "actors")
        for actor in 1...3 { #expect(actors.contains("\r\nactor\(actor):port=\(6000 + actor),clients=1,")) }
        // An actor that has stopped is not waited for.
        homes.stopped = [2]
        #expect(clients[0].command("CLIENT", "LIST").matches(of: /id=\d+ addr=local/).count == 2)
    }
}
