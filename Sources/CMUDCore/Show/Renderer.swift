// Events become lines: for the eye, or for a screen reader. Pure, any thread; the front end writes the lines.

import KVBase

package struct Renderer: Sendable {
    /// Sentences, one thing per line, label first, nothing drawn.
    package var isReader = false
    package var utcOffsetSeconds: Int64 = 0
    /// True where single successes of a series are left to the summary.
    package var isTerse: Bool { isReader }

    package init(isReader: Bool = false, utcOffsetSeconds: Int64 = 0) {
        (self.isReader, self.utcOffsetSeconds) = (isReader, utcOffsetSeconds)
    }

    package func lines(_ event: Event) -> [Line] {
        switch event {
        case .banner: banner
        case .askName: [Line("Enter your new character name!")]
        case .welcome(let name, let isNew): welcome(name, isNew)
        case .returning(let rank, let coins, let power, let away): returning(rank, coins, power, away)
        case .chapterTitle(let title): isReader ? [Line(title)] : ["", Line(title, .title)]
        case .chapterLine(let text): [Line(text, isReader ? .plain : .story)]
        case .notice(let text): [Line(text)]
        case .warning(let text): [Line("Note: ", .bad) + Line(text)]
        case .failure(let what, let fix): [Line(what, .bad) + Line(" - \(fix).")]
        case .hint(let text): [Line("Hint: ", .hint) + Line(text)]
        case .advice(let text): [Line("Next: ", .hint) + Line(text)]
        case .operatorNote(let text): [Line("From the operator: ", .title) + Line(text.string)]
        case .help, .helpGroup, .helpTopic: help(event)
        case .goodbye(let summary): goodbye(summary)
        case .settings(let settings): settings.map { Line("\($0.name): \($0.value)") }
        case .mineStarted, .progress, .mined, .minedNothing, .mineFinished, .bought, .shop, .inventory: economy(event)
        case .studyStarted, .studyFinished, .lessons, .learnt, .coffeeBought: learning(event)
        case .problemText, .problem, .stepHit, .stepBroke, .stepStuck, .solveFinished, .solved, .promoted:
            problem(event)
        case .room, .map, .who, .whereAbouts, .stats, .person, .scores, .history: world(event)
        case .talk, .told, .toldOwn, .repeated, .missed, .gifted, .giftReceived: people(event)
        }
    }

    // MARK: beginning and end

    private var banner: [Line] {
        [
            "",
            Line("  CMUD", .title) + Line("  a dungeon of distributed systems", .dim),
            Line("  Carnegie Mellon, 2010. Somebody left a problem on the whiteboard.", .dim),
            "",
        ]
    }

    private func welcome(_ name: String, _ isNew: Bool) -> [Line] {
        isNew
            ? [
                Line("Welcome ") + Line(name, .name) + Line("!"),
                Line(
                    "Nobody here knew that name, so you are new. (Not new? `quit`, wait a moment, try again.)",
                    .dim),
            ]
            : [Line("Welcome back, ") + Line(name, .name) + Line("!")]
    }

    private func returning(_ rank: Rank, _ coins: Int64, _ power: Int64, _ away: Int64?) -> [Line] {
        var line =
            Line("You are \(rank.role) with ") + Line(Show.coins(coins), .coins)
            + Line(" and a power of \(Show.number(power)).")
        if let away, away > 60 { line = line + Line(" Last seen \(Show.duration(away)) ago.") }
        return [line]
    }

    private func goodbye(_ summary: SessionSummary) -> [Line] {
        var text = "You played \(Show.duration(summary.seconds)), earned \(Show.coins(max(0, summary.earned)))"
        text += summary.rank > summary.rankAtStart ? " and became \(summary.rank.role)." : "."
        return [
            Line(text),
            summary.isSaved
                ? Line("Saved", .good) + Line(". Goodbye, \(summary.name).")
                : Line("Not saved", .bad) + Line(": the store does not answer. All but the last moments are in it."),
        ]
    }

    // MARK: rows

    /// The lines broken to a width in columns. A screen reader gets them whole: a break in the middle of a sentence is
    /// read as its end.
    package func rows(_ lines: [Line], width: Int) -> [Line] {
        isReader ? lines : lines.flatMap { $0.wrapped(width) }
    }

    // MARK: help

    /// The first screen names every word; a group or a word tells more. None of them is longer than a screen.
    private func help(_ event: Event) -> [Line] {
        switch event {
        case .help(let isSolving): overview(isSolving)
        case .helpGroup(let group): helpGroup(group)
        case .helpTopic(let command): helpTopic(command)
        default: []
        }
    }

    private func helpTopic(_ command: GameCommand) -> [Line] {
        var lines = [Line(command.usage, .name) + Line(": \(command.summary)."), Line(command.details)]
        if command.example != command.rawValue { lines.append(Line("For instance: \(command.example)")) }
        if !command.aliases.isEmpty { lines.append(Line("Also: \(command.aliases.joined(separator: ", "))")) }
        return lines
    }

    private func overview(_ isSolving: Bool) -> [Line] {
        // What goes on here first: the whole list is for those who look for something else.
        var lines = [
            isSolving
                ? Line("You are at the whiteboard: `solve 5` takes five steps, `problem` shows how far it is,")
                    + Line(" `resign` leaves it and keeps what you did. Only `move` has to wait.")
                : Line("You are mining: `mine 5` tries five times, `shop` and `buy max` make it faster,")
                    + Line(" `solve` goes to the whiteboard, which is the way up. `hint` says what comes next.")
        ]
        for group in CommandGroup.allCases {
            let words = GameCommand.allCases.filter { $0.group == group }.map(\.rawValue).joined(separator: ", ")
            lines.append(Line(isReader ? group.rawValue + ": " : pad(group.rawValue, 9), .title) + Line(words))
            lines[lines.count - 1].hang = 9
        }
        lines.append(
            Line(
                "`help play` lists a group, `help mine` tells about a word. Unique beginnings of words are enough.",
                .dim))
        return lines
    }

    private func helpGroup(_ group: CommandGroup) -> [Line] {
        let commands = GameCommand.allCases.filter { $0.group == group }
        let columns = (commands.map { Columns.of($0.usage) }.max() ?? 0) + 2
        return [Line(group.rawValue, .title)]
            + commands.map { command in
                let usage = isReader ? command.usage + ": " : "  " + pad(command.usage, columns)
                var line = Line(usage, .name) + Line(command.summary)
                if !isReader { line.hang = columns + 2 }
                return line
            }
    }

    func pad(_ text: String, _ width: Int) -> String {
        let columns = Columns.of(text)
        return columns < width ? text + String(repeating: " ", count: width - columns) : text + " "
    }

    func padLeft(_ text: String, _ width: Int) -> String {
        let columns = Columns.of(text)
        return columns < width ? String(repeating: " ", count: width - columns) + text : text
    }
}
