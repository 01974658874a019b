// Counters over several servers: what adds up after a cut, and what becomes of parts that add nothing any more.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct CounterClusterTests {
    private func trio(planted: PlantedMistakes = [], chunkBytes: Int? = nil) -> (TestCluster, [TestServer]) {
        let cluster = TestCluster()
        cluster.tune = {
            $0.planted = planted
            if let chunkBytes { $0.chunkBytesMax = chunkBytes }
        }
        let first = cluster.start(actors: 2)
        let servers = [first, cluster.start(actors: 1, joining: first), cluster.start(actors: 1, joining: first)]
        cluster.run(4_000)
        return (cluster, servers)
    }

    private func count(_ cluster: TestCluster, _ server: TestServer, _ key: String, _ step: Int64) {
        let store = server.actors[0].store
        guard case .value = store.increment(key, by: step, now: cluster.moment(server).wall) else {
            Issue.record("\(key) was not counted")
            return
        }
    }

    private func shown(_ cluster: TestCluster, _ key: String) -> Set<String> {
        Set(cluster.actors.map { $0.1.shown(key, cluster.moment($0.0)) ?? "none" })
    }

    @Test func bothSidesOfACutAddUp() {
        let (cluster, servers) = trio()
        count(cluster, servers[0], "n", 10)
        cluster.run(1_000)
        #expect(shown(cluster, "n") == ["10"])
        cluster.drops = { from, to in (from.server == servers[0].id) != (to.server == servers[0].id) }
        for _ in 0..<5 { count(cluster, servers[0], "n", 1) }
        for _ in 0..<7 { count(cluster, servers[1], "n", 1) }
        cluster.run(20_000)
        cluster.drops = { _, _ in false }
        cluster.run(5_000)
        #expect(shown(cluster, "n") == ["22"] && cluster.sum(\.divergences) == 0)
        // Two keys' records: the value and a part of each that counted.
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 3 && $0.1.store.count == 1 })
    }

    @Test func whatADeleteTookIsCollectedAndTheKeyBeginsAnew() {
        let (cluster, servers) = trio()
        for server in servers { count(cluster, server, "n", 5) }
        cluster.run(1_000)
        #expect(shown(cluster, "n") == ["15"])
        servers[1].actors[0].delete("n", cluster.moment(servers[1]))
        cluster.run(1_000)
        #expect(shown(cluster, "n") == ["none"])
        cluster.run(59_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.tombstoneCount > 0 })
        // A minute after the delete its actors delete the parts, and when all know that nothing is left.
        cluster.run(25_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.tombstoneCount == 0 && $0.1.store.storedCount == 0 })
        count(cluster, servers[0], "n", 1)
        cluster.run(1_000)
        #expect(shown(cluster, "n") == ["1"] && cluster.sum(\.divergences) == 0)
    }

    /// Nobody deletes a part while a member may have a value that has not taken it.
    @Test func aPartWaitsForWhoIsAway() {
        let (cluster, servers) = trio()
        count(cluster, servers[0], "n", 5)
        cluster.run(1_000)
        cluster.drops = { from, to in (from.server == servers[2].id) != (to.server == servers[2].id) }
        count(cluster, servers[0], "n", 100)
        servers[2].actors[0].put("n", "1000", cluster.moment(servers[2]))
        servers[0].actors[0].delete("n", cluster.moment(servers[0]))
        cluster.run(200_000)
        #expect(servers[0].actors[0].store.storedCount == 1)
        // The later write is that of the one away, or the delete; either way 100 or 0 is right, not 1,000 alone.
        let isSet = servers[2].actors[0].version("n")! > servers[0].actors[0].version("n")!
        cluster.drops = { _, _ in false }
        cluster.run(5_000)
        #expect(shown(cluster, "n") == [isSet ? "1100" : "none"])
    }

    /// A newcomer counts `millis` after it began to join, what it may not have heard of yet. What all show then.
    private func countedByANewcomer(after millis: Millis, planted: PlantedMistakes = []) -> [String: Set<String>] {
        let (cluster, servers) = trio(planted: planted)
        servers[0].actors[0].put("set", "100", cluster.moment(servers[0]))
        count(cluster, servers[1], "deleted", 7)
        cluster.run(1_000)
        servers[0].actors[0].delete("deleted", cluster.moment(servers[0]))
        count(cluster, servers[1], "deleted", 1)
        servers[0].actors[0].put("x", "1", cluster.moment(servers[0]))
        cluster.run(1_000)
        count(cluster, servers[2], "deleted", 2)
        servers[0].actors[0].delete("x", cluster.moment(servers[0]))
        cluster.run(80_000)
        #expect(shown(cluster, "deleted") == ["3"])
        let old = servers[0].actors[0].version("set")!.ms
        #expect(servers[0].actors[0].store.gcFloor > old, "the floor has passed what is there")
        let newcomer = cluster.start(actors: 1, joining: servers[0])
        cluster.run(millis)
        for key in ["set", "deleted", "new"] { count(cluster, newcomer, key, 10) }
        cluster.run(10_000)
        #expect(cluster.sum(\.divergences) == 0)
        // What it began is above what others have collected.
        #expect(newcomer.actors[0].version("new")!.ms > servers[0].actors[0].store.gcFloor)
        return ["set", "deleted", "new"].reduce(into: [:]) { $0[$1] = shown(cluster, $1) }
    }

    /// The value 0 that counting begins with loses to all other writes: also to those that a newcomer has not heard of
    /// and that lie below a floor which it takes over.
    @Test(arguments: [0, 40, 300]) func aNewcomersZeroLosesToWhatItHasNotHeardYet(_ millis: Millis) {
        #expect(countedByANewcomer(after: millis) == ["set": ["110"], "deleted": ["13"], "new": ["10"]])
    }

    /// What all show of a key that was set to 100, and to which a newcomer adds 10 that joined by way of another one:
    /// that one had the floor of a founder, and not the key.
    private func countedBehindANewcomer(planted: PlantedMistakes = []) -> Set<String> {
        let (cluster, servers) = trio(planted: planted, chunkBytes: 1_024)
        let old = servers[0].actors[0]
        // More than a newcomer is streamed.
        let keys = (0..<6_000).map { "k\($0)" }
        for key in keys { old.put(key, "100", cluster.moment(servers[0])) }
        cluster.run(1_000)
        old.put("x", "1", cluster.moment(servers[0]))
        old.delete("x", cluster.moment(servers[0]))
        cluster.run(80_000)
        #expect(old.store.gcFloor > old.version("k0")!.ms)

        let first = cluster.start(actors: 1, joining: servers[0])
        #expect(cluster.run(until: { first.actors[0].store.gcFloor > 0 }, within: 1_000))
        // From then on the two hear nobody else.
        let olds = servers.map(\.id)
        cluster.drops = { from, to in olds.contains(from.server) != olds.contains(to.server) }
        let second = cluster.start(actors: 1, joining: first)
        #expect(cluster.run(until: { second.actors[0].replica.isCaughtUp }, within: 10_000))
        let missing = keys.first { second.actors[0].get($0) == nil }
        guard second.actors[0].store.gcFloor > 0, let key = missing else {
            Issue.record("the second has everything, or no floor")
            return []
        }
        count(cluster, second, key, 10)
        cluster.run(2_000)
        cluster.drops = { _, _ in false }
        #expect(
            cluster.run(
                until: { shown(cluster, key).count == 1 && !second.actors[0].store.hasProvisionalZeros },
                within: 20_000))
        cluster.run(2_000)
        #expect(cluster.sum(\.divergences) == 0)
        return shown(cluster, key)
    }

    @Test func theZeroOfWhoJoinedANewcomerLosesToWhatThatHadNotGot() {
        #expect(countedBehindANewcomer() == ["110"])
        #expect(countedBehindANewcomer(planted: .zeroOfNewcomers) == ["10"])
    }

    @Test func aZeroAboveTheFloorIsNoticed() {
        let shown = countedByANewcomer(after: 0, planted: [.zeroAtFloor])
        #expect(shown["set"] == ["10"] && shown["new"] == ["10"])
    }

    /// All count until the deadline and go on behind it, before anybody has heard of the others: as a limit of so many
    /// a second is counted.
    private func countedAcrossADeadline(planted: PlantedMistakes = []) -> Set<String> {
        let (cluster, servers) = trio(planted: planted)
        for server in servers { count(cluster, server, "n", 5) }
        let end = cluster.moment(servers[0]).wall + 3_000
        servers[1].actors[0].store.expire("n", at: end, now: cluster.moment(servers[1]).wall)
        cluster.run(2_990)
        #expect(shown(cluster, "n") == ["15"])
        cluster.drops = { _, _ in true }
        for server in servers { count(cluster, server, "n", 100) }
        cluster.run(20)
        #expect(shown(cluster, "n") == ["none"])
        for server in servers { count(cluster, server, "n", 1) }
        cluster.drops = { _, _ in false }
        cluster.run(2_000)
        #expect(cluster.sum(\.divergences) == 0)
        return shown(cluster, "n")
    }

    @Test func whatIsCountedBeforeADeadlineEndsWithIt() {
        #expect(countedAcrossADeadline() == ["3"])
    }

    @Test func aPartThatIsNotCutIsNoticed() {
        #expect(countedAcrossADeadline(planted: [.partNotCut]) != ["3"])
    }

    @Test func anExpiredCounterIsForgotten() {
        let (cluster, servers) = trio()
        for server in servers { count(cluster, server, "n", 5) }
        cluster.run(1_000)
        let end = cluster.moment(servers[0]).wall + 5_000
        servers[1].actors[0].store.expire("n", at: end, now: cluster.moment(servers[1]).wall)
        cluster.run(6_000)
        #expect(shown(cluster, "n") == ["none"] && cluster.actors.allSatisfy { $0.1.store.count == 0 })
        count(cluster, servers[2], "n", 2)
        cluster.run(1_000)
        #expect(shown(cluster, "n") == ["2"])
        let next = cluster.moment(servers[0]).wall + 5_000
        servers[0].actors[0].store.expire("n", at: next, now: cluster.moment(servers[0]).wall)
        cluster.run(90_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 0 && $0.1.store.tombstoneCount == 0 })
        #expect(cluster.sum(\.divergences) == 0)
    }
}
