// Commands of one client that go to one home together: their order, their replies, and what happens when the home is
// busy, slow or gone. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct HomeTripTests {
    private func text(_ client: LocalSession, _ requests: [String]) -> String {
        String(decoding: client.reply(to: Array((requests.joined(separator: "\r\n") + "\r\n").utf8)), as: UTF8.self)
    }

    private func errors(_ lines: [StaticString]) -> String { lines.map { "-\($0)\r\n" }.joined() }

    @Test func aRunOfCommandsIsOneMessage() {
        withActors(3) { homes, clients in
            let key = homes.keys(of: 3)[0]
            let replies = (1...16).map { ":\($0)\r\n" }.joined()
            #expect(text(clients[0], Array(repeating: "INCR \(key)", count: 16)) == replies)
            #expect(homes.toldCount == 2, "there and back")
            // More than are parsed at once.
            let before = homes.toldCount
            let many = (17...216).map { ":\($0)\r\n" }.joined()
            #expect(text(clients[0], Array(repeating: "INCR \(key)", count: 200)) == many)
            #expect(homes.toldCount - before <= 10)
            #expect(homes.shards[0].trips.isEmpty)
        }
    }

    /// Keys of one home, the own one and another: neighbours go together, and each command finds what those before it
    /// did.
    @Test func neighboursOfOneHomeGoTogether() {
        withActors(3) { homes, clients in
            let (own, two, three) = (homes.keys(of: 1), homes.keys(of: 2), homes.keys(of: 3))
            let requests = [
                "SET \(two[0]) a NX", "SETNX \(two[1]) b", "GET \(two[1])", "SET \(two[0]) c XX GET", "INCR \(own[0])",
                "SET \(three[0]) d NX EX 100", "SET \(three[0]) e NX PX 100", "GETDEL \(three[0])",
                "GETSET \(two[1]) f",
            ]
            let replies = "+OK\r\n:1\r\n$1\r\nb\r\n$1\r\na\r\n:1\r\n+OK\r\n$-1\r\n$1\r\nd\r\n$1\r\nb\r\n"
            #expect(text(clients[0], requests) == replies)
            #expect(homes.toldCount == 8, "four ways there and back")
        }
    }

    /// What comes later is not done before what comes earlier, whoever looks.
    @Test func nothingOvertakes() {
        withActors(3) { homes, clients in
            let (first, second) = (homes.keys(of: 2)[0], homes.keys(of: 3)[0])
            clients[0].whileSuspended = { false }
            #expect(text(clients[0], ["SET \(first) 1 NX", "SET \(second) 1 NX", "INCR \(first)"]).isEmpty)
            func has(_ actor: Int, _ key: String) -> Bool {
                clients[actor - 1].command("EXISTS", key) == ":1\r\n"
            }
            #expect(!has(2, first) && !has(3, second))
            _ = homes.deliver()
            #expect(has(2, first) && !has(3, second))
            _ = homes.deliver()
            #expect(!has(3, second), "it is back, and goes on from there")
            _ = homes.deliver()
            #expect(has(3, second))
            clients[0].whileSuspended = { homes.deliver() }
            #expect(clients[0].goOn() == "+OK\r\n+OK\r\n:2\r\n")
        }
    }

    /// What has its home here goes along behind what has not, and is run when that is back.
    @Test func ownCommandsWaitForTheirTurn() {
        withActors(3) { homes, clients in
            let (own, two, three) = (homes.keys(of: 1), homes.keys(of: 2)[0], homes.keys(of: 3)[0])
            let requests = [
                "SET \(two) v NX", "INCR \(own[0])", "SET \(own[1]) v XX", "INCR \(three)", "SETNX \(own[0]) v",
                "GET \(own[0])",
            ]
            func has(_ actor: Int, _ key: String) -> Bool { clients[actor - 1].command("EXISTS", key) == ":1\r\n" }
            // Of another client at the same actor, whose own is in the middle of something.
            let other = homes.client(of: 1)
            defer { other.close(shardToo: false) }
            clients[0].whileSuspended = { false }
            #expect(text(clients[0], requests).isEmpty)
            for isBack in [false, true] {
                #expect(other.command("EXISTS", own[0]) == ":0\r\n")
                #expect(has(2, two) == isBack)
                _ = homes.deliver()
            }
            #expect(other.command("EXISTS", own[0]) == ":1\r\n")
            clients[0].whileSuspended = { homes.deliver() }
            #expect(clients[0].goOn() == "+OK\r\n:1\r\n$-1\r\n:1\r\n:0\r\n$1\r\n1\r\n")
            #expect(homes.toldCount == 4 && homes.shards[0].trips.isEmpty)
            // Also where this actor has done enough for the turn.
            homes.spentUnits = TurnBudget.unitsMax
            let replies = text(clients[0], ["INCR \(two)"] + Array(repeating: "INCR \(own[2])", count: 9) + ["PING"])
            #expect(replies == integerError + (1...9).map { ":\($0)\r\n" }.joined() + "+PONG\r\n")
        }
    }

    private let integerError = "-ERR value is not an integer or out of range\r\n"

    /// Legs that were run keep their replies, the others are not run, whatever ends the trip.
    @Test func aTripMayEndInTheMiddle() {
        withActors(3) { homes, clients in
            let (own, two, three) = (homes.keys(of: 1), homes.keys(of: 2), homes.keys(of: 3))
            let requests = ["INCR \(two[0])", "INCR \(own[0])", "INCR \(three[0])", "INCR \(own[0])", "PING"]
            func end(_ requests: [String], after deliveries: Int, _ body: @escaping (HomeTrip) -> Void) -> String {
                var left = deliveries
                clients[0].whileSuspended = {
                    left -= 1
                    if left < 0, let trip = clients[0].session.continuation as? HomeTrip { body(trip) }
                    return left < 0 || homes.deliver()
                }
                defer { while homes.deliver() {} }
                return text(clients[0], requests)
            }
            let late = errors([HomeAsk.lateness, HomeAsk.lateness])
            #expect(end(requests, after: 2) { $0.giveUp() } == ":1\r\n:1\r\n\(late)+PONG\r\n")
            homes.stopped = [3]
            let failures = errors([HomeAsk.failure, HomeAsk.failure])
            clients[0].whileSuspended = { homes.deliver() }
            #expect(text(clients[0], requests) == ":2\r\n:2\r\n\(failures)+PONG\r\n")
            homes.stopped = []
            #expect(homes.shards[0].trips.isEmpty)
            // Its disk refuses the second leg alone.
            let refused = "-\(HomeAsk.failure)\r\n"
            let mixed = ["INCR \(two[0])", "SETNX \(three[0]) x", "INCR \(three[0])", "INCR \(two[0])"]
            var isRefused = false
            let answer = end(mixed, after: 3) {
                if !isRefused { $0.refuse(HomeAsk.failure) }
                isRefused = true
                _ = homes.deliver()
            }
            #expect(answer == ":3\r\n\(refused)\(refused):4\r\n")
            // The client leaves after the first one.
            let hasty = homes.client(of: 1)
            hasty.whileSuspended = { false }
            #expect(text(hasty, ["INCR \(two[1])", "INCR \(own[1])", "INCR \(three[1])"]).isEmpty)
            _ = homes.deliver()
            hasty.close(shardToo: false)
            while homes.deliver() {}
            clients[0].whileSuspended = { homes.deliver() }
            clients[0].expect("INCR \(two[1])", ":2")
            clients[0].expect("INCR \(own[1])", ":1")
            clients[0].expect("INCR \(three[1])", ":1")
            #expect(homes.shards[0].trips.isEmpty)
        }
    }

    @Test func anErrorInARunIsInItsPlace() {
        withActors(3) { homes, clients in
            let key = homes.keys(of: 3)[0]
            let requests = [
                "INCR \(key)", "SET \(key) v NX XX", "INCR \(key)", "INCRBY \(key) x", "INCR \(key) 2",
                "SETNX \(key) 1",
                "GETSET \(key) text", "INCR \(key)", "SET \(key) v EX 0 XX", "GETDEL \(key)",
            ]
            let integer = "-ERR value is not an integer or out of range\r\n"
            let expected =
                ":1\r\n-ERR syntax error\r\n:2\r\n" + integer
                + "-ERR wrong number of arguments for 'incr' command\r\n:0\r\n$1\r\n2\r\n" + integer
                + "-ERR invalid expire time in 'set' command\r\n$4\r\ntext\r\n"
            #expect(text(clients[0], requests) == expected)
            let errors = homes.shards[0].statistics.byCommand.errorCounts
            #expect(errors["ERR"] == 5, "each is counted once: \(errors)")
        }
    }

    @Test func aHomeThatIsBusyGoesOnLater() {
        withActors(2) { homes, clients in
            let key = homes.keys(of: 2)[0]
            homes.spentUnits = TurnBudget.unitsMax - 10
            let replies = (1...40).map { ":\($0)\r\n" }.joined()
            #expect(text(clients[0], Array(repeating: "INCR \(key)", count: 40)) == replies)
            // Two clients of which none waits for the other's end.
            let other = homes.client(of: 1)
            defer { other.close(shardToo: false) }
            clients[0].whileSuspended = { false }
            #expect(text(clients[0], Array(repeating: "INCR \(key)", count: 40)).isEmpty)
            #expect(text(other, ["SETNX \(key) x", "SETNX \(key) x"]) == ":0\r\n:0\r\n")
            clients[0].whileSuspended = { homes.deliver() }
            #expect(clients[0].goOn() == (41...80).map { ":\($0)\r\n" }.joined())
        }
    }

    @Test func aRunThatIsGivenUpIsNotRun() {
        withActors(2) { homes, clients in
            let key = homes.keys(of: 2)[0]
            clients[0].whileSuspended = {
                (clients[0].session.continuation as? HomeTrip)?.giveUp()
                return true
            }
            let late = HomeAsk.lateness
            #expect(text(clients[0], ["INCR \(key)", "INCR \(key)", "PING"]) == errors([late, late]) + "+PONG\r\n")
            clients[0].whileSuspended = { homes.deliver() }
            while homes.deliver() {}
            clients[0].expect("INCR \(key)", ":1")
            // One that the home has begun with is waited for.
            homes.spentUnits = TurnBudget.unitsMax - 10
            clients[0].whileSuspended = {
                let isDelivered = homes.deliver()
                (clients[0].session.continuation as? HomeTrip)?.giveUp()
                return isDelivered
            }
            #expect(
                text(clients[0], Array(repeating: "INCR \(key)", count: 20)) == (2...21).map { ":\($0)\r\n" }.joined())
        }
    }

    @Test func aHomeThatHasStoppedIsAnErrorForEach() {
        withActors(2) { homes, clients in
            homes.stopped = [2]
            let key = homes.keys(of: 2)[0]
            let failure = HomeAsk.failure
            let requests = ["INCR \(key)", "INCRBY \(key) 2", "SET \(key) v XX", "PING"]
            #expect(text(clients[0], requests) == errors([failure, failure, failure]) + "+PONG\r\n")
            #expect(homes.shards[0].trips.isEmpty)
        }
    }

    /// Large values come back by reference, in slices, among the other replies.
    @Test func largeRepliesKeepTheirPlace() {
        withActors(2) { homes, clients in
            let keys = homes.keys(of: 2)
            let (middle, large) = (String(repeating: "m", count: 20_000), String(repeating: "l", count: 300_000))
            clients[0].expect("SET \(keys[0]) \(middle)", "+OK")
            #expect(clients[0].run(["SET", Bytes(keys[1]), Bytes(large)]) == "+OK\r\n")
            let requests = [
                "INCR \(keys[2])", "GETSET \(keys[0]) a", "INCR \(keys[2])", "GETDEL \(keys[1])", "GETDEL \(keys[0])",
                "GETDEL \(keys[1])", "INCR \(keys[2])",
            ]
            let expected =
                ":1\r\n$20000\r\n\(middle)\r\n:2\r\n$300000\r\n\(large)\r\n$1\r\na\r\n$-1\r\n:3\r\n"
            #expect(text(clients[0], requests) == expected)
            let told = homes.toldCount
            #expect(told == 2)
        }
    }

    @Test func transactionsAndRepliesSkippedStandBetween() {
        withActors(2) { homes, clients in
            let key = homes.keys(of: 2)[0]
            let requests = [
                "INCR \(key)", "INCR \(key)", "MULTI", "INCR \(key)", "INCR \(key)", "EXEC", "INCR \(key)",
                "WATCH \(key)", "INCR \(key)", "MULTI", "INCR \(key)", "EXEC", "CLIENT REPLY SKIP", "INCR \(key)",
                "INCR \(key)", "SELECT 3", "INCR \(key)", "INCR \(key)", "SELECT 0", "HELLO 3", "SET \(key) v NX",
                "SETNX \(key) v",
            ]
            var expected = ":1\r\n:2\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:3\r\n:4\r\n:5\r\n"
            expected += "+OK\r\n:6\r\n+OK\r\n+QUEUED\r\n*-1\r\n:8\r\n+OK\r\n:1\r\n:2\r\n+OK\r\n"
            let answer = text(clients[0], requests)
            #expect(answer.hasPrefix(expected))
            #expect(answer.hasSuffix("_\r\n:0\r\n"), "a client of the newer protocol gets its null")
        }
    }

    @Test func eachCommandOfARunIsCounted() {
        withActors(2) { homes, clients in
            let keys = homes.keys(of: 2)
            _ = text(clients[0], Array(repeating: "INCR \(keys[0])", count: 9))
            _ = text(clients[0], (0..<20).map { "SET \(keys[$0]) v NX" } + ["SETNX \(keys[1]) v"])
            let statistics = homes.shards.map(\.statistics)
            func figures(_ name: String) -> CommandFigures {
                statistics.figures(of: CommandTable.standard.rows.firstIndex { $0.nameText == name }!)
            }
            homes.shards.forEach { $0.publish() }
            #expect(figures("incr").calls == 9 && figures("set").calls == 20 && figures("setnx").calls == 1)
            #expect(homes.shards[0].statistics.byCommand.histogram(of: CommandTable.setRow).total == 20)
        }
    }

    /// Trips are used again; what they carried is not kept.
    @Test func aTripThatIsDoneHoldsNothing() {
        withActors(2) { homes, clients in
            let key = homes.keys(of: 2)[0]
            clients[0].expect("SET \(key) value NX", "+OK")
            for _ in 0..<10 { clients[0].expect("GETSET \(key) value", "$5\r\nvalue") }
            #expect(homes.shards[0].spareTrips.count == 1)
            let store = homes.shards[1].state.pointee.store
            let record = Bytes(key).withBytes { store.find(store.key($0)) }
            #expect(record?.referenceCount == 2, "both actors' alone")
            // Gone while it is away.
            let hasty = homes.client(of: 1)
            hasty.whileSuspended = { false }
            #expect(text(hasty, ["SET \(key) w XX", "GETDEL \(key)"]).isEmpty)
            hasty.close(shardToo: false)
            while homes.deliver() {}
            #expect(homes.shards[0].trips.isEmpty && homes.shards[0].spareTrips.isEmpty)
            clients[0].expect("EXISTS \(key)", ":0")
        }
    }

    /// Pipelines of all clients, each delivered a piece at a time: of each race one wins, and one client's writes are
    /// seen in their order.
    @Test func ofARaceInPipelinesOneWins() {
        withActors(4) { homes, clients in
            var random = PRNG(seed: 31)
            for round in 0..<200 {
                let locks = (0..<24).map { "r\(round)l\($0)" }
                var winners = Array(repeating: 0, count: locks.count)
                for client in clients { client.whileSuspended = { false } }
                var replies = clients.map { client in
                    text(client, locks.map { "SET \($0) v NX" } + ["INCR last\(round)"])
                }
                while homes.deliver() {
                    for i in [0, 1, 2, 3].shuffled(using: &random) where random.below(3) > 0 {
                        replies[i] += clients[i].goOn()
                    }
                }
                for i in clients.indices {
                    clients[i].whileSuspended = { homes.deliver() }
                    replies[i] += clients[i].goOn()
                }
                for reply in replies {
                    let lines = reply.split(separator: "\r\n")
                    #expect(lines.count == locks.count + 1)
                    for (k, line) in lines.prefix(locks.count).enumerated() where line == "+OK" { winners[k] += 1 }
                }
                #expect(winners.allSatisfy { $0 == 1 })
                #expect(Set(replies.map { $0.split(separator: "\r\n").last! }) == [":1", ":2", ":3", ":4"])
            }
        }
    }
}
