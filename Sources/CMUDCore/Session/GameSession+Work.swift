// Mining, solving and mentoring: one attempt at a time, committed to the store before it is told (rules R5, R10).
// Called by the session.

import KVBase

extension GameSession {
    static let triesMax: Int64 = 100

    /// Puts the record and calls back when the store has it: what was changed before this call is then committed.
    func commit(_ then: @escaping () -> Void) {
        publish(keys.slot(pid, slot), sheet.write(at: correctedWall), acknowledged: then)
    }

    // MARK: the loop

    func startWork(_ activity: Activity, tries: Int64, rank: Rank) {
        let isForeground = !configuration.isBackground
        if isForeground { begin() }
        work = Work(activity, tries: tries, rank: rank, isForeground: isForeground, power: power)
        publishHere()
        nextStep()
    }

    private func nextStep() {
        guard let activity = work?.activity else { return }
        let (action, number, range) = nextAttempt(activity)
        var outcome = Outcome(pid: pid, slot: slot, action: action, number: number + 1)
        let isOnCoffee = total.cupLeft > 0
        let takes = outcome.millis(range) * (isOnCoffee ? Balance.cupTimePercent : 100) / 100
        let alarm = after(takes) { [unowned self] in
            work?.decide()
            switch action {
            case .mine: finishMining(outcome)
            case .study: finishStudy(outcome)
            case .solve, .mentor: finishStep(outcome, action)
            }
        }
        work?.beginAttempt(alarm, now: now.steady, takes: takes, isOnCoffee: isOnCoffee)
    }

    /// What the next attempt is, how many of the kind this slot has made, and how long one takes.
    private func nextAttempt(_ activity: Activity) -> (Action, Int64, ClosedRange<Int64>) {
        switch activity {
        case .mining, .idle: (.mine, record.total.mineAttempts, balance.mineMillis)
        case .studying: (.study, record.total.studyTries, balance.mineMillis)
        case .solving: (.solve, record.total.solveSteps, balance.solveMillis)
        case .mentoring: (.mentor, record.total.solveSteps, balance.solveMillis)
        }
    }

    private func finishMining(_ dice: Outcome) {
        var outcome = dice
        let found = outcome.coins(
            balance, power: power, percent: balance.minePercent(record.place, tuning: total.lessons(.tuning)),
            hitPercent: balance.hitPercent(companions: companions(.mining).count))
        sheet.mine(found ?? 0)
        commitAttempt { [unowned self] in
            if let found {
                work?.gain(found)
                emit(.mined(coins: found))
            } else if work?.total == 1 {
                emit(.minedNothing)
            }
            stepDone()
        }
    }

    /// One attempt is committed: goes on, or sums up.
    func stepDone() {
        work?.finishAttempt()
        guard let work else { return }
        if work.isOver { return finishWork() }
        if work.isAtQuarter { emit(.progress(work.activity, done: work.done, total: work.total)) }
        nextStep()
    }

    /// Stops at once when an attempt has not been decided yet; one that is being committed finishes first.
    func stopNow() {
        guard let alarm = work?.undecided else { return }
        alarms.cancel(alarm)
        finishWork()
    }

    func finishWork() {
        guard let finished = work else { return }
        work = nil
        let summary = finished.summary
        publishHere()
        switch finished.activity {
        case .mining: emit(.mineFinished(summary, coins: coins, afford: affordable()))
        case .studying: emit(.studyFinished(summary, insight: total.insightLeft))
        case .solving, .mentoring:
            if summary.tries > 1 || summary.wasStopped, let state = whiteboard.problem {
                let steps = steps(state.remaining, power)
                emit(.solveFinished(summary, remaining: state.remaining, size: state.size, steps: steps))
            }
        case .idle: break
        }
        adviseAfter(finished.activity)
        if finished.isForeground { finish() }
    }

    /// What the coins buy right now: the best item first.
    func affordable() -> [(item: Item, count: Int64)] {
        let (total, coins) = (total, coins)
        return Item.allCases.reversed().compactMap { item in
            guard item.unlockedAt <= record.rank else { return nil }
            let count = balance.affordable(item, owned: total.owned(item), coins: coins, wanted: amountMax).count
            return count > 0 ? (item, count) : nil
        }
    }

    /// Steps that `work` takes in this place with the lessons had, `partners` at work beside.
    func steps(_ work: Int64, _ power: Int64, partners: Int = 0) -> Int64 {
        let percent = balance.solvePercent(record.place, partners: partners, theory: total.lessons(.theory))
        return balance.steps(work, power: max(1, power.times(percent) / 100))
    }

    // MARK: for the bar

    package var progress: ProgressView? {
        guard let work else { return nil }
        let range = nextAttempt(work.activity).2
        let share = work.isOnCoffee ? Balance.cupTimePercent : 100
        return work.progress(now: now.steady, mean: (range.lowerBound + range.upperBound) / 2 * share / 100)
    }

    // MARK: commands

    func mine(_ argument: String) {
        guard mode == .mining else { return fail("You are at the whiteboard", "`resign` first, then `mine`") }
        guard let tries = countArgument(argument, GameCommand.mine) else { return }
        if tries > 1 {
            hints.note("mine many")
            emit(.mineStarted(tries: tries))
        }
        startWork(.mining, tries: tries, rank: record.rank)
    }

    /// The number after `mine`, `solve` or `mentor`; nil after saying what is wrong with it.
    func countArgument(_ text: String, _ command: GameCommand) -> Int64? {
        if text.isEmpty { return 1 }
        guard let number = Int64(text) else {
            let isDigits = text.allSatisfy { $0.isNumber || $0 == "-" }
            fail(
                isDigits ? "\(clip(text)) is out of range" : "\"\(clip(text))\" is not a number",
                "type `\(command.rawValue) 10`, for instance")
            return nil
        }
        guard (1...GameSession.triesMax).contains(number) else {
            fail(
                "\(number) is out of range",
                "type a number from 1 to \(GameSession.triesMax), such as `\(command.rawValue) 10`")
            return nil
        }
        return number
    }

    /// A player's own word, short enough for an error line.
    func clip(_ text: String) -> String { Safe.text(text, columns: 40).string }

    func stopCommand() {
        guard work != nil else { return fail("Nothing is running", "`mine` or `solve` begins something") }
        work?.stop()
        stopNow()
    }
}
