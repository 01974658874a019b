// Other writers' segments merged last: answers to repair requests when their writer is out of the asker's reach. A part
// of `Replica`; on its actor's thread.

import KVBase

struct RecentSegments {
    private static let segmentsMax = 512
    private static let bytesMax = 4 * 1024 * 1024
    /// Segments that are put together as one.
    private static let togetherMax = 64

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

    /// The origin's writes after `position`, up to `end` or a little beyond, as one interval: the keys of consecutive
    /// segments as they were merged, each key once, with its winner now. Nil if nothing is kept that begins there, or
    /// if that is more than `bytesMax`: the winners of now may be far larger than what a segment held, and it cannot
    /// be cut. O(segments + entries).
    func interval(
        _ origin: OriginIndex, after position: UInt64, upTo end: UInt64, in store: Store, cut: VersionVector,
        bytesMax: Int
    ) -> DeltaSegment? {
        var entries = DeltaEntries()
        var keys = HashSet64()
        var from: UInt64?
        var (to, count) = (position, 0)
        while to < end, count < RecentSegments.togetherMax, let segment = segment(origin, after: to) {
            var bytes = 0
            for entry in segment.entries where !keys.contains(entry.hash) {
                store.records(entry.hash) { bytes += $0.keyCount + $0.valueCount }
            }
            guard entries.payloadBytes + bytes <= bytesMax else { break }
            for entry in segment.entries where keys.insert(entry.hash) {
                store.records(entry.hash) { record in
                    entries.append(entry.hash, record.retained())
                    if let escort = store.escort(record, entry.hash) {
                        entries.append(escort.hash, escort.record.retained())
                    }
                }
            }
            from = from ?? segment.from
            to = segment.to
            count += 1
        }
        guard let from else { return nil }
        return DeltaSegment(origin: origin, from: from, to: to, isPage: false, cut: cut, taking: entries.take())
    }

    func checkInvariants() {
        check(segments.count <= RecentSegments.segmentsMax && byteCount <= RecentSegments.bytesMax)
        check(segments.isEmpty ? byteCount == 0 : byteCount > 0)
    }
}
