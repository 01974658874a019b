// Figures of the store: speed, memory, stalls. One thread, quiet machine; allocations are gated in Perf/Benchmarks.

import CMemory
import CSupport
import Glibc
import KVBase
import KVCore
import RESP

func monotonicNanos() -> Int { Int(cs_monotonic_nanos()) }

/// Keys of 16 bytes ("key:" and 12 digits of a number in random order, or 16 random bytes), values of 64.
struct StoreBench {
    static let usage = "all|get|set|insert|list|merge|memory|stall|expiry [KEYS=1000000] [dense|random]"
    static let keyBytes = 16
    static let valueBytes = 64
    static let now: Millis = 1_790_000_000_000

    let keys: Int
    let isDense: Bool
    let origins = OriginTable()
    let table: UnsafeMutableRawPointer
    /// The same keys in another order, to be read one after the other as from a receive buffer.
    let shuffled: UnsafeMutableRawPointer
    let value: UnsafeMutableRawPointer

    static func run(_ arguments: [String]) -> Bool {
        guard let figure = arguments.first else { return false }
        let keys = arguments.dropFirst().compactMap { Int($0) }.first ?? 1_000_000
        let bench = StoreBench(keys: keys, isDense: !arguments.contains("random"))
        print("\(keys) keys of 16 bytes (\(bench.isDense ? "dense decimal" : "random bytes")), values of 64 bytes")
        switch figure {
        case "all":
            bench.get()
            bench.set()
            bench.list()
            bench.memoryAndMerge()
            bench.stall()
            bench.expiry()
        case "get": bench.get()
        case "set": bench.set()
        case "insert", "stall": bench.stall()
        case "list": bench.list()
        case "expiry": bench.expiry()
        case "merge", "memory": bench.memoryAndMerge()
        default: return false
        }
        return true
    }

    init(keys: Int, isDense: Bool) {
        self.keys = keys
        self.isDense = isDense
        table = malloc(keys * StoreBench.keyBytes)!
        value = malloc(StoreBench.valueBytes)!
        memset(value, 0x76, StoreBench.valueBytes)
        var order = [UInt32](0..<UInt32(keys))
        var random = PRNG(seed: 1)
        order.shuffle(using: &random)
        for i in 0..<keys {
            let key = table + i * StoreBench.keyBytes
            if isDense {
                memcpy(key, "key:", 4)
                var number = order[i]
                for digit in 0..<12 {
                    key.storeBytes(of: 48 + UInt8(number % 10), toByteOffset: 15 - digit, as: UInt8.self)
                    number /= 10
                }
            } else {
                key.storeBytes(of: random.next(), as: UInt64.self)
                key.storeBytes(of: random.next(), toByteOffset: 8, as: UInt64.self)
            }
        }
        shuffled = malloc(keys * StoreBench.keyBytes)!
        order.shuffle(using: &random)
        for i in 0..<keys {
            memcpy(shuffled + i * StoreBench.keyBytes, table + Int(order[i]) * StoreBench.keyBytes, StoreBench.keyBytes)
        }
    }

    func key(_ i: Int) -> UnsafeRawPointer { UnsafeRawPointer(table + i * StoreBench.keyBytes) }

    func makeStore(_ index: UInt16 = 1) -> Store {
        Store(
            StoreConfig(
                hashSeed: 0x5EED_5EED, digestKey: 0xD16E_57D1, own: ActorUID(server: 1, index: index), origins: origins)
        )
    }

    func put(_ store: Store, _ i: Int) {
        store.put(store.key(view(i)), value: newValue, now: StoreBench.now)
    }

    func view(_ i: Int) -> ByteView { ByteView(key(i), StoreBench.keyBytes) }
    var newValue: ByteView { ByteView(value, StoreBench.valueBytes) }

    func filled() -> Store {
        let store = makeStore()
        for i in 0..<keys { put(store, i) }
        store.maintain()
        return store
    }

    func line(_ name: String, _ figure: Double, _ unit: String) {
        let rounded = (figure * 100).rounded() / 100
        print("  " + name + String(repeating: " ", count: max(1, 58 - name.count)) + "\(rounded) \(unit)")
    }

    /// Best of five runs of `rounds` operations, in ns per operation.
    func best(_ rounds: Int, _ body: (Int) -> Void) -> Double {
        var least = Double.infinity
        for run in 0..<5 {
            let start = monotonicNanos()
            body(run)
            least = min(least, Double(monotonicNanos() - start) / Double(rounds))
        }
        return least
    }

    // MARK: Point operations

    /// Runs `body` for `rounds` keys in random order in batches, hashed and prefetched as a receiver does.
    func batched(_ store: Store, _ batch: Int, _ rounds: Int, seed: Int, _ body: (HashedKey) -> Void) {
        var random = PRNG(seed: UInt64(seed))
        var from = random.below(keys - batch)
        var ahead = LookAhead(capacity: batch)
        defer { ahead.deallocate() }
        var done = 0
        while done < rounds {
            if from + batch > keys { from = 0 }
            let first = UnsafeRawPointer(shuffled + from * StoreBench.keyBytes)
            ahead.reset()
            for i in 0..<batch { ahead.keys[i].view = ByteView(first + i * StoreBench.keyBytes, 16) }
            store.prepare(&ahead, to: batch)
            for i in 0..<batch {
                if ahead.isDue(i) { store.look(&ahead) }
                body(ahead.keys[i])
            }
            done += batch
            from += batch
        }
    }

    /// One dependent read of a random line of 128 MiB: the machine's cache miss, TLB miss included, for comparison.
    func missLatency() -> Double {
        let count = 1 << 24
        let next = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
        defer { next.deallocate() }
        for i in 0..<count { next[i] = 0 }
        var at: UInt64 = 1
        let cost = best(200_000) { _ in
            for _ in 0..<200_000 {
                at = (at &+ next[Int(at &>> 40)]) &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
            }
        }
        check(at != 0)
        return cost
    }

    func get() {
        line("one random read of 128 MiB (cache and TLB miss)", missLatency(), "ns")
        let store = filled()
        defer { store.destroy() }
        let rounds = 1_000_000
        var found = 0
        for batch in [1, 16, 32, 64] {
            let cost = best(rounds) { run in
                batched(store, batch, rounds, seed: run) { key in
                    if store.get(key, now: StoreBench.now) != nil { found += 1 }
                }
            }
            line("lookup, batches of \(batch)", cost, "ns")
        }
        var output = OutputBuffer(capacity: 1 << 16)
        for batch in [1, 32] {
            let cost = best(rounds) { run in
                batched(store, batch, rounds, seed: run) { key in
                    if let record = store.get(key, now: StoreBench.now) { output.append(record.value) }
                    if output.count > 60_000 { output.count = 0 }
                }
            }
            line("get with copy of the value, batches of \(batch)", cost, "ns")
        }
        output.deallocate()
        precondition(found > 0)
    }

    func set() {
        let store = filled()
        defer { store.destroy() }
        let rounds = 1_000_000
        for batch in [1, 16, 32, 64] {
            let cost = best(rounds) { run in
                batched(store, batch, rounds, seed: run) { key in
                    store.put(key, value: newValue, now: StoreBench.now)
                }
            }
            line("set, overwrite in place, batches of \(batch)", cost, "ns")
        }
        // Another actor holds every record, so each overwrite makes a new one (once per key and run).
        let sibling = makeStore(2)
        var costs = Double.infinity
        for run in 0..<3 {
            share(store, with: sibling)
            let part = keys / 4
            let start = monotonicNanos()
            batched(store, 32, part, seed: run) { key in
                store.put(key, value: newValue, now: StoreBench.now)
            }
            costs = min(costs, Double(monotonicNanos() - start) / Double(part))
        }
        line("set, record shared with a sibling, batches of 32", costs, "ns")
        sibling.destroy()
    }

    // MARK: Listing

    func list() {
        let store = filled()
        defer { store.destroy() }
        var random = PRNG(seed: 5)
        var bytes = 0
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        func start() -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: key(random.below(keys)), count: 16) }
        let rounds = 4000
        let cost = best(rounds) { _ in
            for _ in 0..<rounds {
                let page = store.list(prefix: none, after: start(), limit: 100, now: StoreBench.now)
                for i in 0..<page.count { bytes += page[i].valueCount }
            }
        }
        line("list of 100 from a random place", cost / 1000, "us")
        if isDense {
            let cost = best(rounds) { _ in
                for _ in 0..<rounds {
                    let page = store.list(
                        prefix: UnsafeRawBufferPointer(rebasing: start()[..<14]), limit: 256, now: StoreBench.now)
                    for i in 0..<page.count { bytes += page[i].valueCount }
                }
            }
            line("list of 100 by prefix", cost / 1000, "us")
        }
        var output = OutputBuffer(capacity: 1 << 16)
        let written = best(rounds) { _ in
            for _ in 0..<rounds {
                let page = store.list(prefix: none, after: start(), limit: 100, now: StoreBench.now)
                output.count = 0
                output.bulks(page.count * 2, bytes: page.count * (StoreBench.keyBytes + StoreBench.valueBytes)) {
                    for i in 0..<page.count {
                        let (record, value) = (page[i], page[i].value)
                        $0.bulk(record.keyPointer, record.keyCount)
                        $0.bulk(value.baseAddress.unsafelyUnwrapped, value.count)
                    }
                }
            }
        }
        output.deallocate()
        line("the same with its reply written", written / 1000, "us")
        let all = best(keys) { _ in
            var last: Record?
            while true {
                let page = store.list(
                    prefix: UnsafeRawBufferPointer(start: nil, count: 0), after: last?.key, limit: 1000,
                    now: StoreBench.now)
                for i in 0..<page.count { bytes += page[i].valueCount }
                if page.count < 1000 { break }
                last = page.last
            }
        }
        line("list of everything, per key", all, "ns")
        let walk = best(keys) { _ in
            var cursor = WalkCursor()
            while !cursor.isDone { store.walk(&cursor, budget: 1000) { bytes += $0.valueCount } }
        }
        line("walk through everything, per key", walk, "ns")
        precondition(bytes > 0)
    }

    // MARK: Memory and merging

    func share(_ store: Store, with sibling: Store) {
        let batch = 64
        let records = UnsafeMutablePointer<Record>.allocate(capacity: batch * 8)
        let hashes = UnsafeMutablePointer<UInt64>.allocate(capacity: batch * 8)
        var cursor = WalkCursor()
        while !cursor.isDone {
            var count = 0
            store.walk(&cursor, budget: batch) { record in
                records[count] = record
                hashes[count] = store.hash(record.keyView)
                count += 1
            }
            sibling.merge(records, hashes, count: count)
        }
        records.deallocate()
        hashes.deallocate()
    }

    func memoryAndMerge() {
        let perKey = Double(keys)
        let before = (Memory.allocatedBytes, Memory.residentBytes)
        let start = monotonicNanos()
        let store = filled()
        line("insert, one at a time, index included", Double(monotonicNanos() - start) / perKey, "ns")
        store.trimJournal(through: store.ownSeq)
        let first = (Memory.allocatedBytes, Memory.residentBytes)
        line("one actor, allocated per key", Double(first.0 - before.0) / perKey, "bytes")
        line("one actor, resident per key", Double(first.1 - before.1) / perKey, "bytes")
        line("  of that table and index", Double(store.indexBytes) / perKey, "bytes")
        let sibling = makeStore(2)
        let merging = monotonicNanos()
        share(store, with: sibling)
        sibling.maintain()
        line("merge by reference of a new key, in hash order", Double(monotonicNanos() - merging) / perKey, "ns")
        let second = (Memory.allocatedBytes, Memory.residentBytes)
        line("one more actor, allocated per key", Double(second.0 - first.0) / perKey, "bytes")
        line("one more actor, resident per key", Double(second.1 - first.1) / perKey, "bytes")
        mergeChanged(store, sibling)
        store.destroy()
        sibling.destroy()
    }

    /// Random keys changed on one actor, then merged on the other, as frames do it.
    private func mergeChanged(_ store: Store, _ sibling: Store) {
        let part = min(100_000, keys / 2)
        let records = UnsafeMutablePointer<Record>.allocate(capacity: part)
        let hashes = UnsafeMutablePointer<UInt64>.allocate(capacity: part)
        var least = Double.infinity
        var random = PRNG(seed: 8)
        for _ in 0..<5 {
            for i in 0..<part {
                let key = store.key(view(random.below(keys)))
                hashes[i] = key.hash
                let made = store.put(key, value: newValue, now: StoreBench.now)!
                records[i] = made.retained()
            }
            let start = monotonicNanos()
            sibling.merge(records, hashes, count: part)
            least = min(least, Double(monotonicNanos() - start) / Double(part))
            for i in 0..<part { records[i].release() }
        }
        records.deallocate()
        hashes.deallocate()
        line("merge by reference of a changed key, in a batch", least, "ns")
    }

    // MARK: Stalls

    /// Times every insertion while the store grows. The same run twice, and for each insertion the shorter time, so
    /// that what the system did in between does not count.
    func stall() {
        var first: [Int: Int] = [:]
        var slow: [(nanos: Int, at: Int)] = []
        var least = Double.infinity
        for run in 0..<2 {
            let store = makeStore()
            let begin = monotonicNanos()
            var before = begin
            for i in 0..<keys {
                if i % 65_536 == 0 {
                    // As a loop does ten times a second: fresh memory is ready when it is needed.
                    cm_tend()
                    before = monotonicNanos()
                }
                put(store, i)
                let after = monotonicNanos()
                if after - before > 20_000 {
                    if run == 0 { first[i] = after - before }
                    if let other = first[i], run == 1 { slow.append((min(other, after - before), i)) }
                }
                before = after
            }
            least = min(least, Double(before - begin) / Double(keys))
            store.destroy()
        }
        line("insert, one at a time, index and clock included", least, "ns")
        func count(over limit: Int) -> Int { slow.filter { $0.nanos > limit }.count }
        print(
            "  puts over 50 us: \(count(over: 50_000)), over 100: \(count(over: 100_000)), "
                + "over 200: \(count(over: 200_000))"
        )
        for stall in slow.sorted(by: { $0.nanos > $1.nanos }).prefix(4) {
            line("  slow put at key \(stall.at)", Double(stall.nanos) / 1000, "us")
        }
    }

    // MARK: Allocations
}
