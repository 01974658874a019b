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

    /// From now on an entry that `base` covers and whose key is not there is one that was deleted.
    func begin(beside base: VersionVector) {
        settle()
        stores.base = base
    }

    /// All that was read is in the stores.
    func settle() {
        merge()
        crew?.settle()
    }

    /// For each store, side by side, once all is in them.
    func forEach(_ body: @escaping @Sendable (Store) -> Void) {
        settle()
        let stores = stores
        guard let crew else { return stores.forEach(lane: 0, of: 1, body) }
        let lanes = crew.lanes
        crew.perform({ stores.forEach(lane: $0, of: lanes, body) }, last: {})
        crew.settle()
    }
}

/// The stores, each a matter of one lane's thread.
private final class MergeStores: @unchecked Sendable {
    private let stores: [Store]
    /// Changed while nothing is under way.
    var base: VersionVector?

    init(_ stores: [Store]) { self.stores = stores }

    func forEach(lane: Int, of lanes: Int, _ body: (Store) -> Void) {
        for index in stride(from: lane, to: stores.count, by: lanes) { body(stores[index]) }
    }

    func merge(_ group: MergeGroup, lane: Int, of lanes: Int) {
        forEach(lane: lane, of: lanes) { store in
            let (records, hashes) = (group.records, group.hashes)
            guard let base, hasForgotten(group, base, store) else {
                return store.merge(records, hashes, count: group.count)
            }
            // One by one: what came before an entry in the group counts.
            for i in 0..<group.count {
                if base.covers(records[i].origin, records[i].seq), isAbsent(records[i], hashes[i], store) { continue }
                store.merge(records[i], hashes[i])
            }
        }
    }

    /// Whether one of the group is of what the snapshot covers and has not.
    private func hasForgotten(_ group: MergeGroup, _ base: VersionVector, _ store: Store) -> Bool {
        for i in 0..<group.count where base.covers(group.records[i].origin, group.records[i].seq) {
            if isAbsent(group.records[i], group.hashes[i], store) { return true }
        }
        return false
    }

    private func isAbsent(_ record: Record, _ hash: UInt64, _ store: Store) -> Bool {
        store.find(HashedKey(record, hash: hash)) == nil && !(record.isCompanion && store.isAwaited(record))
    }
}
