// A key that was stamped ten years ahead, and RESTAMP: what becomes of it on all replicas.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct RestampTests {
    private static let decade: Millis = 10 * 365 * 24 * 3600 * 1000

    /// Three servers whose clocks were ten years ahead when the first one wrote "k". Now they are right.
    private struct World {
        let cluster = TestCluster()
        let servers: [TestServer]

        init(planted: PlantedMistakes = [], write: (TestCluster, TestServer) -> Void) {
            let cluster = cluster
            cluster.tune = { $0.planted = planted }
            var servers: [TestServer] = []
            for _ in 0..<3 {
                let server = cluster.start(actors: 2, joining: servers.first)
                server.wallOffset = RestampTests.decade
                servers.append(server)
            }
            self.servers = servers
            cluster.run(4_000)
            write(cluster, servers[0])
            cluster.run(2_000)
            for server in servers { server.wallOffset = 0 }
            cluster.run(5_000)
        }

        init(planted: PlantedMistakes = []) {
            self.init(planted: planted) { cluster, server in server.actors[0].put("k", "v", cluster.moment(server)) }
        }

        func restamp(_ server: Int, actor: Int = 0) -> RestampOutcome {
            let store = servers[server].actors[actor].store
            return Bytes("k").withBytes { store.restamp(store.key($0), now: cluster.moment(servers[server]).wall) }
        }

        /// False if there is no stamp that others would take.
        func put(_ server: Int, _ value: String) -> Bool {
            let replica = servers[server].actors[1].replica
            return Bytes("k").withBytes { key in
                Bytes(value).withBytes { replica.put(key: key, value: $0, cluster.moment(servers[server])) }
            } != nil
        }

        func delete(_ server: Int) -> Bool {
            servers[server].actors[1].delete("k", cluster.moment(servers[server]))
        }

        /// What all actors show: one value if they agree.
        var shown: Set<String?> { Set(cluster.actors.map { $0.1.get("k") }) }

        func cut(_ server: Int) {
            let id = servers[server].id
            cluster.drops = { ($0.server == id) != ($1.server == id) }
        }

        func heal() { cluster.drops = { _, _ in false } }
    }

    @Test func whatIsTenYearsAheadIsWrittenAndDeletedAgainOnAllReplicas() {
        let world = World()
        let cluster = world.cluster
        #expect(world.shown == ["v"])
        for server in 0..<3 { #expect(!world.put(server, "no") && !world.delete(server)) }
        #expect(world.restamp(1) == .done)
        #expect(world.restamp(1) == .notAhead)
        cluster.run(1_000)
        #expect(world.shown == ["v"])
        let now = cluster.moment(world.servers[0]).wall
        for (_, actor) in cluster.actors {
            #expect(Version.clockMillis(actor.version("k")!.ms) <= now, "under the clock")
        }
        for server in 0..<3 {
            #expect(world.put(server, "by \(server)"))
            cluster.run(1_000)
            #expect(world.shown == ["by \(server)"])
        }
        #expect(world.delete(2))
        cluster.run(1_000)
        #expect(world.shown == [nil])
        #expect(world.put(0, "again"))
        cluster.run(1_000)
        #expect(world.shown == ["again"] && cluster.isConverged)
        #expect(cluster.sum(\.divergences) == 0 && cluster.sum(\.clockRejects) == 0)
    }

    @Test func aDeleteTenYearsAheadIsOverwrittenAgain() {
        let world = World { cluster, server in
            server.actors[0].put("k", "v", cluster.moment(server))
            server.actors[0].delete("k", cluster.moment(server))
        }
        #expect(world.shown == [nil] && !world.put(1, "no"))
        #expect(world.restamp(2) == .done)
        world.cluster.run(1_000)
        #expect(world.shown == [nil])
        #expect(world.put(1, "new"))
        world.cluster.run(1_000)
        #expect(world.shown == ["new"])
    }

    /// Who is cut off has the old record, and comes back with it.
    @Test func aCutKeepsTheOldRecordUntilItHeals() {
        let world = World()
        world.cut(2)
        #expect(world.restamp(0) == .done)
        world.cluster.run(1_000)
        #expect(world.put(1, "new"))
        world.cluster.run(20_000)
        #expect(!world.put(2, "no") && world.servers[2].actors[0].get("k") == "v")
        world.heal()
        world.cluster.run(5_000)
        #expect(world.shown == ["new"] && world.cluster.isConverged)
        #expect(world.put(2, "of the other side"))
        world.cluster.run(1_000)
        #expect(world.shown == ["of the other side"])
    }

    @Test func ofTwoSidesThatBroughtItBackTheLaterWriteWins() {
        let world = World()
        world.cut(2)
        #expect(world.restamp(0) == .done && world.restamp(2) == .done)
        world.cluster.run(200)
        #expect(world.put(0, "earlier"))
        world.cluster.run(200)
        #expect(world.put(2, "later"))
        world.cluster.run(20_000)
        world.heal()
        world.cluster.run(5_000)
        #expect(world.shown == ["later"] && world.cluster.isConverged && world.cluster.sum(\.divergences) == 0)
    }

    /// A server whose clock is right refuses the old record, and so whoever has it.
    @Test func whoRefusedItGetsItOnceItIsBroughtBack() {
        let world = World()
        let cluster = world.cluster
        let late = cluster.start(actors: 1, joining: world.servers[0])
        cluster.run(8_000)
        #expect(late.actors[0].get("k") == nil && cluster.verdicts.contains(.rejected(.clock)))
        #expect(world.restamp(0) == .done)
        #expect(cluster.run(until: { late.actors[0].get("k") == "v" }, within: 20_000))
        cluster.run(8_000)
        cluster.verdicts.removeAll()
        late.actors[0].put("k", "late", cluster.moment(late))
        cluster.run(8_000)
        #expect(world.shown == ["late"] && !cluster.verdicts.contains(.rejected(.clock)))
    }

    /// A floor above the clock would move every stamp.
    @Test func aDeleteOfSuchAKeyStaysAndLiftsNoFloor() {
        let world = World()
        #expect(world.restamp(0) == .done)
        world.cluster.run(1_000)
        #expect(world.put(0, "x"))
        world.cluster.run(1_000)
        #expect(world.delete(1))
        for (server, actor) in world.cluster.actors { actor.put("other", "v", world.cluster.moment(server)) }
        world.cluster.run(1_000)
        #expect(world.servers[0].actors[0].delete("other", world.cluster.moment(world.servers[0])))
        world.cluster.run(100_000)
        for (server, actor) in world.cluster.actors {
            #expect(actor.store.tombstoneCount == 1)
            #expect(
                actor.store.gcFloor > TestCluster.wallStart && actor.store.gcFloor < world.cluster.moment(server).wall)
            #expect(actor.put("n", "v", world.cluster.moment(server)).ms < Version.restamped)
        }
    }

    @Test func aDeadlineGoesWithTheValue() {
        let deadline = TestCluster.wallStart + RestampTests.decade + 3_600_000
        let world = World { cluster, server in
            let store = server.actors[0].store
            let now = cluster.moment(server).wall
            Bytes("k").withBytes { key in
                Bytes("v").withBytes { value in _ = store.put(store.key(key), value: ByteView(value), now: now) }
                _ = store.expire(store.key(key), at: deadline, now: now)
            }
        }
        #expect(world.restamp(1) == .done)
        world.cluster.run(1_000)
        for (server, actor) in world.cluster.actors {
            let now = world.cluster.moment(server).wall
            Bytes("k").withBytes { key in
                #expect(actor.store.get(actor.store.key(key), now: now)?.value.count == 1)
                #expect(actor.store.get(actor.store.key(key), now: deadline) == nil)
            }
        }
        // The deadline set apart is ahead still, and without effect.
        #expect(world.put(2, "x"))
        world.cluster.run(1_000)
        #expect(world.shown == ["x"])
    }

    @Test func anActorsOwnPartOfACounterIsBroughtBackToo() {
        let world = World { cluster, server in
            _ = server.actors[0].store.count("k", by: 5, cluster.moment(server).wall)
        }
        let (cluster, first) = (world.cluster, world.servers[0])
        #expect(first.actors[0].store.count("k", by: 1, cluster.moment(first).wall) == .refused)
        #expect(world.restamp(0) == .done)
        cluster.run(1_000)
        #expect(first.actors[0].store.count("k", by: 1, cluster.moment(first).wall) == .value(6))
        let third = world.servers[2]
        #expect(third.actors[1].store.count("k", by: 10, cluster.moment(third).wall) == .value(15))
        cluster.run(1_000)
        #expect(Set(cluster.actors.map { $0.1.shown("k", cluster.moment($0.0)) }) == ["16"])
    }

    /// Such a stamp is no way around the bounds of a year.
    @Test func aMemberMayNotStampSoWhatItMayNotStampOtherwise() {
        let world = World()
        let (cluster, liar) = (world.cluster, world.servers[0])
        let store = liar.actors[0].store
        func lie(_ ahead: Millis) {
            store.boundStamps(to: Version.msMax)
            let floor = Version.restamped + cluster.moment(liar).wall + ahead
            Bytes("lie \(ahead)").withBytes { key in
                Bytes("v").withBytes { value in
                    let now = cluster.moment(liar).wall
                    #expect(store.put(store.key(key), value: ByteView(value), now: now, floor: floor) != nil)
                }
            }
            cluster.verdicts.removeAll()
            cluster.run(1_000)
        }
        lie(SkewGuard.aheadMillisMax / 2)
        #expect(!cluster.verdicts.contains(.rejected(.clock)))
        // Whoever has seen it wins over it.
        let (server, key) = (world.servers[1], "lie \(SkewGuard.aheadMillisMax / 2)")
        server.actors[0].put(key, "mended", cluster.moment(server))
        cluster.run(1_000)
        #expect(cluster.actors.allSatisfy { $0.1.get(key) == "mended" })
        lie(2 * SkewGuard.aheadMillisMax)
        #expect(cluster.verdicts.contains(.rejected(.clock)))
        #expect(server.actors[0].get("lie \(2 * SkewGuard.aheadMillisMax)") == nil)
    }

    /// A clock that reaches the bit, in the year 2248, writes nothing.
    @Test func noClockMakesSuchAStamp() {
        let world = World()
        world.servers[0].wallOffset = Version.restamped - TestCluster.wallStart
        let store = world.servers[0].actors[1].store
        store.boundStamps(to: Version.msMax)
        #expect(store.count("n", by: 1, world.cluster.moment(world.servers[0]).wall) == .refused)
    }

    @Test func whatIsAheadASecondTimeIsNotBroughtBackAgain() {
        let world = World()
        #expect(world.restamp(0) == .done)
        world.cluster.run(1_000)
        for server in world.servers { server.wallOffset = -120_000 }
        #expect(world.restamp(0) == .again)
        #expect(world.put(0, "x"), "it is written all the same")
    }

    @Test(.enabled(if: PlantedMistakes.isPossible)) func aVersionBelowTheOldOneMendsNothing() {
        let world = World(planted: [.restampBelow])
        #expect(world.restamp(1) == .done)
        world.cluster.run(1_000)
        #expect(!world.put(0, "x") && !world.put(2, "x"))
    }
}

extension Store {
    fileprivate func count(_ key: String, by step: Int64, _ now: Millis) -> IncrementOutcome {
        Bytes(key).withBytes { increment(self.key($0), by: step, now: now) }
    }
}
