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

    /// Steps that `work` takes in this place, with the lessons had.
    func steps(_ work: Int64, _ power: Int64) -> Int64 {
        let percent = balance.solvePercent(record.place, partners: 0, theory: total.lessons(.theory))
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

    // MARK: advice

    /// The next good step, for whoever asks.
    var advice: String {
        guard record.rank < .retired else { return "Nothing is due. `mentor masters 10` helps others." }
        if work != nil { return "You are busy; `stop` ends it." }
        let seen = whiteboard.problem.flatMap { $0.rank == record.rank ? $0.remaining : nil }
        let steps = Show.count(steps(seen ?? balance.size(record.rank), strength), "step")
        if strength >= goodPower {
            let whose =
                power >= goodPower ? "You are" : "Together with \(Show.list(partners.map { names[$0.pid] })) you are"
            return "\(whose) strong enough: `\(mode == .solving ? "solve 20" : "solve")` (about \(steps))."
        }
        if let lesson = lessonAdvice { return lesson }
        if mode == .solving { return "`resign`, then mine and buy until your power is \(Show.number(goodPower))." }
        let next = affordable().isEmpty ? "`mine 10`" : "`buy max`"
        return "\(next); with a power of \(Show.number(goodPower)), `solve`."
    }

    /// What a new player may not know yet, at the moment it becomes useful.
    func adviseAfter(_ activity: Activity) {
        guard record.options.hints else { return }
        let total = total
        switch activity {
        case .mining:
            if record.rank < .retired, strength >= goodPower { return adviseAttack() }
            if let best = affordable().first {
                let isNew = total.bought[best.item.rawValue] == 0
                if isNew || !hints.has("buy") {
                    return hint(
                        "buy",
                        "You can afford \(article(best.item)): `buy \(best.item.key)` buys as many as you can pay, "
                            + "`shop` shows prices.", isRepeated: true)
                }
            }
            hint("mine many", "`mine 10` mines ten times in a row.")
            if let lesson = lessonAdvice { hint("lesson \(record.rank.key)", lesson) }
        case .studying:
            if let lesson = lessonAdvice { hint("lesson", lesson, isRepeated: true) }
        case .solving:
            guard let state = whiteboard.problem, state.rank == record.rank else { return }
            let left = steps(state.remaining, strength)
            if strength < goodPower * 9 / 10 {
                hint(
                    "rebuild",
                    "Slow going: about \(Show.number(left)) steps at your power, and breakages on top. "
                        + "Better `resign`, `mine 10` and buy until your power is \(Show.number(goodPower)); "
                        + "what is solved stays solved.",
                    isRepeated: true)
            } else {
                hint("solve many", "`solve 20` takes twenty steps. The shop works from here, too.")
            }
        case .mentoring, .idle: break
        }
    }

    /// The next step of somebody who is strong enough. Said every time, since nothing else helps them on.
    func adviseAttack() {
        let whose = power >= goodPower ? "Your" : "With \(Show.list(partners.map { names[$0.pid] })) a"
        hint(
            "attack",
            "\(whose) power of \(Show.number(max(power, strength))) is enough for the problem of your rank: "
                + "`solve` goes to the whiteboard.",
            isRepeated: true)
    }

    private func article(_ item: Item) -> String { item == .asic ? "an ASIC" : "a \(item.title)" }
}
