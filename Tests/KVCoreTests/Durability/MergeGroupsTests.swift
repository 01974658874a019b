// What a start reads, merged beside the reading by a crew that is as late as it may be.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

/// Does nothing before it has to, and the lanes one after the other, the last one first.
private final class LateCrew: RecoveryCrew {
    let lanes: Int
    let goesMax: Int
    private var goes: [(work: (Int) -> Void, last: () -> Void)] = []
    private(set) var count = 0

    init(lanes: Int, goesMax: Int) { (self.lanes, self.goesMax) = (lanes, goesMax) }

    func perform(_ work: @escaping @Sendable (Int) -> Void, last: @escaping @Sendable () -> Void) {
        if goes.count == goesMax { settle() }
        goes.append((work, last))
        count += 1
    }

    func settle() {
        for lane in (0..<lanes).reversed() { for go in goes { go.work(lane) } }
        for go in goes { go.last() }
        goes = []
    }
}

@Suite(.blocking) struct MergeGroupsTests {
    private func digests(_ back: Comeback) -> [UInt64] { back.stores.map(\.digestAll) }

    @Test(arguments: [(1, 1), (1, 8), (2, 3), (3, 8), (4, 2)])
    func aCrewBringsAllStoresWhereOneThreadDoes(_ lanes: Int, _ goes: Int) throws {
        let origins = OriginTable()
        var random = PRNG(seed: UInt64(lanes * 10 + goes))
        let logs = [TestLog(origins), TestLog(origins, actor: 1)]
        for i in 0..<9_000 {
            let log = logs[i % 2]
            let key = "key \(random.below(4_000))"
            if random.chance(0.2) {
                log.store.remove(key, now: 1_000 + Int64(i))
            } else {
                log.store.set(key, "value \(i)", now: 1_000 + Int64(i))
            }
            if random.chance(0.05) { log.turn() }
        }
        for log in logs { log.turn() }
        let alone = try Comeback(origins, actors: 4, logs)
        let crew = LateCrew(lanes: lanes, goesMax: goes)
        let together = try Comeback(origins, actors: 4, logs, crew: crew)
        #expect(crew.count > 5)
        #expect(digests(together) == digests(alone) && Set(digests(alone)).count == 1)
        #expect(together.state.vector == alone.state.vector && together.state.newest == alone.state.newest)
        for i in 0..<4_000 {
            #expect(together.stores[3].shown("key \(i)", now: 20_000) == alone.store.shown("key \(i)", now: 20_000))
        }
    }

    /// The snapshot is in the stores before a log's entries are looked at beside it.
    @Test func whatTheSnapshotHasCollectedStaysGone() throws {
        let origins = OriginTable()
        let (writer, deleter) = (TestLog(origins), TestLog(origins, actor: 1))
        for i in 0..<3_000 { writer.store.set("key \(i)", "value", now: 1_000) }
        writer.turn()
        deleter.hear(writer)
        for i in stride(from: 0, to: 3_000, by: 3) { deleter.store.remove("key \(i)", now: 2_000) }
        writer.hear(deleter)
        writer.store.raiseGCFloor(to: 2_000)
        for i in stride(from: 0, to: 3_000, by: 3) {
            Bytes("key \(i)").withBytes { #expect(writer.store.dropTombstone(writer.store.key($0))) }
        }
        var vector = VersionVector()
        vector.set(writer.store.ownOrigin, 3_000)
        vector.set(deleter.store.ownOrigin, 1_000)
        let snapshot = takeSnapshot(writer.store, vector: vector)
        let crew = LateCrew(lanes: 2, goesMax: 4)
        let back = try Comeback(origins, actors: 2, snapshot: snapshot, [writer], crew: crew)
        for store in back.stores {
            #expect(store.count == 2_000)
            for i in 0..<3_000 { #expect((store.shown("key \(i)", now: 0) == nil) == (i % 3 == 0), "key \(i)") }
        }
    }

    @Test func whatWasReadBeforeDamageIsInTheStores() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<1_500 { log.store.set("key \(i)", "value", now: 1_000) }
        log.turn()
        var snapshot = takeSnapshot(log.store, vector: VersionVector())
        snapshot[snapshot.count - 3_000] ^= 1
        let store = TestLog.store(origins, server: 77)
        defer { store.destroy() }
        let recovery = Recovery(stores: [store], now: 1_000, crew: LateCrew(lanes: 1, goesMax: 2))
        #expect(throws: DiskFault.self) { try snapshot.withUnsafeBytes { try recovery.readSnapshot($0) } }
        _ = recovery.finish(lineage: [])
        #expect(store.count > 500 && store.count < 1_500)
        store.checkInvariants()
    }
}
