// What is known of another server: what it has, when it was heard, which of its actors is addressed.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct RemoteServerTests {
    private func vector(_ seqs: UInt64...) -> VersionVector {
        var vector = VersionVector()
        for (i, seq) in seqs.enumerated() { vector.set(OriginIndex(i), seq) }
        return vector
    }

    private func report(_ stamp: Millis, _ head: UInt64) -> StabilityReport {
        StabilityReport(stamp: stamp, least: VersionVector(), heads: [head], level: [], retired: [])
    }

    @Test func islandsCountOnlyInWhatWasSeenAtMost() {
        var view = PeerView()
        view.join(vector(5, 7), atMost: vector(5, 7))
        view.note(Island(origin: 1, from: 9, to: 12))
        view.join(vector(6, 3), atMost: vector(6, 3))
        #expect(view.seenGapless == vector(6, 7) && view.seenAtMost == vector(6, 12))
        view.checkInvariants()
    }

    @Test func whatWasAnnouncedAndIsMissingIsAHole() {
        var view = PeerView()
        view.announce(1, 10)
        view.announce(1, 8)
        var seen = Seen(own: 0)
        _ = seen.advance(1, 0, 9)
        #expect(view.hasHole(seen) && view.announcedTo.map(\.to) == [10])
        _ = seen.advance(1, 9, 10)
        #expect(!view.hasHole(seen))
    }

    /// A report counts once its heads are covered; one that waits is not overtaken for ever by newer ones.
    @Test func aReportCountsOnceItsHeadsAreCovered() {
        var view = PeerView()
        var covered: UInt64 = 5
        func promote() -> Int { view.promote { $0[0] <= covered } }
        #expect(promote() == 0)
        view.take(report(100, 10))
        view.take(report(90, 1))
        #expect(view.report?.stamp == 100)
        #expect(promote() == 1 && view.usableReport == nil)
        view.take(report(200, 20))
        covered = 12
        #expect(promote() == 1 && view.usableReport?.stamp == 100)
        covered = 20
        #expect(promote() == 0 && view.usableReport?.stamp == 200)
        view.checkInvariants()
    }

    @Test func whatWasCollectedUnaskedIsDoubtedUnlessTheServerKnewIt() {
        var unasked = UnaskedCollection()
        #expect(unasked.doubtfulTo(VersionVector(), 0) == .min)
        unasked.note(vector(5, 0), floor: 1_000, until: 50)
        unasked.note(vector(3, 7), floor: 900, until: 60)
        #expect(unasked.doubtfulTo(vector(5, 6), 59) == 1_000 && unasked.doubtfulTo(vector(5, 7), 59) == .min)
        #expect(unasked.doubtfulTo(vector(5, 6), 60) == .min)
    }

    @Test func silenceIsForgivenWhenThisProcessStoodStill() {
        var hearing = Hearing()
        #expect(hearing.isSuspect(0, 3_000))
        hearing.note(1_000)
        hearing.note(bySibling: 900)
        #expect(!hearing.isSuspect(4_000, 3_000) && hearing.isSuspect(4_001, 3_000))
        hearing.note(bySibling: 1_500)
        #expect(hearing.heardAt == 1_500)
        hearing.forgive(2_000, 9_000)
        #expect(hearing.heardAt == 3_500)
        hearing.forgive(90_000, 9_000)
        #expect(hearing.heardAt == 9_000)
    }

    @Test func aStateIsToldWhenItChangesButNotThatOneWhoNeverCameIsDown() {
        var hearing = Hearing()
        let told = [PeerState.down, .down, .up, .up, .suspect, .down].map { hearing.change(to: $0) }
        #expect(told == [false, false, true, false, true, true])
    }

    @Test func aServerIsReplacedWhileAnotherIsHeardAtItsAddress() {
        var hearing = Hearing()
        let since = [(true, 100), (true, 200), (false, 300), (true, 400)].map { hearing.replacedSince($0.0, $0.1) }
        #expect(since == [100, 100, nil, 400])
    }

    @Test func clocksAreComparedByTheEchoOfTheShortestRoundTrip() {
        var hearing = Hearing()
        var head = FrameHead()
        (head.steady, head.wall, head.echo, head.echoHold) = (70, 10_500, 1_000, 20)
        #expect(hearing.echo(5_000) == nil)
        let at = Moment(wall: 5_000, steady: 1_120)
        hearing.note(head, at)
        #expect(hearing.roundTrip == 100 && hearing.offset(at) == 10_500 + 50 - 5_000 && hearing.offsetAt == 1_120)
        // Where the own clock is stepped, the other one is that much further away.
        let stepped = hearing.offset(Moment(wall: 9_000, steady: 1_120))
        #expect(stepped == 1_550)
        #expect(hearing.echo(1_200)! == (70, 80))
    }

    @Test func gatewaysTakeTurnsWhenTwoScansNeedThem() {
        var gateway = GatewayChoice()
        #expect(gateway.usual(1, of: 3) == 1)
        gateway.moveOn()
        gateway.moveOn()
        #expect(gateway.usual(1, of: 3) == 0)
        let chosen = [(nil, nil), (2, nil), (nil, 1), (2, 2)].map { gateway.forScan(asker: $0.0, donor: $0.1) }
        #expect(chosen == [nil, 2, 1, 2])
        let turns = (0..<4).map { _ in gateway.forScan(asker: 2, donor: 1) }
        #expect(turns == [1, 2, 1, 2])
    }

    @Test func repairsAreBoundedAndNotAnsweredTwiceAtOnce() {
        var repairs = RepairQueue()
        for i in UInt64(0)..<20 { repairs.add(RepairAsk(origin: 1, from: i, to: i + 1)) }
        repairs.add(RepairAsk(origin: 1, from: 0, to: 1))
        #expect(repairs.count == RepairQueue.asksMax)
        let first = repairs.next()!
        #expect(first.from == 0 && !repairs.isOnItsWay(first, 1_000, 220))
        repairs.noteAnswer(first, arrivedAt: 1_000)
        #expect(repairs.isOnItsWay(first, 1_219, 220) && !repairs.isOnItsWay(first, 1_220, 220))
        while repairs.next() != nil {}
        #expect(repairs.isEmpty)
        repairs.checkInvariants()
    }

    /// A large answer takes a thin line longer than the next ask.
    @Test func overAConnectionAnAnswerIsOnItsWayUntilItHasArrived() {
        var repairs = RepairQueue()
        var link = ServerLink()
        link.up(7, greeted: 0)
        func isOnItsWay(_ from: UInt64, _ to: UInt64, _ now: Millis) -> Bool {
            repairs.isOnItsWay(RepairAsk(origin: 1, from: from, to: to), now, 220)
        }
        repairs.noteAnswer(RepairAsk(origin: 1, from: 10, to: 20), arrivedAt: nil)
        repairs.number(link.handOver(.live, 1_000))
        repairs.noteDelivered(link, 1_000)
        #expect(isOnItsWay(10, 20, 60_000) && isOnItsWay(15, 30, 60_000), "whatever its end")
        #expect(!isOnItsWay(20, 30, 60_000) && !isOnItsWay(9, 20, 60_000))
        #expect(!repairs.isOnItsWay(RepairAsk(origin: 2, from: 10, to: 20), 60_000, 220))
        var progress = LinkProgress(session: 7)
        progress.live = LaneProgress(left: 1, delivered: 1)
        let isMoved = link.moved(progress, 5_000)
        #expect(isMoved)
        repairs.noteDelivered(link, 5_000)
        #expect(isOnItsWay(10, 20, 5_219) && !isOnItsWay(10, 20, 5_220))
        repairs.noteAnswer(RepairAsk(origin: 1, from: 20, to: 30), arrivedAt: nil)
        repairs.moveToNewLink(6_000)
        #expect(isOnItsWay(20, 30, 6_219) && !isOnItsWay(20, 30, 6_220), "delivered by the connection before")
        repairs.noteAnswer(RepairAsk(origin: 1, from: 20, to: 30), arrivedAt: nil)
        repairs.linkBroke()
        #expect(!isOnItsWay(20, 30, 6_000), "lost with its connection")
        for i in OriginIndex(1)...40 { repairs.noteAnswer(RepairAsk(origin: i, from: 0, to: 5), arrivedAt: nil) }
        #expect(repairs.isOnItsWay(RepairAsk(origin: 40, from: 0, to: 5), 7_000, 220) && !isOnItsWay(0, 5, 7_000))
        repairs.checkInvariants()
    }

    @Test func aReportGoesOnceASecond() {
        var turns = FrameTurns()
        #expect(turns.isReportDue(0))
        turns.noteReport(0)
        #expect(!turns.isReportDue(999) && turns.isReportDue(1_000))
    }

    @Test func aWishIsFulfilledByAMessage() {
        var wish = SendWish()
        #expect(wish.at == .min)
        wish.fulfil()
        #expect(wish.at == .max)
        wish.want(by: 500)
        wish.want(by: 700)
        #expect(wish.at == 500)
        wish.want(at: 700)
        #expect(wish.at == 700)
    }

    @Test func differentDigestsAreAFaultWhenTheyLast() {
        var digests = DigestWatch()
        func differ(_ now: Millis) -> Bool { digests.noteDifferent(now, patience: 5_000, timesMin: 3) }
        #expect([1_000, 7_000].map { differ($0) } == [false, false])
        #expect([7_001, 7_002].map { differ($0) } == [true, false], "the watch begins anew")
        digests.noteEqual()
        #expect([20_000, 25_000, 25_001].map { differ($0) } == [false, false, true])
    }
}
