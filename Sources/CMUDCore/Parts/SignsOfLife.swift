// What others judge a player's presence by: beats, moves, typing. A part of `GameSession`; on its thread.

import KVBase

struct SignsOfLife {
    private var beatCount: Int64 = 0
    private var moveCount: Int64 = 0
    private var note: SafeText?
    private var typed: Millis
    /// Up to here time played was counted.
    private var counted: Millis = 0

    init(now: Millis) { typed = now }

    var beats: Int64 { beatCount }
    var moves: Int64 { moveCount }
    var away: SafeText? { note }
    /// On the steady clock.
    var lastInput: Millis { typed }

    mutating func typed(at now: Millis) { typed = now }

    /// Each presence record has a number of its own.
    mutating func beat() { beatCount += 1 }

    /// Of two rooms with a record of this session, the one with the later move counts.
    mutating func move() { moveCount += 1 }

    mutating func setAway(_ text: SafeText?) { note = text }

    /// Time played counts from here on.
    mutating func startCounting(now: Millis) { counted = now }

    /// Whole seconds played since they were last taken; the rest of a second counts next time.
    mutating func takeSeconds(now: Millis) -> Int64 {
        let seconds = max(0, now - counted) / 1_000
        counted += seconds * 1_000
        return seconds
    }

    func checkInvariants(now: Millis) {
        check(typed <= now && counted <= now)
        check(beatCount >= 0 && moveCount >= 0)
    }
}
