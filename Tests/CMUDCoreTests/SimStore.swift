// A lagging, lossy, partitionable store of several replicas in virtual time, for tests of the game. One test at a time.

import CMUDCore
import KVBase

/// What a replica holds for a key: last writer wins by (stamp, replica, sequence).
struct SimRecord: Equatable {
    var value: [UInt8]?
    var stamp: Millis
    var replica: Int
    var sequence: Int

    func beats(_ other: SimRecord?) -> Bool {
        guard let other else { return true }
        return (stamp, replica, sequence) > (other.stamp, other.replica, other.sequence)
    }
}

struct SimNetwork {
    /// One-way delay of a link, drawn per batch.
    var delayMillis: ClosedRange<Int> = 20...80
    /// Changes are collected this long and sent as one batch: only the newest value of a key travels.
    var batchMillis = 100
    /// Chance that a batch is lost; it is sent again after `resendMillis`.
    var dropChance = 0.0
    var resendMillis = 500
    /// Wall clock of each replica minus true time.
    var skewMillis: [Int] = []
}

final class SimStore {
    let network: SimNetwork
    private(set) var replicas: [[String: SimRecord]]
    var isDown: [Bool]
    private var sequence = 0
    /// Keys that changed and wait to be sent, per ordered pair.
    private var dirty: [[Set<String>]]
    private var isScheduled: [[Bool]]
    private(set) var isCut: [[Bool]]
    private unowned let world: SimWorld
    private(set) var putCount = 0

    init(_ count: Int, _ network: SimNetwork, world: SimWorld) {
        self.network = network
        self.world = world
        replicas = Array(repeating: [:], count: count)
        isDown = Array(repeating: false, count: count)
        dirty = Array(repeating: Array(repeating: [], count: count), count: count)
        isScheduled = Array(repeating: Array(repeating: false, count: count), count: count)
        isCut = Array(repeating: Array(repeating: false, count: count), count: count)
    }

    private func wall(_ replica: Int) -> Millis {
        world.wall + Millis(replica < network.skewMillis.count ? network.skewMillis[replica] : 0)
    }

    // MARK: requests

    func perform(_ operation: StoreOperation, at replica: Int) -> StoreReply {
        switch operation {
        case .get(let key): return .value(replicas[replica][key]?.value)
        case .put(let key, let value): return .stored(stamp: write(key, value, at: replica))
        case .delete(let key):
            if replicas[replica][key]?.value != nil { _ = write(key, nil, at: replica) }
            return .deleted
        case .list(let prefix, let limit):
            let found = replicas[replica].filter { $0.key.hasPrefix(prefix) && $0.value.value != nil }
            return .pairs(found.sorted { $0.key < $1.key }.prefix(limit).map { ($0.key, $0.value.value!) })
        case .derive(let password, let salt, _):
            // Not scrypt: tests only need that equal input gives equal output.
            var bytes = [UInt8](repeating: 7, count: 32)
            for (index, byte) in (Array(password.utf8) + salt).enumerated() {
                bytes[index % 32] = bytes[index % 32] &* 31 &+ byte &+ UInt8(truncatingIfNeeded: index)
            }
            return .derived(bytes)
        }
    }

    /// The write rule of the store: never below what is stored, one more on a tie.
    @discardableResult
    func write(_ key: String, _ value: [UInt8]?, at replica: Int) -> Millis {
        sequence += 1
        putCount += 1
        let old = replicas[replica][key]
        var record = SimRecord(
            value: value, stamp: max(wall(replica), old?.stamp ?? 0), replica: replica, sequence: sequence)
        if !record.beats(old) { record.stamp = (old?.stamp ?? 0) + 1 }
        replicas[replica][key] = record
        for other in replicas.indices where other != replica { mark(key, from: replica, to: other) }
        return record.stamp
    }

    // MARK: replication

    private func mark(_ key: String, from: Int, to: Int) {
        dirty[from][to].insert(key)
        schedule(from, to, after: network.batchMillis)
    }

    private func schedule(_ from: Int, _ to: Int, after millis: Int) {
        guard !isScheduled[from][to] else { return }
        isScheduled[from][to] = true
        world.after(Millis(millis)) { [unowned self] in
            isScheduled[from][to] = false
            send(from, to)
        }
    }

    private func send(_ from: Int, _ to: Int) {
        guard !isCut[from][to], !dirty[from][to].isEmpty else { return }
        if world.random.chance(network.dropChance) { return schedule(from, to, after: network.resendMillis) }
        let keys = dirty[from][to].sorted()
        dirty[from][to] = []
        let batch = keys.map { ($0, replicas[from][$0]!) }
        let spread = network.delayMillis.upperBound - network.delayMillis.lowerBound + 1
        let delay = network.delayMillis.lowerBound + world.random.below(spread)
        world.after(Millis(delay)) { [unowned self] in
            if isCut[from][to] {
                dirty[from][to].formUnion(keys)
                return
            }
            for (key, record) in batch where record.beats(replicas[to][key]) {
                replicas[to][key] = record
            }
        }
    }

    func cut(_ a: Int, _ b: Int) {
        isCut[a][b] = true
        isCut[b][a] = true
    }

    func heal() {
        for from in replicas.indices {
            for to in replicas.indices where isCut[from][to] {
                isCut[from][to] = false
                schedule(from, to, after: 10)
            }
        }
    }

    var isConverged: Bool {
        dirty.allSatisfy { $0.allSatisfy(\.isEmpty) } && replicas.allSatisfy { $0 == replicas[0] }
    }
}
