// Which other servers have a write on their disks, as their reports say: what WAITAOF counts.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct KeptWritesTests {
    /// The disks of a server's actors: each has what its actor had seen at its last sync.
    private final class Disks {
        private var synced: [VersionVector] = []
        private let server: TestServer

        init(_ server: TestServer, isSynced: Bool = true) {
            self.server = server
            synced = server.actors.map { _ in VersionVector() }
            for (index, actor) in server.actors.enumerated() {
                actor.replica.durableSource = { [unowned self] in synced[index] }
                actor.replica.isSynced = isSynced
            }
        }

        func sync(_ index: Int) { synced[index] = server.actors[index].replica.durableVector }
    }

    @Test(arguments: [1, 2]) func aServerCountsOnceAllItsActorsHaveSyncedTheWrite(_ actors: Int) {
        let cluster = TestCluster()
        let a = cluster.start(actors: actors)
        cluster.run(200)
        let b = cluster.start(actors: 2, joining: a)
        // Neither of them keeps anything: one has no disk, the other one leaves it to the kernel when to write.
        let c = cluster.start(actors: 1, joining: a)
        let d = cluster.start(actors: 1, joining: a)
        cluster.run(6_000)
        let (disks, lazy) = (Disks(b), Disks(d, isSynced: false))
        let writer = a.actors[actors - 1]
        func counts(_ seq: UInt64) -> [Int] {
            a.actors.map { $0.replica.serversKeeping([(index: actors - 1, seq: seq)]) }
        }
        writer.put("key", "value", cluster.moment(a))
        let seq = writer.store.ownSeq
        cluster.run(5_000)
        lazy.sync(0)
        #expect(b.actors.allSatisfy { $0.get("key") == "value" } && c.actors[0].get("key") == "value")
        #expect(writer.replica.serversHolding([(index: actors - 1, seq: seq)]) == 3)
        #expect(counts(seq).allSatisfy { $0 == 0 })
        disks.sync(0)
        cluster.run(5_000)
        #expect(counts(seq).allSatisfy { $0 == 0 }, "the other actor may be the one that logs it")
        disks.sync(1)
        #expect(cluster.run(until: { counts(seq).allSatisfy { $0 == 1 } }, within: 2_500))
        // Known to each actor of the writer's server; not so a later write.
        writer.put("key", "later", cluster.moment(a))
        cluster.run(5_000)
        #expect(counts(seq).allSatisfy { $0 == 1 } && counts(seq + 1).allSatisfy { $0 == 0 })
    }
}
