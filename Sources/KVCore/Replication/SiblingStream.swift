// The two streams of items between this actor and a sibling. A part of `Sibling`; on the replica's thread.

import KVBase

/// Items are numbered from 1 and repeated until acknowledged, so they are taken in order and exactly once.
struct SiblingStream {
    /// Own items that it has merged.
    private var merged: UInt64 = 0
    /// Its items queued and merged here; `hole` is the first item after the last hole.
    private var queued: UInt64 = 0
    private var applied: UInt64 = 0
    private var hole: UInt64 = 0

    var acked: UInt64 { merged }
    var enqueued: UInt64 { queued }
    var appliedTo: UInt64 { applied }
    var jumped: UInt64 { hole }

    /// It merged own items up to `number`, of `last` that there are.
    mutating func acknowledge(_ number: UInt64, of last: UInt64) { merged = max(merged, min(number, last)) }

    /// Its items from `first` on arrived. True if some before them are lost: it could not keep them any longer for
    /// this slow reader, and vectors tell what is missing.
    mutating func receive(from first: UInt64) -> Bool {
        guard first > queued + 1 else { return false }
        hole = first
        queued = first - 1
        return true
    }

    /// Whether an item is new here; then it counts as queued.
    mutating func queue(_ number: UInt64) -> Bool {
        guard number > queued else { return false }
        queued = number
        return true
    }

    mutating func noteMerged(_ number: UInt64) { applied = number }

    /// An item was refused: what its scan proves does not count here.
    mutating func noteRefused(_ number: UInt64) { hole = number + 1 }

    /// Whether every item from `first` on arrived and was taken.
    func isWhole(since first: UInt64) -> Bool { hole <= first || hole == 0 }

    func checkInvariants() { check(applied <= queued) }
}
