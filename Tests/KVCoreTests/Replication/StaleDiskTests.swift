// A server that comes back with a disk that is older than what the others have collected.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct StaleDiskTests {
    private final class World {
        let cluster: TestCluster
        let a: TestServer
        private(set) var b: TestServer
        let actors: Int
        private(set) var disk: TestDisk

        /// Two servers; the second one's disk is copied, with a write that nobody else has.
        init(actors: Int, planted: PlantedMistakes = []) {
            self.actors = actors
            let cluster = TestCluster()
            cluster.tune = {
                ($0.tombstoneAgeMillis, $0.collectEveryMillis) = (1_000, 500)
                $0.planted = planted
                $0.chunkBytesMax = 1_000
            }
            let a = cluster.start(actors: 2)
            cluster.run(200)
            let b = cluster.start(actors: actors, joining: a)
            cluster.run(4_000)
            for i in 0..<200 { a.actors[i % 2].put("a\(i)", "value \(i)", cluster.moment(a)) }
            for i in 0..<50 { b.actors[i % actors].put("b\(i)", "value \(i)", cluster.moment(b)) }
            cluster.run(3_000)
            #expect(cluster.isConverged)
            let id = b.id
            cluster.drops = { from, to in from.server == id && to.server != id }
            b.actors[0].put("alone", "kept", cluster.moment(b))
            cluster.run(50)
            disk = TestDisk(b)
            cluster.stop(b)
            cluster.drops = { _, _ in false }
            (self.cluster, self.a, self.b) = (cluster, a, b)
        }

        func forget() {
            for actor in a.actors {
                var effects = ReplicaEffects()
                actor.replica.forget(b.id, cluster.moment(a), into: &effects)
            }
        }

        /// It returns under a new id.
        func comeBack() {
            b = cluster.start(actors: actors, joining: a, disk: disk)
            let b = b
            #expect(cluster.run(until: { b.actors.allSatisfy(\.replica.isCaughtUp) }, within: 20_000))
            cluster.run(30_000)
        }

        /// Deletes ten of each server's keys.
        func delete() {
            for i in 0..<10 {
                #expect(a.actors[0].delete("a\(i)", cluster.moment(a)))
                #expect(a.actors[1].delete("b\(i)", cluster.moment(a)))
            }
        }

        var revived: [String] {
            cluster.actors.flatMap { _, actor in
                (0..<10).flatMap { ["a\($0)", "b\($0)"] }.filter { actor.get($0) != nil }
            }
        }

        var reconciled: UInt64 { cluster.sum(\.recordsReconciled) }
    }

    @Test(arguments: [1, 3]) func whatTheOthersCollectedDoesNotComeBackAndWhatItAloneHeldStays(_ actors: Int) {
        let world = World(actors: actors)
        world.forget()
        world.delete()
        world.cluster.run(30_000)
        #expect(world.a.actors.allSatisfy { $0.store.tombstoneCount == 0 }, "the deletes are collected")
        world.comeBack()
        #expect(world.revived.isEmpty, "\(world.revived)")
        #expect(world.reconciled == UInt64(20 * actors))
        for (_, actor) in world.cluster.actors {
            #expect(actor.get("alone") == "kept")
            #expect(actor.get("a10") == "value 10" && actor.get("b10") == "value 10")
        }
        #expect(world.cluster.isConverged)
        #expect(world.cluster.sum(\.divergences) == 0)
    }

    /// The writer of the deletes is gone and retired: no frontier names it any more.
    @Test func deletesOfAServerThatIsRetiredAreNoticedToo() {
        let world = World(actors: 2)
        let cluster = world.cluster
        let c = cluster.start(actors: 1, joining: world.a)
        cluster.run(4_000)
        world.forget()
        for i in 0..<10 { #expect(c.actors[0].delete("a\(i)", cluster.moment(c))) }
        cluster.run(10_000)
        cluster.stop(c)
        for actor in world.a.actors {
            var effects = ReplicaEffects()
            actor.replica.forget(c.id, cluster.moment(world.a), into: &effects)
        }
        cluster.run(40_000)
        #expect(world.a.actors.allSatisfy { $0.store.tombstoneCount == 0 }, "the deletes are collected")
        world.comeBack()
        #expect(world.revived.allSatisfy { $0.hasPrefix("b") }, "\(world.revived)")
        #expect(world.reconciled == 20, "ten keys at each of two actors")
        #expect(cluster.isConverged)
    }

    /// One member has collected a delete, the donor has not. The interval that comes from the first lacks the delete
    /// and covers it; the delete that comes from the second must take effect (`kvd-sim --disk 100 --seed 146`).
    @Test(arguments: [1, 2]) func aDeleteThatOnlySomeHaveCollectedTakesEffect(_ actors: Int) {
        let cluster = TestCluster()
        func collect(everyMillis: Millis) {
            cluster.tune = {
                ($0.tombstoneAgeMillis, $0.collectEveryMillis) = (1_000, everyMillis)
                $0.chunkBytesMax = 1_000
            }
        }
        collect(everyMillis: 100_000_000)
        let a = cluster.start(actors: 1)
        cluster.run(200)
        collect(everyMillis: 500)
        let c = cluster.start(actors: 1, joining: a)
        cluster.run(4_000)
        let b = cluster.start(actors: actors, joining: a)
        cluster.run(4_000)
        for i in 0..<200 { a.actors[0].put("a\(i)", "value \(i)", cluster.moment(a)) }
        cluster.run(3_000)
        let disk = TestDisk(b)
        cluster.stop(b)
        for server in [a, c] {
            var effects = ReplicaEffects()
            server.actors[0].replica.forget(b.id, cluster.moment(server), into: &effects)
        }
        for i in 0..<10 { #expect(c.actors[0].delete("a\(i)", cluster.moment(c))) }
        cluster.run(20_000)
        #expect(c.actors[0].store.tombstoneCount == 0 && a.actors[0].store.tombstoneCount == 10)
        let back = cluster.start(actors: actors, joining: a, disk: disk)
        #expect(cluster.run(until: { back.actors.allSatisfy(\.replica.isCaughtUp) }, within: 20_000))
        cluster.run(3_000)
        for actor in back.actors {
            #expect((0..<10).allSatisfy { actor.get("a\($0)") == nil })
            #expect(actor.get("a10") == "value 10")
        }
        #expect(cluster.sum(\.divergences) == 0)
    }

    /// Where the power was cut a row may be lost and the writes be there (`kvd-sim --disk 100 --seed 640`).
    @Test func writesOfAServerThatNobodyKnowsReachTheOthers() {
        let cluster = TestCluster()
        let c = cluster.start(actors: 1)
        cluster.run(200)
        let b = cluster.start(actors: 1, joining: c)
        cluster.run(4_000)
        c.actors[0].put("lone", "kept", cluster.moment(c))
        cluster.run(2_000)
        var disk = TestDisk(b)
        disk.rows.removeAll { $0.server == c.id }
        cluster.stop(b)
        cluster.stop(c)
        let a = cluster.start(actors: 1)
        cluster.run(200)
        let back = cluster.start(actors: 1, joining: a, disk: disk)
        cluster.run(30_000)
        #expect(a.actors[0].get("lone") == "kept" && back.actors[0].get("lone") == "kept")
        #expect(cluster.isConverged)
    }

    /// A member keeps its deletes for it: it fetches what it missed, no more.
    @Test func aDiskThatIsNotStaleIsBelieved() {
        let world = World(actors: 2)
        world.delete()
        world.cluster.run(10_000)
        #expect(world.a.actors.allSatisfy { $0.store.tombstoneCount == 20 })
        world.comeBack()
        #expect(world.revived.isEmpty)
        #expect(world.reconciled == 0)
        #expect(!world.b.actors[0].events.contains(.staleDisk))
        #expect(world.cluster.isConverged)
    }

    @Test(.enabled(if: PlantedMistakes.isPossible)) func believingAStaleDiskRevives() {
        let world = World(actors: 1, planted: [.staleDiskTrusted])
        world.forget()
        world.delete()
        world.cluster.run(30_000)
        world.comeBack()
        #expect(!world.revived.isEmpty)
    }

    /// What is merged before the end of the first scan may lack a delete that was collected, so it proves nothing.
    @Test func intervalsBeforeTheEndOfTheFirstScanProveNothingToADisk() {
        let world = World(actors: 1)
        world.forget()
        world.delete()
        world.cluster.run(30_000)
        let b = world.cluster.start(actors: 1, joining: world.a, disk: world.disk)
        let known = b.actors[0].replica.durableVector
        var proofs = 0
        b.actors[0].replica.onLearned = { item in
            switch item {
            case .segment(let segment, let proves): if proves, !segment.isPage { proofs += 1 }
            case .proof: proofs += 1
            }
        }
        let replica = b.actors[0].replica
        _ = world.cluster.run(
            until: {
                if !replica.isCaughtUp { #expect(replica.durableVector == known) }
                return replica.isCaughtUp
            }, within: 20_000)
        #expect(replica.isCaughtUp && proofs == 0)
        #expect(replica.durableVector.dominates(known) && replica.durableVector != known)
    }
}
