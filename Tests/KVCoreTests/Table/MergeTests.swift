// Last writer wins: merging in any order, grouping or repetition gives one result, digests included.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct MergeTests {
    struct Entry {
        var key: Bytes
        var value: Bytes?
        var version: Version
    }

    static let uids = (1...4).map { ActorUID(server: UInt64($0) << 60 | 3, index: UInt16(5 - $0)) }

    static func entries(_ random: inout PRNG, count: Int, keys: Int) -> [Entry] {
        (0..<count).map { _ in
            let version = Version(
                ms: 1000 + Millis(random.below(4)), uid: uids[random.below(4)], seq: UInt64(1 + random.below(3)))
            var content = PRNG(seed: UInt64(version.ms) << 20 ^ version.seq << 8 ^ version.uid.server)
            let key = Bytes("k\(random.below(keys))")
            let size = content.below(100)
            return Entry(
                key: key, value: content.chance(0.3) ? nil : Bytes([UInt8](repeating: UInt8(size), count: size)),
                version: version)
        }
    }

    static func makeStore(_ origins: OriginTable, index: UInt16 = 1) -> Store {
        Store(
            StoreConfig(
                hashSeed: 3, digestKey: 4, own: ActorUID(server: 99, index: index), origins: origins,
                journalCapacity: 4096))
    }

    @Test(arguments: 1...20) func anyOrderGivesTheGreatestVersions(seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let origins = OriginTable()
        let entries = MergeTests.entries(&random, count: 60, keys: 6)
        var expected: [Bytes: Entry] = [:]
        for entry in entries where expected[entry.key].map({ entry.version > $0.version }) ?? true {
            expected[entry.key] = entry
        }
        var digests: Set<UInt64> = []
        for round in 0..<6 {
            let store = MergeTests.makeStore(origins, index: UInt16(round))
            // Repeated entries and another order in each round.
            for entry in (entries + entries.prefix(20)).shuffled(using: &random) {
                if random.chance(0.5) {
                    _ = store.merge(entry.key, entry.value, entry.version)
                } else {
                    let record = Record.make(entry.key, entry.value, entry.version, origins)
                    store.merge(record)
                    record.release()
                }
            }
            for (key, entry) in expected {
                #expect(store.entry(key) == ModelEntry(value: entry.value, version: entry.version), "seed \(seed)")
            }
            #expect(store.divergenceCount == 0)
            store.checkInvariants()
            digests.insert(store.digestAll)
            store.destroy()
        }
        #expect(digests.count == 1, "seed \(seed)")
    }

    /// (a ∪ b) ∪ c against a ∪ (b ∪ c): groups first merged in stores of their own, then by walking those.
    @Test(arguments: 1...10) func groupingMakesNoDifference(seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let origins = OriginTable()
        let parts = (0..<3).map { _ in MergeTests.entries(&random, count: 25, keys: 5) }
        func store(of parts: [[Entry]]) -> Store {
            let store = MergeTests.makeStore(origins)
            for entry in parts.joined() { _ = store.merge(entry.key, entry.value, entry.version) }
            return store
        }
        func merged(_ a: Store, _ b: Store) -> Store {
            var cursor = WalkCursor()
            while !cursor.isDone { b.walk(&cursor, budget: 3) { a.merge($0) } }
            b.destroy()
            return a
        }
        let left = merged(store(of: [parts[0], parts[1]]), store(of: [parts[2]]))
        let right = merged(store(of: [parts[0]]), store(of: [parts[1], parts[2]]))
        #expect(left.digestAll == right.digestAll && left.digest == right.digest)
        #expect(left.listing() == right.listing())
        left.checkInvariants()
        right.checkInvariants()
        left.destroy()
        right.destroy()
    }

    @Test func equalVersionsWithDifferentContentAreCountedAndSettledAlike() {
        let origins = OriginTable()
        let version = Version(ms: 5, uid: MergeTests.uids[0], seq: 9)
        let contents: [Bytes?] = ["small", "tall", nil]
        for first in contents {
            for second in contents where first != second {
                let store = MergeTests.makeStore(origins)
                #expect(store.merge("k", first, version) == .applied)
                #expect(store.merge("k", second, version) == .divergent)
                #expect(store.divergenceCount == 1)
                // A tombstone wins, then the greater bytes, whichever came first.
                let winner: Bytes? = first == nil || second == nil ? nil : "tall"
                #expect(store.entry("k") == ModelEntry(value: winner, version: version))
                store.checkInvariants()
                store.destroy()
            }
        }
    }

    @Test func versionsNoRecordCanHoldAreRejected() {
        let origins = OriginTable()
        let store = MergeTests.makeStore(origins)
        let uid = MergeTests.uids[1]
        #expect(store.merge("k", "v", Version(ms: Version.msMax + 1, uid: uid, seq: 1)) == .rejected)
        #expect(store.merge("k", "v", Version(ms: -1, uid: uid, seq: 1)) == .rejected)
        #expect(store.merge("k", "v", Version(ms: 1, uid: uid, seq: Version.seqMax + 1)) == .rejected)
        #expect(
            store.merge(
                Bytes([UInt8](repeating: 1, count: Limits.keyBytesMax + 100)), "v", Version(ms: 1, uid: uid, seq: 1))
                == .rejected)
        #expect(store.count == 0 && store.entry("k") == nil)
        #expect(store.merge("k", "v", Version(ms: Version.msMax, uid: uid, seq: Version.seqMax)) == .applied)
        #expect(store.entry("k")?.version == Version(ms: Version.msMax, uid: uid, seq: Version.seqMax))
        store.destroy()
    }

    @Test func aBatchIsMergedAsItsEntriesOneByOne() {
        var random = PRNG(seed: 4)
        let origins = OriginTable()
        let entries = MergeTests.entries(&random, count: 100, keys: 30)
        let records = entries.map { Record.make($0.key, $0.value, $0.version, origins) }
        let batch = MergeTests.makeStore(origins)
        let single = MergeTests.makeStore(origins, index: 2)
        let hashes = records.map { batch.hash($0.keyView) }
        var outcomes = [MergeOutcome](repeating: .rejected, count: records.count)
        batch.merge(records, hashes, count: records.count, outcomes: &outcomes)
        #expect(outcomes == records.map { single.merge($0) })
        #expect(batch.digestAll == single.digestAll && batch.listing() == single.listing())
        for record in records { record.release() }
        batch.destroy()
        single.destroy()
    }
}
