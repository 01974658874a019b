// Own writes on their way to one server: repeated, timed out, set apart and sent anew after a lost connection.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct OwnStreamTests {
    private func sent(_ sections: (from: UInt64, to: UInt64)..., bytes: Int = 100, at now: Millis = 0) -> OwnStream {
        var stream = OwnStream()
        for section in sections {
            stream.noteSection(section.from, section.to, fresh: section.from, bytes: bytes, now)
        }
        return stream
    }

    private func link(left: UInt64 = 0, delivered: UInt64 = 0) -> ServerLink {
        var link = ServerLink()
        link.up(1, greeted: 0)
        var progress = LinkProgress(session: 1)
        (progress.live.delivered, progress.bulk.delivered) = (delivered, delivered)
        (progress.live.left, progress.bulk.left) = (left, left)
        _ = link.moved(progress, 0)
        return link
    }

    @Test func acknowledgementsAreTimedUnlessTheWriteWentTwice() {
        var stream = sent((0, 10), (10, 20))
        #expect(stream.sent == 20 && stream.bytesInFlight == 200 && stream.ackMillis == nil)
        stream.acknowledge(10, 400)
        #expect(stream.ackMillis == 400 && stream.sectionsInFlight == 1)
        stream.noteSection(5, 25, fresh: 20, bytes: 100, 500)
        stream.acknowledge(25, 700)
        #expect(stream.ackMillis == (400 * 7 + 700) / 8 && stream.sectionsInFlight == 0)
        stream.checkInvariants(planted: [])
    }

    @Test func whatIsLateGoesAgainWithMorePatienceEachTime() {
        var stream = sent((0, 10))
        stream.acknowledge(10, 100)
        stream.noteSection(10, 20, fresh: 10, bytes: 100, 1_000)
        // One and a half round trips and 110 ms.
        #expect(stream.overdue(1_259, isOther: false) == .no && stream.overdue(1_260, isOther: false) == .late)
        stream.goBack(to: 10, isStuck: false, 1_260)
        #expect(stream.sent == 10 && stream.retries == 1 && stream.overdue(9_000, isOther: false) == .no)
        stream.noteSection(10, 20, fresh: 10, bytes: 100, 1_260)
        #expect(stream.isSentAgain(15, 1_519) && !stream.isSentAgain(15, 1_520) && !stream.isSentAgain(20, 1_300))
        #expect(stream.overdue(1_779, isOther: false) == .no && stream.overdue(1_780, isOther: false) == .late)
        stream.acknowledge(20, 1_700)
        #expect(stream.retries == 0)
    }

    @Test func anotherActorIsTriedAfterASecondWithoutProgress() {
        var stream = sent((0, 10), at: 1_000)
        #expect(stream.overdue(1_999, isOther: true) == .no)
        #expect(stream.overdue(2_010, isOther: true) == .stuck && stream.overdue(2_010, isOther: false) == .late)
        stream.restartWaiting(1_500)
        #expect(stream.overdue(2_010, isOther: true) == .late)
    }

    /// What the connection delivered is waited for longer: nothing is lost on it.
    @Test func aLivingConnectionIsBlamedOnlyForWhatItDelivered() {
        var stream = sent((0, 10), at: 1_000)
        stream.number(.live, 1, isLarge: false)
        #expect(stream.overdueDelivered(60_000, heardAt: 60_000, isOther: true) == .no)
        stream.noteDelivered(link(left: 1, delivered: 1), 2_000)
        #expect(stream.overdueDelivered(2_900, heardAt: 2_900, isOther: true) == .no)
        #expect(stream.overdueDelivered(3_100, heardAt: 3_000, isOther: true) == .stuck)
        #expect(stream.overdueDelivered(3_100, heardAt: 2_000, isOther: true) == .no, "none of its actors is heard")
        #expect(stream.overdueDelivered(11_999, heardAt: 11_999, isOther: false) == .no)
        #expect(stream.overdueDelivered(12_000, heardAt: 12_000, isOther: false) == .late)
        stream.goBackDelivered(to: 4, 12_000)
        #expect(stream.sent == 4 && stream.sectionsInFlight == 0 && stream.retries == 1)
        // Each time after twice the time.
        stream.noteSection(4, 10, fresh: 4, bytes: 100, 12_000)
        stream.number(.live, 2, isLarge: false)
        stream.noteDelivered(link(left: 2, delivered: 2), 12_000)
        #expect(stream.overdueDelivered(13_900, heardAt: 13_900, isOther: true) == .no)
        #expect(stream.overdueDelivered(14_100, heardAt: 14_000, isOther: true) == .stuck)
    }

    @Test func aSmallSectionGoesTwiceWhileLossesAreLikely() {
        var stream = sent((0, 10))
        #expect(stream.nextFrom(0, repeats: true, 100) == (10, false))
        stream.noteLoss(1_000)
        stream.noteSection(10, 20, fresh: 10, bytes: 100, 1_000)
        #expect(stream.nextFrom(0, repeats: false, 1_100) == (20, false))
        stream.noteSection(20, 30, fresh: 20, bytes: 100, 1_200)
        #expect(stream.nextFrom(0, repeats: true, 1_300) == (20, true))
        #expect(stream.nextFrom(0, repeats: true, 1_300) == (30, false), "once")
        stream.noteSection(30, 40, fresh: 30, bytes: 20_000, 1_400)
        #expect(stream.nextFrom(0, repeats: true, 1_500) == (40, false), "large")
        stream.noteSection(40, 50, fresh: 40, bytes: 100, 1_600)
        #expect(stream.nextFrom(45, repeats: true, 1_700) == (50, false), "acknowledged in part")
        stream.noteSection(50, 60, fresh: 50, bytes: 100, 1_800)
        #expect(stream.nextFrom(0, repeats: true, 31_000) == (60, false), "long ago")
    }

    @Test func largeIntervalsWaitInOrderAndAreBounded() {
        var stream = OwnStream()
        for i in UInt64(0)..<UInt64(OwnStream.largeMax) { #expect(stream.setApart(10 * i, 10 * i + 10) == true) }
        let end = UInt64(10 * OwnStream.largeMax)
        #expect(stream.setApart(end, end + 10) == false)
        #expect(stream.sent == end && stream.sentGapless(ServerLink()) == 0)
        stream.dropLarge(through: 20)
        stream.setApartAgain(5, 10)
        stream.setApartAgain(30, 40)
        stream.checkInvariants(planted: [])
        #expect(stream.nextLarge(journalFirst: 1)! == (5, 10))
        #expect(stream.nextLarge(journalFirst: 26)! == (30, 40), "a scan brings what the journal lost")
        #expect(stream.sentGapless(ServerLink()) == 30)
        stream.number(.bulk, 1, isLarge: true)
        #expect(stream.nextLarge(journalFirst: 1)! == (40, 50))
        #expect(stream.sentGapless(link()) == 30 && stream.sentGapless(link(left: 1)) == 40)
    }

    @Test func afterALostConnectionEverythingUnacknowledgedGoesAgain() {
        var stream = sent((0, 10))
        _ = stream.setApart(10, 20)
        _ = stream.setApart(20, 30)
        stream.number(.bulk, 1, isLarge: true)
        stream.linkBroke(acknowledged: 15, 1_000)
        #expect(stream.sent == 15 && stream.sectionsInFlight == 0)
        #expect(stream.nextLarge(journalFirst: 1)! == (10, 20))
        stream.skip(to: 12)
        #expect(stream.sent == 15)
        stream.begin(after: 3)
        #expect(stream.sent == 3)
    }

    @Test func aConnectionThatGaveWayDeliversWhatWentOverIt() {
        var stream = sent((0, 10), at: 1_000)
        stream.number(.live, 1, isLarge: false)
        _ = stream.setApart(10, 20)
        stream.number(.bulk, 1, isLarge: true)
        stream.moveToNewLink(2_000)
        #expect(!stream.isLargeWaiting && stream.sentGapless(ServerLink()) == 20)
        #expect(stream.overdueDelivered(12_000, heardAt: nil, isOther: false) == .late)
    }
}
