// A store beside the plainest thing that could be right: a dictionary. Used by the store's tests, one thread.

import Glibc
import KVBase
import KVCore

struct ModelEntry: Equatable {
    var value: Bytes?
    var version: Version
}

/// A store whose every answer is compared with a dictionary's.
final class ModelledStore {
    let store: Store
    let origins: OriginTable
    private(set) var model: [Bytes: ModelEntry] = [:]
    /// Keys of live entries in byte order.
    private(set) var liveKeys: [Bytes] = []
    var gcFloor: Millis = 0
    private var moved: Millis = 0
    private var movedAt: Millis = 0
    var seq: UInt64 = 0
    let own: ActorUID

    init(own: ActorUID = ActorUID(server: 7, index: 1), origins: OriginTable = OriginTable(), hashMask: UInt64 = .max) {
        self.own = own
        self.origins = origins
        store = Store(
            StoreConfig(
                hashSeed: 0x1234_5678, digestKey: 0x9876_5432, own: own, origins: origins, journalCapacity: 8192,
                hashMask: hashMask))
    }

    deinit { store.destroy() }

    static func precedes(_ a: Bytes, _ b: Bytes) -> Bool {
        let shared = min(a.count, b.count)
        let order = a.array.withUnsafeBytes { p in
            b.array.withUnsafeBytes { q in shared > 0 ? memcmp(p.baseAddress!, q.baseAddress!, shared) : 0 }
        }
        return order != 0 ? order < 0 : a.count < b.count
    }

    /// Where a key is among the live ones, or would be.
    func lowerBound(_ key: Bytes) -> Int {
        var (low, high) = (0, liveKeys.count)
        while low < high {
            let middle = (low + high) / 2
            if ModelledStore.precedes(liveKeys[middle], key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func note(_ key: Bytes, _ entry: ModelEntry?) {
        let wasLive = model[key]?.value != nil
        model[key] = entry
        let isLive = entry?.value != nil
        if wasLive && !isLive { liveKeys.remove(at: lowerBound(key)) }
        if isLive && !wasLive { liveKeys.insert(key, at: lowerBound(key)) }
    }

    /// Stamps are moved on by 2 s at once, and by no more than time passes.
    private func mayMove(_ millis: Millis, _ now: Millis) -> Bool {
        moved = max(0, moved - max(0, now - movedAt))
        movedAt = now
        if moved + millis > 2_000 { return false }
        moved += millis
        return true
    }

    func put(_ key: Bytes, _ value: Bytes, now: Millis, floor: Millis = 0) -> Bool {
        var ms = max(now, gcFloor + 1, floor > 0 ? floor + 1 : 0)
        if let old = model[key] {
            ms = max(ms, old.version.ms)
            if Version(ms: ms, uid: own, seq: seq + 1) <= old.version { ms = old.version.ms + 1 }
            // Two milliseconds after a delete.
            if old.value == nil, ms < old.version.ms + 2, mayMove(old.version.ms + 2 - ms, now) {
                ms = old.version.ms + 2
            }
        }
        seq += 1
        let version = Version(ms: ms, uid: own, seq: seq)
        note(key, ModelEntry(value: value, version: version))
        guard let record = store.put(key, value, now: now, floor: floor) else { return false }
        return record.version(origins) == version && Bytes(record.value) == value && Bytes(record.key) == key
    }

    func delete(_ key: Bytes, now: Millis) -> Bool {
        guard let old = model[key], old.value != nil else { return store.delete(key, now: now) == nil }
        var ms = max(now, gcFloor + 1, old.version.ms)
        if Version(ms: ms, uid: own, seq: seq + 1) <= old.version { ms = old.version.ms + 1 }
        seq += 1
        let version = Version(ms: ms, uid: own, seq: seq)
        note(key, ModelEntry(value: nil, version: version))
        guard let record = store.delete(key, now: now) else { return false }
        return record.isTombstone && record.version(origins) == version && record.valueCount == 0
    }

    func merge(_ key: Bytes, _ value: Bytes?, _ version: Version, byReference: Bool) -> Bool {
        let wins = model[key].map { version > $0.version } ?? true
        let same = model[key].map { version == $0.version } ?? false
        if wins { note(key, ModelEntry(value: value, version: version)) }
        let expected: MergeOutcome = wins ? .applied : same ? .same : .older
        if byReference {
            let record = Record.make(key, value, version, origins)
            defer { record.release() }
            return store.merge(record) == expected
        }
        return store.merge(key, value, version) == expected
    }

    func dropTombstone(_ key: Bytes) -> Bool {
        guard let old = model[key], old.value == nil else { return !store.dropTombstone(key) }
        gcFloor = max(gcFloor, old.version.ms)
        note(key, nil)
        return store.dropTombstone(key) && store.gcFloor == gcFloor
    }

    func agreesOn(_ key: Bytes) -> Bool {
        store.entry(key) == model[key] && store.value(key) == model[key]?.value
    }

    /// Compares everything: counts, every key, the whole listing, a whole walk.
    func agrees() -> Bool {
        store.checkInvariants()
        guard store.count == liveKeys.count, store.tombstoneCount == model.count - liveKeys.count else { return false }
        guard model.keys.allSatisfy(agreesOn), store.ownSeq == seq else { return false }
        return store.listing() == liveKeys && Set(store.walking(budget: 7)) == Set(liveKeys)
    }
}

extension Record {
    static func make(_ key: Bytes, _ value: Bytes?, _ version: Version, _ origins: OriginTable) -> Record {
        key.withView { key in
            (value ?? "").withView { bytes in
                Record.create(
                    key: key, value: bytes, ms: version.ms, origin: origins.intern(version.uid)!, seq: version.seq,
                    isTombstone: value == nil)
            }
        }
    }
}

extension Bytes {
    func withView<R>(_ body: (ByteView) -> R) -> R { withBytes { body(ByteView($0)) } }
}

/// The store's calls for keys that are values of their own.
extension Store {
    func put(_ key: Bytes, _ value: Bytes, now: Millis, floor: Millis = 0) -> Record? {
        key.withView { key in value.withView { put(self.key(key), value: $0, now: now, floor: floor) } }
    }

    func delete(_ key: Bytes, now: Millis) -> Record? { key.withView { delete(self.key($0), now: now) } }

    func merge(_ key: Bytes, _ value: Bytes?, _ version: Version) -> MergeOutcome {
        key.withView { key in
            guard let value else { return merge(self.key(key), value: nil, version: version) }
            return value.withView { merge(self.key(key), value: $0, version: version) }
        }
    }

    func dropTombstone(_ key: Bytes) -> Bool { key.withView { dropTombstone(self.key($0)) } }

    func value(_ key: Bytes) -> Bytes? { key.withView { get(self.key($0), now: 0).map { Bytes($0.value) } } }

    func entry(_ key: Bytes) -> ModelEntry? {
        key.withView {
            find(self.key($0)).map {
                ModelEntry(value: $0.isTombstone ? nil : Bytes($0.value), version: $0.version(origins))
            }
        }
    }

    func listing(prefix: Bytes = "", after: Bytes? = nil, pageLimit: Int = 50, limit: Int = .max) -> [Bytes] {
        var keys: [Bytes] = []
        var after = after
        while keys.count < limit {
            let page = prefix.withBytes { prefix in
                if let after {
                    return after.withBytes {
                        list(prefix: prefix, after: $0, limit: min(pageLimit, limit - keys.count), now: 0)
                    }
                }
                return list(prefix: prefix, limit: min(pageLimit, limit - keys.count), now: 0)
            }
            for i in 0..<page.count { keys.append(Bytes(page[i].key)) }
            if page.isLast { break }
            after = page.position.map { Bytes($0) }
        }
        return keys
    }

    func walking(budget: Int) -> [Bytes] {
        var keys: [Bytes] = []
        var cursor = WalkCursor()
        while !cursor.isDone {
            walk(&cursor, budget: budget) { if !$0.isTombstone { keys.append(Bytes($0.key)) } }
        }
        return keys
    }
}
