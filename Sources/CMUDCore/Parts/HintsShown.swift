// Which advice a player was given. A part of `GameSession`; on its thread.

import KVBase

/// A piece of advice is shown once a session, unless it says what else nobody says.
struct HintsShown {
    private var keys: Set<String> = []

    func has(_ key: String) -> Bool { keys.contains(key) }

    /// The player knows it: it was shown, or they did it by themselves. True the first time.
    @discardableResult
    mutating func note(_ key: String) -> Bool { keys.insert(key).inserted }

    func checkInvariants() { check(keys.count <= HintsShown.keysMax) }

    /// Far above the number of hints: their keys are words of this program, at most one for each rank and problem.
    private static let keysMax = 100_000
}
