// A server came back with a disk that is older than what others have collected: what it drops then. A part of
// `Replica`; on its actor's thread.

import KVBase

/// Keys that the donor of a scan has, by hash. Filled by the actor that asked; unchanged once the scan has ended, from
/// when on siblings read it. Two keys with one hash of 64 bits: the second one would be kept.
final class DonorKeys: @unchecked Sendable {
    private var hashes: Set<UInt64> = []

    func note(_ page: DeltaSegment) { for entry in page.entries { hashes.insert(entry.hash) } }

    func has(_ hash: UInt64) -> Bool { hashes.contains(hash) }
}

/// A walk through the table, in slices, that drops what the donor had seen and does not have. It was deleted, or its
/// deadline passed, and the donor has collected that (docs/replication.md 8.6).
struct Reconciliation {
    private static let recordsPerWalk = 16

    private let concluding: ScanEnd
    private let sawAll: Bool
    private let keys: DonorKeys
    private var cursor = WalkCursor()
    private var droppedCount = 0

    init(_ end: ScanEnd, _ keys: DonorKeys, isWhole: Bool) {
        (concluding, self.keys, sawAll) = (end, keys, isWhole)
    }

    /// What is to be concluded when the walk is done, if every page of the scan was merged here.
    var end: ScanEnd? { sawAll ? concluding : nil }
    var isDone: Bool { cursor.isDone }
    var dropped: Int { droppedCount }

    /// Looks at up to about `budget` records. Returns how much work that was.
    mutating func step(_ store: Store, budget: Int) -> Int {
        var looked = 0
        var going: [(record: Record, hash: UInt64)] = []
        while looked < budget, !cursor.isDone {
            store.walk(&cursor, budget: Reconciliation.recordsPerWalk) { record in
                looked += 1
                guard concluding.start.covers(record.origin, record.seq) else { return }
                let hash = store.hasher.hash(record.keyView)
                if !keys.has(hash) { going.append((record, hash)) }
            }
            // An empty stretch of the table is work too.
            looked += 1
        }
        droppedCount += store.dropSuperseded(going)
        return looked
    }
}

extension Replica {
    /// Whether others may have collected deletes that this server's directory knows nothing of. A departed server's
    /// entry leaves the frontier when it is retired, so there what was seen of it decides.
    func isStale(_ end: ScanEnd) -> Bool {
        guard catchUp.isReturning, !planted(.staleDiskTrusted) else { return false }
        let known = catchUp.known
        for i in 0..<max(end.frontier.count, end.start.count) {
            let origin = OriginIndex(i)
            let server = origins.uid(origin).server
            guard server != uid.server, end.start[origin] != VersionVector.retired else { continue }
            if end.frontier[origin] > known[origin] { return true }
            if end.start[origin] > known[origin], !members.isMember(server) { return true }
        }
        return false
    }

    func beginReconciling(_ end: ScanEnd, _ keys: DonorKeys, isWhole: Bool) {
        reconciliation = Reconciliation(end, keys, isWhole: isWhole)
    }

    /// One slice. Returns how much work it was.
    func reconcile(budget: Int, _ at: Moment, into effects: inout ReplicaEffects) -> Int {
        guard var work = reconciliation else { return 0 }
        reconciliation = nil
        let looked = work.step(store, budget: budget)
        guard work.isDone else {
            reconciliation = work
            return looked
        }
        statistics.recordsReconciled &+= UInt64(work.dropped)
        effects.events.append(.reconciled(dropped: work.dropped))
        if let end = work.end {
            conclude(end, at)
            finishJoin(end, at, into: &effects)
        }
        return looked
    }
}
