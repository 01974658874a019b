// Presence records and the lines they carry: what others wrote, decoded; what a session writes. Pure, any thread.

import KVBase

/// One line of a ring: what somebody said or did.
struct RingLine: Equatable, Sendable {
    static let ringMax = 8
    var seq: Int64
    var time: Millis
    var kind: String
    var text: SafeText

    var json: JSON {
        .object([("seq", .number(seq)), ("t", .number(time)), ("k", .string(kind)), ("text", .string(text.string))])
    }

    init(seq: Int64, time: Millis, kind: String, text: SafeText) {
        (self.seq, self.time, self.kind, self.text) = (seq, time, kind, text)
    }

    init?(json: JSON) {
        guard let seq = json["seq"]?.int, seq > 0, let kind = json["k"]?.text else { return nil }
        self.init(seq: seq, time: json["t"]?.amount ?? 0, kind: kind, text: Safe.text(json["text"]?.text ?? ""))
    }

    /// Nil for a ring longer than ours: nobody honest wrote it.
    static func ring(_ json: JSON?) -> [RingLine] {
        let elements = json?.elements ?? []
        guard elements.count <= ringMax else { return [] }
        return elements.compactMap(RingLine.init(json:)).sorted { $0.seq < $1.seq }
    }

    var talk: Talk? {
        switch kind {
        case "s": text.isEmpty ? nil : .say(text)
        case "e": text.isEmpty ? nil : .emote(text)
        case "h": text.isEmpty ? nil : .shout(text)
        case "p": text.isEmpty ? nil : .paint(text)
        case "a": .arrive(from: Place(key: text.string))
        case "l": .leave(to: Place(key: text.string))
        case "c": .coffee
        case "r": Rank(key: text.string).map { .promoted($0) }
        default: nil
        }
    }

    init(seq: Int64, time: Millis, talk: Talk) {
        switch talk {
        case .say(let text): self.init(seq: seq, time: time, kind: "s", text: text)
        case .emote(let text): self.init(seq: seq, time: time, kind: "e", text: text)
        case .shout(let text): self.init(seq: seq, time: time, kind: "h", text: text)
        case .paint(let text): self.init(seq: seq, time: time, kind: "p", text: text)
        case .arrive(let place): self.init(seq: seq, time: time, kind: "a", text: Safe.text(place?.key ?? ""))
        case .leave(let place): self.init(seq: seq, time: time, kind: "l", text: Safe.text(place?.key ?? ""))
        case .coffee: self.init(seq: seq, time: time, kind: "c", text: Safe.text(""))
        case .promoted(let rank): self.init(seq: seq, time: time, kind: "r", text: Safe.text(rank.key))
        }
    }
}

/// The value of `here/<room>/<pid>`: presence and room talk in one.
struct Occupant: Equatable, Sendable {
    var pid: String
    var place: Place
    var sid: String
    var beats: Int64
    var moves: Int64
    var sessionStart: Millis
    var time: Millis
    var name: String
    var rank: Rank
    /// What their machines are worth, for those who think of joining them.
    var power: Int64 = 0
    var activity: Activity
    var isGone: Bool
    var away: SafeText?
    var since: Millis
    var lines: [RingLine]

    var bytes: [UInt8] {
        var members: [(key: String, value: JSON)] = [
            ("v", .number(1)), ("sid", .string(sid)), ("st", .number(sessionStart)), ("n", .number(beats)),
            ("mv", .number(moves)), ("t", .number(time)), ("name", .string(name)),
            ("rk", .number(Int64(rank.rawValue))), ("pw", .number(power)),
            ("act", .string(isGone ? "gone" : activity.rawValue)), ("since", .number(since)),
        ]
        if let away { members.append(("away", .string(away.string))) }
        members.append(("ring", .array(lines.map(\.json))))
        return JSON.object(members).bytes
    }

    init(
        pid: String, place: Place, sid: String, beats: Int64, moves: Int64, sessionStart: Millis, time: Millis,
        name: String, rank: Rank, activity: Activity, isGone: Bool, away: SafeText?, since: Millis, lines: [RingLine]
    ) {
        (self.pid, self.place, self.sid, self.beats, self.moves) = (pid, place, sid, beats, moves)
        (self.sessionStart, self.time, self.name, self.rank) = (sessionStart, time, name, rank)
        (self.activity, self.isGone, self.away, self.since, self.lines) = (activity, isGone, away, since, lines)
    }

    init?(place: Place, pid: String, value: [UInt8]) {
        guard let json = JSON.parse(value), json["v"]?.int == 1, let sid = json["sid"]?.text, Names.isIdentifier(sid),
            let name = json["name"]?.text, Occupant.isShownName(name)
        else { return nil }
        let act = json["act"]?.text ?? ""
        self.init(
            pid: pid, place: place, sid: sid, beats: json["n"]?.amount ?? 0, moves: json["mv"]?.amount ?? 0,
            sessionStart: json["st"]?.amount ?? 0, time: json["t"]?.amount ?? 0, name: name,
            rank: Rank(rawValue: Int(json["rk"]?.amount ?? 0)) ?? .undergraduate,
            activity: Activity(rawValue: act) ?? .idle, isGone: act == "gone",
            away: json["away"]?.text.map { Safe.text($0, columns: 60) }, since: json["since"]?.amount ?? 0,
            lines: RingLine.ring(json["ring"]))
        power = json["pw"]?.amount ?? 0
    }

    /// Whether this record is later than `other` of the same character: true for a sign of life, false for the same
    /// record again, nil for an earlier one. Within a session only its own counters are asked, since every clock is
    /// somebody's estimate.
    func follows(_ other: Occupant) -> Bool? {
        if sid != other.sid { return (sessionStart, sid) > (other.sessionStart, other.sid) ? true : nil }
        let (newer, older) = ((moves, beats), (other.moves, other.beats))
        return newer >= older ? newer > older : nil
    }

    /// A claimed name, or one with the mark of a lost claim.
    private static func isShownName(_ name: String) -> Bool { Names.fault(Directory.unmarked(name)) == nil }
}
