// A filled store and its keys for the benchmarks. One thread.

import Benchmark
import Glibc
import KVBase
import KVCore

/// 100,000 keys of 16 bytes with values of 64, read back in another order than they were written in.
final class StoreFixture {
    static let keys = 100_000
    static let now: Millis = 1_790_000_000_000
    static let valueBytes = 64
    /// Operations per call of the passes below.
    static let operations = 10_000

    private static let origins = OriginTable()
    let store: Store
    private let table: UnsafeMutableRawPointer
    let value: UnsafeMutableRawPointer
    /// Varies what the passes write.
    var round = 0
    private var next = 0

    static func emptyStore(actor index: UInt16) -> Store {
        Store(
            StoreConfig(
                hashSeed: 1, digestKey: 2, own: ActorUID(server: 1, index: index), origins: StoreFixture.origins))
    }

    init() {
        store = StoreFixture.emptyStore(actor: 1)
        table = .allocate(byteCount: StoreFixture.keys * 16, alignment: 16)
        value = .allocate(byteCount: 4096, alignment: 16)
        memset(value, 0x76, 4096)
        var order = [UInt32](0..<UInt32(StoreFixture.keys))
        var random = PRNG(seed: 1)
        order.shuffle(using: &random)
        for place in 0..<StoreFixture.keys {
            let digits = Array(String(1_000_000_000_000 + Int(order[place])).utf8.suffix(12))
            memcpy(table + place * 16, "key:", 4)
            memcpy(table + place * 16 + 4, digits, 12)
        }
        for place in stride(from: 0, to: StoreFixture.keys, by: 7) { put(key(place)) }
        for place in 0..<StoreFixture.keys { put(key(place)) }
        store.maintain()
    }

    deinit {
        store.destroy()
        table.deallocate()
        value.deallocate()
    }

    func key(_ place: Int) -> UnsafeRawPointer { UnsafeRawPointer(table + place * 16) }

    private func put(_ key: UnsafeRawPointer) {
        store.put(
            store.key(ByteView(key, 16)), value: ByteView(value, StoreFixture.valueBytes), now: StoreFixture.now)
    }

    /// The next keys in turn, 32 at a time, hashed and asked for as a receiver does it.
    func pass(_ body: (HashedKey) -> Void) {
        var ahead = LookAhead(capacity: 32)
        defer { ahead.deallocate() }
        for _ in 0..<StoreFixture.operations / 32 {
            if next + 32 > StoreFixture.keys { next = 0 }
            ahead.reset()
            for i in 0..<32 { ahead.keys[i].view = ByteView(key(next + i), 16) }
            store.prepare(&ahead, to: 32)
            for i in 0..<32 {
                if ahead.isDue(i) { store.look(&ahead) }
                body(ahead.keys[i])
            }
            next += 32
        }
    }
}

/// Two stores that share all their records, as the actors of one server do.
final class SiblingsFixture {
    let writer = StoreFixture()
    private let sibling = StoreFixture.emptyStore(actor: 2)

    init() {
        for place in 0..<StoreFixture.keys {
            let hash = writer.store.hash(ByteView(writer.key(place), 16))
            writer.store.records(hash) { sibling.merge($0, hash) }
        }
    }

    deinit { sibling.destroy() }

    /// The next keys are written in one store, whose sibling then shares what was written.
    func pass() {
        writer.pass { key in
            let written = writer.store.put(
                key, value: ByteView(writer.value, StoreFixture.valueBytes), now: StoreFixture.now)
            if let written { sibling.merge(written, key.hash) }
        }
    }
}
