// The directory of a server that runs: what was recovered from it, its logs, its snapshots. Main thread: before the
// loops run, and after they have ended.

import KVBase
import KVCore
import KVFiles
import KVRuntime
import Logging

final class ServerDisk {
    let recovered: Recovered?
    private var persistence: Persistence?
    private let cores: [(shard: Shard, loop: Loop)]
    private var logs: [ActorLog] = []
    private var snapshotter: Snapshotter?
    private let directory: DataDirectory
    private let log: Logger

    private let context: ServerContext
    /// As it was when the server started; nil in a new directory.
    private let manifest: Manifest?

    /// Fills the empty stores with what is there. Nothing in the directory is changed.
    init(
        _ directory: DataDirectory, _ cores: [(Shard, Loop)], into stores: [Store], _ context: ServerContext,
        _ log: Logger
    ) throws(StartFailure) {
        (self.directory, self.cores, self.context, self.log) = (directory, cores, context, log)
        manifest = directory.manifest.map { ServerDisk.manifest($0, name: context.config.nameText) }
        if let manifest {
            var recovered = try Recoverer.run(
                directory, manifest, into: stores, repairs: context.config.disk.repairs,
                progress: context.loading, log: log)
            if manifest.isRestored, manifest.restored.hasSuffix(RestoreMode.newEpoch.rawValue) {
                // Nobody else is of this epoch.
                for place in recovered.state.rows.indices { recovered.state.rows[place].status = .forgotten }
            }
            self.recovered = recovered
            let millis = Int(recovered.nanos / 1_000_000)
            log.info(
                "read \(recovered.entries) entries, \(recovered.bytes) bytes, from \(directory.path) in \(millis) ms")
        } else {
            recovered = nil
        }
    }

    /// The server of a backup may live on, if it is not this one that was restored.
    private static func manifest(_ manifest: Manifest, name: String) -> Manifest {
        var manifest = manifest
        let isImport = manifest.restored.hasSuffix(RestoreMode.importing.rawValue)
        if manifest.isRestored, manifest.name != name, !isImport { manifest.lives = [] }
        return manifest
    }

    /// Other servers were members when this one ended.
    var knowsOthers: Bool { recovered?.found.knowsOthers ?? false }

    /// That of the directory; nil in a new one.
    var epoch: UInt64? { manifest?.epoch }

    private var newManifest: Manifest {
        let config = context.config
        var manifest = Manifest(cluster: config.cluster, name: config.nameText, isNamed: config.name != nil)
        if !config.join.isEmpty { manifest.epoch = 0 }
        return manifest
    }

    /// Begins a new life and its logs. Once every core has its replica, and every other hook is in place.
    func begin() throws(StartFailure) {
        let config = context.config
        var manifest = self.manifest ?? newManifest
        (manifest.name, manifest.isNamed) = (config.nameText, config.name != nil)
        manifest.begin(
            Manifest.Life(
                server: context.serverID, actors: cores.count, firstLogs: [UInt64](repeating: 1, count: cores.count)))
        let persistence = Persistence(
            directory, config.disk, server: context.serverID, actors: cores.count, manifest: manifest,
            recovered: recovered, log: log)
        var files: [DiskFile] = []
        do throws(DiskError) {
            for actor in 0..<cores.count { files.append(try ActorLog.firstFile(actor, persistence)) }
            try persistence.change { $0 = manifest }
        } catch {
            for file in files { directory.remove(file.name) }
            throw StartFailure(description: "cannot use --dir \(directory.path): \(error)")
        }
        for name in recovered?.damaged ?? [] { directory.setAside(name) }
        directory.tidy(manifest)
        persistence.note(quarantined: directory.quarantinedBytes)
        context.keep(with: persistence)
        self.persistence = persistence
        for (core, file) in zip(cores, files) {
            let log = ActorLog(core.shard, core.loop, persistence, file: file)
            logs.append(log)
            core.shard.log = log
        }
        attach(persistence)
    }

    private func attach(_ persistence: Persistence) {
        let first = cores[0]
        let snapshotter = Snapshotter(
            first.shard, first.shard.replicator!.replica, first.loop, persistence, logs: logs)
        self.snapshotter = snapshotter
        for (index, core) in cores.enumerated() {
            let log = logs[index]
            core.shard.replicator!.replica.onLearned = { [unowned log] in log.learn($0) }
            core.shard.replicator!.replica.durableSource = { [unowned log] in log.durableVector() }
            core.shard.replicator!.replica.isSynced = persistence.settings.policy != .no
            if index == 0 {
                core.shard.replicator!.onRows = { [unowned log] in log.noteRows() }
                log.noteRows()
                // Until a snapshot has been made, older logs bring back what was dropped.
                core.shard.replicator!.onReconciled = { persistence.save(isFresh: true) }
            }
            // Borrowed: this object keeps both until the loop has ended.
            let (borrowed, saver) = (Unmanaged.passUnretained(log), Unmanaged.passUnretained(snapshotter))
            if index == 0 {
                core.loop.onTurnEnd {
                    saver._withUnsafeGuaranteedRef { $0.turnEnded() }
                    borrowed._withUnsafeGuaranteedRef { $0.turnEnded() }
                }
            } else {
                core.loop.onTurnEnd { borrowed._withUnsafeGuaranteedRef { $0.turnEnded() } }
            }
            core.loop.onResumed { borrowed._withUnsafeGuaranteedRef { $0.turnEnded() } }
        }
        // Damaged files are not read again.
        if !(recovered?.damaged.isEmpty ?? true) { persistence.save(isFresh: true) }
    }

    /// Whether all that was answered is on the disk. Waits for that.
    func finish() -> Bool {
        persistence?.backups.finish()
        snapshotter?.finish()
        var isKept = true
        for log in logs where !log.finish() { isKept = false }
        return isKept
    }
}
