// Deadlines over several servers: what is sent, what arrives late, what is forgotten when.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

extension TestActor {
    func set(_ key: String, _ value: String, _ deadline: DeadlineChoice, _ at: Moment) {
        store.set(key, value, deadline, now: at.wall)
    }
    func shown(_ key: String, _ at: Moment) -> String? { store.shown(key, now: at.wall) }
}

@Suite(.blocking) struct ExpiryClusterTests {
    private func pair(_ a: Int, _ b: Int) -> (TestCluster, TestServer, TestServer) {
        let cluster = TestCluster()
        let first = cluster.start(actors: a)
        let second = cluster.start(actors: b, joining: first)
        cluster.run(4_000)
        return (cluster, first, second)
    }

    @Test func aDeadlineIsKeptByEveryActorAndNothingIsSentWhenItPasses() {
        let (cluster, a, b) = pair(2, 2)
        let end = cluster.moment(a).wall + 70_000
        for i in 0..<50 { a.actors[0].set("k\(i)", "v", .at(end), cluster.moment(a)) }
        cluster.run(1_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.volatileCount == 50 })
        let entries = cluster.sum(\.entriesSent)
        cluster.run(end - cluster.moment(a).wall - 1)
        #expect(cluster.actors.allSatisfy { $0.1.shown("k7", cluster.moment(b)) == "v" })
        cluster.run(1)
        #expect(cluster.actors.allSatisfy { $0.1.shown("k7", cluster.moment(b)) == nil })
        cluster.run(200)
        #expect(cluster.actors.allSatisfy { $0.1.store.count == 0 && $0.1.store.expiredTotal == 50 })
        // Memory is back within five seconds, as the writes are more than a minute old.
        cluster.run(4_800)
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 0 && $0.1.store.tombstoneCount == 0 })
        #expect(cluster.sum(\.entriesSent) == entries && cluster.sum(\.divergences) == 0)
    }

    @Test func anExtensionMadeBeforeACutIsFoundAfterIt() {
        let (cluster, a, b) = pair(2, 1)
        let start = cluster.moment(a).wall
        a.actors[0].set("session", "user", .at(start + 70_000), cluster.moment(a))
        cluster.run(1_000)
        cluster.drops = { from, to in from.server != to.server }
        cluster.run(60_000)
        b.actors[0].store.expire("session", at: start + 200_000, now: cluster.moment(b).wall)
        #expect(a.actors[0].replica.expiryHold(cluster.moment(a)) == .silent(b.id))
        cluster.run(120_000)
        #expect(a.actors.allSatisfy { $0.shown("session", cluster.moment(a)) == nil && $0.store.storedCount == 1 })
        #expect(b.actors[0].shown("session", cluster.moment(b)) == "user")
        cluster.drops = { _, _ in false }
        cluster.run(3_000)
        #expect(cluster.actors.allSatisfy { $0.1.shown("session", cluster.moment(a)) == "user" })
        #expect(a.actors[0].replica.expiryHold(cluster.moment(a)) == nil)
        cluster.run(start + 200_000 + 5_000 - cluster.moment(a).wall)
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 0 } && cluster.sum(\.divergences) == 0)
    }

    /// A slow clock's server may still extend what others have hidden: they keep it until its clock has passed too.
    @Test func nobodyForgetsBeforeTheSlowestClockHasPassed() {
        let (cluster, a, b) = pair(1, 1)
        b.wallOffset = -8_000
        let end = cluster.moment(a).wall + 70_000
        a.actors[0].set("k", "v", .at(end), cluster.moment(a))
        cluster.run(70_000 + 6_000)
        #expect(a.actors[0].shown("k", cluster.moment(a)) == nil && a.actors[0].store.storedCount == 1)
        guard case .behind(b.id, let millis) = a.actors[0].replica.expiryHold(cluster.moment(a)) else {
            Issue.record("a slow clock holds nothing up")
            return
        }
        #expect((8_000...10_100).contains(millis))
        #expect(b.actors[0].store.expire("k", at: end + 60_000, now: cluster.moment(b).wall) == .done)
        cluster.run(1_000)
        #expect(a.actors[0].shown("k", cluster.moment(a)) == "v")
        cluster.run(60_000 + 12_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 0 } && cluster.sum(\.divergences) == 0)
    }

    /// One server has forgotten value and deadline; another one, whose clock is slow, still streams the value to a
    /// newcomer, and the deadline with it.
    @Test func aNewcomerThatGetsTheValueGetsItsDeadline() {
        let (cluster, a, b) = pair(1, 1)
        let start = cluster.moment(a).wall
        b.actors[0].put("k", "v", cluster.moment(b))
        cluster.run(1_000)
        a.actors[0].store.expire("k", at: start + 65_000, now: cluster.moment(a).wall)
        cluster.run(63_500)
        // The one goes on without hearing of the other's last reports.
        cluster.drops = { from, to in from.server == a.id && to.server == b.id }
        cluster.run(6_000)
        #expect(a.actors[0].store.storedCount == 0 && b.actors[0].store.storedCount == 2)
        let c = cluster.start(actors: 1, joining: a)
        cluster.run(6_000)
        let newcomer = c.actors[0]
        #expect(newcomer.shown("k", cluster.moment(c)) == nil)
        cluster.drops = { _, _ in false }
        cluster.run(12_000)
        #expect(cluster.actors.allSatisfy { $0.1.store.storedCount == 0 } && cluster.sum(\.divergences) == 0)
    }

    @Test func aTouchCostsItsKeyAndAFewBytes() {
        let origins = OriginTable()
        let store = ExpiryTests.store(5, origins)
        defer { store.destroy() }
        let key = "session:0123456789abcdef"
        store.set(key, String(repeating: "x", count: 4_096), now: 1_780_000_000_000)
        for _ in 0..<100_000 { store.set("other", "v", now: 1_780_000_000_000) }
        store.expire(key, at: 1_780_000_900_000, now: 1_780_000_000_000)
        var touch: Record?
        var cursor = WalkCursor()
        while !cursor.isDone { store.walk(&cursor, budget: 10) { if $0.isCompanion { touch = $0 } } }
        var encoder = EntryEncoder()
        var out = OutputBuffer()
        defer { out.deallocate() }
        encoder.encode(touch!, origins, into: &out)
        #expect(out.count <= key.utf8.count + 32, "\(out.count) bytes alone in a section")
        // A section names its writer once.
        let first = out.count
        encoder.encode(touch!, origins, into: &out)
        #expect(out.count - first <= key.utf8.count + 20)
    }

    /// Memory of 100,000 keys of 16 bytes with values of 64: with a deadline inside, and with one set apart.
    @Test func deadlinesAreSmall() {
        func bytes(_ change: (Store, String) -> Void) -> Int {
            let store = ExpiryTests.store()
            defer { store.destroy() }
            for i in 0..<100_000 { change(store, "key:\(100_000_000_000 + i)") }
            store.maintain()
            return store.recordBytes + store.indexBytes + store.expiryBytes
        }
        let value = String(repeating: "v", count: 64)
        let plain = bytes { $0.set($1, value, now: 1_000) }
        let inside = bytes { $0.set($1, value, .at(5_000_000 + Millis($1.utf8.last!) * 977), now: 1_000) }
        let apart = bytes {
            $0.set($1, value, now: 1_000)
            $0.expire($1, at: 5_000_000, now: 1_000)
        }
        print("a deadline inside: \((inside - plain) / 100_000) bytes, apart: \((apart - plain) / 100_000)")
        #expect(inside - plain <= 100_000 * 25 && apart - plain <= 100_000 * 100)
    }
}
