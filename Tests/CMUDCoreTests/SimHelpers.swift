// Ready-made characters and the questions tests ask of a simulated world. One test at a time.

@testable import CMUDCore
import KVBase
import Testing

extension SimWorld {
    var keys: Keys { Keys(world: "main") }

    /// A character with hardware and a rank, known to every replica, as if it had been played long ago.
    @discardableResult
    func character(
        _ name: String, rank: Rank = .undergraduate, cpus: Int64 = 0, earned: Int64 = 0,
        _ change: (inout SlotRecord) -> Void = { _ in }
    ) -> String {
        let pid = Names.identifier(random.next())
        var record = SlotRecord(sid: Names.identifier(random.next()))
        record.rank = rank
        record.total.bought[0] = cpus
        record.total.earned = earned
        record.time = wall - 3_600_000
        record.closed = true
        change(&record)
        let claim = Claim(pid: pid, name: name, time: wall - 3_600_000)
        store.write(keys.slot(pid, 0), record.bytes, at: 0)
        store.write(keys.claim(Names.canonical(name), pid), claim.bytes, at: 0)
        return pid
    }

    /// Lets everything written so far reach every replica.
    func settle(_ millis: Millis = 5_000) { run(for: millis) }

    func slots(_ pid: String, at replica: Int = 0) -> CharacterSlots {
        let prefix = keys.slots(pid)
        guard case .pairs(let pairs) = store.perform(.list(prefix: prefix, limit: 100), at: replica) else {
            return CharacterSlots()
        }
        return CharacterSlots(pairs, prefix: prefix)
    }

    /// The sum of contributions to an instance as a replica has it.
    func shareSum(_ rank: Rank, _ instance: Int64, at replica: Int = 0) -> Int64 {
        guard
            case .pairs(let pairs) = store.perform(
                .list(prefix: keys.problem(rank, instance), limit: 1_000), at: replica)
        else { return -1 }
        return pairs.compactMap { JSON.parse($0.value)?["c"]?.amount }.saturatedSum
    }

    func value(_ key: String, at replica: Int = 0) -> JSON? {
        guard case .value(let bytes) = store.perform(.get(key), at: replica) else { return nil }
        return bytes.flatMap { JSON.parse($0) }
    }

    /// Takes up to `steps` single steps, whatever breaks meanwhile: a longer run would stop by itself.
    func solve(_ player: SimPlayer, atMost steps: Int, until condition: () -> Bool) {
        for _ in 0..<steps where !condition() { command(player, "solve 1") }
    }

    func isReady(_ player: SimPlayer) -> Bool { player.session.isReady }

    func waitUntilIn(_ player: SimPlayer) {
        #expect(run(atMost: 20_000) { player.session.isReady || player.isOver })
    }
}

extension SimPlayer {
    /// Coins and work that this session told its player about.
    var minedTold: Int64 {
        events.map { output in
            if case .mined(let coins) = output.event { return coins }
            return 0
        }.saturatedSum
    }

    var workTold: Int64 {
        events.map { output in
            if case .stepHit(let work, _, _, _, _, _) = output.event { return work }
            return 0
        }.saturatedSum
    }

    var failures: [String] {
        events.compactMap { output in
            if case .failure(let what, let fix) = output.event { return "\(what) - \(fix)" }
            return nil
        }
    }

    func heard(_ text: String) -> Bool { transcript.contains { $0.contains(text) } }
}
