// What really happened in a simulated world: every write ever acknowledged, and what must still exist. Used by SimWorld
// only, one thread.
package import KVBase
package import KVCore

/// A broken invariant, by its name in docs/replication.md 11.
package struct SimViolation: Error, Sendable, CustomStringConvertible {
    package var invariant: String
    package var detail: String

    package init(_ invariant: String, _ detail: String) {
        self.invariant = invariant
        self.detail = detail
    }

    package var description: String { "\(invariant): \(detail)" }
}

/// A version with its actor as a dense number. `origin` is -1 in the value that precedes all others.
package struct SimStamp: Hashable, Sendable {
    package var ms: Millis
    package var origin: Int32
    package var seq: UInt64

    package static let none = SimStamp(ms: -1, origin: -1, seq: 0)
    package var isNone: Bool { origin < 0 }

    package init(ms: Millis, origin: Int32, seq: UInt64) {
        self.ms = ms
        self.origin = origin
        self.seq = seq
    }
}

/// One acknowledged write. A tombstone has no value: its length is -1.
package struct SimWrite: Sendable {
    package var key: Int32
    package var valueLength: Int32
    package var valueID: UInt32
    package var ms: Millis
    package var at: SimTime
    /// The writer had neither seen nor could know a tombstone that others collected (it was just joining, or unknown).
    package var unaware = false
    /// A zero that counting began with before the writer had caught up: it is settled then (docs/replication.md 16.5).
    package var isProvisional = false
    /// A delete above it that was collected, and that nobody who ran held or remembered when this was written: whoever
    /// did not believe the floor of that (docs/replication.md 8.5) writes below it, and may cover its dot.
    package var forgotten = SimStamp.none
    /// When it expires; 0 is never. And the version of that, if it is an older one that was kept.
    package var deadline: Millis = 0
    package var kept: SimStamp?
    /// The value is this number.
    package var number: Int64?
    /// The greatest corrected clock its actor had shown when it wrote.
    package var clockMax: Millis = 0

    package init(
        key: Int32, valueLength: Int32, valueID: UInt32, ms: Millis, at: SimTime, unaware: Bool = false,
        deadline: Millis = 0, kept: SimStamp? = nil, number: Int64? = nil
    ) {
        (self.key, self.valueLength, self.valueID) = (key, valueLength, valueID)
        (self.ms, self.at, self.unaware, self.deadline, self.kept) = (ms, at, unaware, deadline, kept)
        self.number = number
    }

    package var isTombstone: Bool { valueLength < 0 }
}

package final class SimOracle {
    /// Dense numbers of actors, in the order the world created them.
    package private(set) var uids: [ActorUID] = []
    private var indexOfUID: [ActorUID: Int] = [:]
    /// Writes of each actor; index = seq - 1.
    package private(set) var history: [[SimWrite]] = []
    /// Per key: the greatest version that some surviving replica holds or has collected, hence must never vanish.
    package private(set) var floors: [SimStamp]
    /// Actors whose process is gone, or has said good-bye.
    package private(set) var departed: Set<Int32> = []
    /// Per key: the greatest tombstone anybody has ever collected.
    package private(set) var collected: [SimStamp]
    /// The same of the actors that still run: nothing older may be written or received any more.
    package private(set) var remembered: [SimStamp]
    /// Ids of servers that lie: what they say of their own writes binds nobody.
    package var liars: Set<UInt64> = []
    /// Their actors, of which nothing is demanded. What they have collected like all others, newcomers do not get.
    var unlooked: () -> [SimActor] = { [] }
    private var deletes: [[SimStamp]]
    /// In a world with deadlines: every other write.
    private var forgettable: [[SimStamp]]
    /// Keys of which a replica may have forgotten too much, by a clock that stepped or a server it had not met.
    package var excusedKeys: Set<Int> = []
    /// A living server was removed by hand: what it holds counts no longer, whatever that does to deletes (I7, I12).
    package var forgotLiving = false
    package private(set) var writes = 0
    package let keys: SimKeys
    /// Takes lines for the trace, if one is written.
    package var say: ((String) -> Void)?

    package init(keys: SimKeys) {
        self.keys = keys
        floors = Array(repeating: .none, count: keys.total)
        collected = floors
        remembered = floors
        deletes = Array(repeating: [], count: keys.total)
        forgettable = deletes
    }

    // MARK: Actors and order

    package func register(_ uid: ActorUID) -> Int {
        precondition(indexOfUID[uid] == nil, "an identity was used twice")
        indexOfUID[uid] = uids.count
        uids.append(uid)
        history.append([])
        return uids.count - 1
    }

    package func index(of uid: ActorUID) -> Int? { indexOfUID[uid] }

    /// The server whose actor made a version.
    package func server(_ stamp: SimStamp) -> UInt64 { stamp.isNone ? 0 : uids[Int(stamp.origin)].server }

    /// The order the product promises: timestamp, then actor in byte order; an actor's own counter only within one of
    /// its own milliseconds.
    package func precedes(_ a: SimStamp, _ b: SimStamp) -> Bool {
        if a.ms != b.ms { return a.ms < b.ms }
        if a.origin != b.origin {
            if a.origin < 0 { return true }
            if b.origin < 0 { return false }
            return uids[Int(a.origin)] < uids[Int(b.origin)]
        }
        return a.seq < b.seq
    }

    package func greater(_ a: SimStamp, _ b: SimStamp) -> SimStamp { precedes(a, b) ? b : a }

    // MARK: History

    /// Notes an acknowledged write; the counter of its actor must have moved by exactly one.
    package func acknowledge(_ write: SimWrite, stamp: SimStamp) -> SimViolation? {
        let origin = Int(stamp.origin)
        guard stamp.seq == UInt64(history[origin].count) + 1 else {
            return SimViolation("I3", "\(name(stamp)) follows seq \(history[origin].count) of its actor")
        }
        history[origin].append(write)
        writes += 1
        let key = Int(write.key)
        // Of a part of a counter: `SimCounts` knows those.
        if key < 0 { return nil }
        floors[key] = greater(floors[key], stamp)
        if write.isTombstone {
            deletes[key].append(stamp)
        } else if keys.total > keys.count {
            forgettable[key].append(stamp)
        }
        return nil
    }

    package func write(_ stamp: SimStamp) -> SimWrite? {
        guard stamp.origin >= 0, stamp.seq >= 1 else { return nil }
        let writes = history[Int(stamp.origin)]
        guard stamp.seq <= UInt64(writes.count) else { return nil }
        return writes[Int(stamp.seq) - 1]
    }

    /// The greatest delete of `key` not older than `stamp` whose dot `covers` accepts; if there is none, one of a
    /// departed actor, whose loose writes are taken over without their dots.
    package func latestDelete(of key: Int, since stamp: SimStamp, covers: (SimStamp) -> Bool) -> SimStamp? {
        var best: SimStamp?
        var loose: SimStamp?
        for delete in deletes[key] where !precedes(delete, stamp) {
            if covers(delete) {
                best = best.map { greater($0, delete) } ?? delete
            } else if departed.contains(delete.origin) {
                loose = loose.map { greater($0, delete) } ?? delete
            }
        }
        return best ?? loose
    }

    /// The same of any write that may be forgotten: in a world with deadlines each may be.
    package func latestGone(of key: Int, since stamp: SimStamp, covers: (SimStamp) -> Bool) -> SimStamp? {
        // A departed actor's delete, taken over without its dot, only if nothing that is surely here explains it.
        var best = deletes[key].filter { !precedes($0, stamp) && covers($0) }.reduce(SimStamp?.none) { best, delete in
            best.map { greater($0, delete) } ?? delete
        }
        for write in forgettable[key] where !precedes(write, stamp) && covers(write) {
            best = best.map { greater($0, write) } ?? write
        }
        // What was held does not explain that it is gone, unless it has a deadline.
        if best == stamp, keys.count + key < forgettable.count, touches(of: key, after: stamp).isEmpty,
            let held = write(stamp), !held.isTombstone, held.deadline == 0
        {
            return latestDelete(of: key, since: stamp, covers: covers) ?? best
        }
        return best ?? latestDelete(of: key, since: stamp, covers: covers)
    }

    /// Deletes of a key that are newer than `stamp`.
    package func deletes(of key: Int, after stamp: SimStamp) -> [SimStamp] {
        deletes[key].filter { precedes(stamp, $0) }
    }

    /// Touches of a key that are newer than `stamp`.
    package func touches(of key: Int, after stamp: SimStamp) -> [SimStamp] {
        forgettable[keys.count + key].filter { precedes(stamp, $0) }
    }

    /// The newest write of a key.
    package func newest(_ key: Int) -> SimStamp {
        (deletes[key] + forgettable[key]).reduce(.none) { greater($0, $1) }
    }

    /// What was covered had been deleted, and the delete collected and forgotten, when `held` was written below it.
    package func isForgotten(_ covered: SimStamp, under held: SimStamp) -> Bool {
        write(held).map { !$0.forgotten.isNone && !precedes($0.forgotten, covered) } ?? false
    }

    /// Nobody but a disk that was away had this write: it counts as new when it arrives.
    package func excuse(_ stamp: SimStamp) {
        guard write(stamp) != nil else { return }
        history[Int(stamp.origin)][Int(stamp.seq) - 1].unaware = true
    }

    package func noteDeparted(_ origin: Int) { departed.insert(Int32(origin)) }

    package func noteCollected(_ key: Int, _ stamp: SimStamp) {
        collected[key] = greater(collected[key], stamp)
        remembered[key] = greater(remembered[key], stamp)
    }

    /// Excuses the writes of a key older than a tombstone which somebody collected who had not heard of their server.
    ///
    /// Clauses 1 and 2 of collection (docs/replication.md 10.1) speak of the members a replica knows. A newcomer that
    /// takes writes before it reaches anybody, or a part of a cluster that never met the other, is not among them: its
    /// writes count as new when they arrive, and win or lose as any. All must still become equal (I10, I17).
    package func excuse(writesOf key: Int, before tombstone: SimStamp, isUnknown: (UInt64) -> Bool) {
        for origin in uids.indices where isUnknown(uids[origin].server) {
            for index in history[origin].indices where history[origin][index].key == Int32(key) {
                let write = history[origin][index]
                let stamp = SimStamp(ms: write.ms, origin: Int32(origin), seq: UInt64(index) + 1)
                if precedes(stamp, tombstone) { history[origin][index].unaware = true }
            }
        }
    }

    /// After a crash: what only the crashed had collected binds nobody any more.
    package func remember(_ collected: [SimStamp]) { remembered = collected }

    /// After a crash: what no survivor holds is lost, within the documented window, and no longer demanded.
    /// Returns the number of keys whose newest version went down with the crashed server. A delete that was
    /// collected and left nothing behind is not among them: whoever joined since then never held its tombstone, and
    /// lacks nothing.
    package func lowerFloors(to held: [SimStamp]) -> Int {
        var lost = 0
        for key in floors.indices where precedes(held[key], floors[key]) {
            if precedes(collected[key], floors[key]) || !held[key].isNone {
                say?("\(keys.name(key)) lost \(name(floors[key])), the best left is \(name(held[key]))")
                lost += 1
            }
            floors[key] = held[key]
        }
        return lost
    }

    // MARK: Values and names

    /// The version that a record gives to its deadline, if that is not its own.
    func kept(by record: Record) -> SimStamp? {
        guard record.isExtended, let version = record.addition.version, let origin = index(of: version.uid) else {
            return nil
        }
        return SimStamp(ms: version.ms, origin: Int32(origin), seq: version.seq)
    }

    /// Checks bytes found in a store against what was written under that stamp (I4).
    package func mismatch(_ record: Record, key: Int, stamp: SimStamp) -> SimViolation? {
        guard let write = write(stamp) else {
            return SimViolation("I4", "\(keys.name(key)) holds \(name(stamp)), which nobody wrote")
        }
        guard write.key == Int32(key), write.ms == stamp.ms, write.isTombstone == record.isTombstone else {
            return SimViolation(
                "I4", "\(keys.name(key)) holds \(name(stamp)), written for \(keys.name(Int(write.key)))")
        }
        if key >= keys.count || record.isExtended || write.deadline != 0 || write.kept != nil {
            guard record.isExtended, record.addition.deadline == write.deadline,
                (record.addition.version == nil) == (write.kept == nil)
            else { return SimViolation("I4", "\(keys.name(key)) at \(name(stamp)) has another deadline") }
        }
        if let number = write.number {
            return "\(number)".utf8.elementsEqual(record.value)
                ? nil : SimViolation("I4", "\(keys.name(key)) at \(name(stamp)) is not \(number)")
        }
        guard write.isTombstone || SimValue.matches(record.value, id: write.valueID, length: Int(write.valueLength))
        else { return SimViolation("I4", "\(keys.name(key)) at \(name(stamp)) holds other bytes than were written") }
        return nil
    }

    package func name(_ stamp: SimStamp) -> String {
        stamp.isNone ? "nothing" : "(\(stamp.ms - simEpochMillis), actor \(stamp.origin), seq \(stamp.seq))"
    }
}

/// The keys of a world: fixed names, hashed once. A name carries its number, so that a record tells which key it is.
package final class SimKeys {
    package let count: Int
    /// With the deadlines set apart: that of key k is key `count` + k, hidden from clients.
    package let total: Int
    private var hashes: [UInt64] = []
    private let storage: UnsafeMutableRawPointer
    private var offsets: [Int] = [0]
    /// Of the number in a name.
    private let digits: Int

    package init(count: Int, deadlines: Bool = false) {
        precondition(count <= 10_000_000)
        self.count = count
        total = deadlines ? 2 * count : count
        digits = count <= 100_000 ? 5 : 7
        var bytes: [UInt8] = []
        for number in 0..<total {
            let key = number % count
            if number >= count { bytes.append(contentsOf: [0xFF, 0x00, UInt8(ascii: "d")]) }
            bytes.append(UInt8(ascii: "k"))
            bytes.append(UInt8(ascii: "a") + UInt8(key % 4))
            var name: [UInt8] = []
            var rest = key
            for _ in 0..<digits {
                name.append(UInt8(ascii: "0") + UInt8(rest % 10))
                rest /= 10
            }
            bytes.append(contentsOf: name.reversed())
            bytes.append(contentsOf: repeatElement(UInt8(ascii: "-"), count: key % 5 == 0 ? key % 23 : 0))
            offsets.append(bytes.count)
        }
        storage = .allocate(byteCount: max(1, bytes.count), alignment: 8)
        storage.copyMemory(from: bytes, byteCount: bytes.count)
    }

    deinit { storage.deallocate() }

    package func bytes(_ key: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: storage + offsets[key], count: offsets[key + 1] - offsets[key])
    }

    /// The hash every store of the world uses (they share the seed).
    package func hash(_ key: Int) -> UInt64 { hashes[key] }
    package func hashed(_ key: Int) -> HashedKey { HashedKey(ByteView(bytes(key)), hash: hashes[key]) }

    package func hashAll(with store: Store) {
        guard hashes.isEmpty else { return }
        hashes = (0..<total).map { store.key(bytes($0)).hash }
    }

    package func name(_ key: Int) -> String {
        if key < 0 { return "a part of a counter" }
        return key < count
            ? String(decoding: bytes(key).prefix(2 + digits), as: UTF8.self) : "deadline of " + name(key - count)
    }

    /// The number in a key's name; nil for bytes that are no key of this world.
    package func number(of name: UnsafeRawBufferPointer) -> Int? {
        if name.count > 3, name[0] == 0xFF {
            let rest = number(of: UnsafeRawBufferPointer(rebasing: name[3...])).map { $0 + count }
            return rest.flatMap { $0 < total ? $0 : nil }
        }
        guard name.count >= 2 + digits else { return nil }
        var number = 0
        for digit in name[2..<(2 + digits)] {
            guard digit >= 48, digit < 58 else { return nil }
            number = number * 10 + Int(digit - 48)
        }
        guard number < count, bytes(number).elementsEqual(name) else { return nil }
        return number
    }
}

/// Values are a function of the operation that wrote them, so that any bytes can be checked without storing them twice.
package enum SimValue {
    @inline(__always)
    private static func byte(_ id: UInt32, _ index: Int) -> UInt8 {
        index < 4
            ? UInt8(truncatingIfNeeded: id >> UInt32(8 * index))
            : UInt8(truncatingIfNeeded: (id &+ UInt32(truncatingIfNeeded: index)) &* 0x9E37_79B1 >> 21)
    }

    package static func fill(_ bytes: inout [UInt8], id: UInt32, length: Int) {
        bytes.removeAll(keepingCapacity: true)
        for index in 0..<length { bytes.append(byte(id, index)) }
    }

    package static func matches(_ bytes: UnsafeRawBufferPointer, id: UInt32, length: Int) -> Bool {
        guard bytes.count == length else { return false }
        for index in 0..<length where bytes[index] != byte(id, index) { return false }
        return true
    }
}
