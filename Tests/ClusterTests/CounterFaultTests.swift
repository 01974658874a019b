// Counters on three servers through cuts and kill -9: what was acknowledged is there, once.

import KVTestTraits
import Testing

@Suite(.blocking) struct CounterFaultTests {
    /// What clients were told.
    private final class Ledger {
        let cluster: Cluster
        /// By key: all that was added.
        private(set) var added: [String: Int] = [:]
        /// By key: all that a GETSET or GETDEL has answered.
        private(set) var taken: [String: Int] = [:]
        private var seed: UInt64 = 0x5EED

        init(_ cluster: Cluster) { self.cluster = cluster }

        private func draw(_ below: Int) -> Int {
            seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(seed >> 33) % below
        }

        /// Some commands at every actor of the servers named. What takes does so at the first server only: two that
        /// took at the same moment would be told of the same increments.
        func load(_ servers: [Int]) throws {
            for (number, server) in cluster.servers.enumerated() where servers.contains(number) {
                for actor in 0..<server.actors {
                    let commands = (0..<40).map { _ in command(mayTake: number == 0) }
                    let replies = try server.connection(actor).pipeline(commands)
                    for (command, reply) in zip(commands, replies) { try note(command, reply) }
                }
            }
        }

        private func command(mayTake: Bool) -> [String] {
            let key = ["hits", "reset", "deleted", "mixed"][draw(4)]
            switch draw(10) {
            case 0: return ["EXPIRE", key, "\(10_000 + draw(10_000))"]
            case 1: return ["PERSIST", key]
            case 2 where mayTake && key == "reset": return ["GETSET", key, "0"]
            case 2 where mayTake && key == "deleted": return ["GETDEL", key]
            case 2 where key == "mixed": return draw(2) == 0 ? ["SET", key, "\(draw(100))"] : ["DEL", key]
            case 3: return ["DECRBY", key, "\(1 + draw(5))"]
            case 4: return ["INCR", key]
            default: return ["INCRBY", key, "\(1 + draw(9))"]
            }
        }

        private func note(_ command: [String], _ reply: Reply) throws {
            let key = command[1]
            switch command[0] {
            case "INCR", "INCRBY", "DECRBY":
                // On a machine that is very busy; then it was not run.
                if case .error(let text) = reply, text.hasPrefix("BUSY") { return }
                guard case .integer = reply else { throw SocketError("\(command) answered \(reply)") }
                let step = command.count > 2 ? Int(command[2])! : 1
                added[key, default: 0] += command[0] == "DECRBY" ? -step : step
            case "GETSET", "GETDEL": taken[key, default: 0] += reply.text.flatMap { Int($0) } ?? 0
            default: break
            }
        }

        func expected(_ key: String) -> Int { added[key, default: 0] - taken[key, default: 0] }

        /// Whether all actors of the servers named show what was acknowledged.
        func holds(_ servers: [Int]) throws -> Bool {
            for (number, server) in cluster.servers.enumerated() where servers.contains(number) {
                for actor in 0..<server.actors {
                    for key in ["hits", "reset", "deleted"] {
                        let shown = try server.get(key, actor: actor).map { Int($0) ?? .min }
                        if shown ?? 0 != expected(key) { return false }
                    }
                }
            }
            return true
        }

        var description: String {
            ["hits", "reset", "deleted"].map { key in
                let shown = cluster.actors.map { (try? $0.server.get(key, actor: $0.index)) ?? "none" }
                return "\(key) is \(expected(key)), shown \(shown)"
            }.joined(separator: "\n")
        }
    }

    private func partition(_ cluster: Cluster, _ rule: LinkRule, _ a: Int, _ b: Int) {
        cluster.servers[a].proxy.set(rule, from: cluster.servers[b].address)
        cluster.servers[b].proxy.set(rule, from: cluster.servers[a].address)
    }

    @Test func whatWasAcknowledgedIsCountedOnce() throws {
        let cluster = try Cluster(actors: [2, 2, 2], oneWayMillis: 10)
        let ledger = Ledger(cluster)
        for round in 0..<(FaultTests.isLong ? 12 : 3) {
            let (a, b) = [(0, 1), (1, 2), (0, 2)][round % 3]
            try ledger.load([0, 1, 2])
            partition(cluster, round % 2 == 0 ? .cut : .blackhole, a, b)
            for _ in 0..<5 {
                try ledger.load([0, 1, 2])
                pace(millis: 100)
            }
            partition(cluster, .delay(10), a, b)
            try ledger.load([0, 1, 2])
            // What only one server has goes with it: so it is killed when the others have it.
            #expect(try eventually(within: 20_000) { try ledger.holds([0, 1, 2]) } != nil, "\(ledger.description)")
            cluster.servers[2].crash()
            try ledger.load([0, 1])
            try cluster.servers[2].start(join: [cluster.servers[0].address])
            try ledger.load([0, 1])
        }
        #expect(try eventually(within: 30_000) { try ledger.holds([0, 1, 2]) } != nil, "\(ledger.description)")
        #expect(try cluster.equal(within: 10_000) != nil, "\(cluster.logs)")
        let mixed = try cluster.actors.map { try $0.server.get("mixed", actor: $0.index) }
        #expect(Set(mixed).count == 1, "\(mixed)")
    }
}
