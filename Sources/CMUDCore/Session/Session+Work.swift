// Mining, solving and mentoring: one attempt at a time, committed to the store before it is told (rules R5, R10).
// Called by the session.

import KVBase

/// A running action.
struct Work {
    var activity: Activity
    var total: Int64
    var done: Int64 = 0
    var summary = WorkSummary()
    var isStopping = false
    /// The attempt under way: when it began, how long it takes, and the timer that ends it (nil while it commits).
    var stepStarted: Millis = 0
    var stepMillis: Millis = 0
    var timer: UInt64?
    /// Whose problem is worked on.
    var rank: Rank = .undergraduate
    var isForeground: Bool
    var powerAtStart: Int64 = 0
    /// Whether the attempt under way is made on coffee.
    var isOnCoffee = false

    mutating func gain(_ amount: Int64) {
        summary.hits += 1
        summary.gained = summary.gained.adding(amount)
    }
}

extension Session {
    static let triesMax: Int64 = 100

    // MARK: what the character has

    /// All slots, with this session's own record as it is in memory.
    var total: Ledger {
        slots.records[slot] = record
        return slots.total
    }

    var power: Int64 { total.power }

    var coins: Int64 {
        let total = total
        return total.earned.adding(giftsIn.values.saturatedSum) - total.spent - total.givenTotal
    }

    /// Puts the record and calls back when the store has it: what was changed before this call is then committed.
    func commit(_ then: @escaping () -> Void) {
        record.seq += 1
        record.time = correctedWall
        slots.records[slot] = record
        publish(keys.slot(pid, slot), record.bytes, acknowledged: then)
    }

    // MARK: the loop

    func startWork(_ activity: Activity, tries: Int64, rank: Rank) {
        let isForeground = !configuration.isBackground
        if isForeground { begin() }
        work = Work(
            activity: activity, total: tries, rank: rank, isForeground: isForeground, powerAtStart: power)
        publishHere()
        nextStep()
    }

    private func nextStep() {
        guard var current = work else { return }
        let (action, number, range) = nextAttempt(current.activity)
        var outcome = Outcome(pid: pid, slot: slot, action: action, number: number + 1)
        current.isOnCoffee = total.cupLeft > 0
        current.stepMillis = outcome.millis(range) * (current.isOnCoffee ? Balance.cupTimePercent : 100) / 100
        current.stepStarted = now.mono
        current.timer = after(current.stepMillis) { [unowned self] in
            work?.timer = nil
            switch action {
            case .mine: finishMining(outcome)
            case .study: finishStudy(outcome)
            case .solve, .mentor: finishStep(outcome, action)
            }
        }
        work = current
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
        record.total.mineAttempts += 1
        record.total.earned = record.total.earned.adding(found ?? 0)
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
        guard var current = work else { return }
        current.done += 1
        current.summary.tries += 1
        work = current
        if current.isStopping || current.done >= current.total { return finishWork() }
        // A line at each quarter, for those who see no bar.
        if current.total >= 4, current.done * 4 / current.total != (current.done - 1) * 4 / current.total {
            emit(.progress(current.activity, done: current.done, total: current.total))
        }
        nextStep()
    }

    /// Stops at once when an attempt has not been decided yet; one that is being committed finishes first.
    func stopNow() {
        guard let timer = work?.timer else { return }
        cancel(timer)
        finishWork()
    }

    func finishWork() {
        guard let finished = work else { return }
        work = nil
        var summary = finished.summary
        summary.wasStopped = finished.done < finished.total
        publishHere()
        switch finished.activity {
        case .mining: emit(.mineFinished(summary, coins: coins, afford: affordable()))
        case .studying: emit(.studyFinished(summary, insight: total.insightLeft))
        case .solving, .mentoring:
            if summary.tries > 1 || summary.wasStopped, let state = problemSeen {
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

    /// Steps that `work` takes here, with what I know.
    func steps(_ work: Int64, _ power: Int64) -> Int64 {
        let percent = balance.solvePercent(record.place, partners: 0, theory: total.lessons(.theory))
        return balance.steps(work, power: max(1, power.times(percent) / 100))
    }

    // MARK: for the bar

    package var progress: ProgressView? {
        guard let work else { return nil }
        let elapsed = work.timer == nil ? work.stepMillis : min(work.stepMillis, max(0, now.mono - work.stepStarted))
        let part = work.stepMillis > 0 ? elapsed * 1_000 / work.stepMillis : 1_000
        let permille = (work.done * 1_000 + part) / max(1, work.total)
        let range = nextAttempt(work.activity).2
        let share = work.isOnCoffee ? Balance.cupTimePercent : 100
        let mean = (range.lowerBound + range.upperBound) / 2 * share / 100
        let left = work.stepMillis - elapsed + (work.total - work.done - 1) * mean
        return ProgressView(
            activity: work.activity, done: work.done, total: work.total, permille: Int(min(1_000, permille)),
            secondsLeft: max(0, (left + 999) / 1_000))
    }

    // MARK: commands

    func mine(_ argument: String) {
        guard mode == .mining else { return fail("You are at the whiteboard", "`resign` first, then `mine`") }
        guard let tries = countArgument(argument, Command.mine) else { return }
        if tries > 1 {
            hintsShown.insert("mine many")
            emit(.mineStarted(tries: tries))
        }
        startWork(.mining, tries: tries, rank: record.rank)
    }

    /// The number after `mine`, `solve` or `mentor`; nil after saying what is wrong with it.
    func countArgument(_ text: String, _ command: Command) -> Int64? {
        if text.isEmpty { return 1 }
        guard let number = Int64(text) else {
            let isDigits = text.allSatisfy { $0.isNumber || $0 == "-" }
            fail(
                isDigits ? "\(clip(text)) is out of range" : "\"\(clip(text))\" is not a number",
                "type `\(command.rawValue) 10`, for instance")
            return nil
        }
        guard (1...Session.triesMax).contains(number) else {
            fail(
                "\(number) is out of range",
                "type a number from 1 to \(Session.triesMax), such as `\(command.rawValue) 10`")
            return nil
        }
        return number
    }

    /// A player's own word, short enough for an error line.
    func clip(_ text: String) -> String { Safe.text(text, columns: 40).string }

    func stopCommand() {
        guard work != nil else { return fail("Nothing is running", "`mine` or `solve` begins something") }
        work?.isStopping = true
        stopNow()
    }

    // MARK: advice

    /// The next good step, for whoever asks.
    var advice: String {
        guard record.rank < .retired else { return "Nothing is due. `mentor masters 10` helps others." }
        if work != nil { return "You are busy; `stop` ends it." }
        let seen = problemSeen.flatMap { $0.rank == record.rank ? $0.remaining : nil }
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
                if isNew || !hintsShown.contains("buy") {
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
            guard let state = problemSeen, state.rank == record.rank else { return }
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

    /// The next step of somebody who is strong enough; said every time, since nothing else helps them on.
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
