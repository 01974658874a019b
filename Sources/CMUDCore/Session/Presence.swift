// Who is there: decoding of presence records, the board that tells the living from the silent, and the directory of
// names. Pure values owned by one session.

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

/// Whether others are there, judged by changes of their beat. Silence is what the observer listened to in vain: time in
/// which it did not look at somebody's record, or in which its own store said nothing, is nobody's silence.
struct PresenceBoard {
    enum State { case online, linkLost, hidden }

    struct Entry {
        var occupant: Occupant
        /// On the board's own clock: when the beat last changed, and when the record was last looked for.
        var changed: Millis
        var looked: Millis
        /// False until a beat was seen, when the record looked old at first sight.
        var isBelieved: Bool

        var silence: Millis { looked - changed }
    }

    /// People remembered at once; beyond it those who left are forgotten.
    static let entriesMax = 2_000
    static let onlineMillis: Millis = 15_000
    static let linkLostMillis: Millis = 60_000
    static let freshMillis: Millis = 20_000
    /// The most that passes on the board's clock between two answers of the store. A connected session asks every few
    /// seconds; a longer gap was an outage of its own or a pause of the process, during which others went on unheard.
    static let gapMillis: Millis = 3_000

    private(set) var entries: [String: Entry] = [:]
    private var clock: Millis = 0
    private var lastAnswer: Millis?

    /// The store has answered: the clock goes on.
    mutating func listened(now: Millis) {
        clock += min(PresenceBoard.gapMillis, max(0, now - (lastAnswer ?? now)))
        lastAnswer = now
    }

    /// Takes in presence records of `place`, or of the building when it is nil. If they are all there are, who is
    /// missing was looked for in vain. Of two records of one character, the one of the newest session and its latest
    /// move counts.
    mutating func see(_ occupants: [Occupant], in place: Place?, areAll: Bool, correctedWall: Millis) {
        for pid in entries.keys where areAll && (place == nil || entries[pid]?.occupant.place == place) {
            entries[pid]?.looked = clock
        }
        for occupant in occupants { see(occupant, correctedWall: correctedWall) }
    }

    private mutating func see(_ occupant: Occupant, correctedWall: Millis) {
        guard let known = entries[occupant.pid] else {
            if entries.count >= PresenceBoard.entriesMax { entries = entries.filter { state($0.key) != .hidden } }
            let isFresh = abs(correctedWall - occupant.time) < PresenceBoard.freshMillis
            entries[occupant.pid] = Entry(occupant: occupant, changed: clock, looked: clock, isBelieved: isFresh)
            return
        }
        guard let isBeat = occupant.follows(known.occupant) else { return }
        entries[occupant.pid] = Entry(
            occupant: occupant, changed: isBeat ? clock : known.changed, looked: clock,
            isBelieved: known.isBelieved || isBeat)
    }

    func state(_ pid: String) -> State {
        guard let entry = entries[pid], entry.isBelieved, !entry.occupant.isGone else { return .hidden }
        if entry.silence < PresenceBoard.onlineMillis { return .online }
        return entry.silence < PresenceBoard.linkLostMillis ? .linkLost : .hidden
    }

    /// Everybody who is not hidden, by identifier.
    var present: [Entry] {
        entries.values.filter { state($0.occupant.pid) != .hidden }.sorted { $0.occupant.pid < $1.occupant.pid }
    }
}

/// Shown names by identifier, taken from claims only; forgotten after a minute so that a late claim shows.
struct Directory {
    static let rememberedMillis: Millis = 60_000
    /// For somebody whose claim this replica has not seen yet.
    static let unknownMillis: Millis = 2_000
    private var shown: [String: (name: String, until: Millis)] = [:]

    /// How a character is shown whose claim on `name` came second.
    static func marked(_ name: String, _ pid: String) -> String { "\(unmarked(name))~\(pid.prefix(3))" }

    static func unmarked(_ name: String) -> String {
        let parts = name.split(separator: "~", omittingEmptySubsequences: false)
        return parts.count == 2 && parts[1].utf8.count == 3 ? String(parts[0]) : name
    }

    mutating func learn(_ pid: String, _ name: String, now: Millis, for millis: Millis = rememberedMillis) {
        if shown.count >= PresenceBoard.entriesMax { shown = shown.filter { $0.value.until > now } }
        shown[pid] = (name, now + millis)
    }

    func isKnown(_ pid: String, now: Millis) -> Bool { shown[pid].map { $0.until > now } ?? false }

    subscript(_ pid: String) -> String { shown[pid]?.name ?? Directory.marked("someone", pid) }

    /// Identifiers whose shown name begins with `text`, for `tell` and completion.
    func matching(_ text: String) -> [(pid: String, name: String)] {
        let wanted = text.lowercased()
        return shown.filter { $0.value.name.lowercased().hasPrefix(wanted) }.map { ($0.key, $0.value.name) }
            .sorted { $0.name < $1.name }
    }
}
