// One typed line becomes one command. Called by the session.

package import KVBase

extension GameSession {
    func perform(_ typed: TypedLine) {
        let text = GameCommand.trimmed(typed.text)
        guard let first = text.first else { return }
        if first == "'" { return run(.say, GameCommand.trimmed(String(text.dropFirst()))) }
        if first == ":" { return run(.emote, GameCommand.trimmed(String(text.dropFirst()))) }
        let word = text.prefix { !$0.isWhitespace }
        let rest = GameCommand.trimmed(String(text.dropFirst(word.count)))
        if rest.isEmpty, let place = Place(words: text) { return run(.move, place.key) }
        switch GameCommand.match(String(word)) {
        case .one(let command): run(command, rest)
        case .several(let commands):
            let choices = commands.map { "`\($0.rawValue)`" }
            fail(
                "\"\(clip(String(word)))\" could be several things",
                "type \(choices.dropLast().joined(separator: ", ")) or \(choices.last!)")
        case .none(let nearest):
            let semicolon = typed.isCutOff ? " (`;` begins a new command, `;;` writes a semicolon)" : ""
            fail(
                "There is no command \"\(clip(String(word)))\"" + semicolon,
                nearest.map { "did you mean `\($0.rawValue)`? `help` lists all" } ?? "`help` lists what there is")
        }
    }

    private func run(_ command: GameCommand, _ rest: String) {
        if let work, command.isEconomy {
            return fail("Busy (\(work.done)/\(work.total))", "`stop` first, or wait")
        }
        let words = rest.split(whereSeparator: \.isWhitespace).map(String.init)
        switch command {
        case .mine: mine(rest)
        case .stop: stopCommand()
        case .shop: shop()
        case .buy: buy(words)
        case .coffee: coffee()
        case .study: study(rest)
        case .learn: learn(rest)
        case .inv: inventory()
        case .solve: solve(rest)
        case .problem: problemCommand()
        case .resign: resign()
        case .mentor: mentor(words)
        case .story: tell(Chapter.of(record.rank), isAsked: true)
        case .hint: adviseNow()
        case .hints: toggle("hints", rest)
        case .say: say(rest)
        case .emote: emote(rest)
        case .tell: tellCommand(rest)
        case .reply: reply(rest)
        case .shout: shout(rest)
        case .who: who()
        case .where: whereabouts(rest)
        case .gift: gift(words)
        case .ignore: ignore(rest)
        case .unignore: unignore(rest)
        case .away: away(rest)
        case .history: history(rest)
        case .look: look(rest)
        case .map: map(rest)
        case .move: move(rest)
        case .stats: stats(rest)
        case .scores: scores(rest)
        case .paint: paint(rest)
        case .help: help(rest)
        case .set: set(words)
        case .brief: toggle("brief", rest)
        case .password: password()
        case .rename: rename(rest)
        case .quit: quit()
        }
    }

    // MARK: the story

    /// Tells a chapter line by line, at once, or not at all. The tutorial words at the end of the first are never lost.
    func tell(_ chapter: Chapter, isAsked: Bool = false) {
        let lines: [Event] = [.chapterTitle(chapter.title)] + chapter.lines.map { .chapterLine($0) }
        switch configuration.story {
        case .off where !isAsked:
            if record.rank == .undergraduate { emit(.chapterLine(chapter.lines.last!)) }
        case .full:
            output.tell(lines)
            tellNext()
        default: for line in lines { emit(line) }
        }
    }

    static let storyLineMillis: Millis = 1_500

    private func tellNext() {
        guard output.tellNext() else { return }
        guard isTelling else { return drainQueue() }
        after(GameSession.storyLineMillis) { [unowned self] in tellNext() }
    }

    /// Any key cuts a chapter short: the rest of it appears at once.
    package func skipStory() {
        answer { output.tellRest() }
        drainQueue()
    }

    // MARK: help and settings

    private func help(_ topic: String) {
        if topic.isEmpty { return emit(.help(isSolving: mode == .solving)) }
        if let group = CommandGroup(word: topic) { return emit(.helpGroup(group)) }
        switch GameCommand.match(topic) {
        case .one(let command): emit(.helpTopic(command))
        case .several(let commands): for command in commands { emit(.helpTopic(command)) }
        case .none(let nearest):
            fail(
                "There is no help on \"\(clip(topic))\"",
                nearest.map { "did you mean `help \($0.rawValue)`?" } ?? "`help` lists what there is")
        }
    }

    private func set(_ words: [String]) {
        guard let name = words.first else {
            return emit(
                .settings([
                    ("hints", record.options.hints ? "on" : "off"), ("brief", record.options.brief ? "on" : "off"),
                    ("reader", isReader ? "on" : "off"),
                    (
                        "ignored",
                        record.options.ignored.isEmpty ? "nobody" : Show.list(record.options.ignored.values.sorted())
                    ),
                    ("away", signs.away?.string ?? "no"), ("pace", balance.pace.rawValue),
                ]))
        }
        guard ["hints", "brief", "reader"].contains(name.lowercased()), words.count <= 2 else {
            return fail(
                "There is no setting \"\(clip(words.joined(separator: " ")))\"",
                "the settings are hints, brief and reader: `set brief on`")
        }
        toggle(name.lowercased(), words.count > 1 ? words[1] : "")
    }

    private func toggle(_ name: String, _ value: String) {
        let current = name == "hints" ? record.options.hints : name == "brief" ? record.options.brief : isReader
        let wanted: Bool
        switch value.lowercased() {
        case "on", "yes": wanted = true
        case "off", "no": wanted = false
        case "":
            // A question changes nothing.
            return emit(
                .notice(
                    "\(name.capitalizedFirst) \(name.hasSuffix("s") ? "are" : "is") \(current ? "on" : "off"); "
                        + "`set \(name) \(current ? "off" : "on")` changes it."))
        default: return fail("\"\(clip(value))\" is neither on nor off", "type `set \(name) on` or `set \(name) off`")
        }
        switch name {
        case "hints": sheet.setHints(wanted)
        case "brief": sheet.setBrief(wanted)
        default:
            sheet.setReader(wanted)
            isReader = wanted
        }
        commit {}
        emit(.notice("\(name.capitalizedFirst) \(wanted ? "on" : "off")."))
    }

    // MARK: leaving

    /// Saves and says goodbye; "saved" only once the store has said so.
    func quit() {
        begin()
        leave { [unowned self] in
            emit(.goodbye(sessionSummary(isSaved: true)))
            end(.quit)
        }
        // In a front end that cannot wait for ever, an unreachable store ends the wait.
        after(GameSession.leaveMillis) { [unowned self] in
            emit(.goodbye(sessionSummary(isSaved: false)))
            end(.unreachable)
        }
    }

    static let leaveMillis: Millis = 5_000

    /// The terminal is gone or the program was told to end: as `quit`, without waiting for a prompt.
    package func hangUp(at moment: Moment, as how: Ending) {
        advance(to: moment)
        guard ending == nil else { return }
        // Leaving already: what is being saved sets the pace.
        guard phase != .leaving else { return }
        guard phase == .playing else { return end(health.isDown ? .unreachable : how) }
        leave { [unowned self] in end(how) }
        after(GameSession.hangUpMillis) { [unowned self] in end(how == .quit ? .unreachable : how) }
    }

    static let hangUpMillis: Millis = 2_000

    private func leave(_ then: @escaping () -> Void) {
        if let alarm = work?.undecided { alarms.cancel(alarm) }
        work = nil
        stage.enter(.leaving)
        lines.show(.none)
        ring(.leave(to: nil))
        publishHere(isGone: true)
        publishScore()
        sheet.close()
        sheet.play(signs.takeSeconds(now: now.steady))
        commit { [unowned self] in
            whenSettled(then)
        }
    }

    /// Once everything that was to be written is written.
    func whenSettled(_ then: @escaping () -> Void) {
        if puts.isEmpty { return then() }
        after(20) { [unowned self] in whenSettled(then) }
    }

    private func sessionSummary(isSaved: Bool) -> SessionSummary {
        SessionSummary(
            name: displayName, seconds: visit.seconds(now: now.steady), coins: coins,
            earned: visit.earned(of: total.earned), rank: record.rank, rankAtStart: visit.rankAtStart, isSaved: isSaved)
    }

    /// What somebody who comes back may want to do next.
    func loginHint() {
        if record.rank == .retired {
            return hint("back", "`scores` shows the hall of fame, `mentor masters 10` helps others.")
        }
        hint("back", advice)
    }

    // MARK: completion

    /// Words that complete the last word of `line`, and that word.
    package func completions(of line: String) -> (word: String, candidates: [String]) {
        let isSecret = prompt.isSecret || phase != .playing
        let piece = line.split(separator: ";", omittingEmptySubsequences: false).last.map(String.init) ?? ""
        let words = piece.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        let trimmed = Array(words.drop { $0.isEmpty })
        guard !isSecret, let last = trimmed.last else { return ("", []) }
        let wanted = last.lowercased()
        var candidates: [String] = []
        if trimmed.count == 1 {
            candidates = (GameCommand.allCases.map(\.rawValue) + Place.allCases.map(\.key))
        } else if case .one(let command) = GameCommand.match(trimmed[0]) {
            candidates = arguments(of: command)
        }
        return (last, candidates.filter { $0.lowercased().hasPrefix(wanted) }.sorted())
    }

    private func arguments(of command: GameCommand) -> [String] {
        switch command {
        case .move: Place.allCases.map(\.key)
        case .buy: Item.allCases.filter { $0.unlockedAt <= record.rank }.map(\.key)
        case .help: GameCommand.allCases.map(\.rawValue)
        case .learn: Subject.allCases.map(\.key)
        case .scores: ScoreKind.allCases.map(\.rawValue)
        case .mentor: Rank.working.map(\.key)
        case .set: ["hints", "brief", "reader"]
        case .tell, .gift, .look, .stats, .where, .ignore, .unignore:
            presence.present.map { names[$0.pid] }
        default: []
        }
    }
}
