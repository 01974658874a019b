// Lessons and coffee: what lasts, and what is spent besides hardware. Called by the session.

import KVBase

extension GameSession {
    private static let lectureHall = "the lecture hall is on floor 4: `move 4`"

    /// Others in this room who are connected and do the same work.
    func companions(_ activity: Activity) -> [String] {
        presence.present.filter {
            $0.pid != pid && $0.place == record.place && $0.activity == activity && presence.state($0.pid) == .online
        }.map { names[$0.pid] }
    }

    /// Lessons of the player's rank that are left.
    var lessonsOpen: Int64 { balance.hasLessons ? max(0, balance.lessonsMax(record.rank) - total.lessonsHad) : 0 }

    // MARK: study

    func study(_ argument: String) {
        guard balance.hasLessons else { return fail("Nothing is taught in a classic world", "`mine` and `solve`") }
        guard mode == .mining else { return fail("You are at the whiteboard", "`resign` first") }
        guard balance.terms(record.place).hasLessons else {
            return fail("There is nothing to study here", GameSession.lectureHall)
        }
        guard let tries = countArgument(argument, .study) else { return }
        if tries > 1 { emit(.studyStarted(tries: tries)) }
        startWork(.studying, tries: tries, rank: record.rank)
    }

    func finishStudy(_ dice: Outcome) {
        var outcome = dice
        let found = outcome.isInsight(balance) ? balance.insight(companions: companions(.studying).count) : 0
        sheet.study(found)
        commitAttempt { [unowned self] in
            if found > 0 { work?.gain(found) }
            stepDone()
        }
    }

    func learn(_ argument: String) {
        guard balance.hasLessons else { return fail("Nothing is taught in a classic world", "`mine` and `solve`") }
        let total = total
        guard !argument.isEmpty else {
            let rows = Subject.allCases.map { LessonRow(subject: $0, had: total.lessons($0)) }
            return emit(.lessons(rows, insight: total.insightLeft, open: lessonsOpen))
        }
        guard let subject = Subject(word: argument) else {
            let subjects = Subject.allCases.map(\.key).joined(separator: ", ")
            return fail("\"\(clip(argument))\" is not taught", "subjects: \(subjects); `learn` alone compares them")
        }
        guard balance.terms(record.place).hasLessons else {
            return fail("Nobody teaches here", GameSession.lectureHall)
        }
        guard lessonsOpen > 0 else {
            return fail(
                "One lesson a rank, and you have had yours",
                record.rank < .professor ? "the next comes with the next rank" : "`learn` shows what you know")
        }
        guard total.insightLeft >= Balance.lessonInsight else {
            let short = Balance.lessonInsight - total.insightLeft
            return fail("A lesson takes \(Balance.lessonInsight) insight; you lack \(short)", "`study 15` brings it")
        }
        begin()
        sheet.learn(subject)
        commit { [unowned self] in
            emit(.learnt(subject, lessons: self.total.lessons(subject)))
            hint("learnt", "Mining is best on floor 1, solving alone on floor 8: `map` shows what places are good for.")
            finish()
        }
    }

    // MARK: coffee

    func coffee() {
        guard balance.hasLessons else { return fail("There is no coffee in a classic world", "`mine` and `solve`") }
        guard balance.terms(record.place).hasCoffee else {
            return fail("There is no coffee here", "the cafe is on floor 3: `move 3`")
        }
        let left = total.cupLeft
        guard left * 2 <= Balance.cupTries else {
            return fail("Your cup is not even half empty", "it lasts for \(Show.count(left, "more try", "more tries"))")
        }
        let price = balance.cupPrice(power: power)
        guard price <= coins else {
            return fail(
                "A round costs \(Show.coins(price)); you are short by \(Show.coins(price - coins))", "`mine 10` first")
        }
        begin()
        sheet.pay(price)
        sheet.fillCup()
        commit { [unowned self] in
            ring(.coffee)
            publishHere()
            let guests = presence.present.filter { $0.place == record.place && $0.pid != pid }
            emit(.coffeeBought(price: price, coins: coins, names: guests.map { names[$0.pid] }))
            finish()
        }
    }

    /// Somebody in this room bought a round.
    func roundArrived() {
        guard balance.terms(record.place).hasCoffee, total.cupLeft < Balance.cupTries else { return }
        sheet.fillCup()
        commit {}
    }

    /// Commits an attempt, and the sip it was made on.
    func commitAttempt(_ then: @escaping () -> Void) {
        if work?.isOnCoffee == true { sheet.sip() }
        commit(then)
    }

    // MARK: advice

    /// The lesson that is open, in words; nil when there is none. Who has not bought anything yet mines first.
    var lessonAdvice: String? {
        guard lessonsOpen > 0, total.spent > 0, record.rank < .retired, mode == .mining else { return nil }
        let isThere = balance.terms(record.place).hasLessons
        let way = isThere ? "" : "`move 4`, "
        if total.insightLeft >= Balance.lessonInsight {
            return "\(way)`learn theory` for progress, `learn care` against breakages or `learn tuning` for coins; "
                + "it lasts."
        }
        let open = lessonsOpen == 1 ? "there is a lesson for your rank" : "\(lessonsOpen) lessons wait for you"
        // As many tries as it takes alone, one in ten of which brings nothing.
        let tries = ((Balance.lessonInsight - total.insightLeft) * 10 + 35) / (9 * Balance.studyInsight)
        return "\(way)`study \(max(1, tries))`: \(open), and what you learn lasts."
    }
}
