// The query actors of one server without loops: what they tell each other waits until it is delivered. One thread.

import FuzzSupport
import KVBase
import KVCore

@testable import KVServer

/// Shards share nothing but what homes carry: what a client sees came that way.
final class LocalHomes: Homes, @unchecked Sendable {
    private(set) var shards: [Shard] = []
    private var told: [(to: Int, body: @Sendable (Shard) -> Void)] = []
    /// Messages so far.
    private(set) var toldCount = 0
    /// Units of its turn that an actor has spent when a message arrives.
    var spentUnits = 0
    /// Actors that do not listen.
    var stopped: Set<Int> = []

    init(actors: Int, now: Millis = 1_000_000) {
        super.init(actorCount: actors)
        var config = Config()
        config.actors = actors
        let context = ServerContext(config: config, serverID: 1, hashSeed: 1, digestKey: 1, inputOutput: "none")
        for index in 1...actors {
            let shard = Shard(index: index, context: context, journalCapacity: 1024)
            shard.state.pointee.nowMillis = now
            shard.homes = self
            shards.append(shard)
        }
    }

    override func tell(_ index: Int, _ body: @escaping @Sendable (Shard) -> Void) -> Bool {
        if stopped.contains(index) { return false }
        told.append((index, body))
        toldCount += 1
        return true
    }

    /// Everything told so far; false if there was nothing.
    func deliver() -> Bool {
        let now = told
        told = []
        for (index, body) in now {
            shards[index - 1].state.pointee.budget = TurnBudget()
            shards[index - 1].state.pointee.budget.spend(spentUnits)
            body(shards[index - 1])
        }
        var hasServed = false
        for shard in shards where !shard.homeQueue.isEmpty {
            shard.state.pointee.budget = TurnBudget()
            shard.state.pointee.budget.spend(spentUnits)
            shard.serveHome(until: 0)
            hasServed = true
        }
        // Their turns end. Who waits for that has no owner here who gives it a turn: it takes one by itself.
        for shard in shards { _ = shard.serveWaiting() }
        return !now.isEmpty || hasServed
    }

    func client(of actor: Int) -> LocalSession {
        let client = LocalSession(shard: shards[actor - 1], now: shards[actor - 1].state.pointee.nowMillis)
        client.whileSuspended = { [unowned self] in deliver() }
        return client
    }

    func close() {
        for shard in shards { shard.close() }
        shards = []
    }

    /// Keys whose home is the actor.
    func keys(of actor: Int, _ prefix: String = "k") -> [String] {
        (0..<1000).map { "\(prefix)\($0)" }.filter { key in
            Bytes(key).withBytes { home(of: ByteView($0), shards[0].state.pointee.store) } == actor
        }
    }
}

/// A server of so many actors, and a client of each.
func withActors(_ count: Int, _ body: (LocalHomes, [LocalSession]) throws -> Void) rethrows {
    let homes = LocalHomes(actors: count)
    let clients = (1...count).map { homes.client(of: $0) }
    defer {
        for client in clients { client.close(shardToo: false) }
        homes.close()
    }
    try body(homes, clients)
}
