// How places, people and talk read. Pure, any thread.

import KVBase

extension Renderer {
    func world(_ event: Event) -> [Line] {
        switch event {
        case .room(let view): room(view)
        case .map(let rows): map(rows)
        case .who(let rows): who(rows)
        case .whereAbouts(let rows):
            rows.map { Line($0.name, .name) + Line(": \($0.place.phrase)\(linkLost($0.isLinkLost))") }
        case .stats(let view): stats(view)
        case .person(let person, let idle, let on): self.person(person, idle, on)
        case .scores(let kind, let rows, let hall): scores(kind, rows, hall)
        case .history(let rows): history(rows)
        default: []
        }
    }

    private func linkLost(_ isLost: Bool) -> String { isLost ? " (link lost)" : "" }

    private func room(_ view: RoomView) -> [Line] {
        var lines = [Line(view.place.title, .title)]
        if !view.isBrief { lines.append(Line(view.place.text)) }
        if !view.terms.isEmpty { lines.append(Line(view.terms, .hint)) }
        if let paint = view.paint {
            lines.append(
                Line("The Fence reads: ") + Line("\"\(paint.text.string)\"", .talk) + Line(" - painted by ")
                    + Line(paint.name, .name))
        }
        if !view.isHeard {
            lines.append(Line("The store does not answer: this is who was here a moment ago.", .dim))
        } else if view.people.isEmpty {
            lines.append(Line("Nobody else is here.", .dim))
        }
        for person in view.people { lines.append(presence(person)) }
        if view.hiddenPeople > 0 { lines.append(Line("And \(view.hiddenPeople) more.")) }
        return lines
    }

    private func presence(_ person: RoomPerson) -> Line {
        var line = Line(person.name, .name) + Line(" (\(person.rank.title)) \(person.activity.phrase)")
        if let away = person.away { line = line + Line(", away: \(away.string)") }
        return line + Line(person.isLinkLost ? ", link lost." : ".")
    }

    private func person(_ person: RoomPerson, _ idle: Int64, _ on: Int64) -> [Line] {
        [presence(person), Line("Here since \(Show.duration(on)), last typed \(Show.duration(idle)) ago.")]
    }

    private static let mapColumns = (title: 25, tag: 15)

    private func map(_ rows: [MapRow]) -> [Line] {
        rows.flatMap { row -> [Line] in
            let here = row.isHere ? (isReader ? " (you are here)" : " *") : ""
            let people = row.names.isEmpty ? (isReader ? "nobody" : "") : row.names.joined(separator: ", ")
            let title = row.place.title + here
            var line = Line(title, row.isHere ? .title : .plain)
            if isReader {
                line = line + Line((row.tag.isEmpty ? "" : ", \(row.tag)") + ": ") + Line(people, .name)
            } else if !row.tag.isEmpty || !people.isEmpty {
                let (titleColumns, tagColumns) = Renderer.mapColumns
                line = line + Line(String(pad(title, titleColumns).dropFirst(title.count)))
                line = line + Line(people.isEmpty ? row.tag : pad(row.tag, tagColumns), .dim) + Line(people, .name)
                line.hang = titleColumns + tagColumns
            }
            let indent = isReader ? "" : String(repeating: " ", count: Renderer.mapColumns.title)
            return [line]
                + row.lastSeen.map {
                    Line("\(indent)\($0.name), last seen \(Show.duration($0.seconds)) ago", .dim)
                }
        }
    }

    private func who(_ rows: [WhoRow]) -> [Line] {
        var lines = rows.map { row -> Line in
            var notes: [String] = []
            if row.isSelf { notes.append("you") }
            if row.isLinkLost { notes.append("link lost") }
            if let away = row.away { notes.append("away: \(away.string)") }
            if row.idleSeconds >= 60 { notes.append("idle \(Show.duration(row.idleSeconds))") }
            let note = notes.isEmpty ? "" : " (\(notes.joined(separator: ", ")))"
            let activity = row.activity == .idle ? "" : row.activity.rawValue
            if isReader {
                return Line(
                    "\(row.name)\(note): \(row.rank.title), \(row.place.phrase)"
                        + "\(activity.isEmpty ? "" : ", " + activity)"
                )
            }
            return Line(pad(row.name, 21), .name)
                + Line(pad(row.rank.title, 15) + pad(row.place.phrase, 19) + pad(activity, 10))
                + Line(note, .dim)
        }
        lines.append(Line("\(Show.count(Int64(rows.count), "player")) online."))
        return lines
    }

    private func stats(_ view: StatsView) -> [Line] {
        var lines = [Line(view.name, .name) + Line(", \(view.rank.title)")]
        if let coins = view.coins {
            lines.append(
                Line("Coins: ") + Line(Show.number(coins), .coins)
                    + Line(coins < 0 ? " (debt: two terminals spent the same coins)" : ""))
        }
        lines.append(Line("Power: \(Show.number(view.power))"))
        let hardware = view.hardware.map { Show.count($0.count, $0.item.title, $0.item.title(2)) }
        lines.append(Line("Hardware: \(hardware.isEmpty ? "none" : hardware.joined(separator: ", "))"))
        lines += learning(view)
        var place = "Place: \(view.place.phrase)"
        if let activity = view.activity, !view.isSelf { place += ", online, \(activity.phrase)" }
        if let idle = view.idleSeconds, idle >= 60 { place += ", idle \(Show.duration(idle))" }
        if view.activity == nil { place += " (not online)" }
        lines.append(Line(place))
        lines.append(Line("Played: \(Show.duration(view.playSeconds))"))
        if view.rank < .retired {
            lines.append(
                Line(
                    "Work on \(view.rank.title) problems: \(Show.number(view.share)), "
                        + "\(Show.percent(view.share, of: view.size)) of one"
                ))
        }
        if let goal = view.goal { lines.append(Line("Next: ", .hint) + Line(goal)) }
        return lines
    }

    private func learning(_ view: StatsView) -> [Line] {
        var lines: [Line] = []
        let had = Subject.allCases.filter { view.lessons.count > $0.rawValue && view.lessons[$0.rawValue] > 0 }
            .map { "\($0.key) \(view.lessons[$0.rawValue])" }
        if !had.isEmpty { lines.append(Line("Lessons: \(had.joined(separator: ", "))")) }
        if let insight = view.insight, insight != 0 {
            lines.append(Line("Insight: \(Show.number(insight)); a lesson takes \(Balance.lessonInsight)"))
        }
        if view.cupLeft > 0 { lines.append(Line("Coffee: for \(Show.count(view.cupLeft, "more try", "more tries"))")) }
        return lines
    }

    private func scores(_ kind: ScoreKind, _ rows: [ScoreRow], _ hall: [String]) -> [Line] {
        let heading =
            kind == .rank
            ? "By rank, then by work done" : kind == .coins ? "By coins ever earned" : "By work on problems"
        var lines = [Line(heading, .title)]
        for row in rows {
            let isTime = kind == .rank && row.rank == .retired
            let value = isTime ? "in " + Show.duration(row.value) : Show.number(row.value)
            let marks = (row.isDoubtful ? " ?" : "") + (row.isSelf ? " (you)" : "")
            lines.append(
                isReader
                    ? Line("\(row.place): \(row.name)\(marks), \(row.rank.title), \(value)")
                    : Line(padLeft("\(row.place)", 4) + "  ") + Line(pad(row.name + marks, 24), .name)
                        + Line(pad(row.rank.title, 15) + padLeft(value, 18)))
        }
        if rows.contains(where: \.isDoubtful) {
            lines.append(Line("? means that the record cannot come from play.", .dim))
        }
        if !hall.isEmpty {
            lines.append(Line("Hall of fame: retired after", .title))
            lines += hall.map { Line("  " + $0) }
        }
        return lines
    }

    private func history(_ rows: [(time: Millis, event: Event)]) -> [Line] {
        guard !rows.isEmpty else { return [Line("Nothing has happened here since you came.")] }
        return rows.flatMap { row in
            lines(row.event).map { Line(Show.clock(row.time, offset: utcOffsetSeconds) + " ", .dim) + $0 }
        }
    }

    // MARK: people

    func people(_ event: Event) -> [Line] {
        switch event {
        case .talk(let name, let talk, let isOwn): [self.talk(name, talk, isOwn)]
        case .told(let from, let text, let age):
            [
                Line(from, .name) + Line(age > 60 ? " told you \(Show.duration(age)) ago: " : " tells you: ")
                    + Line(text.string, .talk)
            ]
        case .toldOwn(let to, let text, let isOffline):
            [
                Line("You tell ") + Line(to, .name) + Line(": ") + Line(text.string, .talk)
                    + Line(isOffline ? " (offline, will see it at login)" : "", .dim)
            ]
        case .repeated(let name, let count): [Line("  (\(name), x\(count))", .dim)]
        case .missed(let name, let count): [Line("(\(Show.count(count, "line")) of \(name) missed)", .dim)]
        case .gifted(let to, let amount, let coins):
            [
                Line("You give ") + Line(Show.coins(amount), .coins) + Line(" to ") + Line(to, .name)
                    + Line(". You have \(Show.coins(coins)) left.")
            ]
        case .giftReceived(let from, let amount, let coins):
            [
                Line(from, .name) + Line(" gives you ") + Line(Show.coins(amount), .coins)
                    + Line(". You have \(Show.coins(coins)).")
            ]
        default: []
        }
    }

    private func talk(_ name: String, _ talk: Talk, _ isOwn: Bool) -> Line {
        let who = Line(isOwn ? "You" : name, .name)
        switch talk {
        case .say(let text): return who + Line(isOwn ? " say: " : " says: ") + Line(text.string, .talk)
        case .emote(let text): return Line(name, .name) + Line(" " + text.string)
        case .shout(let text): return who + Line(isOwn ? " shout: " : " shouts: ") + Line(text.string, .talk)
        case .paint(let text):
            return who + Line(isOwn ? " paint the Fence: " : " paints the Fence: ") + Line("\"\(text.string)\"", .talk)
        case .arrive(let place):
            let from = place.map { " from \($0.phrase)" } ?? ""
            return who + Line(isOwn ? " arrive\(from)." : " arrives\(from).")
        case .leave(let place):
            let to = place.map { " for \($0.phrase)" } ?? ""
            return who + Line(isOwn ? " leave\(to)." : " leaves\(to).")
        case .coffee:
            return who
                + Line(
                    isOwn
                        ? " buy a round of coffee."
                        : " buys a round of coffee for all who are here: the next 60 tries are quicker.")
        case .promoted(let rank):
            if rank == .retired { return who + Line(isOwn ? " are Retired now." : " is Retired now. Applause.") }
            return who + Line(isOwn ? " are now \(rank.role)." : " is now \(rank.role).")
        }
    }
}
