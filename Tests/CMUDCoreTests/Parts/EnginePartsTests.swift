// The parts with which a session does things: clock, alarms, requests, lines, outputs, hints.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct EnginePartsTests {
    @Test func theClockNeverGoesBackAndLearnsTheStoresTime() {
        var clock = PlayClock(Moment(wall: 5_000, steady: 100))
        #expect(clock.advance(to: Moment(wall: 4_000, steady: 90)) == false)
        #expect(clock.now == Moment(wall: 4_000, steady: 100), "the wall clock may go back, the steady one not")
        clock.learn(stamp: 4_700)
        #expect(clock.corrected == 4_700 && clock.ownWall(4_700) == 4_000)
        #expect(!clock.advance(to: Moment(wall: 14_000, steady: 10_100)) && clock.corrected == 14_700)
        clock.checkInvariants()
    }

    @Test func aLongGapIsAPauseOfTheProcess() {
        var clock = PlayClock(Moment(wall: 0, steady: 100))
        #expect(clock.advance(to: Moment(wall: 0, steady: 100 + PlayClock.suspendMillis)) == false)
        #expect(clock.advance(to: Moment(wall: 0, steady: 101 + 2 * PlayClock.suspendMillis)) == true)
    }

    @Test func alarmsRunInOrderAndCanBeCancelled() {
        var (alarms, ran) = (Alarms(), [Int]())
        _ = alarms.set(20) { ran.append(3) }
        let second = alarms.set(10) { ran.append(0) }
        _ = alarms.set(10) { ran.append(1) }
        _ = alarms.set(20) { ran.append(4) }
        alarms.checkInvariants()
        alarms.cancel(second)
        #expect(alarms.next == 10 && alarms.takeDue(9) == nil)
        while let run = alarms.takeDue(20) { run() }
        #expect(ran == [1, 3, 4], "of two that are due at once the one that was set first")
        _ = alarms.set(30) {}
        alarms.clear()
        #expect(alarms.next == nil)
    }

    @Test func aRequestIsGivenOnceAndAnsweredOnce() {
        var (calls, replies) = (StoreCalls(), 0)
        calls.add(.get("a")) { _ in replies += 1 }
        calls.add(.get("b")) { _ in replies += 1 }
        calls.checkInvariants()
        let ids = calls.takeUnsent().map(\.id)
        #expect(ids.count == 2 && calls.takeUnsent().isEmpty)
        calls.take(ids[0])?(.value(nil))
        #expect(replies == 1 && calls.take(ids[0]) == nil)
        calls.add(.get("c")) { _ in replies += 1 }
        calls.forget()
        #expect(calls.take(ids[1]) == nil, "nobody waits any more")
        #expect(calls.takeUnsent().count == 1, "what was asked for is still carried out")
        calls.checkInvariants()
    }

    @Test func theStoreIsDownFromTheFirstFailureToTheFirstAnswer() {
        var health = StoreHealth()
        #expect(!health.answered() && health.silence(now: 900) == 0)
        #expect(health.failed(now: 1_000) && !health.failed(now: 2_000), "said once")
        #expect(health.isDown && health.silence(now: 4_000) == 3_000)
        #expect(health.answered() && !health.isDown && !health.answered())
        health.checkInvariants(now: 4_000)
    }

    private func typed(_ count: Int) -> [TypedLine] {
        (0..<count).map { TypedLine(text: "\($0)", isCutOff: false) }
    }

    @Test func linesWaitForTheRunningCommandUpToABound() {
        var lines = LineQueue()
        lines.begin()
        #expect(lines.add(typed(LineQueue.linesMax)) == true)
        #expect(lines.add(typed(1)) == false, "one too many")
        #expect(lines.next() == nil && !lines.isIdle)
        lines.checkInvariants()
        lines.begin()
        lines.finish()
        #expect(lines.next() == nil, "two began, one ended")
        lines.finish()
        #expect(lines.next()?.text == "0")
        lines.clear()
        #expect(lines.isIdle && lines.isEmpty && lines.next() == nil)
    }

    @Test func aQuestionTakesOneLine() {
        var (lines, answer) = (LineQueue(), "")
        lines.ask(.secret("Password: ")) { answer = $0 }
        #expect(lines.isQuestion && lines.prompt.isSecret)
        lines.takeQuestion()?("x")
        #expect(answer == "x" && !lines.isQuestion && lines.takeQuestion() == nil)
        lines.show(.mining)
        #expect(lines.prompt == .mining)
    }

    @Test func outputsCarryTheMarkOfTheirMoment() {
        var output = OutputQueue(isReader: false)
        output.emit(.notice("the world's"))
        #expect(output.mark(true) == false)
        output.emit(.notice("the answer"))
        #expect(output.mark(false) == true)
        #expect(output.take().map(\.isAsync) == [true, false] && output.take().isEmpty)
        output.setReader(true)
        #expect(output.isReader && !output.isAnswering)
    }

    @Test func aChapterIsToldInOnePiece() {
        var output = OutputQueue(isReader: false)
        output.tell([.chapterLine("one"), .chapterLine("two"), .chapterLine("three")])
        #expect(output.isTelling && output.tellNext())
        output.emit(.notice("the world goes on"))
        _ = output.mark(true)
        output.emit(.notice("an answer follows the chapter"))
        output.checkInvariants()
        let before = output.take().map { "\($0.event)" }
        #expect(before.count == 2 && before[1].contains("the world goes on"))
        output.tellRest()
        #expect(output.take().map { "\($0.event)" }.last?.contains("an answer") == true)
        #expect(!output.isTelling && !output.tellNext())
    }

    @Test func aChapterThatGrowsTooLongIsToldAtOnce() {
        var output = OutputQueue(isReader: false)
        output.tell([.chapterLine("one")])
        _ = output.mark(true)
        for _ in 0..<OutputQueue.heldMax { output.emit(.notice("held")) }
        output.checkInvariants()
        #expect(!output.isTelling && output.take().count == OutputQueue.heldMax + 1)
    }

    @Test func aHintIsNewOnce() {
        var hints = HintsShown()
        #expect(!hints.has("buy") && hints.note("buy") && !hints.note("buy") && hints.has("buy"))
        hints.checkInvariants()
    }
}
