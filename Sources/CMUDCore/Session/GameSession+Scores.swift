// Who is ahead: the scores. Projections say who may be shown, the characters themselves in which order. Called by the
// session.

import KVBase

/// What the scores compare of a character.
struct Score {
    var pid: String
    var name: String
    var rank: Rank
    /// Seconds played up to the last beat, or until the retirement.
    var play: Int64
    /// Coins ever earned, and work on the problems of all ranks.
    var earned: Int64
    var work: Int64
    /// The records cannot come from play.
    var isDoubtful = false

    func value(_ kind: ScoreKind) -> Int64 {
        switch kind {
        case .rank: rank == .retired ? play : work
        case .coins: earned
        case .team: work
        }
    }

    /// A rank is reached by work, so work decides among equals; time only among those who are through.
    func precedes(_ other: Score, by kind: ScoreKind) -> Bool {
        if kind == .rank, rank != other.rank { return rank > other.rank }
        let (own, others) = (value(kind), other.value(kind))
        guard own != others else { return pid < other.pid }
        return kind == .rank && rank == .retired ? own < others : own > others
    }

    /// The same character as its own records have it: a projection is up to a minute old, which is enough to make two
    /// players each see the other ahead.
    mutating func refresh(_ records: CharacterSlots) {
        guard !records.records.isEmpty else { return }
        set(records.rank, records.total, career: records.career)
    }

    mutating func set(_ rank: Rank, _ total: Ledger, career: Int64) {
        self.rank = rank
        (play, earned) = (career > 0 ? career : total.playSeconds, total.earned)
        work = Rank.working.map { total.work($0) }.saturatedSum
    }
}

extension GameSession {
    static let scoresShown = 10

    func publishScore() {
        let score = ownScore
        let value = JSON.object([
            ("v", .number(1)), ("name", .string(displayName)), ("rk", .number(Int64(score.rank.rawValue))),
            ("play", .number(score.play)), ("con", .number(score.work)), ("e", .number(score.earned)),
            ("retired", .bool(score.rank == .retired)),
        ])
        publish(keys.score(pid), value.bytes)
    }

    private var ownScore: Score {
        var score = Score(pid: pid, name: displayName, rank: record.rank, play: 0, earned: 0, work: 0)
        score.set(record.rank, total, career: sheet.career)
        return score
    }

    func scores(_ text: String) {
        guard let kind = text.isEmpty ? .rank : ScoreKind(rawValue: text.lowercased()) else {
            return fail("Scores are by rank, coins or team", "type `scores coins`")
        }
        begin()
        publishScore()
        list(keys.scores) { [unowned self] pairs in
            guard let pairs else {
                storeFailed()
                return finish()
            }
            var all = pairs.compactMap { score($0.key, $0.value) }.filter { $0.pid != pid }
            all.append(ownScore)
            all.sort { $0.precedes($1, by: kind) }
            let own = all.firstIndex { $0.pid == pid } ?? 0
            let last = own >= GameSession.scoresShown ? all[own] : nil
            let hall = all.filter { $0.rank == .retired }.sorted { $0.precedes($1, by: .rank) }
                .prefix(GameSession.scoresShown)
            let shown = Array(all.prefix(GameSession.scoresShown))
            resolve((shown + hall).map { ($0.pid, $0.name) }) { [unowned self] in
                judge(shown) { [unowned self] judged in
                    let best = judged.sorted { $0.precedes($1, by: kind) }
                    var rows = best.enumerated().map { row(kind, $0.offset + 1, $0.element) }
                    if let last { rows.append(row(kind, own + 1, last)) }
                    emit(.scores(kind, rows, hall: hall.map { name($0) + ", " + Show.duration($0.play) }))
                    finish()
                }
            }
        }
    }

    private func name(_ score: Score) -> String { score.pid == pid ? displayName : names[score.pid] }

    private func row(_ kind: ScoreKind, _ place: Int, _ score: Score) -> ScoreRow {
        ScoreRow(
            place: place, name: name(score), rank: score.rank, value: score.value(kind), isSelf: score.pid == pid,
            isDoubtful: score.isDoubtful)
    }

    private func score(_ key: String, _ value: [UInt8]) -> Score? {
        guard let other = Keys.identifier(key, after: keys.scores), let json = JSON.parse(value), json["v"]?.int == 1,
            let name = json["name"]?.text
        else {
            world.noteUnreadable()
            return nil
        }
        return Score(
            pid: other, name: name, rank: Rank(rawValue: Int(json["rk"]?.amount ?? 0)) ?? .undergraduate,
            play: json["play"]?.amount ?? 0, earned: json["e"]?.amount ?? 0, work: json["con"]?.amount ?? 0)
    }

    /// The same scores as the characters' records have them, and which of these play cannot have produced. What a store
    /// does not answer stays as it was.
    private func judge(_ scores: [Score], _ then: @escaping ([Score]) -> Void) {
        var judged = scores
        var waiting = scores.count
        guard waiting > 0 else { return then([]) }
        for (index, score) in scores.enumerated() {
            list(keys.slots(score.pid)) { [unowned self] pairs in
                if let pairs {
                    let records = CharacterSlots(pairs, prefix: keys.slots(score.pid))
                    judged[index].isDoubtful = balance.isImpossible(records)
                    if score.pid != pid { judged[index].refresh(records) }
                }
                waiting -= 1
                if waiting == 0 { then(judged) }
            }
        }
    }
}

extension Balance {
    /// A record that play cannot have produced: more attempts than time, coins without attempts, a rank without the
    /// work.
    package func isImpossible(_ records: CharacterSlots) -> Bool {
        let total = records.total
        let attempts = total.mineAttempts.adding(total.studyTries)
        let plain = attempts.times(mineMillis.lowerBound).adding(total.solveSteps.times(solveMillis.lowerBound))
        let sips = min(total.sips, total.cups, attempts.adding(total.solveSteps))
        let saved = sips.times(mineMillis.lowerBound) * (100 - Balance.cupTimePercent) / 100
        let seconds = (plain - min(plain, saved)) / 1_000
        // A beat of play time may not have been written yet.
        if seconds > total.playSeconds + 60 { return true }
        if total.earned > 0, total.mineAttempts == 0 { return true }
        if total.spent > total.earned.times(2) + 1_000_000, total.spent > amountMax / 2 { return true }
        if total.lessonsHad > lessonsMax(records.rank) + 1 || total.insightLeft < -2 * Balance.lessonInsight {
            return true
        }
        return Rank.working.contains { $0 < records.rank && total.work($0) < creditNeeded($0) }
    }
}
