// What work is like in a place: the reasons to go there. Pure values, any thread.

package struct Terms: Equatable, Sendable {
    package var minePercent: Int64 = 100
    package var solvePercent: Int64 = 100
    /// More progress for each other person of one's rank at the whiteboards of the room.
    package var teamPercent: Int64 = 10
    package var hasLessons = false
    package var hasCoffee = false

    package init() {}

    /// A few words for the map; empty where work is like anywhere.
    package var tag: String {
        if hasLessons { return "lessons" }
        if hasCoffee { return "coffee" }
        if teamPercent > 10 { return "teams +\(teamPercent) %" }
        if minePercent == solvePercent, minePercent < 100 { return "work -\(100 - minePercent) %" }
        if minePercent > 100 { return "mining +\(minePercent - 100) %" }
        return solvePercent > 100 ? "solving +\(solvePercent - 100) %" : ""
    }

    /// A sentence for whoever looks round.
    package var text: String {
        if hasLessons { return "Here you can `study`, sooner in company, and `learn` what lasts." }
        if hasCoffee { return "Here you can buy `coffee`, a round for all who are in the room." }
        if teamPercent > 10 {
            return "Whiteboards on both sides of the glass: each partner at work here adds \(teamPercent) %, not 10."
        }
        if minePercent == solvePercent, minePercent < 100 { return "No socket out here: all work brings half." }
        if minePercent > 100 {
            return "Cool air, cheap power and noise: mining brings \(minePercent - 100) % more, solving "
                + "\(100 - solvePercent) % less."
        }
        if solvePercent > 100 {
            return "Nobody talks: a step of solving does \(solvePercent - 100) % more, and partners add nothing."
        }
        return ""
    }
}

extension Place {
    package var terms: Terms {
        var terms = Terms()
        switch self {
        case .fence, .bridge: (terms.minePercent, terms.solvePercent) = (50, 50)
        case .floor1: (terms.minePercent, terms.solvePercent) = (125, 75)
        case .floor3: terms.hasCoffee = true
        case .floor4: terms.hasLessons = true
        case .floor6: terms.teamPercent = 20
        case .floor8: (terms.solvePercent, terms.teamPercent) = (115, 0)
        case .floor2, .floor5, .floor7, .floor9: break
        }
        return terms
    }
}

/// Lessons, coffee and company in numbers; the reasons are in docs/cmud/decisions.md.
extension Balance {
    /// A classic world is the one of the reference game: every place is the same and nothing is taught.
    package func terms(_ place: Place) -> Terms { pace == .standard ? place.terms : Terms() }
    package var hasLessons: Bool { pace == .standard }

    /// Insight that one lesson takes, what a try brings alone, what each companion adds, and the most it can be.
    package static let lessonInsight: Int64 = 60
    package static let studyInsight: Int64 = 4
    package static let studyInsightMax: Int64 = 8

    package func insight(companions: Int) -> Int64 {
        min(Balance.studyInsightMax, Balance.studyInsight + Int64(companions))
    }

    /// Lessons that somebody of `rank` may have had in all: one a rank.
    package func lessonsMax(_ rank: Rank) -> Int64 { Int64(min(rank.rawValue + 1, Rank.working.count)) }

    /// Tries that a cup lasts, the share of its time that each then takes, and the steps in a thousand that break
    /// something more because hands shake.
    package static let cupTries: Int64 = 60
    package static let cupTimePercent: Int64 = 75
    package static let cupBreakPermille: Int64 = 50
    package static let cupPowers: Int64 = 3

    /// A cup costs what three good blocks bring, so that it is never for nothing and never out of reach.
    package func cupPrice(power: Int64) -> Int64 { power.times(Balance.cupPowers) }

    /// Chance that a step breaks something, in thousandths.
    package func breakPermille(care: Int64, isOnCoffee: Bool) -> Int64 {
        max(0, Int64(breakPercent) * 10 - Subject.care.permille(care)) + (isOnCoffee ? Balance.cupBreakPermille : 0)
    }

    /// Miners in one room share what they find: fewer tries find nothing.
    package static let poolHitPercent = 5

    package func hitPercent(companions: Int) -> Int {
        hasLessons ? min(100, mineHitPercent + Balance.poolHitPercent * companions) : mineHitPercent
    }

    /// What a block is worth, in percent of the plain one.
    package func minePercent(_ place: Place, tuning: Int64) -> Int64 {
        terms(place).minePercent * (1_000 + Subject.tuning.permille(tuning)) / 1_000
    }

    /// What a step does, in percent of the power: the place, partners at work in the room, theory.
    package func solvePercent(_ place: Place, partners: Int, theory: Int64) -> Int64 {
        (terms(place).solvePercent + teamBonus(place, partners: partners))
            * (1_000 + Subject.theory.permille(theory)) / 1_000
    }

    package func teamBonus(_ place: Place, partners: Int) -> Int64 {
        min(Int64(partners) * terms(place).teamPercent, teamBonusPercentMax)
    }
}
