// What was said, for `history` and `reply`. A part of `GameSession`; on its thread.

import KVBase

struct TalkHistory {
    static let eventsMax = 200

    private var events: [(time: Millis, event: Event)] = []
    private var teller: String?

    /// Who told this player something last.
    var lastTeller: String? { teller }

    /// `time` on the own wall clock.
    mutating func remember(_ event: Event, at time: Millis) {
        events.append((time, event))
        if events.count > TalkHistory.eventsMax { events.removeFirst() }
    }

    mutating func noteTeller(_ pid: String) { teller = pid }

    func last(_ count: Int) -> [(time: Millis, event: Event)] { Array(events.suffix(count)) }

    func checkInvariants() {
        check(events.count <= TalkHistory.eventsMax)
        check(teller.map { Names.isIdentifier($0) } ?? true)
    }
}
