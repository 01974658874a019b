// Which tombstones a sweep forgets.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct CollectorTests {
    private let parts = ReplicationPartsTests()

    private func delete(_ store: Store, _ key: String, _ now: Millis) {
        Bytes(key).withBytes { _ = store.delete(store.key($0), now: now) }
    }

    /// Three tombstones: writes 2, 4 and 6, made at 1,001, 2,001 and 3,001.
    private func threeTombstones() -> (Store, OriginTable) {
        let (store, origins) = parts.store()
        for i in 1...3 {
            parts.put(store, "k\(i)", "v", Millis(i) * 1_000)
            delete(store, "k\(i)", Millis(i) * 1_000 + 1)
        }
        return (store, origins)
    }

    @Test func aSweepForgetsWhatIsKnownEverywhereAndOldEnough() {
        let (store, origins) = threeTombstones()
        defer { store.destroy() }
        var collector = Collector()
        var stable = VersionVector()
        stable.set(store.ownOrigin, 4)
        collector.begin(stable: stable, retiredEverywhere: [], tombstones: store.tombstoneCount)
        var dropped = 0
        var tooYoung: UInt64 = 0
        while collector.isSweeping {
            let slice = collector.sweep(store, budget: 8, oldest: 1_500, Seen(own: store.ownOrigin), origins)
            dropped += slice.dropped
            tooYoung += slice.tooYoung
        }
        #expect(dropped == 1 && tooYoung > 0 && store.tombstoneCount == 2)
        #expect(collector.frontier[store.ownOrigin] == 2)
        var cut = VersionVector()
        #expect(!collector.isKnown(at: cut))
        cut.set(store.ownOrigin, 2)
        #expect(collector.isKnown(at: cut))
        collector.checkInvariants(Seen(own: store.ownOrigin))
    }

    /// A server that everybody has retired leaves no frontier behind: nobody is missing a write of it.
    @Test func aRetiredServersTombstonesGoWhenEverybodyRetiredIt() {
        for everywhere in [[], [UInt64(1)]] {
            let (store, origins) = threeTombstones()
            defer { store.destroy() }
            var seen = Seen(own: 63)
            _ = seen.retire(store.ownOrigin)
            var collector = Collector()
            collector.begin(
                stable: VersionVector(), retiredEverywhere: everywhere, tombstones: store.tombstoneCount)
            while collector.isSweeping { _ = collector.sweep(store, budget: 8, oldest: 9_000, seen, origins) }
            #expect(store.tombstoneCount == (everywhere.isEmpty ? 3 : 0))
            #expect(collector.frontier[store.ownOrigin] == 0)
        }
    }

    @Test func sweepsKeepTheirDistance() {
        var collector = Collector()
        #expect(collector.isDue(0, every: 5_000))
        collector.noteLook(1_000)
        #expect(!collector.isDue(5_999, every: 5_000) && collector.isDue(6_000, every: 5_000))
    }

    /// What was known everywhere as the sweep began was known by those who were there.
    @Test func aMemberThatComesEndsTheSweep() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 1)
        let replica = server.actors[0].replica
        var effects = ReplicaEffects()
        func isSweeping(after status: MemberStatus) -> Bool {
            replica.collector.begin(stable: VersionVector(), retiredEverywhere: [], tombstones: 1_000, leftovers: 9)
            let row = MemberRow(
                server: 9, status: status, actorCount: 1, address: Bytes("host:9"), name: Bytes(""), isNamed: false)
            replica.learn(row, cluster.moment(server), into: &effects)
            return replica.collector.isSweeping
        }
        #expect(!isSweeping(after: .joining))
        #expect(isSweeping(after: .joining))
        #expect(isSweeping(after: .up))
    }
}
