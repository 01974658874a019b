// Replicas over connections: greetings, which bring own writes to whoever is at an address, and what goes again. In
// virtual time.

import KVBase
import Testing

@testable import KVCore

@Suite struct LinkTests {
    /// Tombstones may be collected at once; a server that is started with `joining` and a link speaks over connections.
    private func cluster() -> TestCluster {
        let cluster = TestCluster()
        cluster.tune = { ($0.tombstoneAgeMillis, $0.collectEveryMillis) = (0, 100) }
        return cluster
    }

    private func connected(_ cluster: TestCluster, joining: TestServer) -> TestServer {
        let tune = cluster.tune
        cluster.tune = {
            tune(&$0)
            $0.transport = .connections
        }
        defer { cluster.tune = tune }
        return cluster.start(actors: 1, joining: joining)
    }

    private func greet(_ server: TestServer, session: UInt64, _ cluster: TestCluster) throws -> [UInt8] {
        try #require(server.actors[0].replica.greet(session: session, cluster.moment(server))).bytes
    }

    private func deliver(_ greeting: [UInt8], to server: TestServer, _ cluster: TestCluster) {
        var effects = ReplicaEffects()
        let replica = server.actors[0].replica
        #expect(replica.receive(frame: greeting, cluster.moment(server), into: &effects) == .accepted)
    }

    /// A newcomer's first write is on its way when it learns from a third server that the key was deleted, and whoever
    /// the write reaches has collected that tombstone without knowing of the newcomer.
    @Test func anEarlyWriteIsNotTakenUnderATombstoneThatWasCollectedWithoutItsWriter() throws {
        let cluster = cluster()
        let x = cluster.start(actors: 1)
        cluster.run(100)
        let m = cluster.start(actors: 1, joining: x)
        cluster.run(4_000)
        m.actors[0].put("k", "old", cluster.moment(m))
        #expect(cluster.run(until: { x.actors[0].get("k") == "old" }, within: 500))
        x.actors[0].delete("k", cluster.moment(x))
        #expect(cluster.run(until: { m.actors[0].store.tombstoneCount == 1 }, within: 500))
        cluster.drops = { from, _ in from.server == x.id }
        #expect(cluster.run(until: { x.actors[0].store.tombstoneCount == 0 }, within: 3_000))
        #expect(m.actors[0].store.tombstoneCount == 1)

        let y = connected(cluster, joining: m)
        y.wallOffset = -60_000
        y.actors[0].put("k", "early", cluster.moment(y))
        y.wallOffset = 0
        let greeting = try greet(y, session: 7, cluster)
        // The third server says nothing of the newcomer while its word is on its way.
        cluster.drops = { from, to in from.server == x.id || to.server == x.id }
        y.link(to: m, session: 1, cluster)
        #expect(cluster.run(until: { y.actors[0].replica.isCaughtUp }, within: 3_000))
        #expect(y.actors[0].get("k") == nil)
        y.link(to: x, session: 7, cluster)
        deliver(greeting, to: x, cluster)
        cluster.run(1)
        #expect(x.actors[0].get("k") == nil)
        #expect(x.actors[0].replica.statistics.insertRefusedByFrontier > 0)

        cluster.drops = { _, _ in false }
        cluster.run(10_000)
        #expect(cluster.isConverged && x.actors[0].get("k") == nil)
        #expect(x.actors[0].replica.vector == y.actors[0].replica.vector)
        #expect(cluster.sum(\.divergences) == 0)
        #expect(cluster.actors.allSatisfy { $0.1.store.tombstoneCount == 0 })
    }

    /// Neither can prove to the other that it knows what that has collected: after 10 s they believe each other.
    @Test func twoPartsThatHaveEachCollectedBelieveEachOther() {
        let cluster = cluster()
        let parts = (0..<2).map { _ in cluster.start(actors: 1) }
        let others = parts.map { cluster.start(actors: 1, joining: $0) }
        cluster.run(4_000)
        for (i, part) in parts.enumerated() {
            part.actors[0].put("old\(i)", "v", cluster.moment(part))
            cluster.run(10)
            part.actors[0].put("k", "v", cluster.moment(part))
            part.actors[0].delete("k", cluster.moment(part))
        }
        #expect(cluster.run(until: { cluster.actors.allSatisfy { $0.1.store.gcFloor > 0 } }, within: 5_000))
        meet(parts[0], parts[1], cluster)
        parts[0].actors[0].put("new", "v", cluster.moment(parts[0]))
        #expect(cluster.run(until: { others[1].actors[0].get("new") == "v" }, within: 2_000))
        let all = parts + others
        #expect(
            cluster.run(
                until: { all.allSatisfy { $0.actors[0].get("old0") == "v" && $0.actors[0].get("old1") == "v" } },
                within: 13_000))
        #expect(cluster.sum(\.divergences) == 0)
    }

    /// One actor of a server has collected the tombstone that its writer still holds, and neither knew of the server
    /// that holds an older value: this must not come back at the one and stay away at the other (seed 8376).
    @Test func whatOneActorCollectedDoesNotComeBackFromAServerThatIsMetLater() {
        let cluster = cluster()
        let old = cluster.start(actors: 1)
        old.actors[0].put("k", "old", cluster.moment(old))
        cluster.run(100)
        let tune = cluster.tune
        cluster.tune = {
            tune(&$0)
            if $0.actorIndex == 0 { $0.collectEveryMillis = 30_000 }
        }
        let x = cluster.start(actors: 2)
        _ = cluster.start(actors: 1, joining: x)
        cluster.run(4_000)
        x.actors[0].put("k", "new", cluster.moment(x))
        x.actors[0].delete("k", cluster.moment(x))
        #expect(cluster.run(until: { x.actors[1].store.gcFloor > 0 }, within: 5_000))
        #expect(x.actors[0].store.tombstoneCount == 1 && x.actors[1].store.tombstoneCount == 0)
        meet(x, old, cluster)
        #expect(cluster.run(until: { old.actors[0].get("k") == nil }, within: 8_000))
        cluster.run(40_000)
        #expect(cluster.isConverged && cluster.actors.allSatisfy { $0.1.get("k") == nil })
        #expect(cluster.sum(\.divergences) == 0)
    }

    /// The first learns of the second, and says so.
    private func meet(_ one: TestServer, _ other: TestServer, _ cluster: TestCluster) {
        var effects = ReplicaEffects()
        let row = other.actors[0].replica.memberRows.first { $0.server == other.id }!
        for actor in one.actors { actor.replica.learn(row, cluster.moment(one), into: &effects) }
    }

    /// What is stamped above all that was collected needs no such proof: a newcomer's write is there at once.
    @Test func anEarlyWriteAboveWhatWasCollectedIsTakenAtOnce() throws {
        let cluster = cluster()
        let x = cluster.start(actors: 1)
        cluster.run(100)
        _ = cluster.start(actors: 1, joining: x)
        cluster.run(4_000)
        x.actors[0].put("k", "old", cluster.moment(x))
        x.actors[0].delete("k", cluster.moment(x))
        #expect(cluster.run(until: { x.actors[0].store.tombstoneCount == 0 }, within: 3_000))
        cluster.run(10)
        let y = connected(cluster, joining: x)
        y.actors[0].put("k", "early", cluster.moment(y))
        deliver(try greet(y, session: 7, cluster), to: x, cluster)
        #expect(x.actors[0].get("k") == "early")
    }

    /// Somebody whom nobody knows yet holds a write whose deletion comes after the greeting.
    @Test func nothingIsCollectedWhileItIsNotKnownWhoWasGreeted() throws {
        let cluster = cluster()
        let nobody = cluster.start(actors: 1)
        cluster.drops = { from, to in from.server == nobody.id || to.server == nobody.id }
        let x = connected(cluster, joining: nobody)
        x.actors[0].put("k", "early", cluster.moment(x))
        let greeting = try greet(x, session: 9, cluster)
        x.actors[0].delete("k", cluster.moment(x))
        // It joins an empty newcomer, which has everything then that it has.
        let m = cluster.start(actors: 1, joining: x)
        x.link(to: m, session: 1, cluster)
        #expect(cluster.run(until: { x.actors[0].replica.isCaughtUp }, within: 5_000))
        var effects = ReplicaEffects()
        x.actors[0].replica.forget(nobody.id, cluster.moment(x), into: &effects)
        cluster.run(5_000)
        #expect(x.actors[0].store.tombstoneCount == 1)

        let y = cluster.start(actors: 1, joining: nobody)
        x.link(to: y, session: 9, cluster)
        deliver(greeting, to: y, cluster)
        #expect(y.actors[0].get("k") == "early")
        #expect(cluster.run(until: { y.actors[0].get("k") == nil }, within: 3_000))
        cluster.run(10_000)
        #expect(x.actors[0].store.tombstoneCount == 0 && y.actors[0].store.tombstoneCount == 0)
        #expect(cluster.sum(\.divergences) == 0)
    }

    @Test func aGreetingThatNobodyAnswersHoldsCollectingForAMinuteOnly() throws {
        let cluster = cluster()
        let nobody = cluster.start(actors: 1)
        cluster.drops = { from, to in from.server == nobody.id || to.server == nobody.id }
        let x = connected(cluster, joining: nobody)
        x.actors[0].put("k", "early", cluster.moment(x))
        _ = try greet(x, session: 9, cluster)
        x.actors[0].delete("k", cluster.moment(x))
        let m = cluster.start(actors: 1, joining: x)
        x.link(to: m, session: 1, cluster)
        #expect(cluster.run(until: { x.actors[0].replica.isCaughtUp }, within: 5_000))
        var effects = ReplicaEffects()
        x.actors[0].replica.forget(nobody.id, cluster.moment(x), into: &effects)
        let greetedAt = cluster.now
        #expect(cluster.run(until: { x.actors[0].store.tombstoneCount == 0 }, within: 70_000))
        #expect(cluster.now - greetedAt > 50_000)
    }

    /// Its machine takes everything, and another of its actors is heard all the time.
    @Test func whatAServerDoesNotGetToGoesToItsNextActorEachTimeAfterTwiceTheTime() {
        let cluster = TestCluster()
        let b = cluster.start(actors: 2)
        cluster.run(100)
        let a = connected(cluster, joining: b)
        a.link(to: b, session: 1, cluster)
        #expect(cluster.run(until: { a.actors[0].replica.isCaughtUp }, within: 3_000))
        cluster.run(1_000)
        cluster.drops = { from, to in from.server == a.id && to.server == b.id }
        a.actors[0].put("k", String(repeating: "v", count: 10_000), cluster.moment(a))
        let before = cluster.sent.count
        cluster.run(60_000)
        let sections = cluster.sent[before...].count { $0.from.server == a.id && $0.bytes > 10_000 }
        #expect((4...7).contains(sections))
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged }, within: 40_000))
    }
}

extension TestServer {
    /// A connection stands.
    fileprivate func link(to other: TestServer, session: UInt64, _ cluster: TestCluster) {
        for actor in actors { actor.replica.linkUp(other.id, session: session, cluster.moment(self)) }
    }
}
