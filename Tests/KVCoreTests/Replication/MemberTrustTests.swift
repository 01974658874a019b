// What a member says is believed only where it is its to say: each attack that the frames allow, with a frame that is
// right otherwise.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct MemberTrustTests {
    /// Three servers that know each other; the second one lies.
    struct Three {
        let cluster = TestCluster()
        let a: TestServer
        let liar: TestServer
        let c: TestServer
        var random = PRNG(seed: 11)

        init(actors: Int = 1, journal: Int = 1 << 16) {
            a = cluster.start(actors: actors)
            cluster.run(100)
            liar = cluster.start(actors: 1, joining: a, journal: journal)
            c = cluster.start(actors: 1, joining: a)
            cluster.run(4_000)
            for (server, actor) in cluster.actors {
                actor.put("of \(server.id)", "true", cluster.moment(server))
                actor.put("shared", "by \(server.id)", cluster.moment(server))
            }
            cluster.run(3_000)
        }

        /// An honest frame of the liar for the first actor of `server`, made now.
        func frame(for server: TestServer) -> [UInt8] {
            cluster.now += 1_100
            let actor = liar.actors[0]
            actor.put("news", "\(cluster.now)", cluster.moment(liar))
            var effects = ReplicaEffects()
            repeat {
                actor.replica.tick(cluster.moment(liar), into: &effects)
            } while actor.replica.step(
                cluster.moment(liar), into: &effects)
            return effects.frames.last { $0.to.server == server.id }!.bytes
        }

        func forged(_ lie: FrameLie, for server: TestServer) -> [UInt8] {
            var random = random
            var forger = FrameForger(origins: liar.origins, clusterId: TestCluster.cluster)
            forger.third = server === a ? c.id : a.id
            forger.keys = [Array("shared".utf8)]
            return forger.forge(frame(for: server), lie, random: &random)!
        }

        @discardableResult
        func give(_ bytes: [UInt8], to server: TestServer) -> (verdict: FrameVerdict, events: [ReplicaEvent]) {
            var effects = ReplicaEffects()
            let verdict = server.actors[0].replica.receive(
                frame: bytes, from: liar.id, cluster.moment(server), into: &effects)
            repeat {} while server.actors[0].replica.step(cluster.moment(server), into: &effects)
            return (verdict, effects.events)
        }

        @discardableResult
        func tell(_ lie: FrameLie, to server: TestServer) -> (verdict: FrameVerdict, events: [ReplicaEvent]) {
            give(forged(lie, for: server), to: server)
        }

        func status(of id: UInt64, at server: TestServer) -> MemberStatus? {
            server.actors[0].replica.memberRows.first { $0.server == id }?.status
        }
    }

    @Test func aFrameInSomebodyElsesNameIsRefused() {
        let three = Three()
        #expect(three.tell(.borrowedName, to: three.a).verdict == .rejected(.borrowed))
        #expect(FrameVerdict.rejected(.borrowed).closesLink == .borrowed)
        // The same frame under its own name is taken.
        #expect(three.give(three.frame(for: three.a), to: three.a).verdict == .accepted)
    }

    @Test(arguments: [FrameLie.othersForgotten, .othersLeft]) func nobodyIsGoneAtOneServersWord(_ lie: FrameLie) {
        let three = Three()
        for _ in 0..<8 {
            let events = three.tell(lie, to: three.a).events
            #expect(!events.contains(.forgotten))
            // The third one is heard meanwhile.
            three.cluster.run(1_000)
        }
        #expect(three.status(of: three.c.id, at: three.a) == .up && three.status(of: three.a.id, at: three.a) == .up)
        three.c.actors[0].put("later", "v", three.cluster.moment(three.c))
        #expect(three.cluster.run(until: { three.a.actors[0].get("later") == "v" }, within: 1_000))
    }

    @Test func whoIsSilentIsGoneAtOneServersWord() {
        let three = Three()
        three.cluster.stop(three.c)
        three.cluster.run(11_000)
        var effects = ReplicaEffects()
        three.liar.actors[0].replica.forget(three.c.id, three.cluster.moment(three.liar), into: &effects)
        three.cluster.run(1_000)
        #expect(three.status(of: three.c.id, at: three.a)! >= .forgotten)
    }

    @Test func aServerIsForgottenWhenMostOfThoseThatItHearsSaySoForAWhile() {
        let cluster = TestCluster()
        let servers = (0..<4).map { _ in cluster.start(actors: 1, joining: cluster.servers.first) }
        cluster.run(5_000)
        let victim = servers[3]
        func forget(at server: TestServer) {
            var effects = ReplicaEffects()
            server.actors[0].replica.forget(victim.id, cluster.moment(server), into: &effects)
        }
        func isForgotten() -> Bool { victim.actors[0].events.contains(.forgotten) }
        forget(at: servers[0])
        cluster.run(20_000)
        #expect(!isForgotten() && servers[1].actors[0].replica.members.isMember(victim.id))
        forget(at: servers[1])
        cluster.run(1_500)
        #expect(!isForgotten())
        // Two of three that it hears, for three seconds.
        cluster.run(6_000)
        #expect(isForgotten())
    }

    /// Somebody says of a newcomer that it is gone before others have met it; also where that one has invented as many
    /// as there is room for.
    @Test(arguments: [(FrameLie.othersLeft, MemberStatus.left), (.othersForgotten, .forgotten)], [true, false])
    func nobodyIsGoneBeforeItCame(_ said: (lie: FrameLie, status: MemberStatus), hasRoom: Bool) {
        let three = Three()
        let (cluster, a) = (three.cluster, three.a)
        for seed in 0..<10 where !hasRoom {
            var liar = three
            liar.random = PRNG(seed: UInt64(seed))
            liar.tell(.inventedMembers, to: a)
        }
        func slander(_ id: UInt64) {
            var forger = FrameForger(origins: three.liar.origins, clusterId: TestCluster.cluster)
            forger.third = id
            var random = PRNG(seed: 1)
            three.give(forger.forge(three.frame(for: a), said.lie, random: &random)!, to: a)
        }
        let id = three.c.id + 1
        slander(id)
        #expect(three.status(of: id, at: a) == (hasRoom ? .joining : nil))
        // It comes while that is said again and again.
        let newcomer = cluster.start(actors: 1, joining: a)
        #expect(newcomer.id == id)
        for _ in 0..<15 {
            cluster.run(1_000)
            slander(id)
        }
        #expect(three.status(of: id, at: a) == .up && !newcomer.actors[0].events.contains(.forgotten))
        newcomer.actors[0].put("its", "v", cluster.moment(newcomer))
        #expect(cluster.run(until: { a.actors[0].get("its") == "v" }, within: 2_000))
        // Of one that does not come it is believed, as it is of any that is silent.
        slander(999)
        #expect(three.status(of: 999, at: a) == (hasRoom ? .joining : nil))
        for _ in 0..<3 {
            cluster.run(3_000)
            // Where it has no row the word stands as long as it is repeated.
            if !hasRoom { slander(999) }
        }
        cluster.run(2_000)
        slander(999)
        #expect(three.status(of: 999, at: a) == said.status)
    }

    @Test func onlyAServerItselfSaysWhereItIs() {
        let three = Three()
        let before = three.a.actors[0].replica.memberRows.first { $0.server == three.c.id }!
        three.tell(.othersMoved, to: three.a)
        #expect(three.a.actors[0].replica.memberRows.first { $0.server == three.c.id } == before)
        #expect(three.a.actors[0].replica.memberRows.first { $0.server == three.a.id }!.incarnation == 0)
        // What others told while it could not be heard ends with its own word.
        three.cluster.drops = { $0.server == three.c.id || $1.server == three.c.id }
        three.cluster.run(11_000)
        three.tell(.othersMoved, to: three.a)
        #expect(three.a.actors[0].replica.memberRows.first { $0.server == three.c.id }!.incarnation == .max)
        three.cluster.drops = { _, _ in false }
        three.cluster.run(3_000)
        #expect(three.a.actors[0].replica.memberRows.first { $0.server == three.c.id } == before)
    }

    /// Also to an actor whose sibling has that server's own word.
    @Test func nobodyMovesAServerThatASiblingHears() {
        let three = Three()
        let newcomer = three.cluster.start(actors: 3, joining: three.a)
        three.cluster.run(5_000)
        for actor in newcomer.actors {
            let before = actor.replica.members.row(three.a.id)
            var effects = ReplicaEffects()
            let verdict = actor.replica.receive(
                frame: three.forged(.othersMoved, for: newcomer), from: three.liar.id,
                three.cluster.moment(newcomer), into: &effects)
            #expect(verdict == .accepted)
            #expect(before?.actorCount == 1 && actor.replica.members.row(three.a.id) == before)
        }
    }

    /// It lacks everything, it says again and again: it is given a scan now and then, and nothing that it has.
    @Test func whoAsksForEverythingAgainAndAgainIsGivenLittle() {
        let three = Three()
        for i in 0..<200 {
            three.liar.actors[0].put("old \(i)", "v", three.cluster.moment(three.liar))
            three.a.actors[0].put("of a \(i)", "v", three.cluster.moment(three.a))
        }
        three.cluster.run(2_000)
        let statistics = { three.a.actors[0].replica.statistics }
        let (before, steady) = (statistics(), three.cluster.now)
        for seed in 0..<60 {
            var again = three
            again.random = PRNG(seed: UInt64(100 + seed))
            again.tell(.asksForEverything, to: three.a)
        }
        let scans = Int(statistics().scansServed - before.scansServed)
        let periods = Int((three.cluster.now - steady) / ScanRestarts.everyMillis)
        #expect(scans >= 2 && scans <= ScanRestarts.heldMax + periods + 1, "\(scans) in \(periods) periods")
        #expect(statistics().asksRefused - before.asksRefused > 60)
        // Who is honest is given what it lacks.
        let d = three.cluster.start(actors: 1, joining: three.a)
        #expect(three.cluster.run(until: { d.actors[0].get("of a 199") == "v" }, within: 4_000))
    }

    /// The same where the journal has forgotten the interval, and a scan brings it.
    @Test func aScanIsNotFilteredByWhatOthersSayOfASilentWriter() {
        let three = Three(journal: 64)
        let (cluster, a, liar, c) = (three.cluster, three.a, three.liar, three.c)
        cluster.drops = { $0.server == a.id && $1.server == c.id || $0.server == c.id && $1.server == a.id }
        cluster.run(4_000)
        let origin = a.origins.index(of: c.actors[0].replica.uid)!
        let said = a.actors[0].replica.vector[origin]
        three.tell(.silencedWriters, to: a)
        #expect(a.actors[0].replica.vector[origin] > 1 << 30 && a.actors[0].replica.sureVector[origin] == said)
        cluster.drops = { ($0.server == a.id) != ($1.server == a.id) }
        liar.actors[0].put("x", "beaten", cluster.moment(liar))
        cluster.run(500)
        c.actors[0].put("x", "winner", cluster.moment(c))
        #expect(cluster.run(until: { liar.actors[0].get("x") == "winner" }, within: 1_000))
        for i in 0..<5_000 { liar.actors[0].put("later \(i % 9)", "\(i)", cluster.moment(liar)) }
        cluster.run(1_000)
        cluster.drops = { $0.server == a.id && $1.server == c.id || $0.server == c.id && $1.server == a.id }
        #expect(cluster.run(until: { a.actors[0].replica.statistics.scansFinished > 0 }, within: 20_000))
        #expect(a.actors[0].get("x") == "winner" && a.actors[0].get("later 4") == "4999")
    }

    /// What a server has on the word of others alone it does not report, and does not collect by.
    @Test func whatOthersSayOfASilentWriterProvesNothing() {
        let three = Three(actors: 2)
        let (cluster, a, liar, c) = (three.cluster, three.a, three.liar, three.c)
        cluster.drops = { $0.server == a.id && $1.server == c.id || $0.server == c.id && $1.server == a.id }
        cluster.run(4_000)
        let origin = a.origins.index(of: c.actors[0].replica.uid)!
        let said = a.actors[0].replica.vector[origin]
        #expect(a.actors.allSatisfy { $0.replica.isSettled(cluster.moment(a)) })
        three.tell(.silencedWriters, to: a)
        cluster.run(1_000)
        for actor in a.actors {
            let replica = actor.replica
            #expect(replica.vector[origin] > 1 << 30 && !replica.isSettled(cluster.moment(a)))
            let report = replica.report(to: replica.server(liar.id)!, cluster.moment(a))
            #expect(report?.least[origin] == said && report?.heads == a.actors.map(\.store.ownSeq))
        }
        // Its own word ends that.
        cluster.drops = { _, _ in false }
        cluster.run(15_000)
        c.actors[0].put("more", "v", cluster.moment(c))
        cluster.run(3_000)
        for actor in a.actors {
            let report = actor.replica.report(to: actor.replica.server(liar.id)!, cluster.moment(a))
            #expect(report?.least[origin] == c.actors[0].store.ownSeq)
        }
    }

    @Test func inventedMembersHaveABoundAndOthersStillFindAPlace() {
        let three = Three()
        for seed in 0..<30 {
            var liar = three
            liar.random = PRNG(seed: UInt64(seed))
            liar.tell(.inventedMembers, to: three.a)
        }
        let replica = three.a.actors[0].replica
        #expect(replica.memberRows.count { $0.status.isMember } == 3 + Membership.unheardMembersOfOneMax)
        #expect(replica.statistics.rowsRefused == 600 - UInt64(Membership.unheardMembersOfOneMax))
        let d = three.cluster.start(actors: 1, joining: three.a)
        d.actors[0].put("newcomer", "v", three.cluster.moment(d))
        #expect(three.cluster.run(until: { three.a.actors[0].get("newcomer") == "v" }, within: 5_000))
    }

    /// Writers that only others tell of take no more than half of the numbers that a process has for writers.
    @Test func inventedWritersLeaveRoom() {
        let three = Three()
        let origins = three.a.origins
        while origins.count < OriginTable.toldMax {
            _ = origins.intern(ActorUID(server: 1 << 50, index: 0) + origins.count)
        }
        let before = origins.count
        three.tell(.unknownWriter, to: three.a)
        three.tell(.inventedMembers, to: three.a)
        #expect(origins.count == before)
        let d = three.cluster.start(actors: 2, joining: three.a)
        d.actors[1].put("newcomer", "v", three.cluster.moment(d))
        #expect(three.cluster.run(until: { three.a.actors[0].get("newcomer") == "v" }, within: 5_000))
    }

    @Test(arguments: [FrameLie.receiversEntry, .siblingsEntry, .thirdsEntry, .unknownWriter])
    func entriesThatAreNotTheSendersToTellChangeNothing(_ lie: FrameLie) {
        let three = Three(actors: 2)
        let before = three.a.actors.map { $0.version("shared")?.ms }
        three.tell(lie, to: three.a)
        three.cluster.run(3_000)
        #expect(three.a.actors.allSatisfy { $0.get("shared") != "a lie" })
        #expect(three.a.actors.map { $0.version("shared")?.ms } == before && three.cluster.isConverged)
        #expect(three.a.actors.allSatisfy { $0.replica.statistics.versionCollisions == 0 })
        if lie != .siblingsEntry { #expect(three.a.actors[0].replica.statistics.entriesForged > 0) }
    }

    @Test(arguments: [FrameLie.silencedWriters, .sawEverything, .islands, .falseReport, .sentMuch, .sawNothing])
    func nobodyIsSilenced(_ lie: FrameLie) {
        let three = Three()
        for _ in 0..<3 {
            three.tell(lie, to: three.a)
            three.cluster.run(1_000)
        }
        three.a.actors[0].put("mine", "v", three.cluster.moment(three.a))
        three.c.actors[0].put("its", "v", three.cluster.moment(three.c))
        three.cluster.run(2_000)
        #expect(three.a.actors[0].get("its") == "v" && three.c.actors[0].get("mine") == "v")
        if lie == .silencedWriters { #expect(three.a.actors[0].replica.statistics.relaysRefused == 3) }
    }

    /// It says only that, and not how far it has written meanwhile: what others pass on of it stands.
    @Test func whoTakesThisServerForGoneContradictsNothing() {
        let three = Three()
        let (cluster, a, c) = (three.cluster, three.a, three.c)
        var row = c.actors[0].replica.memberRows.first { $0.server == a.id }!
        row.status = .forgotten
        var effects = ReplicaEffects()
        c.actors[0].replica.learn(row, cluster.moment(c), into: &effects)
        cluster.run(1_000)
        for round in 0..<30 {
            c.actors[0].put("later", "\(round)", cluster.moment(c))
            cluster.run(1_000)
        }
        let origin = a.origins.index(of: c.actors[0].replica.uid)!
        let (seen, replica) = (a.actors[0].replica.vector[origin], a.actors[0].replica)
        #expect(three.status(of: a.id, at: c) == .forgotten && three.status(of: c.id, at: a) == .up)
        #expect(a.actors[0].get("later").map { Int($0)! > 20 } == true)
        cluster.run(30_000)
        #expect(replica.vector[origin] >= seen && replica.statistics.hearsayRefuted == 0)
    }

    /// While a writer is silent others pass on what it wrote, and may lie about it. Its own word ends that.
    @Test func whoIsHeardAgainIsNotSilencedByWhatWasSaidMeanwhile() {
        let three = Three(actors: 2)
        three.cluster.drops = { $0.server == three.c.id || $1.server == three.c.id }
        three.cluster.run(4_000)
        three.tell(.silencedWriters, to: three.a)
        let origin = three.a.origins.index(of: three.c.actors[0].replica.uid)!
        #expect(three.a.actors[0].replica.vector[origin] > 1 << 30)
        three.cluster.drops = { _, _ in false }
        three.c.actors[0].put("later", "v", three.cluster.moment(three.c))
        three.cluster.run(5_000)
        #expect(three.a.actors[0].get("later") == nil)
        three.cluster.run(10_000)
        three.c.actors[0].put("at last", "v", three.cluster.moment(three.c))
        three.cluster.run(3_000)
        #expect(three.a.actors.allSatisfy { $0.get("later") == "v" && $0.get("at last") == "v" })
        #expect(three.a.actors[0].replica.statistics.hearsayRefuted == 1)
    }

    /// A write that beat another one's is not passed over because somebody lied about its writer.
    @Test func whatIsCoveredOnTheWordOfOthersAloneIsMergedAllTheSame() {
        let three = Three(actors: 2)
        let (a, liar, c) = (three.a, three.liar, three.c)
        three.cluster.drops = { $0.server == a.id && $1.server == c.id || $0.server == c.id && $1.server == a.id }
        three.cluster.run(4_000)
        three.tell(.silencedWriters, to: a)
        three.cluster.run(1_000)
        let origin = a.origins.index(of: c.actors[0].replica.uid)!
        #expect(a.actors.allSatisfy { $0.replica.vector[origin] > 1 << 30 })
        three.cluster.drops = { ($0.server == a.id) != ($1.server == a.id) }
        liar.actors[0].put("x", "beaten", three.cluster.moment(liar))
        three.cluster.run(500)
        c.actors[0].put("x", "winner", three.cluster.moment(c))
        #expect(three.cluster.run(until: { liar.actors[0].get("x") == "winner" }, within: 1_000))
        three.cluster.drops = { $0.server == a.id && $1.server == c.id || $0.server == c.id && $1.server == a.id }
        three.cluster.run(3_000)
        #expect(a.actors.allSatisfy { $0.get("x") == "winner" })
    }

    @Test func stampsMoreThanAYearAheadCloseTheLinkAndAreCountedByName() {
        let three = Three()
        #expect(three.tell(.stampAhead, to: three.a).verdict == .rejected(.clock))
        #expect(three.a.actors[0].replica.statistics.clockRejects == 1)
        let b = three.liar
        b.wallOffset = 300 * 24 * 3_600_000
        b.actors[0].put("ahead", "v", three.cluster.moment(b))
        three.cluster.run(500)
        #expect(three.a.actors[0].get("ahead") == "v")
        let counted = three.a.actors[0].replica.futureStampsByName
        #expect(counted.count == 1 && counted[0].name == Bytes(ActorUID.hex(b.id, 16)) && counted[0].count > 0)
    }

    @Test func aFloorAheadOfTheClockIsNotTakenOver() {
        let three = Three()
        for _ in 0..<2 {
            let late = three.cluster.start(actors: 1, joining: three.a)
            three.cluster.run(50)
            let limit: Millis = TestCluster.wallStart + three.cluster.now + 60_000
            three.cluster.run(4_000)
            for _ in 0..<6 { three.tell(.floorAhead, to: late) }
            #expect(late.actors[0].store.gcFloor < limit)
        }
        // A majority tells the time; without one a floor within a day is believed.
        let replica = three.a.actors[0].replica
        let at = three.cluster.moment(three.a)
        #expect(!replica.isCredible(floor: at.wall + 3_600_000, at) && replica.isCredible(floor: at.wall, at))
        #expect(replica.isImpossible(floor: at.wall + 2 * Limits.floorAheadMillis, at))
        let (cluster, a, _) = RemoteTests.pair(1, 1)
        let now = cluster.moment(a)
        #expect(a.actors[0].replica.isCredible(floor: now.wall + 3_600_000, now))
        #expect(!a.actors[0].replica.isCredible(floor: now.wall + 2 * Limits.floorAheadMillis, now))
    }

    @Test func noStampIsGivenThatOthersRefuse() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        b.wallOffset = 366 * 24 * 3_600_000
        cluster.run(2_500)
        let (actor, at) = (b.actors[0], cluster.moment(b))
        #expect(actor.replica.isAheadOfOthers(at))
        let record = Bytes("k").withBytes { key in
            Bytes("v").withBytes { actor.replica.put(key: key, value: $0, at) }
        }
        #expect(record == nil)
        // Its own clock set right, it writes again.
        b.wallOffset = 0
        cluster.run(1_000)
        actor.put("k", "v", cluster.moment(b))
        #expect(cluster.run(until: { a.actors[0].get("k") == "v" }, within: 1_000))
        #expect(a.actors[0].replica.statistics.clockRejects == 0)
    }

    /// Who came up with a clock that was never set neither refuses everybody nor is taken for the time.
    @Test func aClockThatWasNeverSetStopsNobody() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        b.wallOffset = -TestCluster.wallStart
        cluster.run(2_500)
        #expect(!a.actors[0].replica.isAheadOfOthers(cluster.moment(a)))
        a.actors[0].put("k", "v", cluster.moment(a))
        b.actors[0].put("old", "v", cluster.moment(b))
        #expect(
            cluster.run(
                until: { b.actors[0].get("k") == "v" && a.actors[0].get("old") == "v" }, within: 1_000))
    }

    /// Of three other clocks the one in the middle decides, of one or two the latest.
    @Test func whoseClockWasNeverSetGoesByMostOfTheOthers() {
        let cluster = TestCluster()
        let a = cluster.start(actors: 1)
        let others = (0..<2).map { _ in cluster.start(actors: 1, joining: a) }
        others[0].wallOffset = 2 * 365 * 24 * 3_600_000
        cluster.run(4_000)
        let late = cluster.start(actors: 1, joining: a)
        late.wallOffset = -TestCluster.wallStart
        cluster.run(4_000)
        let (replica, at) = (late.actors[0].replica, cluster.moment(late))
        let now = cluster.moment(a).wall
        #expect(replica.isCaughtUp && replica.isCredible(floor: now, at))
        #expect(!replica.isCredible(floor: now + 2 * Limits.floorAheadMillis, at))
        #expect(replica.isImpossible(floor: now + 2 * Limits.floorAheadMillis, at))
        #expect(replica.latestStamp(at) < now + SkewGuard.aheadMillisMax + 60_000)
        let (pair, b, c) = RemoteTests.pair(1, 1)
        b.wallOffset = -TestCluster.wallStart
        pair.run(2_500)
        #expect(b.actors[0].replica.isCredible(floor: pair.moment(c).wall, pair.moment(b)))
        #expect(!b.actors[0].replica.isCredible(floor: pair.moment(c).wall + 60_000, pair.moment(b)))
    }

    @Test func aWrongDigestOfOneChangesNothing() {
        let three = Three()
        for _ in 0..<12 { three.tell(.wrongDigest, to: three.a) }
        three.cluster.run(10_000)
        #expect(three.cluster.isConverged)
        #expect(three.a.actors[0].get("of \(three.a.id)") == "true")
    }

    @Test func aWordToTheFormerIdOfAnAddressIsNothingToTheNewOne() {
        let three = Three()
        let told = three.tell(.oldIdForgotten, to: three.a)
        #expect(told.verdict == .rejected(.misaddressed) && !told.events.contains(.forgotten))
        #expect(three.status(of: three.a.id, at: three.a) == .up)
    }
}

extension ActorUID {
    fileprivate static func + (uid: ActorUID, offset: Int) -> ActorUID {
        ActorUID(server: uid.server + UInt64(offset), index: uid.index)
    }
}
