// Entries on their way from a directory's bytes into stores: many are merged together, perhaps beside the reading of
// what follows. The thread that reads, but for what it says.

import KVBase

/// Does work on other threads, for a start.
package protocol RecoveryCrew: AnyObject {
    /// How many work side by side.
    var lanes: Int { get }
    /// So many calls of `perform` at most are under way at a time: the next one waits.
    var goesMax: Int { get }
    /// Calls `work` for each lane, on its thread, behind what it was given before; then `last`, on one of them. May
    /// return before.
    func perform(_ work: @escaping @Sendable (_ lane: Int) -> Void, last: @escaping @Sendable () -> Void)
    /// Waits until all that was given is done.
    func settle()
}

/// Records with their key hashes, in the order in which they were read.
final class MergeGroup: @unchecked Sendable {
    static let countMax = 1024

    let records = UnsafeMutablePointer<Record>.allocate(capacity: countMax)
    let hashes = UnsafeMutablePointer<UInt64>.allocate(capacity: countMax)
    var count = 0

    deinit {
        clear()
        records.deallocate()
        hashes.deallocate()
    }

    /// They are in the stores.
    func clear() {
        for i in 0..<count { records[i].release() }
        count = 0
    }
}

/// Merges groups into stores: all end up with the same, as each is merged into by one thread, in the same order.
final class MergeGroups {
    private let stores: MergeStores
    private let crew: (any RecoveryCrew)?
    private let groups: [MergeGroup]
    private var at = 0

    init(_ stores: [Store], _ crew: (any RecoveryCrew)?) {
        self.stores = MergeStores(stores)
        self.crew = crew
        // One more than may be under way: the one that is filled.
        groups = (0...(crew?.goesMax ?? 0)).map { _ in MergeGroup() }
    }

    /// The one to fill. It is empty.
    var current: MergeGroup { groups[at] }

    /// Merges the current group; the next one is another.
    func merge() {
        let (group, stores) = (current, stores)
        guard group.count > 0 else { return }
        guard let crew else {
            stores.merge(group, lane: 0, of: 1)
            return group.clear()
        }
        let lanes = crew.lanes
        crew.perform({ stores.merge(group, lane: $0, of: lanes) }, last: { group.clear() })
        at = (at + 1) % groups.count
    }

    /// From now on an entry that `base` covers, and that is newer than what is there, is of a key that was deleted. It
    /// goes in all the same, as it beats what is older, in whatever order both are read; `finish` takes it out.
    func begin(beside base: VersionVector) {
        settle()
        stores.base = base
    }

    /// All that was read is in the stores.
    func settle() {
        merge()
        crew?.settle()
    }

    /// For each store, side by side, once all is in them. Then what was deleted goes.
    func finish(_ body: @escaping @Sendable (Store) -> Void) {
        settle()
        let stores = stores
        guard let crew else { return stores.finish(lane: 0, of: 1, body) }
        let lanes = crew.lanes
        crew.perform({ stores.finish(lane: $0, of: lanes, body) }, last: {})
        crew.settle()
    }
}

/// A store, and what was put into it though the snapshot covers it and has not got it.
private final class MergeStore {
    let store: Store
    private var deleted: [(record: Record, hash: UInt64)] = []

    init(_ store: Store) { self.store = store }

    deinit { for (record, _) in deleted { record.release() } }

    func merge(_ group: MergeGroup, beside base: VersionVector?) {
        let (records, hashes) = (group.records, group.hashes)
        guard let base, hasDeleted(group, base) else { return store.merge(records, hashes, count: group.count) }
        // One by one: what came before an entry in the group counts.
        for i in 0..<group.count {
            let (record, hash) = (records[i], hashes[i])
            if isDeleted(record, hash, base) {
                if record.isCompanion { continue }
                deleted.append((record.retained(), hash))
            }
            store.merge(record, hash)
        }
    }

    private func hasDeleted(_ group: MergeGroup, _ base: VersionVector) -> Bool {
        for i in 0..<group.count where isDeleted(group.records[i], group.hashes[i], base) { return true }
        return false
    }

    /// Of what the snapshot covers it has the same or something newer, or its key was collected.
    private func isDeleted(_ record: Record, _ hash: UInt64, _ base: VersionVector) -> Bool {
        guard base.covers(record.origin, record.seq) else { return false }
        guard let held = store.find(HashedKey(record, hash: hash)) else {
            return !(record.isCompanion && store.isAwaited(record))
        }
        return !record.isCompanion && store.compareStamps(record.ms, record.origin, record.seq, held) > 0
    }

    /// What is still there of it goes.
    func dropDeleted() {
        _ = store.dropSuperseded(
            deleted.filter { record, hash in store.find(HashedKey(record, hash: hash)) == record })
    }
}

/// The stores, each a matter of one lane's thread.
private final class MergeStores: @unchecked Sendable {
    private let stores: [MergeStore]
    /// Changed while nothing is under way.
    var base: VersionVector?

    init(_ stores: [Store]) { self.stores = stores.map { MergeStore($0) } }

    private func forEach(lane: Int, of lanes: Int, _ body: (MergeStore) -> Void) {
        for index in stride(from: lane, to: stores.count, by: lanes) { body(stores[index]) }
    }

    func merge(_ group: MergeGroup, lane: Int, of lanes: Int) {
        forEach(lane: lane, of: lanes) { $0.merge(group, beside: base) }
    }

    func finish(lane: Int, of lanes: Int, _ body: (Store) -> Void) {
        forEach(lane: lane, of: lanes) {
            body($0.store)
            $0.dropDeleted()
        }
    }
}
