// What a sibling shows of its own accord, ahead of its stream. Part of `Replica`; on its actor's thread.

import KVBase

extension Replica {
    /// Merges a record that a sibling holds now, by reference, as `Store.merge` does. It counts as merged beyond the
    /// vector until the writer's stream brings it.
    ///
    /// A covered write without a record was superseded, and its tombstone collected: it stays away. One that is not
    /// covered may fill an absent key. A tombstone is collected here only when this sibling has said that it has it,
    /// and what it showed before it said so came before that: the order of one sender's messages to one receiver stays.
    /// So this must be called when the record arrives, not later.
    package func mergeShown(_ record: Record, _ hash: UInt64) {
        let origin = record.origin
        let isCovered = origin == own || seen.covers(origin, record.seq)
        if isCovered, store.find(HashedKey(record, hash: hash)) == nil,
            !(record.isCompanion && store.isAwaited(record))
        {
            return
        }
        switch store.merge(record, hash) {
        case .applied:
            statistics.entriesApplied &+= 1
            if !isCovered { seen.noteLoose(origin, record.seq) }
        case .divergent: statistics.versionCollisions &+= 1
        default: statistics.entriesIgnored &+= 1
        }
    }

    /// Other servers that have acknowledged all of these writes of this server's actors, numbered from 0. O(servers).
    package func serversHolding(_ writes: [(index: Int, seq: UInt64)]) -> Int {
        let positions = positions(of: writes)
        return servers.count { server in
            positions.allSatisfy { origin, seq in server.seenGapless[origin] >= seq }
        }
    }

    /// Other servers that have reported that all of these writes are on their disks. O(servers).
    package func serversKeeping(_ writes: [(index: Int, seq: UInt64)]) -> Int {
        let positions = positions(of: writes)
        return servers.count { server in
            guard let report = server.report, report.isOnDisk else { return false }
            return positions.allSatisfy { origin, seq in report.least[origin] >= seq }
        }
    }

    private func positions(of writes: [(index: Int, seq: UInt64)]) -> [(OriginIndex, UInt64)] {
        writes.compactMap { write in
            origins.intern(ActorUID(server: uid.server, index: UInt16(write.index))).map { ($0, write.seq) }
        }
    }
}
