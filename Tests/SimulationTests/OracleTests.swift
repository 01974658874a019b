// The oracle must notice what it exists to notice: each check is shown a wrong history and must object.
import KVBase
import KVCore
import KVSim
import KVTestTraits
import Testing

@Suite("Oracle of the simulation", .blocking)
struct OracleTests {
    private func oracle() -> (SimOracle, Int, Int) {
        let oracle = SimOracle(keys: SimKeys(count: 20))
        let a = oracle.register(ActorUID(server: 1, index: 1))
        let b = oracle.register(ActorUID(server: 2, index: 1))
        return (oracle, a, b)
    }

    private func write(_ key: Int32, _ ms: Millis, tombstone: Bool = false) -> SimWrite {
        SimWrite(key: key, valueLength: tombstone ? -1 : 4, valueID: 1, ms: ms, at: 0)
    }

    @Test("keys carry their number")
    func keys() {
        let keys = SimKeys(count: 300)
        for key in 0..<300 { #expect(keys.number(of: keys.bytes(key)) == key) }
        #expect([UInt8]("ka99999".utf8).withUnsafeBytes { keys.number(of: $0) } == nil)
    }

    @Test("values match only what wrote them")
    func values() {
        var bytes: [UInt8] = []
        SimValue.fill(&bytes, id: 77, length: 40)
        #expect(bytes.withUnsafeBytes { SimValue.matches($0, id: 77, length: 40) })
        #expect(!bytes.withUnsafeBytes { SimValue.matches($0, id: 78, length: 40) })
        bytes[39] ^= 1
        #expect(!bytes.withUnsafeBytes { SimValue.matches($0, id: 77, length: 40) })
    }

    @Test("the order is timestamp, actor, and only then the actor's counter")
    func order() {
        let (oracle, a, b) = oracle()
        let low = SimStamp(ms: 5, origin: Int32(a), seq: 9)
        #expect(oracle.precedes(low, SimStamp(ms: 5, origin: Int32(b), seq: 1)))
        #expect(oracle.precedes(low, SimStamp(ms: 5, origin: Int32(a), seq: 10)))
        #expect(oracle.precedes(SimStamp(ms: 4, origin: Int32(b), seq: 1), low))
        #expect(oracle.precedes(.none, low))
    }

    @Test("a part's grave stands against a write of who was not met, where it is here and the part did not begin anew")
    func graves() {
        let counts = SimCounts(keys: 1)
        let main = SimStamp(ms: 5, origin: 0, seq: 1)
        counts.noteBuried(0, 2, 10, knowing: [7], main: main, expiredAt: 0)
        #expect(counts.buriedUnaware(0, 2, of: 8, live: nil) == 10)
        #expect(counts.buriedUnaware(0, 2, of: 7, live: nil) == 0)
        #expect(counts.buriedUnaware(0, 2, of: 8, live: 9) == 0)
        #expect(counts.buriedUnaware(0, 2, of: 8, live: 11) == 10)
        #expect(counts.buriedUnaware(0, 3, of: 8, live: nil) == 0)
        #expect(counts.buriedExpired(0, 2, of: main, live: nil) == 0)
        counts.noteBuried(0, 2, 12, knowing: [7], main: main, expiredAt: 6)
        #expect(counts.buriedExpired(0, 2, of: main, live: nil) == 12)
        #expect(counts.buriedExpired(0, 2, of: main, live: 11) == 0)
        #expect(counts.buriedExpired(0, 2, of: SimStamp(ms: 6, origin: 0, seq: 2), live: nil) == 0)
    }

    @Test("a zero above a floor may beat only who was not met then, or whose clock was too far behind (I24)")
    func zeroAboveAFloor() {
        let counts = SimCounts(keys: 1)
        let (oracle, a, b) = oracle()
        _ = oracle.register(ActorUID(server: 3, index: 1))
        #expect(oracle.acknowledge(write(3, 49), stamp: SimStamp(ms: 49, origin: Int32(b), seq: 1)) == nil)
        let zeros = (0...2).map { SimStamp(ms: 50, origin: $0, seq: 1) }
        func stamp(_ ms: Millis) -> SimStamp { SimStamp(ms: ms, origin: Int32(a), seq: UInt64(ms)) }
        let (slow, other, unaware, part) = (stamp(5), stamp(6), stamp(7), stamp(8))
        counts.noteLead(slow, [1], seen: [0, 1])
        counts.noteLead(other, [], seen: [0, 1])
        counts.noteLead(unaware, [1], seen: [0, 0])
        counts.noteLead(part, [1], seen: [4, 0])
        #expect(!counts.mayBeat(zeros[1], slow, oracle))
        for zero in zeros { counts.noteAboveFloor(zero, met: [1: 4]) }
        // The last of them is a newcomer's, which took another one's floor over.
        #expect(zeros.map { counts.mayBeat($0, slow, oracle) } == [false, true, true])
        for write in [other, unaware, part] { #expect(!zeros.contains { counts.mayBeat($0, write, oracle) }) }
        // Whoever met the writer's server only once the floor was above the write, or not at all.
        counts.noteAboveFloor(zeros[1], met: [1: 6])
        #expect([slow, other, unaware].map { counts.mayBeat(zeros[1], $0, oracle) } == [true, true, false])
        counts.noteAboveFloor(zeros[1], met: [:])
        #expect(counts.mayBeat(zeros[1], unaware, oracle))
        counts.noteAboveFloor(zeros[0], met: [:])
        #expect(!counts.mayBeat(zeros[0], unaware, oracle))
    }

    @Test("a write that skips its actor's counter is noticed (I3)")
    func skippedCounter() {
        let (oracle, a, _) = oracle()
        #expect(oracle.acknowledge(write(0, 5), stamp: SimStamp(ms: 5, origin: Int32(a), seq: 1)) == nil)
        let skipped = oracle.acknowledge(write(0, 6), stamp: SimStamp(ms: 6, origin: Int32(a), seq: 3))
        #expect(skipped?.invariant == "I3")
    }

    @Test("a write under a version seen or collected there is noticed (I5)")
    func writeRule() {
        let (oracle, a, b) = oracle()
        let view = SimView(origin: a, slot: 0, keys: 20)
        let seen = SimStamp(ms: 10, origin: Int32(b), seq: 1)
        #expect(oracle.acknowledge(write(3, 10), stamp: seen) == nil)
        #expect(view.noteNewer(3, seen, tombstone: false, oracle) == nil)
        let under = view.noteWrite(3, SimStamp(ms: 10, origin: Int32(a), seq: 1), tombstone: false, oracle)
        #expect(under?.invariant == "I5")
        #expect(view.noteWrite(3, SimStamp(ms: 11, origin: Int32(a), seq: 1), tombstone: false, oracle) == nil)
    }

    @Test("a version going back is noticed (I1), one that a collected delete beat as well (I7)")
    func goingBack() {
        let (oracle, a, b) = oracle()
        let view = SimView(origin: a, slot: 0, keys: 20)
        let old = SimStamp(ms: 10, origin: Int32(b), seq: 1)
        let new = SimStamp(ms: 20, origin: Int32(b), seq: 2)
        #expect(oracle.acknowledge(write(3, 10), stamp: old) == nil)
        #expect(oracle.acknowledge(write(3, 20), stamp: new) == nil)
        #expect(view.noteNewer(3, new, tombstone: false, oracle) == nil)
        #expect(view.noteNewer(3, old, tombstone: false, oracle)?.invariant == "I1")
        let other = SimView(origin: b, slot: 1, keys: 20)
        oracle.noteCollected(3, new)
        #expect(other.noteNewer(3, old, tombstone: false, oracle)?.invariant == "I7")
        // Collected by somebody who had never heard of the writer's server: that binds nothing.
        oracle.excuse(writesOf: 3, before: new) { $0 == oracle.server(old) }
        #expect(other.noteNewer(3, old, tombstone: false, oracle) == nil)
    }

    @Test("a covered delete may be missing only below what was forgotten before the write that is here (I2)")
    func forgottenDelete() {
        let (oracle, a, b) = oracle()
        let delete = SimStamp(ms: 50, origin: Int32(b), seq: 1)
        let later = SimStamp(ms: 60, origin: Int32(b), seq: 2)
        #expect(oracle.acknowledge(write(3, 50, tombstone: true), stamp: delete) == nil)
        #expect(oracle.acknowledge(write(3, 60, tombstone: true), stamp: later) == nil)
        let (usual, below) = (SimStamp(ms: 10, origin: Int32(a), seq: 1), SimStamp(ms: 11, origin: Int32(a), seq: 2))
        #expect(oracle.acknowledge(write(3, 10), stamp: usual) == nil)
        var write = write(3, 11)
        write.forgotten = delete
        #expect(oracle.acknowledge(write, stamp: below) == nil)
        #expect(oracle.isForgotten(delete, under: below))
        #expect(!oracle.isForgotten(later, under: below))
        #expect(!oracle.isForgotten(delete, under: usual))
    }

    /// 74100: who had forgotten an expired value met a server that had counted below it. 77616: a newcomer joined by
    /// way of a living server that all others had removed.
    @Test("worlds in which the oracle was wrong", arguments: [74100, 77616] as [UInt64])
    func mended(seed: UInt64) {
        let outcome = SimWorld.run(SimOptions.swarm(seed: seed, thinPercent: 0), bug: nil, trace: nil)
        #expect(outcome.violation == nil, "\(outcome.violation.map { "\($0)" } ?? "") replay: --seed \(seed)")
    }

    @Test("something older after what was collected between two looks is passed over only of who was not met before")
    func collectedUnlooked() {
        let oracle = SimOracle(keys: SimKeys(count: 20, deadlines: true))
        let writers = (1...3).map { oracle.register(ActorUID(server: $0, index: 1)) }
        let view = SimView(origin: writers[0], slot: 0, keys: 40)
        view.noteKnown([MemberRow(server: 2, status: .up, actorCount: 1, address: "s1:6000")])
        let touch = SimStamp(ms: 20, origin: Int32(writers[0]), seq: 1)
        #expect(view.noteNewer(23, touch, tombstone: false, oracle) == nil)
        let unmet = SimStamp(ms: 10, origin: Int32(writers[2]), seq: 1)
        let met = SimStamp(ms: 10, origin: Int32(writers[1]), seq: 1)
        #expect(view.mayBeCollected(23, before: unmet, floor: 20, oracle))
        #expect(!view.mayBeCollected(23, before: met, floor: 20, oracle))
        #expect(!view.mayBeCollected(23, before: unmet, floor: 19, oracle))
        #expect(!view.mayBeCollected(23, before: touch, floor: 20, oracle))
    }

    @Test("only what a survivor holds is demanded after a crash")
    func floors() {
        let (oracle, a, _) = oracle()
        let stamp = SimStamp(ms: 10, origin: Int32(a), seq: 1)
        #expect(oracle.acknowledge(write(3, 10), stamp: stamp) == nil)
        #expect(oracle.floors[3] == stamp)
        #expect(oracle.lowerFloors(to: Array(repeating: .none, count: 20)) == 1)
        #expect(oracle.floors[3] == .none)
    }

    @Test("a delete that was collected and left nothing is not lost with the last that had seen it")
    func collectedDeletes() {
        let (oracle, a, _) = oracle()
        let stamp = SimStamp(ms: 10, origin: Int32(a), seq: 1)
        #expect(oracle.acknowledge(write(3, 10), stamp: stamp) == nil)
        oracle.noteCollected(3, stamp)
        #expect(oracle.lowerFloors(to: Array(repeating: .none, count: 20)) == 0)
    }
}
