// Query actors of one server: visibility, pacing, coalescing, closure, lost batches.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct SiblingTests {
    @Test func aPutIsVisibleOnEverySiblingAtOnceWhenIdle() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 4)
        cluster.run(3_000)
        server.actors[1].put("k", "v", cluster.moment(server))
        cluster.run(5)
        for actor in server.actors { #expect(actor.get("k") == "v") }
    }

    @Test func distinctPutsOnAllSiblingsReachAll() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 4)
        cluster.run(500)
        for (i, actor) in server.actors.enumerated() { actor.put("k\(i)", "v\(i)", cluster.moment(server)) }
        cluster.run(500)
        for actor in server.actors { for i in 0..<4 { #expect(actor.get("k\(i)") == "v\(i)") } }
    }

    @Test func aServerWithoutPeersForgetsItsJournal() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 2, journal: 1 << 20)
        cluster.run(500)
        let actor = server.actors[0]
        let writes = Int(Replica.journalKeptAlone) + 50_000
        for i in 0..<writes { actor.put("k\(i % 100)", "v\(i)", cluster.moment(server)) }
        actor.replica.trimJournal()
        #expect(actor.store.journalFirstSeq == 1, "the sibling does not have them yet")
        cluster.run(1_000)
        actor.replica.trimJournal()
        #expect(actor.store.journalFirstSeq > 40_000)
        #expect(actor.store.journalBytes < 1_000_000)
        // A server that joins now copies what it is not told.
        let other = cluster.start(actors: 1, joining: server)
        cluster.run(5_000)
        for i in 0..<100 { #expect(other.actors[0].get("k\(i)") == actor.get("k\(i)")) }
    }

    @Test func noPairEverCarriesMoreThanTenMessagesInASecond() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 3)
        cluster.run(100)
        var i = 0
        cluster.run(6_000) {
            for actor in server.actors { actor.put("k\(i % 50)", "v\(i)", cluster.moment(server)) }
            i += 1
        }
        cluster.run(1_000)
        #expect(cluster.greatestRate <= 10)
        #expect(cluster.greatestRate >= 9)
        #expect(cluster.isConverged)
    }

    @Test func aKeyOverwrittenAThousandTimesInOneIntervalCrossesOnce() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 2)
        cluster.run(1_000)
        server.actors[0].put("warm", "x", cluster.moment(server))
        cluster.run(20)
        let before = server.actors[0].replica.statistics.entriesSent
        for i in 0..<1_000 { server.actors[0].put("hot", "\(i)", cluster.moment(server)) }
        let ok = cluster.run(until: { server.actors[1].get("hot") == "999" }, within: 200)
        #expect(ok)
        #expect(server.actors[0].replica.statistics.entriesSent - before <= 2)
    }

    @Test func theLaterOfTwoPutsOnDifferentActorsWins() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 3)
        cluster.run(500)
        server.actors[0].put("k", "first", cluster.moment(server))
        cluster.run(10)
        server.actors[1].put("k", "second", cluster.moment(server))
        cluster.run(500)
        for actor in server.actors { #expect(actor.get("k") == "second") }
        server.actors[2].put("k", "third", cluster.moment(server))
        cluster.run(500)
        for actor in server.actors { #expect(actor.get("k") == "third") }
    }

    @Test func lostBatchesAreRepeated() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 2)
        cluster.run(1_000)
        var lost = 0
        cluster.drops = { from, _ in
            guard from.index == 0, lost < 3 else { return false }
            lost += 1
            return true
        }
        server.actors[0].put("k", "v", cluster.moment(server))
        cluster.run(450)
        #expect(lost == 3)
        #expect(server.actors[1].get("k") == "v")
    }

    @Test func aSiblingBehindTheBoundsOfTheLogCatchesUpByScan() {
        let cluster = TestCluster()
        cluster.tune = { $0.localEntriesMax = 64 }
        let server = cluster.start(actors: 2)
        cluster.run(1_000)
        server.actors[1].isAlive = false
        var i = 0
        cluster.run(3_000) {
            server.actors[0].put("k\(i)", "v", cluster.moment(server))
            i += 1
        }
        #expect(server.actors[0].replica.heldEntries <= 64)
        server.actors[1].isAlive = true
        let ok = cluster.run(until: { cluster.isConverged }, within: 5_000)
        #expect(ok)
        cluster.run(1_000)
        #expect(server.actors[1].replica.statistics.localScansFinished >= 1)
        #expect(server.actors[0].replica.vector == server.actors[1].replica.vector)
    }

    /// The sender's write was superseded by a third actor's before it was sent: the receiver must get what superseded
    /// it.
    @Test func aSupersededWriteCarriesItsSuccessor() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 3)
        cluster.run(1_000)
        cluster.drops = { from, to in from.index == 2 && to.index == 1 || from.index == 0 && to.index == 1 }
        server.actors[0].put("k", "old", cluster.moment(server))
        cluster.run(300)
        server.actors[2].put("k", "new", cluster.moment(server))
        cluster.run(300)
        #expect(server.actors[0].get("k") == "new")
        // Actor 2 is gone for ever, as far as actor 1 is concerned.
        cluster.drops = { from, to in from.index == 2 && to.index == 1 }
        #expect(cluster.run(until: { server.actors[1].get("k") == "new" }, within: 700))
    }

    @Test func deletesReachSiblingsAndAreCollected() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 2)
        cluster.run(500)
        server.actors[0].put("k", "v", cluster.moment(server))
        cluster.run(300)
        #expect(server.actors[1].delete("k", cluster.moment(server)))
        cluster.run(300)
        #expect(server.actors[0].get("k") == nil)
        #expect(server.actors[0].store.tombstoneCount == 1)
        cluster.run(70_000)
        #expect(server.actors[0].store.tombstoneCount == 0)
        #expect(server.actors[1].store.tombstoneCount == 0)
        #expect(server.actors[1].store.gcFloor > 0)
    }
}
