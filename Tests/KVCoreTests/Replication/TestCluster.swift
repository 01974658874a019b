// Replicas of several servers on one thread with virtual time, for the tests of the replication machine.
// Single-threaded.

import KVBase
import Testing

@testable import KVCore

/// One query actor.
final class TestActor {
    let replica: Replica
    let store: Store
    var isAlive = true
    var events: [ReplicaEvent] = []

    init(_ replica: Replica, _ store: Store) { (self.replica, self.store) = (replica, store) }

    deinit { store.destroy() }

    @discardableResult
    func put(_ key: String, _ value: String, _ at: Moment) -> Version {
        put(Bytes(key), Bytes(value), at)
    }

    @discardableResult
    func put(_ key: Bytes, _ value: Bytes, _ at: Moment) -> Version {
        key.withBytes { key in value.withBytes { value in replica.put(key: key, value: value, at) } }!
            .version(store.origins)
    }

    @discardableResult
    func delete(_ key: String, _ at: Moment) -> Bool { Bytes(key).withBytes { replica.delete(key: $0, at) } != nil }

    func get(_ key: String) -> String? {
        Bytes(key).withBytes { store.get(store.key($0), now: 0).map { String(decoding: $0.value, as: UTF8.self) } }
    }

    /// Damage: the key holds this from now on, whatever it held.
    func overwrite(_ key: String, _ value: String, _ version: Version) {
        Bytes(key).withBytes { key in
            Bytes(value).withBytes { value in
                let record = Record.create(
                    key: ByteView(key), value: ByteView(value), ms: version.ms,
                    origin: store.origins.index(of: version.uid)!, seq: version.seq, isTombstone: false)
                store.overwriteUnconditionally(with: record, store.key(key).hash)
            }
        }
    }

    func version(_ key: String) -> Version? {
        Bytes(key).withBytes { store.find(store.key($0))?.version(store.origins) }
    }
}

final class TestServer {
    let id: UInt64
    var actors: [TestActor] = []
    var wallOffset: Millis = 0
    let origins = OriginTable()

    init(_ id: UInt64) { self.id = id }
}

struct Sent {
    var from: ActorUID
    var to: ActorUID
    var at: Millis
    var bytes: Int
}

/// Delivers every message after `delay`, unless `drops` says otherwise.
final class TestCluster {
    static let cluster: UInt64 = 0xC1
    static let wallStart: Millis = 1_780_000_000_000

    var now: Millis = 1_000
    var servers: [TestServer] = []
    var sent: [Sent] = []
    var remoteDelay: Millis = 5
    var localDelay: Millis = 0
    var drops: (ActorUID, ActorUID) -> Bool = { _, _ in false }
    var tune: (inout ReplicaConfig) -> Void = { _ in }
    var verdicts: [FrameVerdict] = []
    private var nextId: UInt64 = 100
    /// Connections by the ids of both ends, for replicas of the transport `.connections`: frames leave and arrive at
    /// once as far as the senders are told.
    private var sessions: [Set<UInt64>: UInt64] = [:]
    private var left: [LinkSender: LaneProgress] = [:]

    private struct LinkSender: Hashable {
        var actor: ActorUID
        var session: UInt64
        var lane: FrameLane
    }

    private struct Delivery {
        var at: Millis
        var from: ActorUID
        var to: ActorUID
        var frame: [UInt8]?
        var batch: LocalBatch?
    }
    private var deliveries: [Delivery] = []

    func moment(_ server: TestServer) -> Moment {
        Moment(wall: TestCluster.wallStart + now + server.wallOffset, steady: now)
    }

    @discardableResult
    func start(
        actors: Int, joining: TestServer? = nil, address: String? = nil, journal: Int = 1 << 16,
        disk: TestDisk? = nil
    ) -> TestServer {
        nextId += 1
        let server = TestServer(nextId)
        let address = Bytes(address ?? "host:\(nextId)")
        for index in 0..<actors {
            let own = ActorUID(server: server.id, index: UInt16(index))
            let store = Store(
                StoreConfig(
                    hashSeed: server.id &* 77, digestKey: 5, own: own, origins: server.origins, journalCapacity: journal
                ))
            var config = ReplicaConfig(
                clusterId: TestCluster.cluster, server: server.id, actorIndex: index, actorCount: actors,
                address: address,
                joining: joining != nil)
            tune(&config)
            let rows = joining.map { [$0.actors[0].replica.memberRows.first { $0.server == joining!.id }!] } ?? []
            let recovered = disk?.fill(store)
            server.actors.append(
                TestActor(
                    Replica(
                        config: config, store: store, origins: server.origins, rows: rows + (disk?.rows ?? []),
                        recovered: recovered), store))
        }
        servers.append(server)
        return server
    }

    /// A connection between the two stands from now on; instead of the one before, if there is one.
    func connect(_ a: TestServer, _ b: TestServer) {
        let session = UInt64(sessions.count + 1)
        sessions[[a.id, b.id]] = session
        for (server, other) in [(a, b), (b, a)] {
            for actor in server.actors { actor.replica.linkUp(other.id, session: session, moment(server)) }
        }
    }

    /// What connects `server` with the one of that id, which may be gone, has ended.
    func disconnect(_ server: TestServer, _ id: UInt64) {
        for actor in server.actors { actor.replica.linkDown(id, moment(server)) }
    }

    private func noteLeft(_ frame: OutgoingFrame, _ actor: TestActor, _ from: ActorUID) {
        guard actor.replica.config.transport == .connections, frame.session != 0,
            let server = servers.first(where: { $0.id == from.server })
        else { return }
        var progress = LinkProgress(session: frame.session)
        for lane in FrameLane.allCases {
            let sender = LinkSender(actor: from, session: frame.session, lane: lane)
            var count = left[sender] ?? LaneProgress()
            if lane == frame.lane { count = LaneProgress(left: count.left + 1, delivered: count.delivered + 1) }
            left[sender] = count
            if lane == .live { progress.live = count } else { progress.bulk = count }
        }
        actor.replica.linkMoved(frame.to.server, progress, moment(server))
    }

    func stop(_ server: TestServer) {
        servers.removeAll { $0 === server }
        deliveries.removeAll { $0.to.server == server.id }
    }

    var actors: [(TestServer, TestActor)] { servers.flatMap { server in server.actors.map { (server, $0) } } }

    private func carryOut(_ effects: ReplicaEffects, _ from: ActorUID, _ actor: TestActor) {
        actor.events += effects.events
        for frame in effects.frames {
            noteLeft(frame, actor, from)
            sent.append(Sent(from: from, to: frame.to, at: now, bytes: frame.bytes.count))
            if frame.session != 0 { takeAll(actor, frame) }
            if drops(from, frame.to) { continue }
            deliveries.append(
                Delivery(at: now + remoteDelay, from: from, to: frame.to, frame: frame.bytes, batch: nil))
        }
        for batch in effects.batches {
            let to = ActorUID(server: from.server, index: UInt16(batch.toIndex))
            sent.append(Sent(from: from, to: to, at: now, bytes: batch.batch.wireBytes))
            if drops(from, to) { continue }
            deliveries.append(Delivery(at: now + localDelay, from: from, to: to, frame: nil, batch: batch.batch))
        }
    }

    /// Connections take at once whatever they are handed.
    private func takeAll(_ actor: TestActor, _ frame: OutgoingFrame) {
        guard let server = servers.first(where: { $0.id == actor.replica.uid.server }) else { return }
        var progress = LinkProgress(session: frame.session)
        progress.live = LaneProgress(left: .max, delivered: .max)
        progress.bulk = progress.live
        actor.replica.linkMoved(frame.to.server, progress, moment(server))
    }

    private func turn(_ server: TestServer, _ actor: TestActor) {
        var effects = ReplicaEffects()
        let at = moment(server)
        for _ in 0..<10_000 {
            guard actor.replica.step(at, into: &effects) else { break }
        }
        if actor.replica.nextDeadline(at) <= now { actor.replica.tick(at, into: &effects) }
        for _ in 0..<10_000 {
            guard actor.replica.step(at, into: &effects) else { break }
        }
        carryOut(effects, actor.replica.uid, actor)
    }

    /// Runs `millis` milliseconds of virtual time, calling `each` in every one of them.
    func run(_ millis: Millis, each: () -> Void) {
        for _ in 0..<millis {
            now += 1
            each()
            for (server, actor) in actors where actor.isAlive { turn(server, actor) }
            deliver()
        }
    }

    /// Runs `millis` milliseconds of virtual time, from event to event.
    func run(_ millis: Millis) {
        let end = now + millis
        while now < end {
            var next = end
            for (server, actor) in actors where actor.isAlive {
                next = min(next, actor.replica.nextDeadline(moment(server)))
            }
            for delivery in deliveries { next = min(next, delivery.at) }
            now = max(now + 1, next)
            for (server, actor) in actors where actor.isAlive && actor.replica.nextDeadline(moment(server)) <= now {
                turn(server, actor)
            }
            deliver()
        }
    }

    /// Delivers what is due now; what that causes to be sent at once goes on its way in the same millisecond.
    private func deliver() {
        for _ in 0..<8 {
            let due = deliveries.filter { $0.at <= now }
            if due.isEmpty { return }
            deliveries.removeAll { $0.at <= now }
            for delivery in due {
                guard let server = servers.first(where: { $0.id == delivery.to.server }) else { continue }
                let actor = server.actors[Int(delivery.to.index)]
                guard actor.isAlive else { continue }
                var effects = ReplicaEffects()
                if let frame = delivery.frame {
                    verdicts.append(actor.replica.receive(frame: frame, moment(server), into: &effects))
                } else if let batch = delivery.batch {
                    actor.replica.receive(batch, moment(server), into: &effects)
                }
                carryOut(effects, actor.replica.uid, actor)
                turn(server, actor)
            }
        }
    }

    /// Runs until `condition` holds; false if it does not within `millis`.
    func run(until condition: () -> Bool, within millis: Millis) -> Bool {
        for _ in 0..<millis {
            if condition() { return true }
            run(1)
        }
        return condition()
    }

    var isConverged: Bool {
        let all = actors.filter { $0.1.isAlive }.map(\.1)
        guard let first = all.first else { return true }
        return all.allSatisfy { $0.store.digest == first.store.digest && $0.store.count == first.store.count }
    }

    /// Most messages any ordered pair carried in any closed window of one second.
    var greatestRate: Int {
        var byPair: [String: [Millis]] = [:]
        for message in sent { byPair["\(message.from)>\(message.to)", default: []].append(message.at) }
        var greatest = 0
        for times in byPair.values {
            var start = 0
            for end in times.indices {
                while times[end] - times[start] > 1_000 { start += 1 }
                greatest = max(greatest, end - start + 1)
            }
        }
        return greatest
    }

    func sum(_ figure: (ReplicaStatistics) -> UInt64) -> UInt64 {
        actors.reduce(0) { $0 + figure($1.1.replica.statistics) }
    }
}
