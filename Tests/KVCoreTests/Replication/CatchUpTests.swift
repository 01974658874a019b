// The asking side of scans: chunks in order, from the donor that was asked, and what the end of a scan tells.

import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct CatchUpTests {
    private func chunk(_ session: UInt32, _ number: UInt64) -> ChunkHead {
        ChunkHead(
            session: session, number: number, isLast: false, everything: false, start: VersionVector(),
            frontier: VersionVector())
    }

    private func asking(_ server: UInt64, donorIndex: Int = 0, isOfNewcomer: Bool = false) -> CatchUp {
        var catchUp = CatchUp(isCaughtUp: true)
        catchUp.begin(
            server, donorIndex: donorIndex, asked: VersionVector(), everything: false, completesJoin: false,
            isOfNewcomer: isOfNewcomer, firstItem: 1, 1_000)
        return catchUp
    }

    @Test func onlyTheNextChunkOfTheDonorThatWasAskedCounts() {
        var catchUp = asking(7, donorIndex: 1)
        let donor = ActorUID(server: 7, index: 1)
        #expect(catchUp.asks(server: 7) && !catchUp.asks(server: 8))
        let refused = [
            catchUp.queue(chunk(1, 1), from: donor, any: false, 2_000),
            catchUp.queue(chunk(2, 0), from: donor, any: false, 2_000),
            catchUp.queue(chunk(1, 0), from: ActorUID(server: 7, index: 0), any: false, 2_000),
            catchUp.queue(chunk(1, 0), from: ActorUID(server: 8, index: 1), any: false, 2_000),
        ]
        #expect(refused == [false, false, false, false] && catchUp.asker?.lastProgress == 1_000)
        let first = catchUp.queue(chunk(1, 0), from: donor, any: false, 2_000)
        let again = catchUp.queue(chunk(1, 0), from: donor, any: false, 2_000)
        let second = catchUp.queue(chunk(1, 1), from: donor, any: false, 2_500)
        #expect(first && !again && second && catchUp.asker?.lastProgress == 2_500)
        let merged = catchUp.merged(1, any: false, isRefused: false, 3_000)
        #expect(merged?.next == 1 && merged?.queued == 2)
        #expect(catchUp.merged(2, any: false, isRefused: false, 3_000) == nil)
        catchUp.checkInvariants()
    }

    @Test func aRefusedPageMakesItsDonorTheLastToBeAskedAgain() {
        var catchUp = asking(7)
        _ = catchUp.queue(chunk(1, 0), from: ActorUID(server: 7, index: 0), any: false, 1_000)
        _ = catchUp.queue(chunk(1, 1), from: ActorUID(server: 7, index: 0), any: false, 1_000)
        _ = catchUp.merged(1, any: false, isRefused: true, 1_000)
        let last = catchUp.merged(1, any: false, isRefused: false, 1_000)
        #expect(last?.isRefused == true)
        catchUp.end(2_000)
        #expect(catchUp.lastSilent == 7 && !catchUp.isAsking)
        #expect(!catchUp.isRested(3_000, 1_000) && catchUp.isRested(3_001, 1_000))
        catchUp.begin(
            8, asked: VersionVector(), everything: false, completesJoin: false, firstItem: 1, 3_000)
        #expect(catchUp.asker?.session == 2)
        catchUp.end(4_000)
        #expect(catchUp.lastSilent == nil)
    }

    @Test func aScanGivenUpBlamesItsSourceAndADroppedOneDoesNot() {
        var given = asking(7)
        given.giveUp(2_000)
        #expect(given.lastSilent == 7 && !given.isAsking && !given.isRested(2_000, 0))
        var dropped = asking(7)
        dropped.drop()
        #expect(dropped.lastSilent == nil && !dropped.isAsking && dropped.isRested(2_000, 0))
    }

    @Test func aGreetingsScanBelongsToWhoeverServesIt() {
        var catchUp = asking(0)
        catchUp.bind(ActorUID(server: 9, index: 2), isOfNewcomer: true)
        #expect(catchUp.asks(server: 9) && catchUp.asker?.donorIndex == 2 && catchUp.asker?.isOfNewcomer == true)
        catchUp.noteServing(9, 5, 8_000)
        #expect(catchUp.asker?.lastProgress == 1_000)
        catchUp.noteServing(9, 1, 8_000)
        #expect(catchUp.asker?.lastProgress == 8_000)
    }

    @Test func aSiblingsScanEndsInSilenceAfterFiveSeconds() {
        var catchUp = CatchUp(isCaughtUp: true)
        catchUp.beginLocal(2, asked: VersionVector(), everything: false, completesJoin: false, 1_000)
        catchUp.dropSilentLocal(6_000)
        #expect(catchUp.asks(sibling: 2))
        catchUp.dropSilentLocal(6_001)
        #expect(!catchUp.isAskingSibling)
    }

    @Test func theJoinIsOverWhenAScanForItIs() {
        var catchUp = CatchUp(isCaughtUp: false)
        #expect(!catchUp.isCaughtUp && catchUp.joinEnded(500) == 500 && catchUp.joinEnded(900) == 500)
        catchUp.complete(fromNewcomer: true)
        #expect(catchUp.isCaughtUp && catchUp.joinedNewcomer)
    }

    /// The line from the writer carries its writes already; one between two others may be slower.
    @Test func whatAJournalHasLostIsAskedOfItsWriter() {
        let cluster = TestCluster()
        let a = cluster.start(actors: 1, journal: 4096)
        cluster.run(100)
        let others = (0..<2).map { _ in cluster.start(actors: 1, joining: a, journal: 4096) }
        cluster.run(4_000)
        let (writer, served) = (others[1], { (server: TestServer) in server.actors[0].replica.statistics.scansServed })
        let before = cluster.servers.map(served)
        cluster.drops = { from, to in from.server == writer.id || to.server == writer.id }
        for i in 0..<10_000 { writer.actors[0].put("k\(i)", "v", cluster.moment(writer)) }
        cluster.run(2_000)
        // The first one has it well before the second one asks.
        cluster.drops = { from, to in from.server == writer.id && to.server == others[0].id }
        #expect(cluster.run(until: { a.actors[0].store.count == 10_000 }, within: 8_000))
        cluster.drops = { _, _ in false }
        #expect(cluster.run(until: { cluster.isConverged }, within: 8_000))
        #expect(writer.actors[0].replica.statistics.journalOverruns > 0)
        #expect(cluster.servers.map(served) == [before[0], before[1], before[2] + 2])
    }
}
