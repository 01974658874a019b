// The fuzz target `members`: frames of a member that has the key, forged, damaged behind their checksum, cut, replayed
// and exchanged, into a replica that knows it and a third server. In process.

import KVBase
import KVCore
package import KVTestSupport

extension FuzzTarget {
    /// One input is a cluster and `ReplicaTrio.attacks` frames.
    package static let members = FuzzTarget(
        name: "members",
        about: "\(ReplicaTrio.attacks) frames of a member, forged or damaged; nobody's data or life harmed"
    ) { random, _ in
        let trio = ReplicaTrio()
        defer { trio.destroy() }
        return trio.run(&random)
    }

    /// Proves that the harness notices: entries in the victim's own name are merged. In builds with `KV_CHECKS`.
    package static let membersCanary = FuzzTarget(name: "members-canary", about: "a planted mistake; must fail") {
        random, _ in
        let trio = ReplicaTrio(planted: .ownFromOthers)
        defer { trio.destroy() }
        return trio.run(&random)
    }
}

/// Three servers of one actor each on virtual time. The second one's frames to the first are changed on the way, as it
/// could send them itself. What the first holds of the others may not change by that, nor its clock, nor its life.
private final class ReplicaTrio {
    static let attacks = 100
    private static let cluster: UInt64 = 0xC1
    private static let wallStart: Millis = 1_780_000_000_000
    private static let keys = (0..<20).map { Bytes("key:\($0)") }
    private static let checksumAt = 5
    private static let coveredFrom = 9
    private static let (victim, liar) = (0, 1)

    private struct Server {
        let replica: Replica
        let store: Store
        let origins: OriginTable
    }

    private struct Written {
        var key: Bytes
        /// Nil: a delete.
        var value: [UInt8]?
        var version: Version
    }

    private let servers: [Server]
    private var now: Millis = 1_000
    /// What the liar sent to the victim.
    private var captured: [[UInt8]] = []
    /// What each actor wrote, by uid.
    private var written: [ActorUID: [UInt64: Written]] = [:]
    /// What the victim held at the last look.
    private var held: [Version?] = Array(repeating: nil, count: ReplicaTrio.keys.count)
    private var fresh = 0

    init(planted: PlantedMistakes = []) {
        func server(_ id: UInt64, joining other: Server?) -> Server {
            let origins = OriginTable()
            let store = Store(
                StoreConfig(
                    hashSeed: id &* 77, digestKey: 5, own: ActorUID(server: id, index: 0), origins: origins,
                    journalCapacity: 256))
            var config = ReplicaConfig(
                clusterId: Self.cluster, server: id, actorIndex: 0, actorCount: 1, address: Bytes("host:\(id)"),
                joining: other != nil)
            config.planted = planted
            return Server(
                replica: Replica(
                    config: config, store: store, origins: origins, rows: other?.replica.memberRows ?? []),
                store: store, origins: origins)
        }
        let first = server(101, joining: nil)
        servers = [first, server(102, joining: first), server(103, joining: first)]
    }

    func destroy() { for server in servers { server.store.destroy() } }

    private var moment: Moment { Moment(wall: Self.wallStart + now, steady: now) }

    func run(_ random: inout PRNG) -> String? {
        // They join and write; then everybody has everything, and only the liar goes on.
        pass(millis: 3_000)
        for _ in 0..<6 {
            for server in servers.indices { for _ in 0..<random.below(8) { write(&random, server) } }
            pass(millis: 120 * (1 + random.below(3)))
        }
        pass(millis: 2_500)
        if let problem = look() { return "before any damage: \(problem)" }
        guard !captured.isEmpty else { return "the member has sent nothing" }
        for number in 0..<Self.attacks {
            let (bytes, change) = changed(&random)
            var effects = ReplicaEffects()
            _ = servers[Self.victim].replica.receive(frame: bytes, from: 102, moment, into: &effects)
            turn(Self.victim, &effects)
            deliver(effects.frames.map { (Self.victim, $0) })
            if effects.events.contains(.forgotten) { return "it believes that it is forgotten, by \(change)" }
            if let problem = look() { return "\(problem), by \(change), frame \(number): \(escapedText(bytes))" }
            now += Millis(random.below(30))
            // The honest ones go on meanwhile, so that both are heard.
            if number % 8 == 7 {
                write(&random, Self.liar)
                if let problem = writeFresh() { return "\(problem), after \(change)" }
                pass(millis: 220)
                if let problem = look() { return "\(problem), some time after \(change)" }
            }
        }
        return finish(&random)
    }

    /// Who is honest is believed as before.
    private func finish(_ random: inout PRNG) -> String? {
        write(&random, 2)
        let last = written[ActorUID(server: 103, index: 0)]!.values.max { $0.version.seq < $1.version.seq }!
        pass(millis: 15_000)
        let version = version(last.key)
        if version ?? Version(ms: 0, uid: last.version.uid, seq: 0) < last.version {
            let state = [Self.victim, 2].map { servers[$0].replica.description }.joined(separator: "\n")
            return "what the third server wrote last does not arrive: \(last.version), here \(version as Any)\n\(state)"
        }
        return look()
    }

    // MARK: Honest

    private func write(_ random: inout PRNG, _ index: Int) {
        let key = Self.keys[random.below(Self.keys.count)]
        let value = [UInt8](repeating: UInt8(97 + random.below(26)), count: random.below(60))
        write(index, key, random.below(5) == 0 ? nil : value)
    }

    @discardableResult
    private func write(_ index: Int, _ key: Bytes, _ value: [UInt8]?) -> Version? {
        let server = servers[index]
        let record = key.withBytes { key in
            value.map { value in
                Bytes(value).withBytes { server.replica.put(key: key, value: $0, moment) }
            } ?? server.replica.delete(key: key, moment)
        }
        guard let version = record?.version(server.origins) else { return nil }
        written[version.uid, default: [:]][version.seq] = Written(key: key, value: value, version: version)
        return version
    }

    /// The victim's stamps are those of its clock.
    private func writeFresh() -> String? {
        fresh += 1
        guard let version = write(Self.victim, Bytes("fresh:\(fresh)"), [120]) else { return "it cannot write" }
        return version.ms > moment.wall + 1_000 ? "it stamps \(version.ms - moment.wall) ms ahead" : nil
    }

    private func turn(_ index: Int, _ effects: inout ReplicaEffects) {
        let replica = servers[index].replica
        for _ in 0..<1000 where !replica.step(moment, into: &effects) { break }
        if replica.nextDeadline(moment) <= now { replica.tick(moment, into: &effects) }
        for _ in 0..<1000 where !replica.step(moment, into: &effects) { break }
    }

    /// All run for a while, and everything arrives at once, the answers too.
    private func pass(millis: Int) {
        for _ in 0..<millis / 20 {
            now += 20
            var underWay: [(from: Int, frame: OutgoingFrame)] = []
            for sender in servers.indices {
                var effects = ReplicaEffects()
                turn(sender, &effects)
                underWay += effects.frames.map { (sender, $0) }
            }
            deliver(underWay)
            if captured.count > 60 { captured.removeFirst(captured.count - 60) }
        }
    }

    private func deliver(_ frames: [(from: Int, frame: OutgoingFrame)]) {
        var underWay = frames
        while !underWay.isEmpty {
            let (sender, frame) = underWay.removeFirst()
            guard let receiver = servers.firstIndex(where: { $0.replica.uid.server == frame.to.server }) else {
                continue
            }
            if sender == Self.liar, receiver == Self.victim { captured.append(frame.bytes) }
            var answer = ReplicaEffects()
            _ = servers[receiver].replica.receive(
                frame: frame.bytes, from: servers[sender].replica.uid.server, moment, into: &answer)
            turn(receiver, &answer)
            underWay += answer.frames.map { (receiver, $0) }
        }
    }

    // MARK: Damage

    private func changed(_ random: inout PRNG) -> ([UInt8], String) {
        let bytes = captured[random.below(captured.count)]
        switch random.below(8) {
        case 0, 1, 2: return forged(&random, bytes)
        case 3:
            let (bytes, lie) = forged(&random, bytes)
            return (damaged(&random, bytes), "\(lie), damaged")
        case 4:
            var bytes = bytes
            Mutation.apply(&random, &bytes)
            return (bytes, "damage anywhere")
        case 5: return (sealed(Array(bytes.prefix(17 + random.below(max(1, bytes.count - 17))))), "a cut frame")
        case 6: return (bytes, "a replayed frame")
        default: return (damaged(&random, bytes), "damage behind the checksum")
        }
    }

    private func forged(_ random: inout PRNG, _ bytes: [UInt8]) -> ([UInt8], String) {
        let lie = FrameLie.allCases[random.below(FrameLie.allCases.count)]
        var forger = FrameForger(origins: servers[Self.liar].origins, clusterId: Self.cluster)
        forger.third = 103
        forger.keys = Self.keys.map(\.array)
        return (forger.forge(bytes, lie, random: &random) ?? bytes, "\(lie)")
    }

    private func damaged(_ random: inout PRNG, _ frame: [UInt8]) -> [UInt8] {
        var body = Array(frame.dropFirst(17))
        Mutation.apply(&random, &body)
        return sealed(Array(frame.prefix(17)) + body)
    }

    private func sealed(_ frame: [UInt8]) -> [UInt8] {
        guard frame.count > Self.coveredFrom else { return frame }
        var bytes = frame
        let crc = bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[Self.coveredFrom...])) }
        for i in 0..<4 { bytes[Self.checksumAt + i] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * i)) }
        return bytes
    }

    // MARK: What must hold

    private func version(_ key: Bytes) -> Version? {
        let server = servers[Self.victim]
        return key.withBytes { server.store.find(server.store.key($0))?.version(server.origins) }
    }

    /// Nothing went back or away, and what is here in an honest name is what that one wrote.
    private func look() -> String? {
        let (store, origins) = (servers[Self.victim].store, servers[Self.victim].origins)
        for (place, key) in Self.keys.enumerated() {
            let record = key.withBytes { store.find(store.key($0)) }
            let version = record?.version(origins)
            if let before = held[place], version ?? Version(ms: 0, uid: before.uid, seq: 0) < before {
                return "\(key) was \(before), and is \(version as Any)"
            }
            held[place] = version
            guard let record, let version, version.uid.server != 102, let real = written[version.uid] else { continue }
            // In the name of a write that nobody made: it could have been the liar's own (docs/replication.md 5.7).
            guard let write = real[version.seq] else {
                if version.uid.server == 101 { return "\(key) is \(version), which the victim never wrote" }
                continue
            }
            let value = record.isTombstone ? nil : Array(record.value)
            if write.key != key || write.version != version || write.value != value {
                return "\(key) is \(version) with \(value as Any), and was written as \(write)"
            }
        }
        let page = store.list(prefix: UnsafeRawBufferPointer(start: nil, count: 0), after: nil, limit: 10_000, now: 0)
        return page.count == store.count ? nil : "\(store.count) live keys, but \(page.count) listed"
    }
}
