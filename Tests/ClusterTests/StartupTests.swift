// Servers that join while the others work: existing state, new puts in both directions, chains of joins.

import KVTestTraits
import Testing

@Suite(.blocking) struct StartupTests {
    static func joiner(_ cluster: Cluster, actors: Int, oneWayMillis: Int64) throws -> ServerProcess {
        let server = try ServerProcess(actors: actors)
        cluster.servers.append(server)
        cluster.introduce()
        server.proxy.set(.delay(oneWayMillis))
        return server
    }

    @Test func valuesOnAnOldServerReachAllActorsOfANewOne() throws {
        let cluster = try Cluster(actors: [2])
        let old = cluster.servers[0]
        for chunk in 0..<10 {
            _ = try old.connection(chunk % 2).pipeline((0..<500).map { ["SET", "k\(chunk)-\($0)", "v\($0)"] })
        }
        let new = try Self.joiner(cluster, actors: 4, oneWayMillis: 200)
        try new.start(join: [old.address])
        #expect(try cluster.equal(within: 20_000) != nil, "\(cluster.logs)")
        for actor in 0..<4 { #expect(try new.connection(actor).call("DBSIZE") == .integer(5000)) }
    }

    /// More of them than one message can hold.
    @Test func aServerWithLargeValuesIsJoined() throws {
        let cluster = try Cluster(actors: [1])
        let old = cluster.servers[0]
        let value = String(repeating: "x", count: 30 << 20)
        for i in 0..<8 { try old.put("k\(i)", value) }
        let new = try Self.joiner(cluster, actors: 1, oneWayMillis: 1)
        try new.start(join: [old.address])
        #expect(try cluster.equal(within: 20_000) != nil, "\(cluster.logs)")
        #expect(try new.connection().call("STRLEN", "k7") == .integer(30 << 20))
    }

    /// What servers tell each other about themselves counts as well.
    @Test func joiningUnderLoadStaysWithinTenMessagesASecond() throws {
        let cluster = try Cluster(actors: [1])
        let old = cluster.servers[0]
        let new = try Self.joiner(cluster, actors: 1, oneWayMillis: 1)
        for i in 0..<300 {
            if i == 50 { try new.start(join: [old.address]) }
            try old.put("k\(i)", "\(i)")
            pace(millis: 10)
        }
        #expect(try cluster.equal(within: 10_000) != nil, "\(cluster.logs)")
        for server in cluster.servers { #expect(try server.info("max_message_rate") <= 10) }
    }

    @Test func aPutOnTheNewServerWhileItConnectsReachesTheOldOne() throws {
        let cluster = try Cluster(actors: [2])
        let old = cluster.servers[0]
        let new = try Self.joiner(cluster, actors: 2, oneWayMillis: 250)
        try new.start(join: [old.address])
        try new.put("early", "bird", actor: 1)
        #expect(try cluster.visible("early", "bird", within: 10_000) != nil, "\(cluster.logs)")
    }

    @Test func concurrentOverwritesAroundTheJoinEndWithTheLastWriter() throws {
        let cluster = try Cluster(actors: [2])
        let old = cluster.servers[0]
        for i in 0..<5 { try old.put("k\(i)", "before", actor: i % 2) }
        let new = try Self.joiner(cluster, actors: 2, oneWayMillis: 200)
        try new.start(join: [old.address])
        for i in 0..<5 {
            try old.put("k\(i)", "old", actor: i % 2)
            pace(millis: 20)
            try new.put("k\(i)", "new", actor: (i + 1) % 2)
        }
        for i in 0..<5 { #expect(try cluster.visible("k\(i)", "new", within: 10_000) != nil) }
        #expect(try cluster.equal(within: 5000) != nil)
    }

    @Test func fourServersJoiningOneAfterAnotherWithPutsInBetween() throws {
        let cluster = try Cluster(actors: [1])
        for round in 1..<4 {
            try cluster.servers[round - 1].put("round\(round)", "\(round)")
            let new = try Self.joiner(cluster, actors: round, oneWayMillis: 100)
            // Joining through the youngest shows that one server is enough to learn all.
            try new.start(join: [cluster.servers[round - 1].address])
            try new.put("joined\(round)", "\(round)")
        }
        try cluster.settle(withinMillis: 60_000)
        for round in 1..<4 {
            #expect(try cluster.visible("round\(round)", "\(round)", within: 10_000) != nil)
            #expect(try cluster.visible("joined\(round)", "\(round)", within: 10_000) != nil)
        }
        #expect(try cluster.equal(within: 5000) != nil)
    }
}
