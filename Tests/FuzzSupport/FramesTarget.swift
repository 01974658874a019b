// The fuzz target `frames`: damaged replication frames with valid checksums, as a faulty peer could send. In process.

import KVBase
import KVCore
package import KVTestSupport

extension FuzzTarget {
    package static let frames = FuzzTarget(
        name: "frames", about: "replication frames, damaged behind a valid checksum, into a living replica"
    ) { random, _ in
        let pair = ReplicaPair()
        defer { pair.destroy() }
        return pair.run(&random)
    }
}

/// Two servers of one actor each on virtual time; what the second sends the first may be damaged on the way. Whatever
/// arrives, the first must neither trap nor disagree with itself; undamaged frames must be accepted.
private final class ReplicaPair {
    private static let cluster: UInt64 = 0xC1
    private static let wallStart: Millis = 1_780_000_000_000
    /// Bytes before the head: magic 4, version 1, checksum 4, cluster 8; the checksum covers everything behind itself.
    private static let checksumAt = 5
    private static let coveredFrom = 9

    private let servers: [Server]
    private var now: Millis = 1_000
    private var captured: [[UInt8]] = []

    private struct Server {
        let replica: Replica
        let store: Store
        let origins: OriginTable
    }

    init() {
        func server(_ id: UInt64, joining other: Server?) -> Server {
            let origins = OriginTable()
            let store = Store(
                StoreConfig(
                    hashSeed: id &* 77, digestKey: 5, own: ActorUID(server: id, index: 0), origins: origins,
                    journalCapacity: 256))
            let config = ReplicaConfig(
                clusterId: Self.cluster, server: id, actorIndex: 0, actorCount: 1, address: Bytes("host:\(id)"),
                joining: other != nil)
            let rows = other.map { $0.replica.memberRows } ?? []
            return Server(
                replica: Replica(config: config, store: store, origins: origins, rows: rows), store: store,
                origins: origins)
        }
        let first = server(101, joining: nil)
        servers = [first, server(102, joining: first)]
    }

    func destroy() { for server in servers { server.store.destroy() } }

    private var moment: Moment { Moment(wall: Self.wallStart + now, steady: now) }

    func run(_ random: inout PRNG) -> String? {
        // A joining, some writes on both sides, a repair now and then: frames of every kind pass.
        for _ in 0..<8 + random.below(8) {
            for _ in 0..<random.below(6) { write(&random, random.below(2)) }
            if let problem = pass(&random, millis: 60, losing: random.below(6) == 0) { return problem }
        }
        for _ in 0..<40 {
            guard !captured.isEmpty else { break }
            let (bytes, damage) = damaged(&random, captured[random.below(captured.count)])
            var effects = ReplicaEffects()
            _ = servers[0].replica.receive(frame: bytes, moment, into: &effects)
            turn(0, &effects)
            if let problem = contradiction() { return "\(problem) after \(damage): \(escapedText(bytes))" }
            now += Millis(random.below(30))
            if random.below(8) == 0 { write(&random, 0) }
        }
        // The victim goes on working.
        _ = pass(&random, millis: 400, losing: false)
        return contradiction()
    }

    private func write(_ random: inout PRNG, _ server: Int) {
        let key = Bytes("key:\(random.below(20))")
        let value = Bytes([UInt8](repeating: 118, count: random.below(4) == 0 ? random.below(400) : random.below(20)))
        let replica = servers[server].replica
        key.withBytes { key in
            if random.below(4) == 0 {
                _ = replica.delete(key: key, moment)
            } else {
                value.withBytes { _ = replica.put(key: key, value: $0, moment) }
            }
        }
    }

    private func turn(_ index: Int, _ effects: inout ReplicaEffects) {
        let replica = servers[index].replica
        for _ in 0..<1000 where !replica.step(moment, into: &effects) { break }
        if replica.nextDeadline(moment) <= now { replica.tick(moment, into: &effects) }
        for _ in 0..<1000 where !replica.step(moment, into: &effects) { break }
    }

    /// Runs both for a while, delivering at once; keeps what the second sends.
    private func pass(_ random: inout PRNG, millis: Int, losing: Bool) -> String? {
        for _ in 0..<millis / 10 {
            now += 10
            for sender in 0..<2 {
                var effects = ReplicaEffects()
                turn(sender, &effects)
                for frame in effects.frames {
                    if sender == 1 { captured.append(frame.bytes) }
                    if losing && random.below(2) == 0 { continue }
                    var answer = ReplicaEffects()
                    let verdict = servers[1 - sender].replica.receive(frame: frame.bytes, moment, into: &answer)
                    turn(1 - sender, &answer)
                    for back in answer.frames {
                        if sender == 0 { captured.append(back.bytes) }
                        var ignored = ReplicaEffects()
                        _ = servers[sender].replica.receive(frame: back.bytes, moment, into: &ignored)
                    }
                    if captured.count < 200, case .rejected(let fault) = verdict {
                        // Before any damage every frame is good.
                        return "an undamaged frame was rejected: \(fault)"
                    }
                }
            }
            if captured.count > 100 { captured.removeFirst(captured.count - 100) }
        }
        return nil
    }

    private func damaged(_ random: inout PRNG, _ frame: [UInt8]) -> ([UInt8], String) {
        var bytes = frame
        let kind = random.below(8)
        if kind == 0 {
            Mutation.apply(&random, &bytes)
            return (bytes, "damage anywhere")
        }
        // Behind the checksum, and often with integers at their limits, which is where arithmetic goes wrong.
        var body = Array(bytes.dropFirst(17))
        if kind < 4, !body.isEmpty {
            for _ in 0..<1 + random.below(3) {
                let at = random.below(body.count)
                let varints: [[UInt8]] = [
                    [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], [0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
                    [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F],
                    [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], [0], [1], [0x7F],
                ]
                // In place of the varint that stands there.
                var end = at
                while end < body.count - 1 && body[end] & 0x80 != 0 { end += 1 }
                body.replaceSubrange(at...end, with: varints[random.below(varints.count)])
            }
        } else {
            Mutation.apply(&random, &body)
        }
        bytes = Array(bytes.prefix(17)) + body
        let crc = bytes.withUnsafeBytes {
            crc32c(UnsafeRawBufferPointer(rebasing: $0[Self.coveredFrom...]))
        }
        for i in 0..<4 { bytes[Self.checksumAt + i] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * i)) }
        return (bytes, kind < 4 ? "integers replaced" : "damage behind the checksum")
    }

    /// What the store says of itself in two ways.
    private func contradiction() -> String? {
        let store = servers[0].store
        let page = store.list(prefix: UnsafeRawBufferPointer(start: nil, count: 0), after: nil, limit: 10_000, now: 0)
        if page.count != store.count { return "\(store.count) live keys, but \(page.count) listed" }
        return nil
    }
}
