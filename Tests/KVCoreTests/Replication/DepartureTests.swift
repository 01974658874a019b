// Servers that leave or vanish, and what becomes of the writes they left behind.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct DepartureTests {
    private func leave(_ server: TestServer, _ cluster: TestCluster) {
        for actor in server.actors {
            var effects = ReplicaEffects()
            actor.replica.beginLeave(cluster.moment(server), into: &effects)
        }
    }

    @Test func aLeavingServerWaitsForTheNewcomerThatCopiesIt() {
        let (cluster, gone, a) = RemoteTests.pair(1, 2)
        cluster.remoteDelay = 100
        gone.actors[0].put("k", "v", cluster.moment(gone))
        cluster.run(1_000)
        cluster.stop(gone)
        cluster.run(5_000)
        let b = cluster.start(actors: 2, joining: a)
        #expect(cluster.run(until: { a.actors[0].replica.server(b.id)?.isContacted ?? false }, within: 1_000))
        leave(a, cluster)
        #expect(cluster.run(until: { a.actors.allSatisfy(\.replica.hasLeft) }, within: 5_000))
        cluster.stop(a)
        cluster.run(1_000)
        #expect(b.actors.allSatisfy { $0.get("k") == "v" })
    }

    /// What a newcomer has handed over it does not stamp again when it hears of a floor: nobody would take that.
    @Test func whoeverHandedItsWritesOverMakesNoneWhileItsSiblingsStillDo() {
        let cluster = TestCluster()
        let old = cluster.start(actors: 1)
        cluster.run(200)
        let b = cluster.start(actors: 2, joining: old)
        let (first, second) = (b.actors[0], b.actors[1])
        // Only the second actor is heard, so the first can neither hand its writes over nor fill its server.
        cluster.drops = { from, to in from == first.replica.uid && to.server == old.id }
        second.put("k1", "v", cluster.moment(b))
        cluster.run(1_000)
        leave(b, cluster)
        first.put("k0", "v", cluster.moment(b))
        #expect(cluster.run(until: { first.replica.siblings[0].isFlushed }, within: 2_000))
        old.actors[0].store.raiseGCFloor(to: cluster.moment(old).wall)
        #expect(cluster.run(until: { second.store.gcFloor == old.actors[0].store.gcFloor }, within: 2_000))
        #expect(first.store.ownSeq == 2 && second.store.ownSeq == 1)

        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { !second.replica.members.isMember(b.id) }, within: 5_000))
        // A frame that was still under way.
        var effects = ReplicaEffects()
        for actor in b.actors {
            actor.replica.adoptFloor(cluster.moment(b).wall, from: 1, cluster.moment(b), into: &effects)
        }
        #expect(first.store.ownSeq == 2 && second.store.ownSeq == 1)
        #expect((0..<2).allSatisfy { old.actors[0].version("k\($0)") == b.actors[$0].version("k\($0)") })
    }

    @Test func whoeverSaidGoodbyeMakesNoWriteByItself() {
        let (cluster, _, b) = RemoteTests.pair(1, 1)
        let actor = b.actors[0]
        actor.put("k", "v", cluster.moment(b))
        leave(b, cluster)
        #expect(cluster.run(until: { !actor.replica.members.isMember(b.id) }, within: 1_000))
        var effects = ReplicaEffects()
        actor.replica.adoptFloor(cluster.moment(b).wall, from: 1, cluster.moment(b), into: &effects)
        #expect(actor.store.ownSeq == 1)
    }

    @Test func everyActorOfALeavingServerSaysGoodbyeAtOnce() {
        let (cluster, a, b) = RemoteTests.pair(4, 1)
        cluster.run(10)
        leave(b, cluster)
        leave(a, cluster)
        #expect(cluster.run(until: { a.actors.allSatisfy(\.replica.hasLeft) }, within: 600))
    }

    @Test func aServerAloneLeavesWithAllItsActors() {
        let cluster = TestCluster()
        let a = cluster.start(actors: 3)
        cluster.run(1_000)
        leave(a, cluster)
        #expect(cluster.run(until: { a.actors.allSatisfy(\.replica.hasLeft) }, within: 1_000))
    }

    @Test func whatIsLeftOfAServerThatWasNeverHeardIsPassedOnToo() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        let x = cluster.start(actors: 1, joining: a)
        let (fromX, fromA) = (x.actors[0], a.actors[0])
        var isCut: (ActorUID, ActorUID) -> Bool = { _, _ in false }
        cluster.drops = { from, to in
            isCut(from, to) || (from.server == x.id && to.server == b.id) || (from.server == b.id && to.server == x.id)
        }
        cluster.run(4_000)
        x.wallOffset = 500
        // The first write of X is lost on its way, the second arrives at A behind that gap, and X is no more.
        isCut = { from, to in from.server != to.server && to.server != x.id }
        fromX.put("gap", "v", cluster.moment(x))
        cluster.run(150)
        isCut = { _, to in to.server == b.id }
        fromA.put("k", "old", cluster.moment(a))
        fromX.put("k", "new", cluster.moment(x))
        #expect(cluster.run(until: { fromA.get("k") == "new" }, within: 300))
        #expect(fromA.get("gap") == nil)
        cluster.stop(x)
        // B is handed it as the winner of the key that A wrote, and A is no more.
        isCut = { _, _ in false }
        #expect(cluster.run(until: { b.actors[0].get("k") == "new" }, within: 2_000))
        cluster.stop(a)
        #expect(b.actors[0].replica.statistics.entriesAdopted == 0)
        #expect(cluster.run(until: { b.actors[0].replica.statistics.entriesAdopted == 1 }, within: 15_000))
    }

    /// Nobody can tell what one of two says from a lie, so it lasts, and what departed is not retired meanwhile.
    @Test func whoIsGoneForHalfOfTheOthersStaysAMemberUntilItIsStopped() {
        let (cluster, x, a) = RemoteTests.pair(1, 1)
        cluster.drops = { $0.server == a.id || $1.server == a.id }
        cluster.run(11_000)
        var effects = ReplicaEffects()
        a.actors[0].replica.forget(x.id, cluster.moment(a), into: &effects)
        let d = cluster.start(actors: 1, joining: x)
        cluster.run(4_000)
        cluster.drops = { _, _ in false }
        cluster.run(5_000)
        let fromD = d.actors[0]
        fromD.put("k", "v", cluster.moment(d))
        cluster.run(1_000)
        #expect(fromD.delete("k", cluster.moment(d)))
        x.actors[0].put("later", "v", cluster.moment(x))
        cluster.run(80_000)
        #expect(!x.actors[0].events.contains(.forgotten) && fromD.replica.members.isMember(x.id))
        #expect(!a.actors[0].replica.members.isMember(x.id) && a.actors[0].get("later") == "v")
        #expect(!fromD.replica.retired.contains(x.id) && !a.actors[0].replica.retired.contains(x.id))
        #expect(cluster.servers.contains { $0.actors[0].store.tombstoneCount > 0 })
        cluster.stop(x)
        cluster.run(30_000)
        for server in [a, d] {
            let actor = server.actors[0]
            #expect(actor.replica.retired.contains(x.id) && actor.store.tombstoneCount == 0)
            #expect(actor.get("later") == "v" && actor.replica.members.isMember(server === a ? d.id : a.id))
        }
    }

    /// The interval in which it was adopted counts for nobody if its writer dies before the gap is filled.
    @Test func whatWasAdoptedAndArrivesBeyondAGapIsAdoptedAgain() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        let x = cluster.start(actors: 1, joining: a)
        let (fromX, fromA, fromB) = (x.actors[0], a.actors[0], b.actors[0])
        var isCut: (ActorUID, ActorUID) -> Bool = { _, _ in false }
        cluster.drops = { from, to in
            isCut(from, to) || (from.server == x.id && to.server == b.id) || (from.server == b.id && to.server == x.id)
        }
        cluster.run(4_000)
        isCut = { from, to in from.server != to.server && to.server != x.id }
        fromX.put("gap", "v", cluster.moment(x))
        cluster.run(150)
        isCut = { _, to in to.server == b.id }
        fromX.put("k", "new", cluster.moment(x))
        #expect(cluster.run(until: { fromA.get("k") == "new" }, within: 300))
        cluster.stop(x)
        for server in [a, b] {
            var effects = ReplicaEffects()
            server.actors[0].replica.forget(x.id, cluster.moment(server), into: &effects)
        }
        // Goes astray and is sent again now and then; what is adopted follows as an interval of its own.
        fromA.put("astray", "v", cluster.moment(a))
        #expect(cluster.run(until: { fromA.replica.statistics.entriesAdopted == 1 }, within: 10_000))
        isCut = { _, _ in false }
        #expect(cluster.run(until: { fromB.get("k") == "new" }, within: 2_000))
        cluster.stop(a)
        #expect(fromB.get("astray") == nil)
        #expect(cluster.run(until: { fromB.replica.statistics.entriesAdopted == 1 }, within: 15_000))
    }

    /// Both hold other writes of X beyond the same gap, and get each other's only after they adopted their own.
    @Test func whatWasAdoptedOnceIsNotAdoptedAgainWithWhatComesLater() {
        let (cluster, a, b) = RemoteTests.pair(1, 1, delay: 50)
        let x = cluster.start(actors: 1, joining: a)
        cluster.run(4_000)
        var reached: UInt64 = 0
        cluster.drops = { from, to in from.server != x.id || to.server != reached }
        x.actors[0].put("gap", "v", cluster.moment(x))
        cluster.run(100)
        reached = a.id
        for i in 0..<10 { x.actors[0].put("a\(i)", "v", cluster.moment(x)) }
        cluster.run(100)
        reached = b.id
        for i in 0..<5 { x.actors[0].put("b\(i)", "v", cluster.moment(x)) }
        cluster.run(100)
        cluster.stop(x)
        cluster.run(50)
        #expect(a.actors[0].store.count == 10 && b.actors[0].store.count == 5)
        #expect(cluster.run(until: { cluster.sum(\.entriesAdopted) == 15 }, within: 20_000))
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { a.actors[0].store.count == 15 && b.actors[0].store.count == 15 }, within: 2_000))
        cluster.run(20_000)
        #expect(cluster.actors.allSatisfy { $0.1.replica.statistics.entriesAdopted == 15 })
    }

    @Test func whatOneActorAdoptedItsSiblingsDoNot() {
        let (cluster, a, b) = RemoteTests.pair(3, 1, delay: 50)
        let x = cluster.start(actors: 1, joining: a)
        cluster.run(4_000)
        var isGap = true
        cluster.drops = { from, to in from.server == x.id && (isGap || to.server == b.id) }
        x.actors[0].put("gap", "v", cluster.moment(x))
        cluster.run(100)
        isGap = false
        for i in 0..<10 { x.actors[0].put("a\(i)", "v", cluster.moment(x)) }
        cluster.run(110)
        cluster.stop(x)
        cluster.run(1_000)
        #expect(a.actors.allSatisfy { $0.store.count == 10 } && b.actors[0].store.count == 0)
        #expect(cluster.run(until: { b.actors[0].store.count == 10 }, within: 20_000))
        cluster.run(10_000)
        #expect(a.actors.map(\.replica.statistics.entriesAdopted) == [10, 0, 0])
        #expect(cluster.isConverged && cluster.sum(\.divergences) == 0)
    }

    /// What the journal forgot before it was sent everybody would have to fetch by a scan.
    @Test func adoptingKeepsPaceWithTheJournal() {
        let cluster = TestCluster()
        cluster.remoteDelay = 50
        cluster.tune = { $0.adoptedAheadMax = 512 }
        let a = cluster.start(actors: 2, journal: 1_024)
        cluster.run(200)
        let b = cluster.start(actors: 1, joining: a)
        let x = cluster.start(actors: 1, joining: a)
        cluster.run(4_000)
        var isGap = true
        cluster.drops = { from, to in from.server == x.id && (isGap || to.server == b.id) }
        x.actors[0].put("gap", "v", cluster.moment(x))
        cluster.run(100)
        isGap = false
        for i in 0..<5_000 { x.actors[0].put("a\(i)", "v", cluster.moment(x)) }
        cluster.run(110)
        cluster.stop(x)
        cluster.run(1_000)
        #expect(a.actors.allSatisfy { $0.store.count == 5_000 } && b.actors[0].store.count == 0)
        #expect(cluster.run(until: { b.actors[0].store.count == 5_000 }, within: 20_000))
        cluster.run(10_000)
        #expect(a.actors.map(\.replica.statistics.entriesAdopted) == [5_000, 0])
        #expect(cluster.sum(\.journalOverruns) == 0)
        #expect(cluster.isConverged && cluster.sum(\.divergences) == 0)
    }

    /// A newcomer got part of a founder's data through another newcomer; the founder dies, and a server that has all of
    /// it gives it slowly.
    @Test func whatAServerThatCanBeHeardStillHasIsNotAdopted() {
        let cluster = TestCluster()
        cluster.tune = { $0.chunkBytesMax = 64 }
        let a = cluster.start(actors: 1)
        // Too many writes for the stream: a newcomer gets them by a scan.
        for i in 0..<8_000 { a.actors[0].put("k\(i % 1_600)", "v", cluster.moment(a)) }
        let b = cluster.start(actors: 1, joining: a)
        #expect(cluster.run(until: { cluster.isConverged && b.actors[0].replica.isCaughtUp }, within: 60_000))
        let newer = { [a, b] (id: UInt64) in id != a.id && id != b.id }
        var isFounderCut = false
        cluster.drops = { from, to in
            newer(from.server) != newer(to.server)
                && (isFounderCut || from.server == b.id || to.server == b.id)
        }
        let c = cluster.start(actors: 1, joining: a)
        #expect(cluster.run(until: { c.actors[0].store.count > 100 }, within: 30_000))
        isFounderCut = true
        cluster.stop(a)
        let d = cluster.start(actors: 1, joining: c)
        #expect(cluster.run(until: { d.actors[0].replica.isCaughtUp }, within: 9_000))
        #expect(d.actors[0].store.count > 100 && d.actors[0].store.count < 1_600)
        cluster.drops = { _, _ in false }
        let healed = cluster.now
        #expect(cluster.run(until: { cluster.isConverged && d.actors[0].store.count == 1_600 }, within: 60_000))
        // Long enough for the founder to count as gone.
        #expect(cluster.now - healed > 15_000)
        #expect(cluster.sum(\.entriesAdopted) == 0 && cluster.sum(\.divergences) == 0)
    }

    @Test func whatADeadWriterPassedOnOfADepartedServerIsNotLeftOnSomeReplicasOnly() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        let x = cluster.start(actors: 1, joining: a)
        let c = cluster.start(actors: 2, joining: a)
        cluster.run(4_000)
        x.wallOffset = 500
        // B has A's write as it was; C meets it only after X beat it. Only A ever has X's writes as such.
        cluster.drops = { from, to in from.server != to.server && (from.server == c.id || to.server == c.id) }
        a.actors[0].put("k", "old", cluster.moment(a))
        #expect(cluster.run(until: { b.actors[0].get("k") == "old" }, within: 500))
        let apart = [b.id, c.id]
        cluster.drops = { from, to in
            from.server != to.server && (apart.contains(from.server) || apart.contains(to.server))
        }
        x.actors[0].put("k", "new", cluster.moment(x))
        #expect(cluster.run(until: { a.actors[0].get("k") == "new" }, within: 500))
        cluster.stop(x)
        for server in [a, b, c] {
            for actor in server.actors {
                var effects = ReplicaEffects()
                actor.replica.forget(x.id, cluster.moment(server), into: &effects)
            }
        }
        cluster.run(5_000)
        cluster.drops = { from, to in from.server == b.id || to.server == b.id }
        #expect(cluster.run(until: { c.actors[0].get("k") == "new" }, within: 10_000))
        cluster.stop(a)
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { b.actors[0].get("k") == "new" }, within: 4_000))
        cluster.run(20_000)
        #expect(cluster.isConverged && cluster.sum(\.divergences) == 0)
        // Who is handed it by one that adopted it has nothing to adopt.
        #expect(b.actors[0].replica.statistics.entriesAdopted == 0)
    }

    /// Clause 3 of collection refuses what a sibling relays while it has not seen a tombstone that was collected.
    @Test func aSiblingThatLacksTheSameAsThisActorIsNotScannedForEver() {
        let cluster = TestCluster()
        cluster.tune = { $0.localEntriesMax = 4 }
        let a = cluster.start(actors: 1, journal: 4096)
        cluster.run(200)
        let b = cluster.start(actors: 2, joining: a)
        cluster.run(4_000)
        cluster.drops = { from, to in from.server != to.server || from.index == 1 }
        for i in 0..<10_000 { a.actors[0].put("a\(i)", "v", cluster.moment(a)) }
        for i in 0..<20 {
            b.actors[1].put("b\(i)", "v", cluster.moment(b))
            cluster.run(130)
        }
        let origin = b.origins.index(of: ActorUID(server: a.id, index: 0))!
        b.actors[0].replica.collector.noteCollected(origin, 9_000)
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged }, within: 20_000))
    }

    /// What a newcomer knows of collected tombstones it has from the cluster: nobody needs to write anything anew.
    @Test func nobodyWritesAnewBecauseANewcomerCameUp() {
        let cluster = TestCluster()
        cluster.remoteDelay = 50
        cluster.tune = {
            $0.tombstoneAgeMillis = 0
            $0.collectEveryMillis = 100
        }
        let a = cluster.start(actors: 2)
        cluster.run(200)
        cluster.tune = { $0.collectEveryMillis = 1_000_000 }
        let b = cluster.start(actors: 1, joining: a)
        cluster.run(4_000)
        // Too many to be streamed to a newcomer as well.
        for i in 0..<5_000 { b.actors[0].put("b\(i)", "v", cluster.moment(b)) }
        cluster.run(1_000)
        a.actors[0].put("t", "v", cluster.moment(a))
        a.actors[0].delete("t", cluster.moment(a))
        #expect(cluster.run(until: { a.actors.allSatisfy { $0.store.gcFloor > 0 } }, within: 10_000))
        let c = cluster.start(actors: 2, joining: a)
        // Its second actor says that it is up before it has what the first fetched.
        cluster.drops = { from, to in
            from.server == c.id && from.index == 0 && (to.server == b.id || to.server == c.id)
        }
        cluster.run(2_000)
        cluster.drops = { _, _ in false }
        cluster.run(5_000)
        #expect(c.actors.allSatisfy { $0.replica.isCaughtUp })
        #expect(b.actors[0].store.ownSeq == 5_000)
    }
}
