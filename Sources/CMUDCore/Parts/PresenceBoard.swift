// Who is there, and who has fallen silent. A part of `GameSession`; on its thread.

import KVBase

/// Whether others are there, judged by changes of their beat. Silence is what the observer listened to in vain: time in
/// which it did not look at somebody's record, or in which its own store said nothing, is nobody's silence.
struct PresenceBoard {
    enum State { case online, linkLost, hidden }

    private struct Entry {
        var occupant: Occupant
        /// On the board's own clock: when the beat last changed, and when the record was last looked for.
        var changed: Millis
        var looked: Millis
        /// False until a beat was seen, when the record looked old at first sight.
        var isBelieved: Bool

        var silence: Millis { looked - changed }
    }

    /// People remembered at once; beyond it those who left are forgotten, and if nobody has, newcomers are not seen.
    static let entriesMax = 2_000
    static let onlineMillis: Millis = 15_000
    static let linkLostMillis: Millis = 60_000
    static let freshMillis: Millis = 20_000
    /// The most that passes on the board's clock between two answers of the store. A connected session asks every few
    /// seconds; a longer gap was an outage of its own or a pause of the process, during which others went on unheard.
    static let gapMillis: Millis = 3_000

    private var entries: [String: Entry] = [:]
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
            guard entries.count < PresenceBoard.entriesMax else { return }
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

    /// Everybody who was heard of.
    var count: Int { entries.count }

    func isKnown(_ pid: String) -> Bool { entries[pid] != nil }

    /// The newest record of somebody, hidden or not.
    func occupant(_ pid: String) -> Occupant? { entries[pid]?.occupant }

    /// Everybody who is not hidden, by identifier. O(people).
    var present: [Occupant] {
        entries.values.map(\.occupant).filter { state($0.pid) != .hidden }.sorted { $0.pid < $1.pid }
    }

    /// Everybody who was here and is not any more, who left last first. O(people).
    var gone: [Occupant] {
        entries.values.map(\.occupant).filter { state($0.pid) == .hidden }
            .sorted { ($1.time, $0.pid) < ($0.time, $1.pid) }
    }

    func checkInvariants() {
        check(entries.count <= PresenceBoard.entriesMax)
        check(entries.values.allSatisfy { $0.changed <= $0.looked && $0.looked <= clock })
        check(entries.allSatisfy { $0.key == $0.value.occupant.pid })
    }
}
