// One slot of one character: everything a session may change, in one value, so that one Put commits one action. Pure.

package import KVBase

/// A player's own settings; the newest session's are the ones that count.
package struct PlayerSettings: Equatable, Sendable {
    package static let ignoredMax = 16
    package static let marksMax = 16

    package var hints = true
    package var brief = false
    package var reader = false
    /// Players whose words are not shown: identifier to the name they had.
    package var ignored: [String: String] = [:]
    /// Highest number read of the tells of each sender; these only grow.
    package var marks: [String: Int64] = [:]
    /// The mark of senders that are not in `marks`: the highest one that had to make room.
    package var oldMark: Int64 = 0
    /// Day number and coins given away on it.
    package var giftDay: Int64 = 0
    package var giftToday: Int64 = 0
    /// Gifts received that the player was told about.
    package var giftsSeen: Int64 = 0

    package init() {}

    package func mark(_ pid: String) -> Int64 { marks[pid] ?? oldMark }

    /// Records that the tells of `pid` up to `seq` were shown; the oldest mark makes room when there are too many.
    package mutating func read(_ pid: String, upTo seq: Int64) {
        marks[pid] = max(seq, mark(pid))
        while marks.count > PlayerSettings.marksMax,
            let oldest = marks.min(by: { ($0.value, $0.key) < ($1.value, $1.key) })
        {
            oldMark = max(oldMark, oldest.value)
            marks[oldest.key] = nil
        }
    }

    package var json: JSON {
        let ignoredMembers = ignored.sorted { $0.key < $1.key }.map { (key: $0.key, value: JSON.string($0.value)) }
        let markMembers = marks.sorted { $0.key < $1.key }.map { (key: $0.key, value: JSON.number($0.value)) }
        return .object([
            ("h", .bool(hints)), ("b", .bool(brief)), ("r", .bool(reader)), ("i", .object(ignoredMembers)),
            ("m", .object(markMembers)), ("mo", .number(oldMark)),
            ("gd", .number(giftDay)), ("gt", .number(giftToday)), ("gs", .number(giftsSeen)),
        ])
    }

    package init(json: JSON) {
        hints = json["h"]?.flag ?? true
        brief = json["b"]?.flag ?? false
        reader = json["r"]?.flag ?? false
        for (pid, name) in (json["i"]?.members ?? []).prefix(PlayerSettings.ignoredMax) where Names.isIdentifier(pid) {
            if let name = name.text, Names.fault(name) == nil { ignored[pid] = name }
        }
        for (pid, mark) in (json["m"]?.members ?? []).prefix(PlayerSettings.marksMax) where Names.isIdentifier(pid) {
            marks[pid] = mark.amount
        }
        oldMark = json["mo"]?.amount ?? 0
        giftDay = json["gd"]?.amount ?? 0
        giftToday = json["gt"]?.amount ?? 0
        giftsSeen = json["gs"]?.amount ?? 0
    }
}

/// The value of `p/<pid>/<slot>`. `total` contains `base`, what the slot held when this session took it over: should
/// two sessions of a partitioned network find themselves in one slot, the one that sees the other's identifier moves
/// what it added (`total` minus `base`) to another slot and says so in `moved`; readers then count the old slot at its
/// base.
package struct SlotRecord: Equatable, Sendable {
    package var sid: String
    package var seq: Int64 = 0
    /// The writer's corrected wall clock.
    package var time: Millis = 0
    package var closed = false
    package var total = Ledger()
    package var base = Ledger()
    /// Slot to session whose additions are counted elsewhere.
    package var moved: [Int: String] = [:]
    package var rank: Rank = .undergraduate
    package var place: Place = .start
    /// Seconds that had been played at the retirement; 0 before it.
    package var career: Int64 = 0
    package var options = PlayerSettings()

    package init(sid: String) { self.sid = sid }

    package var bytes: [UInt8] {
        var members: [(key: String, value: JSON)] = [
            ("v", .number(1)), ("sid", .string(sid)), ("seq", .number(seq)), ("t", .number(time)),
        ]
        if closed { members.append(("done", .bool(true))) }
        members += total.json
        members += [("rk", .number(Int64(rank.rawValue))), ("loc", .string(place.key)), ("opt", options.json)]
        if career > 0 { members.append(("rt", .number(career))) }
        if base != Ledger() { members.append(("b", .object(base.json))) }
        if !moved.isEmpty {
            let list = moved.sorted { $0.key < $1.key }.map { (key: String($0.key), value: JSON.string($0.value)) }
            members.append(("mv", .object(list)))
        }
        return JSON.object(members).bytes
    }

    /// Nil for anything that is not a record of this version; amounts are clamped, unknown members ignored.
    package init?(_ bytes: [UInt8]) {
        guard let json = JSON.parse(bytes), json["v"]?.int == 1, let sid = json["sid"]?.text, Names.isIdentifier(sid)
        else { return nil }
        self.sid = sid
        seq = json["seq"]?.amount ?? 0
        time = json["t"]?.amount ?? 0
        closed = json["done"]?.flag ?? false
        total = Ledger(json: json)
        base = Ledger(json: json["b"] ?? .null)
        for (slot, session) in json["mv"]?.members ?? [] {
            guard let slot = Int(slot), (0..<Keys.slotCount).contains(slot), let session = session.text,
                Names.isIdentifier(session)
            else { continue }
            moved[slot] = session
        }
        rank = Rank(rawValue: Int(json["rk"]?.amount ?? 0)) ?? .undergraduate
        career = json["rt"]?.amount ?? 0
        place = json["loc"]?.text.flatMap(Place.init(key:)) ?? .start
        options = PlayerSettings(json: json["opt"] ?? .null)
    }
}

/// All slots of one character, and what they amount to.
package struct CharacterSlots: Equatable, Sendable {
    package var records: [Int: SlotRecord] = [:]

    package init() {}

    package init(_ pairs: [(key: String, value: [UInt8])], prefix: String) {
        for (key, value) in pairs {
            guard let slot = Keys.slot(key, after: prefix), let record = SlotRecord(value) else { continue }
            records[slot] = record
        }
    }

    /// What a slot counts for: its total, or only its base when another slot took the rest over.
    package func counted(_ slot: Int) -> Ledger {
        guard let record = records[slot] else { return Ledger() }
        let isMoved = records.contains { $0.key != slot && $0.value.moved[slot] == record.sid }
        return isMoved ? record.base : record.total
    }

    package var total: Ledger {
        records.keys.sorted().reduce(into: Ledger()) { $0.add(counted($1)) }
    }

    package var rank: Rank { records.values.map(\.rank).max() ?? .undergraduate }

    /// Seconds played until the retirement; 0 before it.
    package var career: Int64 { records.values.map(\.career).filter { $0 > 0 }.min() ?? 0 }

    private var newest: SlotRecord? {
        records.sorted { $0.key < $1.key }.map(\.value).max { ($0.time, $0.seq) < ($1.time, $1.seq) }
    }

    package var lastSeen: Millis { newest?.time ?? 0 }
    package var place: Place { newest?.place ?? .start }

    package var options: PlayerSettings {
        var options = newest?.options ?? PlayerSettings()
        for record in records.values {
            for pid in record.options.marks.keys.sorted() { options.read(pid, upTo: record.options.mark(pid)) }
        }
        return options
    }
}
