// Members by name and address: one that moved, one that began a new life, two of one name, one that does not know where
// it is reached; how far one has caught up, and how late a write is.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct NameTests {
    private func start(
        _ cluster: TestCluster, name: String, isNamed: Bool = true, at address: String, joining: TestServer? = nil,
        wired: Bool = false
    ) -> TestServer {
        cluster.tune = { config in
            (config.name, config.isNamed) = (Bytes(name), isNamed)
            if wired { config.transport = .connections }
        }
        return cluster.start(actors: 1, joining: joining, address: address)
    }

    private func state(_ cluster: TestCluster, of id: UInt64, at server: TestServer) -> PeerState? {
        server.actors[0].replica.peers(cluster.moment(server)).first { $0.server == id }?.state
    }

    private func status(of id: UInt64, at server: TestServer) -> MemberStatus? {
        server.actors[0].replica.memberRows.first { $0.server == id }?.status
    }

    @Test func everybodyLearnsEverybodysName() {
        let cluster = TestCluster()
        let a = start(cluster, name: "a", at: "h:1")
        let b = start(cluster, name: "b:6000", isNamed: false, at: "h:2", joining: a)
        let c = start(cluster, name: "c", at: "h:3", joining: a)
        cluster.run(4_000)
        for server in [a, b, c] {
            let peers = server.actors[0].replica.peers(cluster.moment(server))
            #expect(peers.allSatisfy { $0.state == .up && $0.caughtUpPercent == nil })
            #expect(
                Set(peers.map(\.name))
                    == Set(["a", "b:6000", "c"]).subtracting([server === a ? "a" : server === b ? "b:6000" : "c"]))
        }
    }

    /// A user's name says that the former life is over; one made of host and port may be another machine's.
    @Test(arguments: [true, false]) func whoMovedIsForgottenAtItsOldAddress(isNamed: Bool) {
        let cluster = TestCluster()
        let a = start(cluster, name: "a", at: "h:1")
        let b = start(cluster, name: "b", isNamed: isNamed, at: "h:2", joining: a)
        cluster.run(4_000)
        cluster.stop(b)
        let moved = start(cluster, name: "b", isNamed: isNamed, at: "h:3", joining: a)
        cluster.run(9_000)
        #expect(status(of: b.id, at: a) == .up)
        cluster.run(30_000)
        if isNamed {
            #expect(status(of: b.id, at: a)! >= .forgotten && status(of: b.id, at: moved)! >= .forgotten)
        } else {
            #expect(status(of: b.id, at: a) == .up && state(cluster, of: b.id, at: a) == .down)
        }
        #expect(status(of: moved.id, at: a) == .up && state(cluster, of: moved.id, at: a) == .up)
    }

    @Test func addressesThatNobodyKnowsAreNotTheSame() {
        let cluster = TestCluster()
        let a = start(cluster, name: "a", at: "")
        let b = start(cluster, name: "b", at: "", joining: a)
        let c = start(cluster, name: "c", at: "", joining: a)
        cluster.run(4_000)
        cluster.stop(b)
        cluster.run(40_000)
        #expect(status(of: b.id, at: a) == .up && state(cluster, of: b.id, at: a) == .down)
        #expect(state(cluster, of: c.id, at: a) == .up)
    }

    @Test func aNewAddressOfOnesOwnIsToldToAll() {
        let cluster = TestCluster()
        let a = start(cluster, name: "a", at: "")
        let b = start(cluster, name: "b", at: "h:2", joining: a)
        cluster.run(4_000)
        #expect(a.actors[0].replica.ownAddress == nil)
        var effects = ReplicaEffects()
        a.actors[0].replica.changeAddress("h:1", cluster.moment(a), into: &effects)
        #expect(effects.events.count == 1)
        effects.removeAll()
        a.actors[0].replica.changeAddress("h:1", cluster.moment(a), into: &effects)
        #expect(effects.isEmpty && a.actors[0].replica.ownAddress == "h:1")
        cluster.run(2_000)
        let row = b.actors[0].replica.memberRows.first { $0.server == a.id }
        #expect(row?.address == "h:1" && row?.incarnation == 1 && row?.name == "a")
    }

    // MARK: Over connections

    /// Two servers that are connected, and a third that joins over connections of its own.
    private func wired(_ names: [(String, Bool)]) -> (TestCluster, [TestServer]) {
        let cluster = TestCluster()
        var servers: [TestServer] = []
        for (i, (name, isNamed)) in names.enumerated() {
            let server = start(
                cluster, name: name, isNamed: isNamed, at: "h:\(i)", joining: servers.first, wired: true)
            for other in servers { cluster.connect(server, other) }
            servers.append(server)
            cluster.run(4_000)
        }
        return (cluster, servers)
    }

    @Test(arguments: [true, false]) func aNewLifeMakesTheOldOneDownAtOnce(isNamed: Bool) {
        let (cluster, servers) = wired([("a", true), ("b", isNamed)])
        let (a, b) = (servers[0], servers[1])
        #expect(state(cluster, of: b.id, at: a) == .up)
        cluster.stop(b)
        cluster.disconnect(a, b.id)
        cluster.run(100)
        #expect(state(cluster, of: b.id, at: a) == .up)
        let again = start(cluster, name: "b", isNamed: isNamed, at: "h:9", joining: a, wired: true)
        cluster.connect(again, a)
        cluster.run(50)
        #expect(state(cluster, of: b.id, at: a) == .down)
        #expect(a.actors[0].replica.isReplaced(b.id) == isNamed)
        cluster.run(1_000)
        #expect(state(cluster, of: again.id, at: a) == .up && state(cluster, of: b.id, at: a) == .down)
        // Its own former life is not looked for either.
        #expect(again.actors[0].replica.isReplaced(b.id) == isNamed)
    }

    /// Of two that are heard beside each other under one address none is removed when it falls silent.
    @Test func twoThatLiveAtOneAddressAreNoLivesOfOne() {
        let (cluster, servers) = wired([("a", true), ("b", false)])
        let (a, b) = (servers[0], servers[1])
        let twin = start(cluster, name: "c", at: "h:1", joining: a, wired: true)
        cluster.connect(twin, a)
        cluster.connect(twin, b)
        cluster.run(12_000)
        #expect(state(cluster, of: b.id, at: a) == .up && state(cluster, of: twin.id, at: a) == .up)
        cluster.stop(b)
        cluster.disconnect(a, b.id)
        cluster.run(60_000)
        #expect(status(of: b.id, at: a) == .up && state(cluster, of: b.id, at: a) == .down)
    }

    @Test func anAttemptInVainDoesNotPutOffThatOneIsDown() {
        let (cluster, servers) = wired([("a", true), ("b", true)])
        let (a, b) = (servers[0], servers[1])
        cluster.stop(b)
        for _ in 0..<12 {
            cluster.disconnect(a, b.id)
            cluster.run(100)
        }
        #expect(state(cluster, of: b.id, at: a) == .down)
    }

    // MARK: How far, how late

    @Test func aNewcomerTellsHowFarItHasCaughtUp() {
        let cluster = TestCluster()
        cluster.tune = { $0.chunkBytesMax = 64 * 1024 }
        let a = cluster.start(actors: 1, journal: 64)
        for i in 0..<20_000 { a.actors[0].put("key:\(i)", String(repeating: "v", count: 100), cluster.moment(a)) }
        cluster.run(1_000)
        let b = cluster.start(actors: 1, joining: a)
        var own: [Int] = []
        var seen: [Int] = []
        _ = cluster.run(
            until: {
                own.append(b.actors[0].replica.caughtUpPercent)
                let peer = a.actors[0].replica.peers(cluster.moment(a)).first
                if let percent = peer?.caughtUpPercent { seen.append(percent) }
                return !b.actors[0].replica.isJoining
            }, within: 20_000)
        #expect(own.first == 0 && own == own.sorted() && Set(own).count > 5)
        #expect(seen == seen.sorted() && Set(seen).count > 5 && seen.allSatisfy { (0...100).contains($0) })
        #expect(b.actors[0].replica.caughtUpPercent == 100 && b.actors[0].store.count == 20_000)
        // A tenth of the keys is a tenth of the way, as near as a chunk.
        let middle = own.filter { (20...80).contains($0) }
        #expect(!middle.isEmpty)
    }

    @Test func lagIsThatOfTheSlowestServerThatIsUp() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        let replica = a.actors[0].replica
        cluster.run(2_000)
        #expect(replica.lagMillis(cluster.moment(a)) == 0)
        // What it says still comes, what it is told does not.
        cluster.drops = { from, _ in from.server == a.id }
        a.actors[0].put("k", "v", cluster.moment(a))
        cluster.run(2_000)
        #expect((1_700...2_000).contains(replica.lagMillis(cluster.moment(a))))
        cluster.drops = { _, _ in false }
        cluster.run(2_000)
        #expect(replica.lagMillis(cluster.moment(a)) == 0)
        // One that is not up is not waited for.
        cluster.stop(b)
        a.actors[0].put("k", "w", cluster.moment(a))
        // Up to three seconds after it was heard, which was up to one second ago.
        cluster.run(1_900)
        #expect(replica.lagMillis(cluster.moment(a)) > 1_500)
        cluster.run(2_100)
        #expect(replica.lagMillis(cluster.moment(a)) == 0)
    }

    // MARK: A machine whose date is wrong

    /// Writes are stamped above what others collected, where clocks are some minutes apart: there the others' order
    /// counts. A floor ten years ahead is that of a machine whose date is wrong, and closes the link.
    @Test func aNewcomerIsNotStampedByAClockTenYearsAhead() {
        let cluster = TestCluster()
        let year: Millis = 365 * 24 * 3_600_000
        for ahead in [10 * year, 600_000] {
            let a = cluster.start(actors: 1)
            a.wallOffset = ahead
            a.actors[0].put("k", "v", cluster.moment(a))
            a.actors[0].delete("k", cluster.moment(a))
            cluster.run(70_000)
            #expect(a.actors[0].store.tombstoneCount == 0)
            let floor = a.actors[0].store.gcFloor
            #expect(floor > cluster.moment(a).wall - 80_000)
            let b = cluster.start(actors: 1, joining: a)
            b.actors[0].put("early", "1", cluster.moment(b))
            cluster.run(4_000)
            let version = b.actors[0].put("late", "1", cluster.moment(b))
            if ahead > year {
                #expect(cluster.verdicts.contains(.rejected(.floor)))
                #expect(version.ms - cluster.moment(b).wall < 1_000)
                #expect(b.actors[0].version("early")!.ms - cluster.moment(b).wall < 1_000)
                #expect(b.actors[0].store.gcFloor < cluster.moment(b).wall)
            } else {
                #expect(cluster.run(until: { a.actors[0].get("late") == "1" }, within: 2_000))
                #expect(a.actors[0].get("early") == "1" && cluster.isConverged)
                #expect(version.ms > floor && b.actors[0].version("early")!.ms > floor)
            }
            cluster.stop(a)
            cluster.stop(b)
        }
    }
}
