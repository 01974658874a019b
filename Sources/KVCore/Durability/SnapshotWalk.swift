// Walks a store for a snapshot, in slices, while it is written to. Its actor's thread.

import KVBase

/// Every record that is there from the beginning to the end is visited, so the snapshot has of each key a record at
/// least as great as when the walk began, or the key was collected meanwhile. A key's companion goes with it.
package struct SnapshotWalk {
    /// A block is written when it has so many bytes.
    package static let blockBytes = 256 * 1024
    private static let recordsPerWalk = 16

    private var cursor = WalkCursor()
    private var offered: [Record] = []
    package private(set) var records: UInt64 = 0

    package init() {}

    package var isDone: Bool { cursor.isDone }
    /// How much of the table has been walked, of 100.
    package var percent: Int { Int(min(cursor.position, WalkCursor.positions) * 100 / WalkCursor.positions) }

    /// Adds the next few records to a page that is begun: fewer where they are large. O(records).
    package mutating func step(_ store: Store, into chunk: inout ChunkWriter) {
        offered.removeAll(keepingCapacity: true)
        let average = max(1, store.recordBytes / max(1, store.storedCount + store.tombstoneCount))
        let budget = min(SnapshotWalk.recordsPerWalk, max(1, SnapshotWalk.blockBytes / average))
        store.walk(&cursor, budget: budget) { offered.append($0) }
        guard !offered.isEmpty else { return }
        if store.hasCompanions {
            for record in offered {
                if let escort = store.escort(record, store.hasher.hash(record.keyView)) {
                    offered.append(escort.record)
                }
            }
        }
        records += UInt64(offered.count)
        chunk.add(offered)
    }
}
