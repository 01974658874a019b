// Whether the player is at the whiteboard, and what was last read there. A part of `GameSession`; on its thread.

import KVBase

struct Whiteboard {
    enum Mode { case mining, solving }

    private var place = Mode.mining
    private var seen: ProblemState?

    var mode: Mode { place }
    /// The problem as it was last read; of another rank while somebody else's is helped with.
    var problem: ProblemState? { seen }

    mutating func step(to mode: Mode) { place = mode }

    mutating func look(_ state: ProblemState) { seen = state }

    /// The problem of the rank before is none of theirs any more.
    mutating func leaveBehind() { (place, seen) = (.mining, nil) }

    func checkInvariants() {
        check(place == .mining || seen != nil)
        check(seen.map { $0.instance >= 1 && $0.size > 0 } ?? true)
    }
}
