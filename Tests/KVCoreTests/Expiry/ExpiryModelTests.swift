// Two stores against a plain model over random commands with deadlines, merges and a clock that moves.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ExpiryModelTests {
    private struct Entry {
        var value: String
        var deadline: Millis?
    }

    /// One store does what a dictionary with deadlines does, whatever the order of commands.
    @Test(arguments: 0..<12) func aStoreIsADictionaryWithDeadlines(_ seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let store = ExpiryTests.store(mask: seed % 4 == 3 ? 0xFF00_0000_0000_0000 : .max)
        defer { store.destroy() }
        var model: [String: Entry] = [:]
        var now: Millis = 1_000_000
        for step in 0..<3_000 {
            let key = "k\(random.below(40))"
            now += Millis(random.below(3) == 0 ? random.below(300) : 0)
            model = model.filter { $0.value.deadline.map { $0 > now } ?? true }
            let deadline = now + 1 + Millis(random.below(4_000))
            switch random.below(12) {
            case 0, 1:
                store.set(key, "v\(step)", now: now)
                model[key] = Entry(value: "v\(step)")
            case 2, 3:
                let text = String(repeating: "x", count: random.below(1_500))
                store.set(key, text, .at(deadline), now: now)
                model[key] = Entry(value: text, deadline: deadline)
            case 4:
                store.set(key, "k\(step)", .keep, now: now)
                model[key] = Entry(value: "k\(step)", deadline: model[key]?.deadline)
            case 5, 6:
                let outcome = store.expire(key, at: deadline, now: now)
                #expect(outcome == (model[key] == nil ? .absent : .done))
                model[key]?.deadline = deadline
            case 7:
                let outcome = store.persist(key, now: now)
                let expected: TouchOutcome =
                    model[key].map { $0.deadline == nil ? .unchanged : .done } ?? .absent
                #expect(outcome == expected)
                model[key]?.deadline = nil
            case 8:
                #expect(store.remove(key, now: now) == (model.removeValue(forKey: key) != nil))
            case 9: _ = store.expireDue(now: now, budget: 1 + random.below(20))
            case 10: _ = store.sweepLeftovers(budget: random.below(20)) { _, _ in true }
            default: _ = store.sweepTombstones(budget: random.below(5)) { _ in true }
            }
            #expect(store.shown(key, now: now) == model[key]?.value)
            let shown = model[key].map { $0.deadline.map { Deadline.at($0) } ?? .never }
            #expect(store.deadline(key, now: now) == shown)
            if step % 100 == 0 {
                store.checkInvariants()
                #expect(store.keys(limit: 1 + random.below(30), now: now) == model.keys.sorted())
            }
        }
        now += 10_000
        store.expireAll(now: now)
        #expect(store.count == model.values.count { $0.deadline == nil } && store.volatileCount == 0)
        store.checkInvariants()
    }

    /// Stores that got the same records are equal, whatever the order: in what they show and in all sums.
    @Test(arguments: 0..<12) func equalRecordsAreEqualStores(_ seed: Int) {
        var random = PRNG(seed: UInt64(seed) + 100)
        let origins = OriginTable()
        let stores = (1...3).map { ExpiryTests.store(UInt64($0), origins) }
        defer { for store in stores { store.destroy() } }
        var now: Millis = 1_000_000
        for _ in 0..<400 {
            let store = stores[random.below(3)]
            let key = "k\(random.below(12))"
            now += Millis(random.below(200)) - 90
            let deadline = now + 5_000 + Millis(random.below(100_000))
            switch random.below(8) {
            case 0: store.set(key, "v", now: now)
            case 1: store.set(key, "w", .at(deadline), now: now)
            case 2: store.set(key, "x", .keep, now: now)
            case 3, 4: store.expire(key, at: deadline, now: now)
            case 5: store.persist(key, now: now)
            case 6: store.remove(key, now: now)
            default: store.copy(to: stores[random.below(3)])
            }
        }
        for _ in 0..<2 { for a in stores { for b in stores where a.own != b.own { a.copy(to: b) } } }
        for store in stores {
            store.checkInvariants()
            #expect(store.digestAll == stores[0].digestAll && store.steadyDigest == stores[0].steadyDigest)
            #expect(store.count == stores[0].count && store.volatileCount == stores[0].volatileCount)
            for i in 0..<12 {
                #expect(store.shown("k\(i)", now: now) == stores[0].shown("k\(i)", now: now))
                #expect(store.deadline("k\(i)", now: now) == stores[0].deadline("k\(i)", now: now))
            }
        }
    }
}
