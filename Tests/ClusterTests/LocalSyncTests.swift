// One server, two and four query actors: what the specification promises of local sync.

import KVTestTraits
import Testing

@Suite(.blocking) struct LocalSyncTests {
    static let limitMillis: Int64 = 500

    @Test(arguments: [2, 4]) func aPutIsVisibleOnEveryActorWithinTheLimit(actors: Int) throws {
        let cluster = try Cluster(actors: [actors])
        let server = cluster.servers[0]
        for round in 0..<5 {
            try server.put("k\(round)", "v\(round)", actor: round % actors)
            #expect(try cluster.visible("k\(round)", "v\(round)", within: Self.limitMillis) != nil)
        }
    }

    @Test(arguments: [2, 4]) func distinctPutsOnAllActorsReachAll(actors: Int) throws {
        let cluster = try Cluster(actors: [actors])
        let server = cluster.servers[0]
        for actor in 0..<actors { try server.put("from\(actor)", "\(actor)", actor: actor) }
        for actor in 0..<actors {
            #expect(try cluster.visible("from\(actor)", "\(actor)", within: Self.limitMillis) != nil)
        }
    }

    @Test(arguments: [2, 4], [true, false]) func manyPutsStayWithinTenMessagesASecond(actors: Int, onAll: Bool) throws {
        let cluster = try Cluster(actors: [actors])
        let server = cluster.servers[0]
        for i in 0..<300 {
            for actor in onAll ? 0..<actors : 0..<1 { try server.put("k\(i)-\(actor)", "\(i)", actor: actor) }
            pace(millis: 10)
        }
        #expect(try cluster.equal(within: Self.limitMillis) != nil)
        #expect(try server.info("max_message_rate") <= 10)
        let lists = try (0..<actors).map { try server.connection($0).call("LIST") }
        #expect(lists[0].items.count == 2 * 300 * (onAll ? actors : 1))
        #expect(lists.allSatisfy { $0 == lists[0] })
    }

    @Test func syncBytesOfOnePutDoNotGrowWithTheData() throws {
        let cluster = try Cluster(actors: [2])
        let server = cluster.servers[0]
        func bytesOfOnePut(_ key: String) throws -> Int {
            let before = try server.info("bytes_sent")
            try server.put(key, "value")
            #expect(try cluster.visible(key, "value", within: Self.limitMillis) != nil)
            pace(millis: 400)  // redundant copies and acknowledgements belong to the put
            return try server.info("bytes_sent") - before
        }
        let small = try bytesOfOnePut("before")
        _ = try server.connection().pipeline((0..<1000).map { ["SET", "extra\($0)", "value"] })
        #expect(try cluster.equal(within: Self.limitMillis) != nil)
        pace(millis: 1000)
        let large = try bytesOfOnePut("after1")
        #expect(large <= 2 * small, "\(small) bytes before, \(large) bytes after 1,000 extra keys")
    }

    @Test func theLaterOfTwoPutsWins() throws {
        let cluster = try Cluster(actors: [2])
        let server = cluster.servers[0]
        for round in 0..<5 {
            try server.put("k\(round)", "first", actor: round % 2)
            pace(millis: 10)
            try server.put("k\(round)", "second", actor: 1 - round % 2)
            #expect(try cluster.visible("k\(round)", "second", within: Self.limitMillis) != nil)
        }
    }

    @Test func aCausalOverwriteWinsOverConcurrentPuts() throws {
        let cluster = try Cluster(actors: [3])
        let server = cluster.servers[0]
        for (round, overwriter) in [0, 1, 2].enumerated() {
            let key = "k\(round)"
            try server.put(key, "a", actor: 0)
            try server.put(key, "b", actor: 1)
            #expect(try cluster.equal(within: Self.limitMillis) != nil)
            try server.put(key, "final", actor: overwriter)
            #expect(try cluster.visible(key, "final", within: Self.limitMillis) != nil)
        }
    }

    @Test func aPutOfTheSameValueGetsANewTimestamp() throws {
        let cluster = try Cluster(actors: [2])
        let connection = try cluster.servers[0].connection()
        try connection.call("SET", "k", "same")
        let first = try connection.call("KVD", "VERSION", "k").items
        pace(millis: 5)
        try connection.call("SET", "k", "same")
        let second = try connection.call("KVD", "VERSION", "k").items
        #expect(Int(first[0].text!)! < Int(second[0].text!)!)
        #expect(first[1] == second[1])
    }

    @Test(arguments: [2, 4]) func fourClientsPerActorEndEqual(actors: Int) async throws {
        let cluster = try Cluster(actors: [actors])
        let server = cluster.servers[0]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for actor in 0..<actors {
                for client in 0..<4 {
                    let connection = try server.fresh(actor)
                    nonisolated(unsafe) let own = connection
                    group.addTask {
                        for i in 0..<200 {
                            try own.call("SET", "shared\(i % 20)", "\(actor)-\(client)-\(i)")
                            try own.call("SET", "own\(actor)-\(client)-\(i)", "\(i)")
                            if i % 7 == 0 { try own.call("DEL", "shared\(i % 20)") }
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try cluster.equal(within: 2000) != nil)
        #expect(try server.info("max_message_rate") <= 10)
        let lists = try (0..<actors).map { try server.connection($0).call("LIST", "own") }
        #expect(lists[0].items.count == 2 * 4 * actors * 200)
        #expect(lists.allSatisfy { $0 == lists[0] })
    }
}
