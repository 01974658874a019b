// How far a session is, from the name to the end. A part of `GameSession`; on its thread.

import KVBase

struct Stage {
    enum Phase: Int { case naming, entering, playing, leaving }

    private var current = Phase.naming
    private var end: Ending?
    private var isLookingAgain = false

    var phase: Phase { current }
    var ending: Ending? { end }
    /// After a pause, until it is known whether this session still has the character: nothing is written meanwhile.
    var isResyncing: Bool { isLookingAgain }

    /// Forward; or back to the name, which was no good.
    mutating func enter(_ phase: Phase) {
        check(phase.rawValue > current.rawValue || phase == .naming && current.rawValue <= Phase.entering.rawValue)
        current = phase
    }

    /// False when it had ended already.
    mutating func finish(_ how: Ending) -> Bool {
        guard end == nil else { return false }
        end = how
        return true
    }

    /// False when it looks already.
    mutating func beginResync() -> Bool {
        guard !isLookingAgain else { return false }
        isLookingAgain = true
        return true
    }

    mutating func endResync() { isLookingAgain = false }

    func checkInvariants() { check(!isLookingAgain || current == .playing || current == .leaving) }
}
