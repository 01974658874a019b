// When a replica wants to be called next. A part of `Replica`; on its actor's thread.

import KVBase

/// Two times, made at the end of each turn: one for when nothing is written, one for when something is.
struct Schedule {
    private var deadline: Millis = .min
    private var dataToken: Millis = .min
    /// The last own write that the times take into account.
    private var announcedSeq: UInt64 = 0

    /// O(1); asked once a turn.
    func next(ownSeq: UInt64) -> Millis { ownSeq != announcedSeq ? min(deadline, dataToken) : deadline }

    /// `dataToken` is when a new own write could be sent.
    mutating func plan(_ deadline: Millis, dataToken: Millis, ownSeq: UInt64) {
        (self.deadline, self.dataToken, announcedSeq) = (deadline, dataToken, ownSeq)
    }

    /// Something can be sent earlier than was planned.
    mutating func bringForward(to time: Millis) { deadline = min(deadline, time) }

    func checkInvariants(ownSeq: UInt64) { check(announcedSeq <= ownSeq) }
}
