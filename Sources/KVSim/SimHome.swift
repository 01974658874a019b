// The data directory of one simulated process: its manifest, its snapshots, and the thread that waits for the disk.
// Carries out what `SnapshotPlan` decides. Used by SimWorld only, one thread.
import KVBase
import KVCore

/// Jobs one after the other, as `DiskThread` does them.
final class SimDiskThread {
    fileprivate var freeAt: SimTime = 0
    /// When the last job's end is told.
    fileprivate var toldAt: SimTime = 0
}

final class SimHome {
    let slot: Int
    let server: UInt64
    let disk: SimDisk
    let options: SimDiskOptions
    private(set) var manifest: Manifest
    private(set) var logs: [SimLog] = []
    private(set) var isDead = false
    private unowned(unsafe) let world: SimWorld
    private let thread = SimDiskThread()
    private var saver: SnapshotPlan!
    private var isSaving = false
    /// Of the snapshot that is being made.
    private var file: (name: String, file: SimFile, end: Int)?
    private var start = VersionVector()
    private var loggedAtStart = 0
    private var logged = 0

    /// `manifest` has this life already.
    init(_ slot: Int, _ server: UInt64, _ disk: SimDisk, _ manifest: Manifest, _ world: SimWorld) {
        (self.slot, self.server, self.disk, self.manifest, self.world) = (slot, server, disk, manifest, world)
        options = world.options.disks!
    }

    var planted: PlantedMistakes { world.bug?.bug ?? [] }

    /// The first files of all logs, then the manifest, then what a process left that ended in the middle goes. False if
    /// the disk does not take it.
    func begin(actors count: Int) -> Bool {
        for actor in 0..<count {
            guard SimHome.makeLog(header(.log, actor, 1), options.limits.fileBytesMin, options, disk) != nil else {
                return false
            }
        }
        guard write(manifest) else { return false }
        for name in manifest.leftovers(among: disk.names()) { disk.remove(name) }
        return true
    }

    /// Once the actors are there.
    func attach(_ actors: [SimActor]) {
        for (index, actor) in actors.enumerated() {
            let file = LogFile(header(.log, index, 1), capacity: options.limits.fileBytesMin)
            let log = SimLog(actor, self, file, world)
            logs.append(log)
            actor.log = log
            actor.replica.onLearned = { [unowned log] in log.learn($0) }
            actor.replica.durableSource = { [unowned log] in log.plan.durableVector() }
        }
        saver = SnapshotPlan(
            actors[0].replica, host: self, blockBytes: options.blockBytes, planted: planted)
        logs[0].noteRows()
    }

    /// The process is gone.
    func die() { isDead = true }

    func header(_ kind: DiskHeader.Kind, _ actor: Int, _ number: UInt64) -> DiskHeader {
        DiskHeader(
            kind: kind, file: mix64(server ^ UInt64(actor) << 8 ^ UInt64(kind.rawValue), number) | 1, server: server,
            actor: actor, number: number, name: "sim", lineage: manifest.lives.map(\.server).filter { $0 != server })
    }

    // MARK: Waiting

    /// Runs `job` when the disk gets to it, then `done` on the actor's loop.
    func perform<T>(
        _ actor: Int, on thread: SimDiskThread? = nil, syncs: Bool = false, _ job: @escaping () -> T,
        _ done: @escaping (T) -> Void
    ) {
        let thread = thread ?? self.thread
        let slowMillis = disk.slowMillis + (syncs && slot > 0 ? options.slowSyncMillis : 0)
        let micros = SimTime(1 + world.random.disks.below(options.microsMax)) + slowMillis * simMillisecond
        thread.freeAt = max(thread.freeAt, world.now) + micros
        world.later(at: thread.freeAt) { [self] in
            guard !isDead else { return }
            let result = job()
            tell(actor, from: thread) { done(result) }
        }
    }

    /// Runs `job` on an actor's loop, soon; what is told from one thread in order.
    func tell(_ actor: Int, from thread: SimDiskThread? = nil, _ job: @escaping () -> Void) {
        let number = world.servers[slot].actors[actor]
        let time = max(world.now + SimTime(1 + world.random.disks.below(60)), thread?.toldAt ?? 0)
        thread?.toldAt = time
        world.later(at: time, on: number) { [self] in
            if !isDead { job() }
        }
    }

    // MARK: Files

    static func makeLog(
        _ header: DiskHeader, _ capacity: Int, _ options: SimDiskOptions, _ disk: SimDisk
    ) -> SimFile? {
        let name = DiskNames.log(header.server, header.actor, header.number)
        guard let file = disk.make(name + DiskNames.unfinished, capacity: capacity) else { return nil }
        guard header.encoded().withUnsafeBytes({ disk.write($0, to: file, at: 0) }), disk.sync(file),
            disk.rename(name + DiskNames.unfinished, to: name), disk.syncNames()
        else {
            disk.remove(name + DiskNames.unfinished)
            return nil
        }
        return file
    }

    /// True if the new manifest is on the disk.
    private func write(_ manifest: Manifest) -> Bool {
        let temporary = DiskNames.manifest + DiskNames.unfinished
        guard let file = disk.make(temporary, capacity: 0),
            Array(manifest.text.utf8).withUnsafeBytes({ disk.write($0, to: file, at: 0) })
        else { return false }
        let isCareless = planted(.oldManifestBelieved)
        guard isCareless || disk.sync(file), disk.rename(temporary, to: DiskNames.manifest) else { return false }
        return isCareless || disk.syncNames()
    }

    static func manifest(of disk: SimDisk) throws -> Manifest? {
        guard let file = disk.file(DiskNames.manifest) else { return nil }
        return try Manifest(parsing: String(decoding: file.shown, as: UTF8.self))
    }

    // MARK: Snapshots

    func noteLogged(_ bytes: Int) {
        logged += bytes
        if logged > options.saveAfterBytes, !isSaving { save(false, nil) }
    }

    /// Asks the first actor for a snapshot.
    func save(_ isFresh: Bool, _ done: (@Sendable (Bool) -> Void)?) {
        isSaving = true
        tell(0) { [self] in saver.request(isFresh, done) }
    }

    /// The end of a turn of the first actor.
    func turnEnded(_ actor: SimActor) {
        guard saver.isWalking else { return }
        for _ in 0..<options.stepsPerTurn { if !saver.step() { break } }
        if saver.pause() { world.schedule(actor, at: world.now + SimTime(options.turnMicros)) }
    }
}

extension SimHome: SnapshotHost {
    var wallMillis: Millis { world.moment(slot).wall }
    var lastNumber: UInt64 { manifest.snapshot?.number ?? 0 }
    private var floor: Millis { saverActor.store.gcFloor - simEpochMillis }
    private var saverActor: SimActor { world.actors[world.servers[slot].actors[0]] }

    func open(_ number: UInt64) {
        let (header, name) = (header(.snapshot, 0, number), DiskNames.snapshot(number))
        file = nil
        perform(0) { [self] () -> SimFile? in
            let made = disk.make(name + DiskNames.unfinished, capacity: 0)
            return made.flatMap { file in
                header.encoded().withUnsafeBytes { disk.write($0, to: file, at: 0) } ? file : nil
            }
        } _: { [self] (made: SimFile?) in
            file = made.map { (name, $0, DiskHeader.byteCount) }
            loggedAtStart = logged
            start = saverActor.replica.durableVector
            saver.opened(made == nil ? nil : header)
            world.outcome.points.hit("disk: snapshot begun")
            world.say { "snapshot \(number) of server \(self.slot) begins, floor \(self.floor)" }
        }
    }

    func write(_ block: UnsafeRawBufferPointer) {
        let bytes = Array(block)
        perform(0) { [self] () -> Bool in
            guard let current = file, bytes.withUnsafeBytes({ disk.write($0, to: current.file, at: current.end) })
            else { return false }
            file!.end += bytes.count
            return true
        } _: { [self] in
            saver.blockWritten($0)
        }
    }

    func verify() {
        perform(0, syncs: true) { [self] () -> Int? in
            guard let (name, file, _) = file, disk.sync(file), disk.rename(name + DiskNames.unfinished, to: name),
                disk.syncNames()
            else { return nil }
            let isWhole = file.shown.withUnsafeBytes { bytes in
                do { try Recovery.verify(snapshot: bytes, planted: planted) } catch { return false }
                return true
            }
            return isWhole ? file.shown.count : nil
        } _: { [self] in
            saver.verified($0)
        }
    }

    func gather(beside vector: VersionVector) {
        var firsts = [UInt64?](repeating: nil, count: logs.count)
        for (index, log) in logs.enumerated() {
            tell(index) { [self] in
                log.plan.settle { [self] in
                    firsts[index] = log.plan.firstNeeded(beside: vector)
                    let known = firsts.compactMap { $0 }
                    if known.count == firsts.count { tell(0) { [self] in saver.gathered(known) } }
                }
            }
        }
    }

    func settle(_ snapshot: Manifest.Snapshot, firstLogs: [UInt64]) {
        perform(0) { [self] () -> Bool in
            var changed = manifest
            changed.settle(snapshot, of: server, firstLogs: firstLogs)
            guard write(changed) else { return false }
            let before = manifest
            manifest = changed
            world.notePromised(slot, through: start)
            for name in manifest.unneeded(among: disk.names(), before: before) { disk.remove(name) }
            return true
        } _: { [self] in
            saver.settled($0)
        }
    }

    func ended(_ snapshot: Manifest.Snapshot?) {
        if snapshot != nil {
            logged -= loggedAtStart
            world.outcome.points.hit("disk: snapshot made")
            world.say { "snapshot \(self.lastNumber) of server \(self.slot) is made, floor \(self.floor)" }
        } else {
            if let file { disk.remove(file.name + DiskNames.unfinished) }
            world.outcome.points.hit("disk: snapshot given up")
        }
        (file, isSaving) = (nil, false)
    }
}
