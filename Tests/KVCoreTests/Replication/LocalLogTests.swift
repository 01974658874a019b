// The numbered stream to siblings, the age of what waits, and mistakes that are planted.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct LocalLogTests {
    private let parts = ReplicationPartsTests()

    @Test func itemsStayUntilEverybodyHasThemOrTheBoundPushesThemOut() {
        let (store, _) = parts.store()
        defer { store.destroy() }
        for i in 0..<100 { parts.put(store, "k\(i)", "v") }
        var log = LocalLog()
        for i in UInt64(0)..<10 { log.append(.delta(parts.build(store, 10 * i, 10 * i + 10))) }
        #expect(log.first == 1 && log.last == 10 && log.entryCount == 100)
        var gone: [UInt64] = []
        log.drop(through: 3) { gone.append($0.to) }
        #expect(gone == [10, 20, 30] && log.first == 4 && log.entryCount == 70)
        #expect(log.items(after: 0).first == 4 && log.items(after: 8).items.count == 2)
        #expect(log.items(after: 10).first == 11 && log.items(after: 10).items.isEmpty)
        let dropped = log.enforce(entriesMax: 25, bytesMax: .max) { gone.append($0.to) }
        #expect(dropped == 5 && gone.last == 80 && log.first == 9 && log.entryCount == 20)
        log.checkInvariants()
        _ = log.enforce(entriesMax: 0, bytesMax: .max) { _ in }
        #expect(log.last == 10 && log.byteCount == 0)
        log.checkInvariants()
    }

    @Test func theOldestWriteThatWaitsTellsTheLag() {
        var ages = WriteAges()
        ages.note(0, 0)
        #expect(ages.age(after: 0, 1_000) == 0)
        ages.note(10, 1_000)
        ages.note(20, 1_050)
        ages.note(30, 1_200)
        #expect(ages.age(after: 0, 2_000) == 1_000 && ages.age(after: 10, 2_000) == 800)
        #expect(ages.age(after: 30, 2_000) == 0)
        ages.drop(through: 10)
        #expect(ages.age(after: 0, 2_000) == 800)
    }

    @Test func aMistakeIsMadeOnlyWhereItIsPlanted() {
        let planted: PlantedMistakes = [.nowOnly]
        #expect(PlantedMistakes.isPossible, "tests are built with KV_CHECKS")
        #expect(planted(.nowOnly) && !planted(.noFloor) && planted.isAny && !PlantedMistakes([]).isAny)
    }
}
