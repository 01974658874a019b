// A run of attempts, the whiteboard, gifts, the world, and how often a session looks.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct PlayPartsTests {
    @Test func aRunMakesItsTriesAndSumsThemUp() {
        var work = Work(.mining, tries: 8, rank: .phd, isForeground: true, power: 40)
        #expect(work.activity == .mining && work.rank == .phd && work.isForeground && work.powerAtStart == 40)
        var quarters: [Int64] = []
        for number in 1...8 {
            work.beginAttempt(UInt64(number), now: 0, takes: 2_000, isOnCoffee: number == 1)
            #expect(work.undecided == UInt64(number) && work.isOnCoffee == (number == 1) && !work.isOver)
            work.decide()
            #expect(work.undecided == nil)
            work.gain(10)
            #expect(work.goesOn == (number < 8))
            work.checkInvariants()
            work.finishAttempt()
            work.checkInvariants()
            if work.isAtQuarter { quarters.append(work.done) }
        }
        #expect(work.isOver && quarters == [2, 4, 6, 8])
        #expect(work.summary.tries == 8 && work.summary.hits == 8 && work.summary.gained == 80)
        #expect(!work.summary.wasStopped)
    }

    @Test func aRunThatIsStoppedEndsAfterTheAttemptUnderWay() {
        var work = Work(.solving, tries: 20, rank: .masters, isForeground: false, power: 1)
        work.beginAttempt(1, now: 0, takes: 3_000, isOnCoffee: false)
        work.lose(4)
        work.stop()
        #expect(work.isStopping && work.isOver && !work.goesOn)
        work.finishAttempt()
        #expect(work.summary.wasStopped && work.summary.broken == 4 && work.summary.tries == 1)
    }

    @Test func theBarCountsTheRunningAttemptByTime() {
        var work = Work(.mining, tries: 2, rank: .phd, isForeground: true, power: 1)
        work.beginAttempt(1, now: 1_000, takes: 4_000, isOnCoffee: false)
        #expect(work.progress(now: 3_000, mean: 3_000).permille == 250)
        #expect(work.progress(now: 3_000, mean: 3_000).secondsLeft == 5, "two of this one and three of the next")
        #expect(work.progress(now: 90_000, mean: 3_000).permille == 500, "it waits for the store")
        work.decide()
        #expect(work.progress(now: 1_500, mean: 3_000).permille == 500, "decided")
    }

    @Test func theWhiteboardForgetsWhatIsLeftBehind() {
        var board = Whiteboard()
        #expect(board.mode == .mining && board.problem == nil)
        board.look(ProblemState(rank: .phd, instance: 3, size: 100, shares: [:]))
        board.step(to: .solving)
        board.checkInvariants()
        #expect(board.mode == .solving && board.problem?.instance == 3)
        board.leaveBehind()
        #expect(board.mode == .mining && board.problem == nil)
    }

    @Test func giftsOnlyGrowAndCountForEachSlot() {
        var gifts = GiftsReceived()
        gifts.count(10, from: "a", 0)
        gifts.count(5, from: "a", 1)
        gifts.count(3, from: "a", 0)
        #expect(gifts.amount("a", 0) == 10 && gifts.amount("a", 1) == 5 && gifts.amount("b", 0) == 0)
        #expect(gifts.sum == 15)
        gifts.checkInvariants()
    }

    @Test func theWorldHasItsPaceAndItsFence() {
        var world = WorldSeen()
        #expect(world.balance.pace == .standard && world.painting == nil)
        world.follow(.classic)
        world.saw(Safe.text("ADA WAS HERE"), by: "ada")
        world.noteUnreadable()
        #expect(world.balance.pace == .classic && world.painting?.name == "ada" && world.unreadableRecords == 1)
        world.checkInvariants()
    }

    @Test func aSessionLooksAsOftenAsTheDesignSays() {
        let times = Poll.allCases.map { "\($0) \($0.times.first) \($0.times.every)" }
        #expect(
            times == [
                "room 1000 1000", "tells 1000 1000", "building 500 3000", "beat 2500 5000", "own 2500 5000",
                "gifts 5000 5000", "problem 3000 3000", "score 60000 60000", "claim 60000 60000",
            ])
        #expect(Poll.room.interval(people: 49, isIdle: false) == 1_000)
        #expect(
            Poll.room.interval(people: 75, isIdle: false) == 3_000
                && Poll.tells.interval(people: 75, isIdle: false) == 1_000)
        #expect(Poll.room.interval(people: 0, isIdle: true) == 3_000)
        #expect(Poll.beat.interval(people: 0, isIdle: true) == 5_000, "others wait for it")
    }
}
