// Other writers' segments merged last: answers to repair requests when their writer is out of the asker's reach. A part
// of `Replica`; on its actor's thread.

import KVBase

struct RecentSegments {
    private static let segmentsMax = 512
    private static let bytesMax = 4 * 1024 * 1024

    /// Oldest first.
    private var segments: [DeltaSegment] = []
    private var byteCount = 0

    /// Hands over the segment if it is too large to keep, or those that make room for it. O(segments).
    mutating func remember(_ segment: DeltaSegment, _ discard: (DeltaSegment) -> Void) {
        guard segment.wireBytes <= RecentSegments.bytesMax / 4 else { return discard(segment) }
        segments.append(segment)
        byteCount += segment.wireBytes
        while segments.count > RecentSegments.segmentsMax || byteCount > RecentSegments.bytesMax {
            let oldest = segments.removeFirst()
            byteCount -= oldest.wireBytes
            discard(oldest)
        }
    }

    /// Forgets all of the origin. O(segments).
    mutating func drop(_ origin: OriginIndex) {
        segments.removeAll { $0.origin == origin }
        byteCount = segments.reduce(0) { $0 + $1.wireBytes }
    }

    /// The segment that holds the origin's write after `position`. O(segments).
    func segment(_ origin: OriginIndex, after position: UInt64) -> DeltaSegment? {
        segments.first { $0.origin == origin && $0.from <= position && $0.to > position }
    }

    func checkInvariants() {
        check(segments.count <= RecentSegments.segmentsMax && byteCount <= RecentSegments.bytesMax)
        check(segments.isEmpty ? byteCount == 0 : byteCount > 0)
    }
}
