// Segments that are kept for a while, and segments that are given up slice by slice.

import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct RecentSegmentsTests {
    private let parts = ReplicationPartsTests()

    private func segment(_ origin: OriginIndex, _ from: UInt64, _ to: UInt64) -> DeltaSegment {
        DeltaSegment(
            origin: origin, from: from, to: to, isPage: false, cut: VersionVector(), taking: DeltaEntries())
    }

    @Test func aMissingWriteIsFoundInTheSegmentThatHoldsIt() {
        var recent = RecentSegments()
        for i in UInt64(0)..<4 { recent.remember(segment(1, 10 * i, 10 * i + 10)) { _ in } }
        recent.remember(segment(2, 0, 100)) { _ in }
        #expect(recent.segment(1, after: 10)?.to == 20)
        #expect(recent.segment(1, after: 39)?.from == 30)
        #expect(recent.segment(1, after: 40) == nil)
        recent.drop(1)
        #expect(recent.segment(1, after: 10) == nil && recent.segment(2, after: 10) != nil)
        recent.checkInvariants()
    }

    @Test func theOldestMakeRoom() {
        var recent = RecentSegments()
        var gone: [UInt64] = []
        for i in UInt64(0)..<600 { recent.remember(segment(1, i, i + 1)) { gone.append($0.from) } }
        #expect(gone == Array(0..<88))
        #expect(recent.segment(1, after: 87) == nil && recent.segment(1, after: 88) != nil)
        recent.checkInvariants()
    }

    @Test func whatIsTooLargeToKeepIsHandedBack() {
        let (store, _) = parts.store()
        defer { store.destroy() }
        parts.put(store, "k", String(repeating: "v", count: 1_100_000))
        var recent = RecentSegments()
        var gone = 0
        recent.remember(parts.build(store, 0, 1, bytes: 1 << 24)) { _ in gone += 1 }
        #expect(gone == 1 && recent.segment(store.ownOrigin, after: 0) == nil)
        recent.checkInvariants()
    }

    /// Each segment by itself would bring a key that is written often once more.
    @Test func segmentsInARowArePassedOnAsOneWithEachKeyOnce() {
        let (store, origins) = parts.store()
        defer { store.destroy() }
        var recent = RecentSegments()
        for i in 0..<9 {
            parts.put(store, "hot", "\(i)")
            parts.put(store, "k\(i)", "v")
            // The seventh is missing.
            if i != 6 { recent.remember(parts.build(store, UInt64(2 * i), UInt64(2 * i + 2))) { _ in } }
        }
        parts.put(store, "hot", "last")
        func interval(_ position: UInt64, _ end: UInt64, bytesMax: Int = 1_000) -> DeltaSegment? {
            recent.interval(
                store.ownOrigin, after: position, upTo: end, in: store, cut: VersionVector(), bytesMax: bytesMax)
        }
        let all = interval(1, 100)!
        #expect(all.from == 0 && all.to == 12 && all.origin == store.ownOrigin && !all.isPage)
        let keys = all.entries.map { String(decoding: $0.record.key, as: UTF8.self) }
        #expect(keys.sorted() == ["hot", "k0", "k1", "k2", "k3", "k4", "k5"])
        let hot = all.entries.first { $0.record.keyCount == 3 }!
        #expect(String(decoding: hot.record.value, as: UTF8.self) == "last")
        #expect(interval(2, 5)?.to == 6 && interval(4, 6)?.to == 6, "no further than it was asked for")
        // 7 bytes of the hot key's last write, 3 of each of the others.
        #expect(interval(0, 100, bytesMax: 13)?.to == 4 && interval(0, 100, bytesMax: 12)?.to == 2)
        #expect(interval(0, 100, bytesMax: 9) == nil && interval(12, 14) == nil && interval(14, 100)?.to == 18)
        _ = origins
    }

    /// A slice of work is given to each segment in turn; what somebody else still holds is left to them.
    @Test func longSegmentsAreGivenUpInSlices() {
        let (store, _) = parts.store()
        defer { store.destroy() }
        for i in 0..<300 { parts.put(store, "k\(i)", "v") }
        var discards = Discards()
        discards.add(parts.build(store, 0, 100))
        #expect(discards.isEmpty, "a short one goes in one piece")
        let held = parts.build(store, 0, 300)
        discards.add(held)
        #expect(discards.release(budget: 50) == 1 && discards.isEmpty)
        #expect(held.count == 300)
        discards.add(parts.build(store, 0, 300))
        var turns = 0
        while !discards.isEmpty {
            #expect(discards.release(budget: 101) <= 102)
            turns += 1
        }
        #expect(turns == 3)
        discards.checkInvariants()
    }
}
