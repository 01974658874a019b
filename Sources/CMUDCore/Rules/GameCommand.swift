// The words a player can type: one table for parsing, help, completion and reserved names. Pure, any thread.

package enum CommandGroup: String, CaseIterable, Sendable {
    case play = "Play", people = "People", world = "World", session = "Session"

    package init?(word: String) {
        guard let found = CommandGroup.allCases.first(where: { $0.rawValue.lowercased() == word.lowercased() }) else {
            return nil
        }
        self = found
    }
}

/// An abbreviation that fits several words is refused with the choices. A single letter always means something: where
/// several words begin with it, the one typed most has it as an alias.
package enum GameCommand: String, CaseIterable, Sendable {
    case mine, stop, shop, buy, coffee, inv, study, learn, solve, problem, resign, mentor, story, hint, hints
    case say, emote, tell, reply, shout, who, `where`, gift, ignore, unignore, away, history
    case look, map, move, stats, scores, paint
    case help, set, brief, password, rename, quit

    package var aliases: [String] {
        switch self {
        case .mine: ["m"]
        case .buy: ["b"]
        case .who: ["w"]
        case .reply: ["r"]
        case .inv: ["i", "inventory"]
        case .look: ["l"]
        case .move: ["go", "walk"]
        case .emote: ["pose", "me"]
        case .stats: ["st", "score"]
        case .quit: ["exit", "bye", "logout"]
        case .help: ["?", "h"]
        case .problem: ["p", "prob"]
        case .tell: ["t", "page", "whisper"]
        case .solve: ["so"]
        case .say: ["s"]
        default: []
        }
    }

    package var group: CommandGroup {
        switch self {
        case .mine, .stop, .shop, .buy, .coffee, .inv, .study, .learn, .solve, .problem, .resign, .mentor, .story,
            .hint,
            .hints:
            .play
        case .say, .emote, .tell, .reply, .shout, .who, .where, .gift, .ignore, .unignore, .away, .history: .people
        case .look, .map, .move, .stats, .scores, .paint: .world
        case .help, .set, .brief, .password, .rename, .quit: .session
        }
    }

    package var usage: String {
        switch self {
        case .mine: "mine [N]"
        case .buy: "buy ITEM [N|max], or buy max"
        case .solve: "solve [N]"
        case .study: "study [N]"
        case .learn: "learn [SUBJECT]"
        case .mentor: "mentor RANK [N]"
        case .say: "say TEXT, or 'TEXT"
        case .emote: "emote TEXT, or :TEXT"
        case .tell: "tell WHO TEXT"
        case .reply: "reply TEXT"
        case .shout: "shout TEXT"
        case .where: "where [WHO]"
        case .gift: "gift WHO N"
        case .ignore: "ignore WHO"
        case .unignore: "unignore WHO"
        case .away: "away [TEXT]"
        case .history: "history [N]"
        case .look: "look [WHO]"
        case .map: "map [all]"
        case .move: "move PLACE"
        case .stats: "stats [WHO]"
        case .scores: "scores [rank|coins|team]"
        case .paint: "paint TEXT"
        case .help: "help [COMMAND]"
        case .set: "set [NAME [on|off]]"
        case .hints: "hints [on|off]"
        case .brief: "brief [on|off]"
        case .rename: "rename NEWNAME"
        default: rawValue
        }
    }

    package var summary: String {
        switch self {
        case .mine: "mine for coins, N attempts in a row"
        case .stop: "stop mining or solving (Ctrl-C does the same)"
        case .shop: "what is for sale, and what it costs you now"
        case .buy: "buy hardware: a number, or as much as you can pay"
        case .coffee: "on floor 3: a round that makes you all faster for a while"
        case .inv: "your coins and hardware"
        case .study: "on floor 4: gather insight, N tries in a row"
        case .learn: "on floor 4: one lesson a rank, which lasts: tuning, theory, care"
        case .solve: "go to the whiteboard; again, or with N, to work on the problem"
        case .problem: "how far the problem is, who helps, what you still need"
        case .resign: "leave the whiteboard; what you contributed stays"
        case .mentor: "once retired: help with the problem of another rank"
        case .story: "read the chapter of your rank again"
        case .hint: "advice: what to do next"
        case .hints: "one-line advice on or off, or which it is"
        case .say: "talk to everybody here"
        case .emote: "act: `:waves` reads as \"ada waves\""
        case .tell: "a private word, also to somebody who is away"
        case .reply: "answer the last tell"
        case .shout: "talk to the whole building, every 30 s at most"
        case .who: "who is online, where and doing what"
        case .where: "where people are"
        case .gift: "give coins away, up to a tenth of what you earned a day"
        case .ignore: "hide what somebody says"
        case .unignore: "hear them again"
        case .away: "tell others that you are away, and why"
        case .history: "the last things that happened here"
        case .look: "the place you are in, or a person"
        case .map: "all places, what they are good for and who is there"
        case .move: "go to: fence, bridge, or a floor from 1 to 9"
        case .stats: "rank, coins, power and what comes next"
        case .scores: "the best, and you"
        case .paint: "at the Fence: paint it over"
        case .help: "this list, or more about one command"
        case .set: "your settings: hints, brief, reader"
        case .brief: "short descriptions on or off, or which it is"
        case .password: "protect your name, change or drop the password"
        case .rename: "take another name"
        case .quit: "save and leave"
        }
    }

    package var example: String {
        switch self {
        case .mine: "mine 10"
        case .buy: "buy cpu max"
        case .solve: "solve 20"
        case .study: "study 15"
        case .learn: "learn theory"
        case .mentor: "mentor masters 10"
        case .say: "'anybody awake?"
        case .emote: ":stares at the whiteboard"
        case .tell: "tell ada meet me on floor 5"
        case .reply: "reply on my way"
        case .shout: "shout who is up for Masters number 4?"
        case .where: "where ada"
        case .gift: "gift ada 10"
        case .ignore: "ignore eve"
        case .unignore: "unignore eve"
        case .away: "away lunch"
        case .history: "history 20"
        case .look: "look ada"
        case .map: "map all"
        case .move: "move fence"
        case .stats: "stats ada"
        case .scores: "scores team"
        case .paint: "paint SCHENLEY IS LOVELY IN MAY"
        case .help: "help mine"
        case .set: "set reader on"
        case .hints: "hints off"
        case .rename: "rename ada2"
        default: rawValue
        }
    }

    /// Commands that change coins, hardware or the problem: they wait while an action runs.
    package var isEconomy: Bool {
        switch self {
        case .mine, .buy, .coffee, .study, .learn, .solve, .resign, .mentor, .gift, .move: true
        default: false
        }
    }
}

package enum CommandMatch: Equatable, Sendable {
    case one(GameCommand)
    case several([GameCommand])
    /// The nearest word, if any is near.
    case none(GameCommand?)
}

extension GameCommand {
    /// Exact words and aliases first, then unique beginnings. O(number of commands).
    package static func match(_ word: String) -> CommandMatch {
        let wanted = word.lowercased()
        if let exact = allCases.first(where: { $0.rawValue == wanted || $0.aliases.contains(wanted) }) {
            return .one(exact)
        }
        let found = allCases.filter { $0.rawValue.hasPrefix(wanted) }
        if found.count == 1 { return .one(found[0]) }
        if found.count > 1 { return .several(found) }
        return .none(nearest(wanted, in: allCases.map(\.rawValue)).flatMap(GameCommand.init(rawValue:)))
    }

    /// The candidate with the fewest edits, if they are at most a third of the word (and at least one is allowed).
    package static func nearest(_ word: String, in candidates: [String]) -> String? {
        let allowed = max(1, word.count / 3)
        let scored = candidates.map { ($0, distance(Array(word), Array($0))) }
        guard let best = scored.min(by: { $0.1 < $1.1 }), best.1 <= allowed else { return nil }
        return best.0
    }

    /// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
    private static func distance(_ a: [Character], _ b: [Character]) -> Int {
        guard a.count <= 32, b.count <= 32 else { return .max }
        var table = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
        for i in 0...a.count { table[i][0] = i }
        for j in 0...b.count { table[0][j] = j }
        guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
        for i in 1...a.count {
            for j in 1...b.count {
                let same = a[i - 1] == b[j - 1] ? 0 : 1
                table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + same)
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                    table[i][j] = min(table[i][j], table[i - 2][j - 2] + 1)
                }
            }
        }
        return table[a.count][b.count]
    }

    /// Splits a line at single semicolons (`;;` is a literal one) and trims the pieces; empty ones vanish.
    package static func split(_ line: String) -> [String] {
        var pieces = [""]
        let characters = Array(line)
        var index = 0
        while index < characters.count {
            if characters[index] == ";" {
                if index + 1 < characters.count, characters[index + 1] == ";" {
                    pieces[pieces.count - 1].append(";")
                    index += 1
                } else {
                    pieces.append("")
                }
            } else {
                pieces[pieces.count - 1].append(characters[index])
            }
            index += 1
        }
        return pieces.map(trimmed).filter { !$0.isEmpty }
    }

    /// Whether the rest of the line is what is said.
    package static func isTalk(_ line: String) -> Bool {
        if line.first == "'" || line.first == ":" { return true }
        guard case .one(let command) = match(String(line.prefix { !$0.isWhitespace })) else { return false }
        return [.say, .emote, .tell, .reply, .shout].contains(command)
    }

    package static func trimmed(_ text: String) -> String {
        var view = Substring(text)
        while let first = view.first, first.isWhitespace { view = view.dropFirst() }
        while let last = view.last, last.isWhitespace { view = view.dropLast() }
        return String(view)
    }
}
