// Who is called what. A part of `GameSession`; on its thread.

import KVBase

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
        // All of them are fresh: they are looked up again.
        if shown.count >= PresenceBoard.entriesMax { shown.removeAll() }
        shown[pid] = (name, now + millis)
    }

    func isKnown(_ pid: String, now: Millis) -> Bool { shown[pid].map { $0.until > now } ?? false }

    subscript(_ pid: String) -> String { shown[pid]?.name ?? Directory.marked("someone", pid) }

    func checkInvariants() {
        check(shown.count <= PresenceBoard.entriesMax)
        check(shown.values.allSatisfy { !$0.name.isEmpty })
    }
}
