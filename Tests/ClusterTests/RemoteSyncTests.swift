// Several servers far apart: what the specification promises of remote sync, at 200 and 250 ms one way.

import KVTestTraits
import Testing

struct Shape: CustomTestStringConvertible, Sendable {
    var actors: [Int]
    var oneWayMillis: Int64
    var testDescription: String { "\(actors.count) servers with \(actors) actors, \(oneWayMillis) ms" }

    static let all = [
        Shape(actors: [1, 1], oneWayMillis: 200), Shape(actors: [4, 4], oneWayMillis: 250),
        Shape(actors: [1, 1, 1, 1], oneWayMillis: 250), Shape(actors: [4, 1, 2, 4], oneWayMillis: 200),
    ]
}

@Suite(.blocking) struct RemoteSyncTests {
    static let limitMillis: Int64 = 2000

    @Test(arguments: Shape.all) func putsAreVisibleEverywhereWithinTheLimit(shape: Shape) throws {
        let cluster = try Cluster(actors: shape.actors, oneWayMillis: shape.oneWayMillis)
        for (i, actor) in cluster.actors.enumerated() { try actor.server.put("from\(i)", "\(i)", actor: actor.index) }
        for i in cluster.actors.indices {
            #expect(try cluster.visible("from\(i)", "\(i)", within: Self.limitMillis) != nil, "\(cluster.logs)")
        }
    }

    @Test func manyPutsStayWithinTenMessagesASecondAndListsAreEqual() throws {
        let cluster = try Cluster(actors: [2, 2], oneWayMillis: 250)
        for i in 0..<300 {
            for actor in cluster.actors {
                try actor.server.put("k\(i)-\(actor.server.port)-\(actor.index)", "\(i)", actor: actor.index)
            }
            pace(millis: 10)
        }
        #expect(try cluster.equal(within: Self.limitMillis) != nil)
        for server in cluster.servers { #expect(try server.info("max_message_rate") <= 10) }
        let lists = try cluster.actors.map { try $0.server.connection($0.index).call("LIST") }
        #expect(lists[0].items.count == 2 * 300 * 4)
        #expect(lists.allSatisfy { $0 == lists[0] })
    }

    @Test func theLaterPutWinsAcrossServersAndACausalOverwriteAlways() throws {
        let cluster = try Cluster(actors: [1, 2, 1], oneWayMillis: 200)
        let (a, b, c) = (cluster.servers[0], cluster.servers[1], cluster.servers[2])
        try a.put("later", "first")
        pace(millis: 20)
        try b.put("later", "second", actor: 1)
        #expect(try cluster.visible("later", "second", within: Self.limitMillis) != nil)
        try a.put("causal", "a")
        try b.put("causal", "b")
        #expect(try cluster.equal(within: Self.limitMillis) != nil)
        try c.put("causal", "c")
        #expect(try cluster.visible("causal", "c", within: Self.limitMillis) != nil)
    }

    @Test func moreActorsReceiveTheSameBytesForTheSamePuts() throws {
        func received(actors: Int) throws -> Int {
            let cluster = try Cluster(actors: [1, actors], oneWayMillis: 50)
            pace(millis: 2500)
            let before = try cluster.servers[1].info("remote_bytes_received")
            for i in 0..<100 {
                try cluster.servers[0].put("key:\(i)", String(repeating: "v", count: 64))
                pace(millis: 10)
            }
            #expect(try cluster.equal(within: Self.limitMillis) != nil)
            return try cluster.servers[1].info("remote_bytes_received") - before
        }
        let one = try received(actors: 1)
        let four = try received(actors: 4)
        #expect(four <= 2 * one, "one actor received \(one) bytes, four received \(four)")
    }

    @Test func syncBytesOfOnePutDoNotGrowWithTheData() throws {
        let cluster = try Cluster(actors: [1, 1], oneWayMillis: 100)
        let server = cluster.servers[0]
        func bytesOfOnePut(_ key: String) throws -> Int {
            let before = try server.info("bytes_sent")
            try server.put(key, "value")
            #expect(try cluster.visible(key, "value", within: Self.limitMillis) != nil)
            pace(millis: 800)
            return try server.info("bytes_sent") - before
        }
        let small = try bytesOfOnePut("before")
        _ = try server.connection().pipeline((0..<1000).map { ["SET", "extra\($0)", "value"] })
        #expect(try cluster.equal(within: Self.limitMillis) != nil)
        pace(millis: 1500)
        let large = try bytesOfOnePut("after1")
        #expect(large <= 2 * small, "\(small) bytes before, \(large) bytes after 1,000 extra keys")
    }
}
