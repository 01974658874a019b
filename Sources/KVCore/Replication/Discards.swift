// Segments that are no longer needed, given up in slices. A part of `Replica`; on its actor's thread.

import KVBase

/// Whoever lets the last reference to a segment go gives up one to each of its records, and these lie all over memory.
struct Discards {
    /// With so many still to be given up the next ones go in one piece: work comes before giving up, and what a replica
    /// that never rests holds back must have an end.
    static let segmentsMax = 64
    /// Shorter segments are given up in one piece.
    private static let entriesMin = 128

    private var segments: [DeltaSegment] = []

    var isEmpty: Bool { segments.isEmpty }
    var count: Int { segments.count }

    /// To be called with a segment that is no longer needed. O(1), or O(entries) where it goes in one piece.
    mutating func add(_ segment: DeltaSegment) {
        guard segment.count >= Discards.entriesMin, segments.count < Discards.segmentsMax else { return }
        segments.append(segment)
    }

    /// Gives up to `budget` references up; returns how many. A segment that somebody else holds too is left to them.
    /// Two that let it go in the very same moment would both leave it to the other: then it goes in one piece.
    mutating func release(budget: Int) -> Int {
        var left = budget
        while left > 0, var segment = segments.popLast() {
            left -= 1
            guard isKnownUniquelyReferenced(&segment) else { continue }
            let some = max(1, min(left, segment.count))
            if segment.release(upTo: some) { segments.append(segment) }
            left -= some
        }
        return budget - left
    }

    func checkInvariants() { check(segments.count <= Discards.segmentsMax) }
}
