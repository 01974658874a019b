// What was read of the world and belongs to nobody. A part of `GameSession`; on its thread.

import KVBase

struct WorldSeen {
    private var rules = Balance.standard
    private var paint: (text: SafeText, name: String)?
    private var unreadable = 0

    /// The figures of the world's pace.
    var balance: Balance { rules }
    /// What the Fence says, and who painted it.
    var painting: (text: SafeText, name: String)? { paint }
    /// Records that could not be read, and were skipped.
    var unreadableRecords: Int { unreadable }

    mutating func follow(_ pace: Pace) { rules = .of(pace) }
    mutating func saw(_ text: SafeText, by name: String) { paint = (text, name) }
    mutating func noteUnreadable() { unreadable += 1 }

    func checkInvariants() { check(unreadable >= 0) }
}
