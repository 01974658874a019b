// What all actors of a process share of its directory: settings, manifest, figures. Any thread.

import KVBase
import KVCore
import KVRuntime
import Logging
import Synchronization

package final class Persistence: Sendable {
    let directory: DataDirectory
    let settings: DiskSettings
    let log: Logger
    let server: UInt64
    let name: String
    let cluster: String
    let lineage: [UInt64]
    let logs: [LogFigures]
    /// What the start found, if there was something.
    let recoveredEntries: Int
    let recoverySeconds: Double
    let backups = Backups()

    /// As it counts; who reads it waits for no disk.
    private let manifest: Mutex<Manifest>
    /// One changes it at a time.
    private let writing = Mutex<Void>(())
    private let clusterEpoch: Atomic<UInt64>
    private let isEpochKept = Atomic<Bool>(true)
    private let figures: Mutex<SaveFigures>
    /// Bytes of logs since the last snapshot.
    private let logged = Atomic<Int>(0)
    private let saveAfter = Atomic<Int>(0)
    private let quarantined = Atomic<Int>(0)
    private let isWanted = Atomic<Bool>(false)
    private let saver = Mutex<(@Sendable (_ isFresh: Bool, _ done: (@Sendable (Bool) -> Void)?) -> Void)?>(nil)

    init(
        _ directory: DataDirectory, _ settings: DiskSettings, server: UInt64, actors: Int, manifest: Manifest,
        recovered: Recovered?, log: Logger
    ) {
        (self.directory, self.settings, self.log, self.server) = (directory, settings, log, server)
        (name, cluster) = (manifest.name, manifest.cluster)
        clusterEpoch = Atomic(manifest.epoch)
        lineage = manifest.lives.map(\.server).filter { $0 != server }
        logs = (0..<actors).map { _ in LogFigures() }
        self.manifest = Mutex(manifest)
        var figures = SaveFigures(savedAt: manifest.snapshot?.at ?? Machine.wallMillis)
        figures.snapshotBytes = Int(manifest.snapshot?.bytes ?? 0)
        self.figures = Mutex(figures)
        recoveredEntries = recovered?.entries ?? 0
        recoverySeconds = Double(recovered?.nanos ?? 0) / 1e9
        logged.store(recovered?.logBytes ?? 0, ordering: .relaxed)
        saveAfter.store(limit(snapshotBytes: figures.snapshotBytes), ordering: .relaxed)
    }

    private func limit(snapshotBytes: Int) -> Int {
        settings.saveAfterBytes ?? max(DiskSettings.saveAfterBytesMin, snapshotBytes)
    }

    // Manifest.

    /// Changes the manifest, and waits until that is on the disk; unchanged if it throws. Threads that may wait.
    func change(_ body: (inout Manifest) -> Void) throws(DiskError) {
        try writing.withLock { _ throws(DiskError) in
            var changed = manifestNow
            body(&changed)
            changed.epoch = epoch
            try directory.write(changed)
            manifest.withLock { $0 = changed }
        }
    }

    /// The cluster's; 0 as long as a server that joins has met no other.
    var epoch: UInt64 { clusterEpoch.load(ordering: .relaxed) }

    /// A server that joined has met another one. Any thread.
    func adopt(epoch: UInt64) {
        clusterEpoch.store(epoch, ordering: .relaxed)
        keepEpoch()
    }

    private func keepEpoch() {
        isEpochKept.store(true, ordering: .relaxed)
        let isTaken = backups.perform { [self] in
            do throws(DiskError) { try change { _ in } } catch {
                isEpochKept.store(false, ordering: .relaxed)
                log.error("the cluster's epoch is not kept yet: \(error)")
            }
        }
        if !isTaken { isEpochKept.store(false, ordering: .relaxed) }
    }

    /// Sees to what clients do not fetch, and to what the disk did not take. To be called every `Backups.lookMillis`.
    func look() {
        backups.look()
        if !isEpochKept.load(ordering: .relaxed) { keepEpoch() }
        figures.withLock { if $0.hasFailed, !$0.isSaving { isWanted.store(false, ordering: .relaxed) } }
    }

    var manifestNow: Manifest { manifest.withLock { $0 } }

    /// Files that the manifest does not need.
    func removeUnneeded(_ before: Manifest) {
        for name in manifestNow.unneeded(among: directory.names(), before: before) { directory.remove(name) }
    }

    // Snapshots.

    /// Who makes snapshots. Before the loops run.
    func saves(with saver: @escaping @Sendable (_ isFresh: Bool, _ done: (@Sendable (Bool) -> Void)?) -> Void) {
        self.saver.withLock { $0 = saver }
    }

    /// Asks for a snapshot; `isFresh`: one that begins after now, even if one is being made. `done`, on some loop's
    /// thread, is told whether it is on the disk.
    func save(isFresh: Bool = false, _ done: (@Sendable (Bool) -> Void)? = nil) {
        saver.withLock { $0 }?(isFresh, done)
    }

    /// A log has grown.
    func noteLogged(_ bytes: Int) {
        let total = logged.add(bytes, ordering: .relaxed).newValue
        guard total > saveAfter.load(ordering: .relaxed), !isWanted.exchange(true, ordering: .relaxed) else { return }
        save()
    }

    /// Of damaged files that were set aside.
    var quarantinedBytes: Int { quarantined.load(ordering: .relaxed) }
    func note(quarantined bytes: Int) { quarantined.store(bytes, ordering: .relaxed) }

    var writes: UInt64 { logs.reduce(0) { $0 + $1.writes } }
    var loggedBytes: Int { logged.load(ordering: .relaxed) }
    var saveFigures: SaveFigures { figures.withLock { $0 } }

    func noteSaving() {
        isWanted.store(true, ordering: .relaxed)
        figures.withLock { $0.isSaving = true }
    }

    /// A snapshot was made, or not. `writes` and `logged`: all there had been when it began.
    func noteSaved(_ snapshot: Manifest.Snapshot?, writes: UInt64, logged before: Int, nanos: Nanos) {
        figures.withLock { figures in
            figures.isSaving = false
            figures.hasFailed = snapshot == nil
            if snapshot == nil { figures.failures += 1 }
            figures.seconds = Int(nanos / 1_000_000_000)
            guard let snapshot else { return }
            figures.savedAt = snapshot.at
            figures.snapshotBytes = Int(snapshot.bytes)
            figures.writesSaved = writes
        }
        if let snapshot {
            logged.subtract(before, ordering: .relaxed)
            saveAfter.store(limit(snapshotBytes: Int(snapshot.bytes)), ordering: .relaxed)
        }
        // After one that failed the logs' growth asks for no other before `look`.
        isWanted.store(snapshot == nil, ordering: .relaxed)
    }
}
