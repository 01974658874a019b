// How mining, buying and solving read. Pure, any thread.

import KVBase

extension Renderer {
    func economy(_ event: Event) -> [Line] {
        switch event {
        case .mineStarted(let tries): [Line("Mining, \(Show.count(tries, "try", "tries")).")]
        case .progress(let activity, let done, let total): [Line("\(activity.rawValue) \(done)/\(total)", .dim)]
        case .mined(let coins):
            isTerse ? [] : [Line("A block! ") + Line("+\(Show.coins(coins))", .coins)]
        case .minedNothing: [Line("Somebody else found the block first. Nothing this time.")]
        case .mineFinished(let summary, let coins, let afford): mined(summary, coins, afford)
        case .bought(let items, let cost, let coins, let power):
            [
                Line("You buy ")
                    + Line(Show.list(items.map { Show.count($0.count, $0.item.title, $0.item.title(2)) }), .good)
                    + Line(" for ")
                    + Line(Show.coins(cost), .coins)
                    + Line(". \(Show.coins(coins)) left; your power is \(Show.number(power)).")
            ]
        case .shop(let rows, let coins): shop(rows, coins)
        case .inventory(let rows, let coins, let power):
            [Line("Coins: ") + Line(Show.number(coins), .coins)]
                + rows.map { row in
                    Line(
                        "\(row.item.title(2)): \(Show.number(row.count)), power "
                            + Show.number(row.count.times(row.item.power))
                    )
                } + [Line("Power in all: \(Show.number(power))")] + debt(coins)
        default: []
        }
    }

    private func debt(_ coins: Int64) -> [Line] {
        coins < 0
            ? [Line("Two of your terminals spent the same coins; purchases wait until the debt is mined off.")] : []
    }

    private func mined(_ summary: WorkSummary, _ coins: Int64, _ afford: [(item: Item, count: Int64)]) -> [Line] {
        let best = afford.first.map { "enough for \(Show.count($0.count, $0.item.title, $0.item.title(2)))" }
        guard summary.tries > 1 || isReader else {
            return [Line("You have ") + Line(Show.coins(coins), .coins) + Line((best.map { ", " + $0 } ?? "") + ".")]
        }
        var line = Line(summary.wasStopped ? "Stopped after " : "")
        line = line + Line("\(Show.count(summary.tries, "try", "tries")), \(Show.count(summary.hits, "block")), ")
        line =
            line + Line("+\(Show.coins(summary.gained))", .coins) + Line(". You have ")
            + Line(Show.coins(coins), .coins)
        return [line + Line((best.map { ", " + $0 } ?? "") + ".")]
    }

    private func shop(_ rows: [ShopRow], _ coins: Int64) -> [Line] {
        var lines = [Line("You have ") + Line(Show.coins(coins), .coins) + Line(".")]
        for row in rows {
            let name = row.item.key
            guard row.isUnlocked else {
                let text =
                    isReader
                    ? "\(name): locked until \(row.item.unlockedAt.title)"
                    : "  \(pad(name, 14))locked until \(row.item.unlockedAt.title)"
                lines.append(Line(text, .dim))
                continue
            }
            if isReader {
                lines.append(
                    Line(
                        "\(name): price \(Show.coins(row.price)), power \(Show.number(row.item.power)), you own "
                            + "\(Show.number(row.owned)), you can pay \(Show.number(row.affordable)), "
                            + "pays for itself in "
                            + "\(Show.count(row.paybackTries, "try", "tries"))"))
            } else {
                lines.append(
                    Line("  " + pad(name, 14), .name) + Line(padLeft(Show.coins(row.price), 12), .coins)
                        + Line(
                            "  power \(pad(Show.number(row.item.power), 7))you own \(pad(Show.number(row.owned), 6))")
                        + Line("pays back in \(Show.count(row.paybackTries, "try", "tries"))", .dim))
            }
        }
        return lines
    }

    // MARK: lessons and coffee

    func learning(_ event: Event) -> [Line] {
        switch event {
        case .studyStarted(let tries): [Line("You find a seat and a book, \(Show.count(tries, "try", "tries")).")]
        case .studyFinished(let summary, let insight):
            [
                Line(summary.wasStopped ? "Stopped after " : "")
                    + Line("\(Show.count(summary.tries, "try", "tries")), +\(Show.number(summary.gained)) insight. ")
                    + Line("You have \(Show.number(insight)); a lesson takes \(Balance.lessonInsight).")
            ]
        case .lessons(let rows, let insight, let open): lessons(rows, insight, open)
        case .learnt(let subject, let had):
            [
                Line("You have learnt ") + Line(subject.key, .good)
                    + Line(", lesson \(Show.number(had)): from now on \(subject.effect(had)).")
            ]
        case .coffeeBought(let price, let coins, let names):
            [
                Line("Coffee for ") + Line(Show.list(["you"] + names), .name) + Line(": ")
                    + Line(Show.coins(price), .coins)
                    + Line(". \(Show.coins(coins)) left. The next \(Balance.cupTries) tries take a quarter less time.")
            ]
        default: []
        }
    }

    private func lessons(_ rows: [LessonRow], _ insight: Int64, _ open: Int64) -> [Line] {
        rows.map { row in
            let now = row.had == 0 ? "nothing yet" : row.subject.effect(row.had)
            let next = row.subject.effect(row.had + 1)
            let label = isReader ? row.subject.key + ": " : "  " + pad(row.subject.key, 9)
            return Line(label, .name) + Line("\(now); after one more lesson \(next).")
        } + [
            Line(
                open > 0
                    ? "You may have \(Show.count(open, "more lesson")) at your rank. Insight: \(Show.number(insight)); "
                        + "a lesson takes \(Balance.lessonInsight)."
                    : "You have had all lessons of your rank; the next comes with the next rank.")
        ]
    }

    // MARK: problems

    func problem(_ event: Event) -> [Line] {
        switch event {
        case .problemText(let rank, let instance):
            [
                Line("\(rank.title) problem number \(instance): \(Puzzle.of(rank).title)", .title),
                Line(Puzzle.of(rank).text),
            ]
        case .problem(let view): problemState(view)
        case .stepHit(let work, let bonus, let team, let remaining, let size, let mine):
            [hit(work, bonus, team, remaining, size, mine)]
        case .stepBroke(let item, let count, let left):
            [
                Line("Something smells of smoke. ", .bad)
                    + Line("You lose \(Show.count(count, item.title, item.title(2))); \(Show.number(left)) left.")
            ]
        case .stepStuck(let text): [Line(text + " No progress.")]
        case .solveFinished(let summary, let remaining, let size, let steps): solved(summary, remaining, size, steps)
        case .solved(let rank, let instance, let names):
            [Line("Solved! ", .good) + Line("\(rank.title) problem number \(instance), by \(Show.list(names)).")]
        case .promoted(let rank):
            [
                Line(
                    rank == .retired
                        ? "You are Retired. There is applause, some of it from the robot."
                        : "You are now \(rank.role)!", .good)
            ]
        default: []
        }
    }

    private func hit(_ work: Int64, _ bonus: Int64, _ team: [String], _ remaining: Int64, _ size: Int64, _ mine: Int64)
        -> Line
    {
        var line = Line("Progress: ") + Line("+\(Show.number(work))", .good)
        if bonus > 0 { line = line + Line(" (\(bonus) % more with \(Show.list(team)) here)") }
        return line + Line("; \(Show.number(remaining)) of \(Show.number(size)) left, your part \(Show.number(mine)).")
    }

    private func solved(_ summary: WorkSummary, _ remaining: Int64, _ size: Int64, _ steps: Int64) -> [Line] {
        var text = summary.wasStopped ? "Stopped after " : ""
        text += "\(Show.count(summary.tries, "step")), \(Show.number(summary.gained)) done"
        if summary.broken > 0 { text += ", \(Show.number(summary.broken)) broken" }
        text +=
            "; \(Show.number(remaining)) of \(Show.number(size)) left, "
            + "about \(Show.count(steps, "step")) at your power."
        return [Line(text)]
    }

    private func problemState(_ view: ProblemView) -> [Line] {
        var lines = [
            Line(
                "\(view.rank.title) problem number \(view.instance): \(Show.number(view.remaining)) of "
                    + "\(Show.number(view.size)) left "
                    + "(\(Show.percent(view.size - view.remaining, of: view.size)) done).")
        ]
        if view.people.count > 1 || view.people.first.map({ $0.work != view.mine }) == true {
            for person in view.people {
                lines.append(
                    Line("  ") + Line(person.name, .name)
                        + Line(": \(Show.number(person.work)), \(Show.percent(person.work, of: view.size))"))
            }
        }
        let needed = max(0, view.creditNeeded - view.credit)
        lines.append(
            Line(
                needed == 0
                    ? "Your part so far is enough for the promotion, once a problem you worked on is solved."
                    : "For the promotion your own part must reach \(Show.number(view.creditNeeded)); "
                        + "\(Show.number(needed)) to go."
            ))
        lines.append(
            Line(
                "About \(Show.count(view.steps, "step")) at your power of "
                    + "\(Show.number(view.power)), if you work alone."
            ))
        if let together = view.together {
            lines.append(
                Line("About \(Show.count(together.steps, "step")) each with ") + Line(Show.list(together.names), .name)
                    + Line(", at a power of \(Show.number(together.power)) together."))
        }
        return lines
    }
}
