// Commands that read before they write, and transactions, with the keys' homes at other actors. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct HomeTests {
    @Test func aTagAloneDecidesTheHome() {
        func tag(_ key: String) -> String {
            Bytes(key).withBytes { String(decoding: Homes.tag(of: $0), as: UTF8.self) }
        }
        #expect(tag("a{b}c") == "b")
        #expect(tag("{b}{c}") == "b")
        #expect(tag("a{}c{d}") == "a{}c{d}")
        #expect(tag("a{b") == "a{b")
        #expect(tag("a}b{c}") == "c")
        withActors(3) { homes, _ in
            #expect((1...3).allSatisfy { homes.keys(of: $0).count > 250 })
            for actor in 1...3 {
                #expect(
                    homes.keys(of: actor, "{x\(actor)}").count == 1000 || homes.keys(of: actor, "{x\(actor)}").isEmpty)
            }
            let store = homes.shards[0].state.pointee.store
            let (zero, nine) = (Bytes("k1"), Bytes([0xFF, 9] + Array("k1".utf8)))
            #expect(
                zero.withBytes { homes.home(of: ByteView($0), store) }
                    == nine.withBytes { homes.home(of: ByteView($0), store) })
        }
    }

    @Test func aClientReadsWhatWasRunAtAHome() {
        withActors(3) { homes, clients in
            let key = homes.keys(of: 3)[0]
            clients[0].expect("SET \(key) a", "+OK")
            clients[1].expect("GET \(key)", "$-1")
            // The home learns of the value with the request, and the second client with the answer.
            clients[0].expect("SET \(key) b NX", "$-1")
            clients[1].expect("SETNX \(key) c", ":0")
            clients[1].expect("GET \(key)", "$1\r\na")
            clients[1].expect("GETSET \(key) d", "$1\r\na")
            clients[0].expect("GET \(key)", "$1\r\na")
            clients[0].expect("SET \(key) e XX GET", "$1\r\nd")
            clients[0].expect("GET \(key)", "$1\r\ne")
            clients[1].expect("SET \(key) f IFEQ x", "$-1")
            clients[1].expect("SET \(key) f IFEQ e", "+OK")
            clients[1].expect("SET \(key) g IFNE f GET", "$1\r\nf")
            clients[1].expect("SET \(key) g IFNE x GET", "$1\r\nf")
            clients[0].expect("DELIFEQ \(key) f", ":0")
            clients[0].expect("DELEX \(key) IFEQ g", ":1")
            clients[0].expect("GETDEL \(key)", "$-1")
            clients[2].expect("GET \(key)", "$-1")
        }
    }

    /// What a client has seen expire has expired at the home, too, though that one's turn began earlier.
    @Test func aHomesClockIsNotBehindItsClients() {
        withActors(3) { homes, clients in
            let key = homes.keys(of: 3)[0]
            clients[0].expect("SET \(key) old PX 100", "+OK")
            clients[0].expect("INCR \(key)", "-ERR value is not an integer or out of range")
            homes.shards[0].state.pointee.nowMillis += 100
            clients[0].expect("GET \(key)", "$-1")
            clients[0].expect("GETDEL \(key)", "$-1")
            clients[0].expect("SET \(key) new NX PX 100", "+OK")
            clients[0].expect("PTTL \(key)", ":100")
            clients[0].expect("MULTI", "+OK")
            clients[0].expect("PTTL \(key)", "+QUEUED")
            clients[0].expect("EXEC", "*1\r\n:100")
            #expect(homes.shards[2].state.pointee.nowMillis == 1_000_000, "its clock is its own again")
        }
    }

    /// A home that does not come to it: an error in its place, nothing done, and the connection goes on.
    @Test func aBusyHomeIsNotWaitedForForEver() {
        withActors(3) { homes, clients in
            let (busy, free) = (homes.keys(of: 3)[0], homes.keys(of: 2)[0])
            clients[0].expect("SET \(busy) 5", "+OK")
            clients[0].whileSuspended = {
                guard let trip = clients[0].session.continuation as? HomeTrip else { return homes.deliver() }
                trip.giveUp()
                return true
            }
            clients[0].expect("INCR \(busy)", "-\(HomeAsk.lateness)")
            clients[0].whileSuspended = { homes.deliver() }
            // The request arrives after all, and is not run.
            clients[0].expect("INCR \(free)", ":1")
            clients[0].expect("GET \(busy)", "$1\r\n5")
            clients[0].expect("INCR \(busy)", ":6")
            clients[1].expect("INCR \(busy)", ":7")
        }
    }

    private func text(_ client: LocalSession, _ requests: [String]) -> String {
        String(decoding: client.reply(to: Array((requests.joined(separator: "\r\n") + "\r\n").utf8)), as: UTF8.self)
    }

    /// What homes answered is not kept when the reply is written, nor when the client has gone before.
    @Test func answersOfHomesAreLetGo() {
        withActors(3) { homes, clients in
            let key = homes.keys(of: 3)[0]
            var asks: [() -> HomeAsk?] = []
            func note(_ session: Session) {
                let ask =
                    (session.continuation as? HomeDelete)?.ask ?? (session.continuation as? HomeRun)?.ask
                asks.append { [weak ask] in ask }
                #expect(ask != nil)
            }
            clients[0].whileSuspended = {
                note(clients[0].session)
                return homes.deliver()
            }
            clients[0].expect("SET \(key) 1", "+OK")
            clients[0].expect("MSETNX \(key) 2", ":0")
            #expect(text(clients[0], ["MSETNX \(key) 2", "MSETNX \(key) 3"]) == ":0\r\n:0\r\n")
            clients[0].expect("DEL \(key)", ":1")
            let many = (0..<1100).map { Bytes("m\($0)") }
            #expect(clients[0].run(["MSET"] + many.flatMap { [$0, $0] }) == "+OK\r\n")
            clients[0].whileSuspended = { homes.deliver() }
            #expect(clients[0].run(["DEL"] + many) == ":1100\r\n")
            for requests in [["MSETNX \(key) 2"], ["MSETNX \(key) 2", "MSETNX \(key) 2"], ["DEL \(key)"]] {
                let hasty = homes.client(of: 1)
                hasty.whileSuspended = {
                    note(hasty.session)
                    return false
                }
                #expect(text(hasty, requests).isEmpty)
                hasty.close(shardToo: false)
                while homes.deliver() {}
            }
            #expect(asks.count >= 7 && asks.allSatisfy { $0() == nil })
        }
    }

    /// Pipelines of one client of three actors are answered as those of one of a single actor.
    @Test func aSingleClientsPipelinesSeeOneServer() {
        withActors(3) { homes, clients in
            let single = LocalSession()
            defer { single.close() }
            var random = PRNG(seed: 29)
            for _ in 0..<3000 {
                var bytes = OutputBuffer()
                defer { bytes.deallocate() }
                for _ in 0..<1 + random.below(20) {
                    let key = Bytes(["a", "b", "c", "{t}1", "{t}2"][random.below(5)])
                    let value = Bytes("\(random.below(4))")
                    switch random.below(10) {
                    case 0: bytes.request(Self.request(&random))
                    case 1: bytes.request(["SET", key, value, ["NX", "xx", "GET"][random.below(3)]])
                    case 2: bytes.request(["INCRBY", key, value])
                    case 3: bytes.request(["DECR", key])
                    case 4: bytes.request(["GETDEL", key])
                    case 5: bytes.request(["GETSET", key, value])
                    case 6: bytes.request(["DELIFEQ", key, value])
                    case 7: bytes.request(["SET", key, "text", "EX", ["100", "0", "x"][random.below(3)], "XX"])
                    case 8: bytes.request(["PERSIST", key])
                    default: bytes.request(["SETNX", key, value])
                    }
                }
                let request = Array(bytes.bytes)
                let (expected, answer) = (single.reply(to: request), clients[1].reply(to: request))
                #expect(answer == expected, "\(String(decoding: request, as: UTF8.self))")
                if answer != expected { return }
            }
        }
    }

    @Test func aDeletedKeyIsCountedOnce() {
        withActors(3) { homes, clients in
            let keys = (1...3).flatMap { homes.keys(of: $0).prefix(5) }
            for key in keys { clients[0].expect("SET \(key) v", "+OK") }
            // With the first request the homes know them, with the answers all do.
            for client in clients {
                for key in keys { client.expect("SETNX \(key) w", ":0") }
            }
            let all = keys.joined(separator: " ")
            clients[1].expect("DEL \(keys[0]) \(keys[6]) \(keys[6]) none", ":2")
            clients[2].expect("DEL \(all)", ":13")
            clients[0].expect("DEL \(all)", ":0")
            clients[1].expect("UNLINK \(all)", ":0")
            // In slices too.
            let many = (0..<3000).map { Bytes("m\($0)") }
            #expect(clients[0].run(["MSET"] + many.flatMap { [$0, $0] }) == "+OK\r\n")
            #expect(clients[0].run(["DEL"] + many + many) == ":3000\r\n")
            clients[0].expect("EXISTS m0 m2999", ":0")
        }
    }

    /// Where the stamp of a deletion would be refused by others, that is said of the whole command.
    @Test(arguments: [1, 2]) func whereAKeyMayNotBeDeletedTheClientIsTold(_ refusing: Int) {
        withActors(2) { homes, clients in
            let keys = (1...2).map { homes.keys(of: $0)[0] }
            for key in keys { clients[0].expect("SET \(key) v", "+OK") }
            homes.shards[refusing - 1].state.pointee.store.boundStamps(to: 1)
            clients[0].expect("DEL \(keys[0]) \(keys[1])", "-\(ShardState.clockError)")
            // The other one is gone.
            clients[refusing - 1].expect("EXISTS \(keys[0]) \(keys[1])", ":1")
            let many = (0..<1100).map { Bytes("none\($0)") }
            #expect(clients[0].run(["DEL"] + many + [Bytes(keys[refusing - 1])]) == "-\(ShardState.clockError)\r\n")
        }
    }

    /// The commands of all clients in random order: of each race one wins.
    @Test func ofARaceOneWins() {
        withActors(4) { homes, clients in
            var random = PRNG(seed: 7)
            for race in 0..<2000 {
                var (winner, winners) = (-1, 0)
                for client in [0, 1, 2, 3].shuffled(using: &random) {
                    let reply =
                        race % 2 == 0
                        ? clients[client].command("SET", "lock\(race)", "\(client)", "NX") == "+OK\r\n"
                        : clients[client].command("SETNX", "lock\(race)", "\(client)") == ":1\r\n"
                    if reply { (winner, winners) = (client, winners + 1) }
                }
                #expect(winners == 1)
                for client in clients { client.expect("GET lock\(race)", "$1\r\n\(winner)") }
            }
        }
    }

    @Test func repliesOfAPipelineStayInOrder() {
        withActors(3) { homes, clients in
            let keys = (1...3).map { homes.keys(of: $0)[0] }
            var (text, replies) = ("", "")
            for round in 0..<50 {
                for key in keys {
                    text +=
                        "SETNX \(key) \(round)\r\nGET \(key)\r\nGETSET \(key) x\(round)\r\nGET \(key)\r\nDEL \(key)\r\n"
                    let value = "\(round)"
                    replies += ":1\r\n$\(value.count)\r\n\(value)\r\n$\(value.count)\r\n\(value)\r\n"
                    replies += "$\(value.count + 1)\r\nx\(value)\r\n:1\r\n"
                }
            }
            #expect(String(decoding: clients[0].reply(to: Array(text.utf8)), as: UTF8.self) == replies)
        }
    }

    /// One client of three actors is answered as one of a single actor, whatever it says.
    @Test func aSingleClientSeesOneServer() {
        withActors(3) { homes, clients in
            let single = LocalSession()
            defer { single.close() }
            var random = PRNG(seed: 23)
            for _ in 0..<20_000 {
                let request = Self.request(&random)
                let (expected, answer) = (single.run(request), clients[1].run(request))
                #expect(answer == expected, "\(request)")
                if answer != expected { return }
            }
        }
    }

    private static func request(_ random: inout PRNG) -> [Bytes] {
        func key() -> Bytes { Bytes(["a", "b", "c", "{t}1", "{t}2"][random.below(5)]) }
        func value() -> Bytes { Bytes("\(random.below(4))") }
        switch random.below(26) {
        case 0: return ["GET", key()]
        case 1: return ["SET", key(), value()]
        case 2: return ["SET", key(), value(), ["NX", "XX", "GET"][random.below(3)]]
        case 3: return ["SET", key(), value(), "GET", ["NX", "XX"][random.below(2)]]
        case 4: return ["SET", key(), value(), ["IFEQ", "IFNE"][random.below(2)], value()]
        case 5: return ["SETNX", key(), value()]
        case 6: return ["GETSET", key(), value()]
        case 7: return ["GETDEL", key()]
        case 8: return ["DEL", key(), key(), key()]
        case 9: return ["MSETNX", key(), value(), key(), value()]
        case 10: return ["RENAME", key(), key()]
        case 11: return ["RENAMENX", key(), key()]
        case 12: return ["COPY", key(), key()]
        case 13: return ["COPY", key(), key(), "DB", Bytes("\(random.below(2))"), "REPLACE"]
        case 14: return ["SELECT", Bytes("\(random.below(2))")]
        case 15: return ["DELEX", key(), "IFEQ", value()]
        case 16: return ["DELIFEQ", key(), value()]
        case 17: return ["MGET", "a", "b", "c", "{t}1", "{t}2"]
        case 18, 19: return ["MULTI"]
        case 20, 21: return ["EXEC"]
        case 22: return random.below(3) == 0 ? ["DISCARD"] : ["WATCH", key(), key()]
        case 23: return random.below(3) == 0 ? ["UNWATCH"] : ["EXISTS", key(), key()]
        case 24: return random.below(10) == 0 ? ["FLUSHALL"] : ["STRLEN", key()]
        default: return [["SET", key()], ["NOSUCH"], ["APPEND", key(), "x"], ["TYPE", key()]][random.below(4)]
        }
    }

    @Test func aClientThatLeavesLeavesNoTrace() {
        withActors(2) { homes, clients in
            let key = homes.keys(of: 2)[0]
            let session = Session(shard: homes.shards[0])
            var output = OutputBuffer()
            defer { output.deallocate() }
            let status = Array("SETNX \(key) v\r\nPING\r\n".utf8).withUnsafeBytes {
                session.receive($0, output: &output, unsent: 0)
            }
            #expect(status == .suspended)
            session.close()
            while homes.deliver() {}
            #expect(output.count == 0)
            // It was run, and its actor has it.
            clients[0].expect("GET \(key)", "$1\r\nv")
        }
    }

    @Test func aHomeThatHasStoppedIsAnError() {
        withActors(2) { homes, clients in
            homes.stopped = [2]
            let key = homes.keys(of: 2)[0]
            clients[0].expect("SETNX \(key) v", "-\(HomeAsk.failure)")
            clients[0].expect("SET \(key) v", "+OK")
            clients[0].expect("DEL \(key)", "-\(HomeAsk.failure)")
            clients[0].expect("PING", "+PONG")
        }
    }

    /// The records of the second key have come, and then the home of the first is gone.
    @Test func aHomeThatStopsInBetweenIsAnError() {
        withActors(3) { homes, clients in
            let (first, second) = (homes.keys(of: 2)[0], homes.keys(of: 3)[0])
            for key in [first, second] { clients[0].expect("SET \(key) v", "+OK") }
            clients[0].expect("MULTI", "+OK")
            clients[0].expect("GET \(first)", "+QUEUED")
            clients[0].expect("GET \(second)", "+QUEUED")
            clients[0].whileSuspended = {
                homes.stopped = [2]
                return homes.deliver()
            }
            clients[0].expect("EXEC", "-\(HomeAsk.failure)")
            clients[0].expect("PING", "+PONG")
        }
    }

    @Test func aHomeRefusesWritesWhenItLeaves() {
        withActors(2) { homes, clients in
            homes.shards[1].refuseWrites()
            let key = homes.keys(of: 2)[0]
            #expect(clients[0].command("SETNX", key, "v").hasPrefix("-LEAVING "))
        }
    }
}
