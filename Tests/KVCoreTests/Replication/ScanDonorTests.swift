// The giving side of a scan on its own: where chunks end, what they hold, what becomes of large values.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ScanDonorTests {
    private static let chunkBytes = 1 << 20

    private func store(_ sizes: [Int]) -> Store {
        let store = Store(
            StoreConfig(
                hashSeed: 3, digestKey: 2, own: ActorUID(server: 1, index: 0), origins: OriginTable(),
                journalCapacity: 1 << 15))
        for (i, size) in sizes.enumerated() { put(store, i, size) }
        return store
    }

    private func put(_ store: Store, _ i: Int, _ size: Int) {
        _ = store.put(Bytes("key\(i)"), Bytes([UInt8](repeating: 7, count: size)), now: 1_000)
    }

    private func donor(isLocal: Bool = false) -> ScanDonor {
        let donor = ScanDonor(
            session: 1, askerIndex: 0, filter: VersionVector(), everything: true, start: VersionVector(),
            isLocal: isLocal, at: 0)
        _ = donor.asked(next: 0, credit: 1_000_000, at: 0, patience: 1_000)
        return donor
    }

    private func build(_ donor: ScanDonor, _ store: Store) {
        while donor.wantsWork {
            _ = donor.advance(store, budget: 64, bytesMax: ScanDonorTests.chunkBytes, planted: [])
        }
    }

    /// Bytes and entries of all chunks from here on, each merged as it goes out.
    private func chunks(_ donor: ScanDonor, _ store: Store) -> [(bytes: Int, count: Int)] {
        var chunks: [(Int, Int)] = []
        while !donor.isDone {
            build(donor, store)
            chunks.append((donor.bytes.count, donor.entryCount))
            donor.sent(at: 0)
            _ = donor.asked(next: donor.building, credit: 1_000_000, at: 0, patience: 1_000)
        }
        return chunks
    }

    /// One message has room for a chunk and one largest value: twenty to a bucket would be twenty.
    @Test(arguments: [2_000, 200_000, 3_000_000]) func aChunkIsLargerThanItsBoundByOneValueAtMost(_ size: Int) {
        let count = 60_000_000 / size
        let store = store([Int](repeating: size, count: count))
        defer { store.destroy() }
        let chunks = chunks(donor(), store)
        #expect(chunks.reduce(0) { $0 + $1.count } == count)
        let bound = max(ScanDonorTests.chunkBytes * 17 / 16, size) + 64
        #expect(chunks.allSatisfy { $0.bytes <= bound })
        // And not needlessly small.
        #expect(chunks.count <= 2 * count * (size + 40) / ScanDonorTests.chunkBytes + 2)
    }

    @Test func smallAndLargeValuesAllGoOnce() {
        let sizes = (0..<20_000).map { $0 % 997 == 0 ? 2_000_000 : 20 }
        let store = store(sizes)
        defer { store.destroy() }
        let chunks = chunks(donor(), store)
        #expect(chunks.reduce(0) { $0 + $1.count } == sizes.count)
        #expect(chunks.allSatisfy { $0.bytes <= 2_000_100 })
    }

    @Test func narrowStepsVisitWhatWideOnesDo() {
        let store = store([Int](repeating: 5, count: 3_000))
        defer { store.destroy() }
        var (wide, narrow) = (WalkCursor(), WalkCursor())
        var (all, some): ([String], [String]) = ([], [])
        var last: UInt64 = 0
        while !wide.isDone { store.walk(&wide, budget: 100) { all.append(Bytes($0.key).description) } }
        while !narrow.isDone {
            var visited = 0
            store.walkNarrowly(&narrow) {
                some.append(Bytes($0.key).description)
                visited += 1
            }
            // Keys that share 16 bits of their hash within a segment.
            #expect(visited <= 3 && narrow.position > last)
            last = narrow.position
        }
        #expect(all.count == 3_000 && Set(all).count == 3_000)
        #expect(some.sorted() == all.sorted())
    }

    @Test func aLargeChunkWaitsUntilThoseBeforeItAreMerged() {
        let store = store([Int](repeating: 1_500_000, count: 10))
        defer { store.destroy() }
        let donor = donor()
        func isReady() -> Bool {
            build(donor, store)
            return donor.isReady(unackedBytesMax: 3_100_000)
        }
        // Two at a time.
        #expect(isReady())
        donor.sent(at: 0)
        #expect(isReady())
        donor.sent(at: 0)
        #expect(!isReady())
        _ = donor.asked(next: 1, credit: 100, at: 10, patience: 1_000)
        #expect(isReady())
        donor.sent(at: 10)
        #expect(!isReady())
        // The asker has been waiting for chunk 1 for long: it was lost, and all behind it with it.
        #expect(donor.asked(next: 1, credit: 100, at: 2_000, patience: 1_000))
        #expect(isReady() && donor.building == 1)
        // Between siblings nothing is sent, only references.
        let local = self.donor(isLocal: true)
        for _ in 0..<4 {
            build(local, store)
            #expect(local.isReady(unackedBytesMax: 0))
            local.sent(at: 0)
        }
    }

    /// One of which the first chunk was sent, that chunk built again after `grow`.
    private func repeated(_ store: Store, _ grow: () -> Void) -> ScanDonor {
        let donor = donor()
        build(donor, store)
        donor.sent(at: 0)
        build(donor, store)
        grow()
        #expect(donor.asked(next: 0, credit: 1_000_000, at: 2_000, patience: 1_000))
        build(donor, store)
        return donor
    }

    /// A chunk ends where it ended before, whatever its values have grown to meanwhile.
    @Test func aRepeatedChunkOfGrownValuesEndsWhereItDid() {
        let store = store([Int](repeating: 2_000, count: 3_000))
        defer { store.destroy() }
        let before = chunks(donor(), store).map(\.count)
        let donor = repeated(store) { for i in 0..<3_000 { put(store, i, 3_000) } }
        #expect(!donor.isOutgrown && donor.building == 0 && donor.entryCount >= before[0])
        #expect(donor.bytes.count > ScanDonorTests.chunkBytes * 5 / 4)
        donor.sent(at: 2_000)
        #expect(before[0] + chunks(donor, store).reduce(0) { $0 + $1.count } == 3_000)
    }

    /// One large value is what every chunk may hold; more than twice its size in others is too much for a message.
    @Test func aRepeatedChunkThatOutgrewAMessageEndsTheScan() {
        let store = store([Int](repeating: 2_000, count: 3_000))
        defer { store.destroy() }
        var (cursor, first) = (WalkCursor(), Bytes([]))
        store.walk(&cursor, budget: 1) { first = Bytes($0.key) }
        let grown = repeated(store) { _ = store.put(first, Bytes([UInt8](repeating: 1, count: 5_000_000)), now: 2_000) }
        #expect(!grown.isOutgrown && grown.bytes.count > 5_000_000)
        _ = store.put(first, Bytes("small again"), now: 3_000)
        let outgrown = repeated(store) { for i in 0..<3_000 { put(store, i, 20_000) } }
        // Nothing brings it back to life: its asker has to begin anew.
        #expect(outgrown.isOutgrown && !outgrown.asked(next: 0, credit: 100, at: 9_000, patience: 1_000))
        #expect(!outgrown.wantsWork && !outgrown.isReady(unackedBytesMax: .max))
    }
}
