// The shared problems: numbered instances whose health is their size minus the sum of everybody's contributions, so
// that no key has two writers and nothing is ever reset (rules R1-R3, R9). Called by the session.

import KVBase

/// What was last read of the active instance of a rank.
struct ProblemState {
    var rank: Rank
    var instance: Int64
    var size: Int64
    /// Work by character and slot.
    var shares: [String: Int64]

    var sum: Int64 { shares.values.saturatedSum }
    var remaining: Int64 { max(0, size - sum) }

    /// Work by character.
    var people: [(pid: String, work: Int64)] {
        var byPid: [String: Int64] = [:]
        for (key, work) in shares { byPid[String(key.prefix(13))] = (byPid[String(key.prefix(13))] ?? 0).adding(work) }
        return byPid.map { ($0.key, $0.value) }.sorted { ($0.work, $1.pid) > ($1.work, $0.pid) }
    }
}

extension GameSession {
    static let sharesMax = 2_000
    static let solvedTopMax = 8

    static func shareBytes(_ work: Int64) -> [UInt8] { JSON.object([("v", .number(1)), ("c", .number(work))]).bytes }

    // MARK: reading

    /// Reads which instance of `rank` is active and how far it is. Whoever sees a finished one says so in the store and
    /// looks at the next. Calls back with nil when the store failed.
    func refreshProblem(_ rank: Rank, _ then: @escaping (ProblemState?) -> Void) {
        list(keys.solvedOf(rank), limit: 1) { [unowned self] pairs in
            guard let pairs else { return then(nil) }
            let newest =
                pairs.first.flatMap { Keys.component($0.key, after: keys.solvedOf(rank)) }
                .flatMap(Keys.instance) ?? 0
            readShares(rank, max(1, newest + 1), then)
        }
    }

    private func readShares(_ rank: Rank, _ instance: Int64, _ then: @escaping (ProblemState?) -> Void) {
        let prefix = keys.problem(rank, instance)
        list(prefix, limit: GameSession.sharesMax) { [unowned self] pairs in
            guard let pairs else { return then(nil) }
            var shares: [String: Int64] = [:]
            for (key, value) in pairs {
                guard let owner = Keys.identifierAndSlot(key, after: prefix), let json = JSON.parse(value),
                    json["v"]?.int == 1
                else {
                    world.noteUnreadable()
                    continue
                }
                shares["\(owner.pid)-\(owner.slot)"] = json["c"]?.amount ?? 0
            }
            // The own slots are known better than any replica knows them.
            for (index, ledger) in sheet.counted {
                let work = ledger.work[rank.rawValue][instance] ?? 0
                if work > 0 { shares["\(pid)-\(index)"] = max(work, shares["\(pid)-\(index)"] ?? 0) }
            }
            let state = ProblemState(rank: rank, instance: instance, size: balance.size(rank), shares: shares)
            guard state.remaining == 0 else { return then(state) }
            announceSolved(state)
            guard instance < Keys.instanceBase else { return then(state) }
            readShares(rank, instance + 1, then)
        }
    }

    private func announceSolved(_ state: ProblemState) {
        let top = state.people.prefix(GameSession.solvedTopMax)
        let value = JSON.object([
            ("v", .number(1)), ("t", .number(correctedWall)),
            ("top", .array(top.map { .array([.string($0.pid), .number($0.work)]) })),
        ])
        publish(keys.solved(state.rank, state.instance), value.bytes)
    }

    // MARK: solving

    func solve(_ argument: String) {
        guard record.rank < .retired else {
            return fail("You are Retired; nothing is due", "`mentor masters 10` helps others with theirs")
        }
        if mode == .solving {
            guard let steps = countArgument(argument, .solve) else { return }
            return startWork(.solving, tries: steps, rank: record.rank)
        }
        var steps: Int64?
        if !argument.isEmpty {
            steps = countArgument(argument, .solve)
            if steps == nil { return }
        }
        begin()
        refreshProblem(record.rank) { [unowned self] state in
            defer { finish() }
            guard let state else { return storeFailed() }
            whiteboard.look(state)
            whiteboard.step(to: .solving)
            promptAgain()
            publishHere()
            emit(.problemText(state.rank, instance: state.instance))
            resolve(state.people.prefix(20).map { ($0.pid, "") }) { [unowned self] in
                emit(.problem(problemView(state)))
                if let steps {
                    startWork(.solving, tries: steps, rank: record.rank)
                } else {
                    hint(
                        "solve step", "`solve 20` takes twenty steps, `solve` just one. `resign` goes back to mining.",
                        isRepeated: true)
                }
            }
        }
    }

    func storeFailed() { fail("The store does not answer", "try again in a moment") }

    /// The end of one step of solving or mentoring: decide, commit, publish the share, then look at the whole.
    func finishStep(_ dice: Outcome, _ action: Action) {
        var outcome = dice
        guard let current = work, let state = whiteboard.problem, state.rank == current.rank else {
            return finishWork()
        }
        sheet.step()
        let breaks = balance.breakPermille(care: total.lessons(.care), isOnCoffee: current.isOnCoffee)
        switch outcome.step(balance, breakPermille: breaks) {
        case .progress:
            let team = action == .solve ? teamHere() : []
            let bonus = balance.teamBonus(record.place, partners: team.count)
            let percent =
                action == .solve
                ? balance.solvePercent(record.place, partners: team.count, theory: total.lessons(.theory))
                : balance.mentorPercent
            let amount = max(1, power.times(percent) / 100)
            sheet.work(amount, state.rank, state.instance)
            commitAttempt { [unowned self] in
                publishShare(state.rank, state.instance) { [unowned self] in
                    progressMade(amount, bonus: bonus, team: team, state)
                }
            }
        case .breakage(let choice):
            let total = total
            let fragile = Item.allCases.filter { balance.broken($0, count: total.owned($0)) > 0 }
            guard action == .solve, !fragile.isEmpty else { return stuck(state.rank, choice) }
            let item = fragile[Int(choice % UInt64(fragile.count))]
            // What breaks in this slot may have been bought in another; the counters of all slots add up.
            let taken = balance.broken(item, count: total.owned(item))
            sheet.lose(item, taken)
            commitAttempt { [unowned self] in
                work?.lose(taken)
                emit(.stepBroke(item, count: taken, left: self.total.owned(item)))
                stopIfBroken()
                stepDone()
            }
        case .stuck: stuck(state.rank, UInt64(record.total.solveSteps))
        }
    }

    /// A long run is a plan made with the power of its beginning; when too much of that is gone, the player decides
    /// anew.
    private func stopIfBroken() {
        guard let current = work, current.goesOn else { return }
        guard power * 4 <= current.powerAtStart * 3 else { return }
        work?.stop()
        emit(
            .notice(
                "You step back: breakages took your power from \(Show.number(current.powerAtStart)) to "
                    + "\(Show.number(power)). `solve 20` goes on; `resign`, `mine 10` and `buy max` rebuild."))
    }

    private func stuck(_ rank: Rank, _ choice: UInt64) {
        commitAttempt { [unowned self] in
            let lines = Puzzle.of(rank).stuck
            emit(.stepStuck(lines[Int(choice % UInt64(lines.count))]))
            stepDone()
        }
    }

    private func progressMade(_ amount: Int64, bonus: Int64, team: [String], _ before: ProblemState) {
        work?.gain(amount)
        refreshProblem(before.rank) { [unowned self] found in
            var after = found ?? before
            if found == nil { after.shares["\(pid)-\(slot)", default: 0] += amount }
            let isSolved = after.instance > before.instance
            whiteboard.look(after)
            emit(
                .stepHit(
                    work: amount, bonusPercent: bonus, team: team, remaining: isSolved ? 0 : after.remaining,
                    size: after.size,
                    mine: isSolved ? credit(before.rank, before.instance) : credit(after.rank, after.instance)))
            if isSolved { instanceSolved(before) }
            let rankBefore = record.rank
            checkPromotion()
            if record.rank != rankBefore { work?.stop() }
            stepDone()
        }
    }

    private func instanceSolved(_ state: ProblemState) {
        resolve(state.people.prefix(GameSession.solvedTopMax).map { ($0.pid, "") }) { [unowned self] in
            let people = state.people.prefix(GameSession.solvedTopMax).map { names[$0.pid] }
            emit(
                .solved(
                    state.rank, instance: state.instance,
                    names: people.contains(displayName) ? people : people + [displayName]))
        }
    }

    func publishShare(_ rank: Rank, _ instance: Int64, _ then: (() -> Void)? = nil) {
        let work = record.total.work[rank.rawValue][instance] ?? 0
        publish(keys.share(rank, instance, pid, slot), GameSession.shareBytes(work), acknowledged: then)
    }

    /// The player's work on one instance, over all slots.
    func credit(_ rank: Rank, _ instance: Int64) -> Int64 { total.work[rank.rawValue][instance] ?? 0 }

    /// Other online players of the same rank who solve in this room.
    private func teamHere() -> [String] {
        partners.filter { $0.place == record.place && $0.activity == .solving }.map { names[$0.pid] }
    }

    /// Connected players of the same rank to work with: who is in this room, or at a whiteboard anywhere.
    var partners: [Occupant] {
        presence.present.filter {
            $0.pid != pid && $0.rank == record.rank && presence.state($0.pid) == .online
                && ($0.place == record.place || $0.activity == .solving)
        }
    }

    // MARK: promotion

    /// Promotes the player who did a tenth of the size for this rank and worked on an instance that is solved.
    func checkPromotion() {
        guard record.rank < .retired, phase == .playing, let state = whiteboard.problem, state.rank == record.rank
        else {
            return
        }
        let rank = record.rank
        let instances = total.work[rank.rawValue].filter { $0.value > 0 }.keys
        let isSolved = instances.contains { $0 < state.instance }
        guard isSolved else { return }
        guard total.work(rank) >= balance.creditNeeded(rank), let next = rank.next else {
            return hint(
                "credit \(rank.key) \(state.instance)",
                "The problem you helped with is solved. For the promotion your "
                    + "own part must reach \(Show.number(balance.creditNeeded(rank))), "
                    + "it is \(Show.number(total.work(rank))). "
                    + "Go on with number \(state.instance).")
        }
        sheet.promote(to: next, solvedBelow: state.instance)
        whiteboard.leaveBehind()
        promptAgain()
        commit {}
        publishHere()
        publishScore()
        ringEverywhere(.promoted(next))
        remember(.talk(name: displayName, .promoted(next), isOwn: true), at: now.wall)
        emit(.promoted(next))
        tell(Chapter.of(next))
        if let item = Item.allCases.first(where: { $0.unlockedAt == next }) {
            hint(
                "unlocked \(item.key)",
                "The shop now sells \(item.title(2)), each worth \(Show.number(item.power)) CPUs: "
                    + "`mine 10`, then `buy \(item.key)`.")
        } else if next == .retired {
            hint("retired", "`scores` has a hall of fame now; `mentor masters 10` helps the young.")
        }
    }

    /// A step looks at the problem by itself, and what it saw must not be overtaken.
    private var isStepping: Bool { work?.activity == .solving || work?.activity == .mentoring }

    /// Looks at the player's unsolved problem: others may finish it, also while the player mines for the next rank.
    func pollProblem(_ done: @escaping () -> Void) {
        guard record.rank < .retired, !isStepping, mode == .solving || total.work(record.rank) > 0 else {
            return done()
        }
        let before = whiteboard.problem
        refreshProblem(record.rank) { [unowned self] state in
            defer { done() }
            guard let state, !isStepping, state.rank == record.rank else { return }
            whiteboard.look(state)
            if let before, before.rank == state.rank, before.instance < state.instance,
                credit(before.rank, before.instance) > 0
            {
                instanceSolved(before)
            }
            checkPromotion()
        }
    }

    /// Writes the projections of the player's records again: a crash between a record and its projection leaves them
    /// behind.
    func repairProjections() {
        for (index, ledger) in sheet.counted {
            for rank in Rank.working where rank >= record.rank || index == slot {
                for (instance, work) in ledger.work[rank.rawValue].sorted(by: { $0.key < $1.key }) where instance > 0 {
                    publish(keys.share(rank, instance, pid, index), GameSession.shareBytes(work))
                }
            }
            for (receiver, coins) in ledger.given.sorted(by: { $0.key < $1.key }) {
                publishGift(to: receiver, from: index, coins)
            }
        }
    }

    // MARK: commands

    func resign() {
        guard mode == .solving else { return fail("You are not solving anything", "`solve` goes to the whiteboard") }
        whiteboard.step(to: .mining)
        promptAgain()
        publishHere()
        emit(.notice("You put the marker down. What you contributed stays on the board."))
    }

    func problemCommand() {
        guard record.rank < .retired else {
            return fail("You are Retired; no problem is yours", "`mentor masters` lends a hand")
        }
        begin()
        refreshProblem(record.rank) { [unowned self] state in
            guard let state else {
                storeFailed()
                return finish()
            }
            whiteboard.look(state)
            everybody { [unowned self] in
                resolve(state.people.prefix(20).map { ($0.pid, "") }) { [unowned self] in
                    emit(.problem(problemView(state)))
                    adviseOnProblem()
                    checkPromotion()
                    finish()
                }
            }
        }
    }

    func problemView(_ state: ProblemState) -> ProblemView {
        ProblemView(
            rank: state.rank, instance: state.instance, size: state.size, remaining: state.remaining,
            people: state.people.prefix(20).map { (names[$0.pid], $0.work) },
            mine: credit(state.rank, state.instance), credit: total.work(state.rank),
            creditNeeded: balance.creditNeeded(state.rank),
            steps: steps(state.remaining, power), power: power,
            together: partners.isEmpty
                ? nil
                : (partners.map { names[$0.pid] }, stepsTogether(state.remaining), strength))
    }

    func mentor(_ arguments: [String]) {
        guard record.rank == .retired else {
            return fail("Mentoring is for the Retired", "until then `solve` your own problem; others here add to it")
        }
        guard let word = arguments.first, let rank = Rank(key: word.lowercased()), rank < .retired else {
            return fail(
                "Mentor whom?", "type `mentor masters 10`; ranks: " + Rank.working.map(\.key).joined(separator: ", "))
        }
        guard let steps = countArgument(arguments.count > 1 ? arguments[1] : "", .mentor) else { return }
        begin()
        refreshProblem(rank) { [unowned self] state in
            defer { finish() }
            guard let state else { return storeFailed() }
            whiteboard.look(state)
            emit(.problemText(rank, instance: state.instance))
            startWork(.mentoring, tries: steps, rank: rank)
        }
    }
}
