// Advice: the next good step, for whoever asks and at the moment it becomes useful. Called by the session.

import KVBase

extension GameSession {
    /// The power at which the problem of this rank is a good plan for one person: below it, breakages eat the progress.
    var goodPower: Int64 { (balance.size(record.rank) + balance.goodSteps - 1) / balance.goodSteps }

    /// The power with which the problem is attacked if all of `partners` take part.
    var strength: Int64 { power.adding(partners.map(\.power).saturatedSum) }

    /// What a partner brings at least: an equal share. Whoever has less gets on sooner by mining meanwhile.
    var leastPower: Int64 {
        let people = Int64(partners.count + 1)
        return (goodPower + people - 1) / people
    }

    /// Whether the whiteboard is the next step: alone, or with the others who are there.
    var isStrongEnough: Bool {
        power >= goodPower || (strength >= goodPower && power >= leastPower) || isNearlyDone
    }

    /// Whether what is left of the problem and of one's own part takes so few steps that rebuilding would take longer.
    var isNearlyDone: Bool {
        guard record.rank < .retired, let state = whiteboard.problem, state.rank == record.rank else { return false }
        let own = max(0, balance.creditNeeded(record.rank) - total.work(record.rank))
        return stepsTogether(state.remaining) <= Balance.finishSteps && steps(own, power) <= Balance.finishSteps
    }

    /// The power from which on it is.
    var wantedPower: Int64 { strength >= goodPower ? leastPower : goodPower }

    /// Whether the coins buy a quarter more power: then that comes before everything.
    var isRichEnough: Bool {
        let (total, coins) = (total, coins)
        let items = balance.bestPurchase({ total.owned($0) }, upTo: record.rank, coins: coins).items
        let gain = items.map { $0.count.times($0.item.power) }.saturatedSum
        return gain > 0 && gain.times(4) >= power
    }

    /// Steps for each when all work on it, with the bonus of this room for those who are in it.
    func stepsTogether(_ work: Int64) -> Int64 {
        steps(work, strength, partners: partners.count { $0.place == record.place })
    }

    /// Where to go for the whiteboard, when this is a bad place for it; nil when it is as good as most.
    private var board: Place? {
        guard mode == .mining, balance.terms(record.place).solvePercent < 100 else { return nil }
        return partners.isEmpty ? .floor8 : .floor6
    }

    /// Who is strong enough, as a sentence begins.
    private var whoIsStrong: String {
        if power >= goodPower { return "You are strong enough" }
        if isNearlyDone { return "Nearly done" }
        return "Together with \(Show.list(partners.map { names[$0.pid] })) you are strong enough"
    }

    /// Says the next good step to somebody who asks, after a look at who is at the whiteboards.
    func adviseNow() {
        begin()
        everybody { [unowned self] in
            emit(.advice(advice))
            finish()
        }
    }

    /// The next good step, for whoever asks.
    var advice: String {
        guard record.rank < .retired else { return "Nothing is due. `mentor masters 10` helps others." }
        if work != nil { return "You are busy; `stop` ends it." }
        let seen = whiteboard.problem.flatMap { $0.rank == record.rank ? $0.remaining : nil }
        if isStrongEnough {
            if isRichEnough { return "`buy max`; then you have power enough for `solve`." }
            let steps = Show.count(stepsTogether(seen ?? balance.size(record.rank)), "step")
            if let board { return "\(whoIsStrong): `move \(board.key)`, `solve` (here about \(steps))." }
            return "\(whoIsStrong): `\(mode == .solving ? "solve 20" : "solve")` (about \(steps))."
        }
        if let lesson = lessonAdvice { return lesson }
        let wanted = Show.number(wantedPower)
        if mode == .solving, !isRichEnough { return "`resign`, then mine and buy until your power is \(wanted)." }
        let next = affordable().isEmpty ? "`mine 10`" : "`buy max`"
        return "\(next); with a power of \(wanted), `solve`."
    }

    /// What a new player may not know yet, at the moment it becomes useful.
    func adviseAfter(_ activity: Activity) {
        guard record.options.hints else { return }
        let total = total
        switch activity {
        case .mining:
            if record.rank < .retired, isStrongEnough, !isRichEnough { return adviseAttack() }
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
            if power < wantedPower * 9 / 10, !isNearlyDone {
                hint(
                    "rebuild",
                    "Slow going: about \(Show.number(left)) steps at your power, and breakages on top. "
                        + "Better `resign`, `mine 10` and buy until your power is \(Show.number(wantedPower)); "
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
        let others = Show.list(partners.map { names[$0.pid] })
        if power < goodPower, isNearlyDone {
            return hint("attack", "Little is left of your problem: `solve` goes to the whiteboard.", isRepeated: true)
        }
        let whose =
            power >= goodPower
            ? "Your power of \(Show.number(power))" : "With \(others) a power of \(Show.number(strength))"
        let way = board.map { "`move \($0.key)`, since boards are bad here, then `solve`." }
        hint(
            "attack", "\(whose) is enough for the problem of your rank: \(way ?? "`solve` goes to the whiteboard.")",
            isRepeated: true)
    }

    func adviseAfterBuying() {
        guard record.rank < .retired, mode == .mining else { return }
        if isStrongEnough { return adviseAttack() }
        hint(
            "more \(record.rank.key)",
            "More power, more coins in each block: `mine 10`, then buy again. With a power of "
                + "\(Show.number(wantedPower)) you can take on the problem of your rank.")
    }

    func adviseOnProblem() {
        guard work == nil, power < goodPower, !isNearlyDone else { return }
        let others = Show.list(partners.map { names[$0.pid] })
        if isStrongEnough {
            return hint(
                "together",
                "Together with \(others) you are strong enough: `solve`, all of you, and in one room.", isRepeated: true
            )
        }
        let who = partners.isEmpty ? "Alone, start" : "With \(others), start"
        hint(
            "120", "\(who) at a power of about \(Show.number(wantedPower)): until then, `mine 10` and buy.",
            isRepeated: true)
    }

    func article(_ item: Item, isFirst: Bool = false) -> String {
        let letter = isFirst ? "A" : "a"
        return item == .asic ? "\(letter)n ASIC" : "\(letter) \(item.title)"
    }
}
