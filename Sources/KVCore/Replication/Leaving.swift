// An orderly end: what is still owed to the others, and whether they were told. A part of `Replica`; on its actor's
// thread.

import KVBase

struct Leaving {
    private var isUnderWay = false
    /// What this actor had seen when it began to leave.
    private var owed = VersionVector()
    /// A sibling was told that this actor's writes were handed over.
    private var saidFlushed = false
    private var isDone = false
    private var goodByes = 0

    var hasBegun: Bool { isUnderWay }
    var hasSaidFlushed: Bool { saidFlushed }
    /// The others were told that this server left.
    var hasLeft: Bool { isDone }

    mutating func begin(seen: VersionVector) { (isUnderWay, owed) = (true, seen) }

    /// Whether a server that has seen `vector` has all that this one had seen when it began to leave. What it had
    /// retired counts up to `last`. O(origins).
    func isCovered(by vector: VersionVector, last: (OriginIndex) -> UInt64) -> Bool {
        for i in 0..<owed.count {
            let origin = OriginIndex(i)
            let due = owed.seqs[i] == VersionVector.retired ? last(origin) : owed.seqs[i]
            if vector[origin] < due { return false }
        }
        return true
    }

    mutating func noteSaidFlushed() { saidFlushed = true }

    /// A frame with the good-bye went to one of `count` servers that can be reached.
    mutating func noteGoodBye(of count: Int) {
        goodByes += 1
        if goodByes >= count { isDone = true }
    }

    mutating func noteLeft() { isDone = true }

    func checkInvariants() { check(isUnderWay || !saidFlushed && !isDone && goodByes == 0) }
}
