// Entries that stand still, replicas that differ, and when this replica is called again.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct GapWatchTests {
    @Test func anEntryStandsStillSinceAPeerWasAheadAndItDidNotMove() {
        var gaps = GapWatch()
        let looks = [1_000, 1_099, 1_100, 1_150].map { gaps.look($0) }
        #expect(looks == [true, false, true, false])
        gaps.watch(3, 1_000)
        #expect(gaps.watched == 3)
        func since(_ value: UInt64, ahead: Bool, _ now: Millis) -> Millis {
            gaps.note(1, value, now)
            return gaps.stalledSince(1, isPeerAhead: ahead, now)
        }
        #expect(since(0, ahead: false, 1_500) == 1_500)
        #expect(since(0, ahead: true, 2_000) == 1_500 && since(0, ahead: true, 3_000) == 1_500)
        #expect(since(4, ahead: true, 3_500) == 3_500 && since(4, ahead: true, 4_000) == 3_500)
        #expect(since(4, ahead: false, 4_500) == 4_500)
        gaps.checkInvariants(3)
    }

    @Test func nothingIsCollectedForAMinuteAfterADifference() {
        var gaps = GapWatch()
        #expect(!gaps.isCollectingHeld(5_000))
        gaps.noteDifference(5_000)
        #expect(gaps.isCollectingHeld(64_999) && !gaps.isCollectingHeld(65_000))
        gaps.mustScan(7)
        #expect(gaps.toScan == 7)
        gaps.noteScan()
        #expect(gaps.toScan == nil)
    }

    @Test func aNewWriteIsSentWhenItsTokenAllows() {
        var schedule = Schedule()
        schedule.plan(9_000, dataToken: 4_000, ownSeq: 5)
        #expect(schedule.next(ownSeq: 5) == 9_000 && schedule.next(ownSeq: 6) == 4_000)
        schedule.bringForward(to: 3_000)
        schedule.bringForward(to: 8_000)
        #expect(schedule.next(ownSeq: 5) == 3_000 && schedule.next(ownSeq: 6) == 3_000)
    }

    @Test func aCensusThatComesLateTellsForHowLongThisProcessStoodStill() {
        var census = Census()
        #expect(census.isDue(0) && census.next(105) == nil && census.age(77) == 0)
        census.start(1_000)
        census.start(2_000)
        #expect(census.start == 1_000 && census.age(1_700) == 700)
        #expect(census.take(1_000) == 0)
        #expect(!census.isDue(1_499) && census.isDue(1_500) && census.next(105) == 1_105)
        #expect(census.take(2_500) == 0)
        #expect(census.take(4_001) == 1_001)
    }

    @Test func aClockIsCorrectedWhileTheMajorityIsFarAway() {
        var clock = ClockCorrection()
        let at = Moment(wall: TestCluster.wallStart, steady: 40)
        #expect(!clock.follow([10, -10], at) && clock.millis(at) == 0)
        #expect(clock.follow([5_000, 5_010], at) && clock.millis(at) == 5_000)
        #expect(!clock.follow([6_000, 6_000], at) && clock.millis(at) == 6_000)
        // Where it is stepped right, nothing is corrected twice.
        #expect(clock.millis(Moment(wall: at.wall + 6_000, steady: 40)) == 0)
        #expect(clock.follow([], at) && clock.millis(at) == 0)
    }

    /// Neither those of others nor the own one.
    @Test func clocksThatWereNeverSetHaveNoVote() {
        var clock = ClockCorrection()
        let (at, unset) = (Moment(wall: TestCluster.wallStart, steady: 40), Moment(wall: 1_000, steady: 40))
        let toUnset = unset.wall - at.wall
        #expect(!clock.follow([toUnset, -5_000], at) && clock.millis(at) == 0 && !clock.isAgreed)
        #expect(clock.follow([toUnset, -5_000, -6_000], at) && clock.millis(at) == -5_000 && clock.isAgreed)
        #expect(clock.follow([-toUnset, 20], unset) && clock.millis(unset) == 0)
        #expect(clock.follow([-toUnset - 5_000, -toUnset, 20], unset) && clock.millis(unset) == -toUnset - 5_000)
        _ = clock.follow([-toUnset, -toUnset + 9, -toUnset + 5_000], unset)
        #expect(clock.millis(unset) == -toUnset + 9)
    }
}
