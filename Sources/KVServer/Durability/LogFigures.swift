// What INFO says of logs and snapshots. Each written by one thread, read by any.

import KVBase
import KVRuntime
import Synchronization

/// Of one actor's log.
final class LogFigures: Sendable {
    private let writeCount = Atomic<UInt64>(0)
    private let unsyncedSince = Atomic<Nanos>(0)
    private let lateSyncs = Atomic<Int>(0)
    private let syncing = Atomic<Bool>(false)
    private let failing = Atomic<Bool>(false)
    private let durableSeq = Atomic<UInt64>(0)
    private let writeErrors = Atomic<Int>(0)
    private let syncErrors = Atomic<Int>(0)

    /// The actor's own writes so far.
    var writes: UInt64 { writeCount.load(ordering: .relaxed) }
    /// Times that a sync was due while another was under way.
    var delayedSyncs: Int { lateSyncs.load(ordering: .relaxed) }
    /// Times that the disk took no bytes, or no new file; and times that it did not say that it has them.
    var failedWrites: Int { writeErrors.load(ordering: .relaxed) }
    var failedSyncs: Int { syncErrors.load(ordering: .relaxed) }
    var isSyncing: Bool { syncing.load(ordering: .relaxed) }
    var isFailing: Bool { failing.load(ordering: .relaxed) }
    /// How long the oldest chunk has waited that is not on the disk.
    func lagMillis(now: Nanos) -> Millis {
        let since = unsyncedSince.load(ordering: .relaxed)
        return since == 0 ? 0 : max(0, now - since) / 1_000_000
    }

    /// The actor's own writes up to this one are on the disk.
    var durable: UInt64 { durableSeq.load(ordering: .relaxed) }

    func note(durable seq: UInt64) { durableSeq.store(seq, ordering: .relaxed) }
    func note(writes: UInt64) { writeCount.store(writes, ordering: .relaxed) }
    func note(unsyncedSince nanos: Nanos) { unsyncedSince.store(nanos, ordering: .relaxed) }
    func noteDelayedSync() { lateSyncs.add(1, ordering: .relaxed) }
    func noteFailedWrite() { writeErrors.add(1, ordering: .relaxed) }
    func noteFailedSync() { syncErrors.add(1, ordering: .relaxed) }
    func note(isSyncing: Bool) { syncing.store(isSyncing, ordering: .relaxed) }
    func note(isFailing: Bool) { failing.store(isFailing, ordering: .relaxed) }
}

/// Of the whole server's directory.
struct SaveFigures: Sendable {
    var isSaving = false
    /// When the last snapshot was finished, in milliseconds since 1970; the start, if there was none.
    var savedAt: Millis
    var hasFailed = false
    /// Snapshots that were not made since the start.
    var failures = 0
    /// How long the last one took; -1 if there was none.
    var seconds = -1
    var snapshotBytes = 0
    /// All actors' own writes when the last one began.
    var writesSaved: UInt64 = 0
}
