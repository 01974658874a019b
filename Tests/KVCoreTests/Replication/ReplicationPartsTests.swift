// The parts of the replication machine on their own.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ReplicationPartsTests {
    func store(journal: Int = 1 << 14, mask: UInt64 = .max) -> (Store, OriginTable) {
        let origins = OriginTable()
        return (
            Store(
                StoreConfig(
                    hashSeed: 1, digestKey: 2, own: ActorUID(server: 1, index: 0), origins: origins,
                    journalCapacity: journal, hashMask: mask)), origins
        )
    }

    func put(_ store: Store, _ key: String, _ value: String, _ now: Millis = 1_000) {
        Bytes(key).withBytes { key in
            Bytes(value).withBytes { value in
                _ = store.put(store.key(key), value: ByteView(value), now: now)
            }
        }
    }

    func build(_ store: Store, _ from: UInt64, _ to: UInt64, slice: Int = 7, bytes: Int = 1 << 20) -> DeltaSegment {
        var builder = SegmentBuilder(from: from, target: to, bytesMax: bytes, dotsMax: 1 << 20)
        while !builder.isFinished { _ = builder.advance(store, budget: slice, planted: []) }
        return builder.finish(origin: store.ownOrigin, cut: VersionVector())
    }

    @Test(arguments: [UInt64.max, 0xFF00_0000_0000_00FF, 0]) func aSegmentHoldsEachKeyOnceWithItsWinner(_ mask: UInt64)
    {
        let (store, _) = store(mask: mask)
        defer { store.destroy() }
        var model: [String: String] = [:]
        var random = PRNG(seed: 5)
        for i in 0..<500 {
            let key = "k\(random.below(40))"
            put(store, key, "\(i)")
            model[key] = "\(i)"
        }
        let segment = build(store, 0, 500)
        var seen: [String: String] = [:]
        for entry in segment.entries {
            let key = String(decoding: entry.record.key, as: UTF8.self)
            #expect(seen[key] == nil)
            seen[key] = String(decoding: entry.record.value, as: UTF8.self)
        }
        #expect(seen == model && segment.to == 500)
    }

    /// Writes that repeat the key before them are passed over, but not at the beginning of an interval or slice.
    @Test(arguments: [UInt64.max, 0]) func aHotKeyIsOnceInEveryIntervalThatWroteIt(_ mask: UInt64) {
        let (store, _) = store(mask: mask)
        defer { store.destroy() }
        for i in 0..<100 { put(store, i % 50 == 49 ? "other" : "hot", "\(i)") }
        for cut in 1..<100 {
            for (from, to) in [(0, UInt64(cut)), (UInt64(cut), 100)] {
                let segment = build(store, from, to, slice: 1 + cut % 20)
                let found = segment.entries.map { String(decoding: $0.record.key, as: UTF8.self) }
                var expected: Set<String> = []
                for seq in from..<to { expected.insert(seq % 50 == 49 ? "other" : "hot") }
                // Where hashes collide, an interval may hold a key that it did not write.
                #expect(mask == 0 ? expected.isSubset(of: found) : expected == Set(found))
                #expect(Set(found).count == found.count)
            }
        }
    }

    @Test func aSegmentCutByBytesIsStillClosed() {
        let (store, _) = store()
        defer { store.destroy() }
        for i in 0..<300 { put(store, "k\(i % 100)", String(repeating: "v", count: 100)) }
        var position: UInt64 = 0
        var keys: Set<String> = []
        while position < 300 {
            let segment = build(store, position, 300, bytes: 1_000)
            #expect(segment.to > position)
            let inSegment = Set(segment.entries.map { String(decoding: $0.record.key, as: UTF8.self) })
            for seq in (position + 1)...segment.to { #expect(inSegment.contains("k\((seq - 1) % 100)")) }
            keys.formUnion(inSegment)
            position = segment.to
        }
        #expect(keys.count == 100)
    }

    @Test func aBuilderNeverClaimsWhatTheJournalForgot() {
        let (store, _) = store(journal: 4096)
        defer { store.destroy() }
        for i in 0..<20_000 { put(store, "k\(i)", "v") }
        var builder = SegmentBuilder(from: 0, target: 20_000, bytesMax: 1 << 20, dotsMax: 1 << 20)
        while !builder.isFinished { _ = builder.advance(store, budget: 100, planted: []) }
        #expect(builder.isOverrun && builder.reached == 0)
        builder.abandon()
    }

    @Test func rowsMergeInAnyOrderToTheSame() {
        var random = PRNG(seed: 8)
        let rows = (0..<60).map { _ in
            MemberRow(
                server: UInt64(1 + random.below(5)), incarnation: UInt32(random.below(3)),
                status: MemberStatus(rawValue: UInt8(random.below(5)))!, actorCount: 2,
                address: Bytes("h:\(random.below(3))"), name: Bytes("n\(random.below(2))"),
                isNamed: random.below(2) == 0)
        }
        var first = Membership()
        for row in rows { _ = first.merge(row, 0) }
        for _ in 0..<20 {
            var other = Membership()
            for row in rows.shuffled(using: &random) { _ = other.merge(row, 0) }
            for row in rows.prefix(9) { _ = other.merge(row, 0) }
            #expect(other.rows == first.rows && other.hash == first.hash)
        }
    }

    @Test func theCorrectionNeedsAMajority() {
        #expect(SkewGuard.correction([]) == 0)
        #expect(SkewGuard.correction([60_000]) == 0)
        #expect(SkewGuard.correction([60_000, 0]) == 0)
        #expect(SkewGuard.correction([60_000, 60_010]) == 60_000)
        #expect(SkewGuard.correction([-5_000, -5_000, -5_000]) == -5_000)
        #expect(SkewGuard.correction([900, 900]) == 0)
        // A clock that was never set has no vote.
        #expect(SkewGuard.correction([60_000, 70_000]) == 60_000)
        #expect(SkewGuard.correction([-60_000, 70_000]) == 0)
        #expect(SkewGuard.correction([-60_000, 70_000, 70_000], isSet: false) == 70_000)
    }

    @Test func vectorsJoinMeetAndCompare() {
        var a = VersionVector()
        a.set(0, 5)
        a.set(2, 7)
        var b = VersionVector()
        b.set(0, 3)
        #expect(a.dominates(b) && !b.dominates(a) && a.covers(2, 7) && !a.covers(2, 8) && !a.covers(9, 1))
        var both = b
        both.join(a)
        #expect(both == a)
        both.meet(b)
        b.set(5, 0)
        #expect(both == b)
    }

    @Test func thePacerAllowsTenInAnySecond() {
        var pacer = PairPacer()
        var times: [Millis] = []
        for now in Millis(0)..<5_000 where pacer.isReady(now, Limits.pairSpacingMillis) {
            pacer.sent(now)
            times.append(now)
        }
        for start in 0..<4_000 { #expect(times.filter { $0 >= start && $0 <= start + 1_000 }.count <= 10) }
        #expect(times.count > 45)
    }

    @Test func hashSetsHoldWhatWasPutIn() {
        var set = HashSet64()
        var random = PRNG(seed: 1)
        let values = (0..<500).map { _ in random.next() } + [0]
        for value in values {
            let isNew = set.insert(value)
            #expect(isNew)
        }
        for value in values {
            let isNew = set.insert(value)
            #expect(set.contains(value) && !isNew)
        }
        #expect(!set.contains(12_345))
    }

    @Test func thePlantedMistakesAreDistinct() {
        #expect(PlantedMistakes.all.count == 78 && Set(PlantedMistakes.all.map(\.name)).count == 78)
        let union = PlantedMistakes.all.reduce(UInt128(0)) { $0 | $1.bug.rawValue }
        #expect(union.nonzeroBitCount == 78, "each has a bit of its own")
    }
}
