// Servers that were retired before somebody else came: what latecomers and parts that never met must still find out.
// Replicas in virtual time.

import KVBase
import Testing

@testable import KVCore

@Suite struct RetiredTests {
    /// A server that retired another with 20 keys, and two newcomers that joined each other while they could not reach
    /// it.
    private func newcomersApart(
        _ cluster: TestCluster
    ) -> (old: TestServer, gone: TestServer, newcomers: [TestServer]) {
        let old = cluster.start(actors: 2)
        cluster.run(100)
        let gone = cluster.start(actors: 1, joining: old)
        cluster.run(2_000)
        for i in 0..<20 { gone.actors[0].put("k\(i)", "v", cluster.moment(gone)) }
        old.actors[0].put("t", "v", cluster.moment(old))
        old.actors[0].delete("t", cluster.moment(old))
        cluster.run(500)
        var effects = ReplicaEffects()
        gone.actors[0].replica.beginLeave(cluster.moment(gone), into: &effects)
        #expect(cluster.run(until: { gone.actors[0].replica.hasLeft }, within: 2_000))
        cluster.run(500)
        cluster.stop(gone)
        #expect(
            cluster.run(until: { old.actors.allSatisfy { $0.replica.retired.servers == [gone.id] } }, within: 10_000))
        cluster.run(70_000)
        #expect(old.actors.allSatisfy { $0.store.tombstoneCount == 0 && $0.store.gcFloor > 0 })

        cluster.drops = { from, to in (from.server == old.id) != (to.server == old.id) }
        let first = cluster.start(actors: 1, joining: old)
        let second = cluster.start(actors: 2, joining: first)
        let newcomers = [first, second]
        #expect(
            cluster.run(
                until: { newcomers.allSatisfy { $0.actors.allSatisfy { $0.replica.isCaughtUp } } }, within: 10_000))
        return (old, gone, newcomers)
    }

    @Test func newcomersThatJoinedEachOtherFindOutWhatTheyLackOfARetiredServer() {
        let cluster = TestCluster()
        let (_, gone, newcomers) = newcomersApart(cluster)
        #expect(newcomers[0].actors[0].get("k7") == nil)
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged && newcomers[1].actors[1].get("k7") == "v" }, within: 10_000))
        cluster.run(20_000)
        #expect(cluster.actors.allSatisfy { $0.1.replica.retired.servers == [gone.id] })
        // Once all agree, the retired server costs nothing in the frames again.
        for (server, actor) in cluster.actors {
            for peer in actor.replica.servers {
                let shown = actor.replica.shown(actor.replica.vector, to: peer)
                #expect(server.origins.index(of: gone.actors[0].replica.uid).map { shown[$0] } == VersionVector.retired)
            }
        }
        #expect(cluster.sum(\.divergences) == 0 && cluster.sum(\.digestRepairs) == 0)
    }

    @Test func aLeavingServerWaitsForNewcomersThatLackWritesOfARetiredServer() {
        let cluster = TestCluster()
        let (old, _, newcomers) = newcomersApart(cluster)
        cluster.drops = { _, _ in false }
        #expect(
            cluster.run(
                until: {
                    old.actors.allSatisfy { actor in
                        newcomers.allSatisfy { actor.replica.server($0.id)?.isContacted ?? false }
                    }
                }, within: 2_000))
        var effects = ReplicaEffects()
        for actor in old.actors { actor.replica.beginLeave(cluster.moment(old), into: &effects) }
        #expect(cluster.run(until: { old.actors.allSatisfy(\.replica.hasLeft) }, within: 10_000))
        cluster.stop(old)
        cluster.run(1_000)
        #expect(newcomers.allSatisfy { $0.actors.allSatisfy { $0.get("k7") == "v" } })
    }

    @Test func whatANewcomerWroteUnderAFloorItHadNotHeardOfIsWrittenAgain() {
        let cluster = TestCluster()
        let (old, _, newcomers) = newcomersApart(cluster)
        newcomers[1].wallOffset = -3_600_000
        newcomers[1].actors[1].put("t", "late", cluster.moment(newcomers[1]))
        let floor = old.actors.map(\.store.gcFloor).max()!
        #expect(newcomers[1].actors[1].version("t")!.ms <= floor)
        cluster.run(500)
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged && old.actors[1].get("t") == "late" }, within: 10_000))
        #expect(cluster.actors.allSatisfy { $0.1.version("t")!.ms > floor })
    }

    @Test func whatIsWrittenAgainAboveAFloorDoesNotBeatWhatReplacedItElsewhere() {
        let cluster = TestCluster()
        let (old, _, newcomers) = newcomersApart(cluster)
        let (writer, other) = (newcomers[1], newcomers[0])
        writer.wallOffset = -3_600_000
        writer.actors[1].put("t", "late", cluster.moment(writer))
        writer.wallOffset = 0
        cluster.run(500)
        #expect(other.actors[0].get("t") == "late")
        let apart = cluster.drops
        cluster.drops = { from, to in apart(from, to) || from.server == other.id || to.server == other.id }
        let replacement = other.actors[0].put("t", "later", cluster.moment(other))
        cluster.run(500)
        cluster.drops = { from, to in from.server == other.id || to.server == other.id }
        let floor = old.actors.map(\.store.gcFloor).max()!
        #expect(cluster.run(until: { writer.actors[1].version("t")!.ms > floor }, within: 10_000))
        #expect(writer.actors[1].get("t") == "late")
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged }, within: 10_000))
        #expect(cluster.actors.allSatisfy { $0.1.version("t") == replacement })
    }

    @Test func aServerRetiredTooEarlyIsTakenUpAgainWhenAMemberWithMoreOfItComes() {
        let cluster = TestCluster()
        let shared = cluster.start(actors: 1)
        cluster.run(100)
        let one = cluster.start(actors: 2, joining: shared)
        cluster.run(3_000)
        shared.actors[0].put("early", "v", cluster.moment(shared))
        cluster.run(1_000)
        // The first part never hears of the second, nor of what was written since.
        cluster.drops = { from, to in (from.server == one.id) != (to.server == one.id) }
        let two = cluster.start(actors: 1, joining: shared)
        #expect(cluster.run(until: { two.actors[0].replica.isCaughtUp }, within: 5_000))
        shared.actors[0].put("late", "v", cluster.moment(shared))
        cluster.run(1_000)
        cluster.stop(shared)
        var effects = ReplicaEffects()
        for server in [one, two] {
            for actor in server.actors { actor.replica.forget(shared.id, cluster.moment(server), into: &effects) }
        }
        #expect(
            cluster.run(until: { one.actors.allSatisfy { $0.replica.retired.servers == [shared.id] } }, within: 10_000))
        #expect(one.actors[0].get("late") == nil && two.actors[0].replica.retired.servers.isEmpty)

        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged && one.actors[1].get("late") == "v" }, within: 10_000))
        #expect(cluster.sum(\.serversReopened) == 2 && cluster.sum(\.divergences) == 0)
        cluster.run(10_000)
        #expect(cluster.actors.allSatisfy { $0.1.replica.retired.servers == [shared.id] })
    }

    @Test func aReportFromBeforeADepartureRetiresNobody() {
        let cluster = TestCluster()
        let gone = cluster.start(actors: 1)
        cluster.run(100)
        let giver = cluster.start(actors: 1, joining: gone)
        let taker = cluster.start(actors: 1, joining: gone)
        let apart = cluster.start(actors: 2, joining: gone)
        cluster.run(3_000)
        var groups = [[gone.id, giver.id], [taker.id, apart.id]]
        cluster.drops = { from, to in
            !groups.contains { $0.contains(from.server) && $0.contains(to.server) }
        }
        func depart(_ server: TestServer) {
            cluster.stop(server)
            for (other, actor) in cluster.actors {
                var effects = ReplicaEffects()
                actor.replica.forget(server.id, cluster.moment(other), into: &effects)
            }
        }
        gone.actors[0].put("k", "v", cluster.moment(gone))
        cluster.run(500)
        depart(gone)
        // These two tell each other that they hold the same of it: nothing.
        cluster.run(3_000)
        // Then one of them gets what it left, from a server that departs too.
        groups = [[giver.id, taker.id], [apart.id]]
        #expect(cluster.run(until: { taker.actors[0].get("k") == "v" }, within: 10_000))
        depart(giver)
        cluster.run(5_000)
        #expect(apart.actors.allSatisfy { $0.replica.retired.servers.isEmpty })

        groups = [[taker.id, apart.id]]
        #expect(cluster.run(until: { cluster.isConverged && apart.actors[1].get("k") == "v" }, within: 10_000))
        cluster.run(10_000)
        #expect(cluster.actors.allSatisfy { $0.1.replica.retired.servers.sorted() == [gone.id, giver.id].sorted() })
        #expect(cluster.sum(\.serversReopened) == 0 && cluster.sum(\.divergences) == 0)
    }

    /// A server is removed while it lives, and one server has a write of it that another one lacks. `isOnDisk`: the
    /// disk of who has it is behind. Otherwise its second actor gets the write from the first after both know of the
    /// departure. Returns whether the other one retires the server without the write.
    private func isRetiredWithoutAWrite(
        after phase: Millis, actors: Int, isOnDisk: Bool, planted: PlantedMistakes = []
    ) -> Bool {
        let cluster = TestCluster()
        cluster.tune = { $0.planted = planted }
        let holder = cluster.start(actors: actors)
        cluster.run(100)
        let other = cluster.start(actors: 1, joining: holder)
        let gone = cluster.start(actors: 1, joining: holder)
        cluster.run(3_000 + phase)
        gone.actors[0].put("early", "v", cluster.moment(gone))
        cluster.run(2_000)
        #expect(other.actors[0].get("early") == "v")
        let kept = holder.actors[0].replica.vector
        if isOnDisk { holder.actors[0].replica.durableSource = { kept } }

        cluster.drops = { from, to in
            from.server == gone.id && to.server == other.id || from.server == holder.id && to.server == holder.id
        }
        gone.actors[0].put("late", "v", cluster.moment(gone))
        #expect(cluster.run(until: { holder.actors.contains { $0.get("late") == "v" } }, within: 1_000))
        cluster.stop(gone)
        for server in [holder, other] {
            for actor in server.actors {
                var effects = ReplicaEffects()
                actor.replica.forget(gone.id, cluster.moment(server), into: &effects)
            }
        }
        cluster.drops = { _, _ in false }
        let lacks = {
            other.actors[0].replica.retired.servers == [gone.id] && other.actors[0].get("late") == nil
        }
        if cluster.run(until: lacks, within: 5_000) { return true }
        holder.actors[0].replica.durableSource = nil
        let isAgreed = { cluster.actors.allSatisfy { $0.1.replica.retired.servers == [gone.id] } }
        #expect(cluster.run(until: { isAgreed() && cluster.isConverged }, within: 10_000))
        #expect(cluster.sum(\.serversReopened) == 0)
        return false
    }

    @Test(arguments: [(1, true), (2, false)])
    func whoSaysLessThanItHasIsNotLevel(actors: Int, isOnDisk: Bool) {
        var noticed = 0
        for phase in stride(from: Millis(0), to: 1_000, by: 50) {
            #expect(!isRetiredWithoutAWrite(after: phase, actors: actors, isOnDisk: isOnDisk))
            let isMistaken = isRetiredWithoutAWrite(
                after: phase, actors: actors, isOnDisk: isOnDisk, planted: [.levelUnsaid])
            if isMistaken { noticed += 1 }
        }
        #expect(noticed > 0)
    }

    /// Two servers retired a third one, `gone`, which deleted "k" and wrote "late" behind a gap. Only a newcomer, which
    /// they have not met, holds that.
    private final class Late {
        let cluster = TestCluster()
        let old: TestServer
        let other: TestServer
        let gone: TestServer
        let newcomer: TestServer

        init() {
            let cluster = cluster
            cluster.tune = { ($0.tombstoneAgeMillis, $0.collectEveryMillis) = (1_000, 500) }
            let giver = cluster.start(actors: 1)
            cluster.run(100)
            let old = cluster.start(actors: 2, joining: giver)
            let other = cluster.start(actors: 1, joining: giver)
            let gone = cluster.start(actors: 1, joining: giver)
            cluster.run(4_000)
            old.actors[0].put("k", "v", cluster.moment(old))
            cluster.run(1_000)
            cluster.drops = { from, _ in from.server == gone.id }
            gone.actors[0].put("gap", "v", cluster.moment(gone))
            cluster.run(150)
            let pair = [old.id, other.id]
            cluster.drops = { from, to in pair.contains(from.server) != pair.contains(to.server) }
            gone.actors[0].put("late", "v", cluster.moment(gone))
            gone.actors[0].delete("k", cluster.moment(gone))
            #expect(cluster.run(until: { giver.actors[0].get("late") == "v" }, within: 300))
            cluster.stop(gone)
            for server in [old, other] {
                for actor in server.actors {
                    var effects = ReplicaEffects()
                    actor.replica.forget(gone.id, cluster.moment(server), into: &effects)
                    actor.replica.forget(giver.id, cluster.moment(server), into: &effects)
                }
            }
            let isRetired = { (old.actors + other.actors).allSatisfy { $0.replica.retired.servers.count == 2 } }
            #expect(cluster.run(until: isRetired, within: 5_000))
            newcomer = cluster.start(actors: 1, joining: giver)
            let newcomer = newcomer
            #expect(cluster.run(until: { newcomer.actors[0].replica.isCaughtUp }, within: 2_000))
            cluster.stop(giver)
            #expect(newcomer.actors[0].get("late") == "v" && newcomer.actors[0].get("k") == nil)
            #expect(giver.actors[0].get("gap") == nil && giver.actors[0].replica.statistics.entriesAdopted == 0)
            #expect((old.actors + other.actors).allSatisfy { $0.get("late") == nil && $0.get("k") == "v" })
            (self.old, self.other, self.gone) = (old, other, gone)
        }

        /// They hear each other from now on, before the newcomer passes anything on.
        func meet() {
            cluster.drops = { _, _ in false }
            let (old, other, newcomer) = (old, other, newcomer)
            let isMet = {
                (old.actors + other.actors).allSatisfy { $0.replica.server(newcomer.id)?.isContacted ?? false }
            }
            #expect(cluster.run(until: isMet, within: 2_000))
            cluster.run(500)
            #expect(newcomer.actors[0].replica.statistics.entriesAdopted == 0)
        }

        var isLevel: Bool {
            cluster.isConverged && cluster.actors.allSatisfy { $0.1.get("late") == "v" && $0.1.get("k") == nil }
        }
    }

    @Test func whatComesLateOfARetiredServerIsTakenLikeAnyWrite() {
        let late = Late()
        let cluster = late.cluster
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { late.isLevel }, within: 20_000))
        #expect(cluster.sum(\.serversReopened) > 0 && cluster.sum(\.entriesAdopted) == 2)
        cluster.run(20_000)
        #expect(late.isLevel && cluster.sum(\.divergences) == 0)
        #expect(cluster.actors.allSatisfy { $0.1.replica.retired.servers.contains(late.gone.id) })
        #expect(cluster.actors.allSatisfy { $0.1.store.tombstoneCount == 0 })
    }

    /// It may come beyond a gap that nobody fills any more.
    @Test func whatComesLateAndBeyondAGapIsPassedOn() {
        let late = Late()
        let (cluster, newcomer, other) = (late.cluster, late.newcomer, late.other)
        late.meet()
        cluster.drops = { from, _ in from.server == newcomer.id }
        newcomer.actors[0].put("astray", "v", cluster.moment(newcomer))
        #expect(cluster.run(until: { newcomer.actors[0].replica.statistics.entriesAdopted == 2 }, within: 20_000))
        cluster.drops = { from, to in from.server == newcomer.id && to.server == other.id }
        #expect(cluster.run(until: { late.old.actors[0].get("late") == "v" }, within: 2_000))
        cluster.stop(newcomer)
        #expect(late.old.actors[0].get("astray") == nil)
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { late.isLevel && cluster.sum(\.entriesAdopted) > 0 }, within: 30_000))
    }

    /// A mark says nothing of it: a member that has reported the same one may lack it still.
    @Test func aDeleteThatComesLateOfARetiredServerStaysUntilEverybodyHasIt() {
        let late = Late()
        let (cluster, other) = (late.cluster, late.other)
        late.meet()
        cluster.drops = { _, to in to.server == other.id }
        #expect(cluster.run(until: { late.old.actors.allSatisfy { $0.get("k") == nil } }, within: 20_000))
        cluster.run(20_000)
        let marks = cluster.actors.map { $0.1.replica.retired.sortedMarks }
        #expect(Set(marks).count == 1 && other.actors[0].get("k") == "v")
        #expect(late.old.actors.allSatisfy { $0.store.tombstoneCount == 1 })
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { late.isLevel }, within: 10_000))
        cluster.run(20_000)
        #expect(late.isLevel && cluster.sum(\.divergences) == 0)
        #expect(cluster.actors.allSatisfy { $0.1.store.tombstoneCount == 0 })
    }
}
