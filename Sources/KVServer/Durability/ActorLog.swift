// The log of one actor: carries out what `WriteLog` decides about what it and, through it, other servers wrote. Its
// loop's thread; a thread of its own does what may wait for the disk.

import KVBase
import KVCore
import KVRuntime
import Logging
import RESP

final class ActorLog {
    /// Position of the actor, from 0.
    private let index: Int
    private unowned let shard: Shard
    let loop: Loop
    private let persistence: Persistence
    private let figures: LogFigures
    private let thread: DiskThread
    private let pen = LogPen()
    private let store: Store
    private var plan: WriteLog!
    /// Those that are written or synced, by number.
    private var files: [UInt64: DiskFile] = [:]
    private var waiting = HeldReplies()
    private var lastError: DiskError?
    // The two that `turnEnded` looks at in every turn: one thread, and nothing calls back.
    /// Own writes that are in chunks.
    @exclusivity(unchecked) private(set) var logged: UInt64
    @exclusivity(unchecked) private var hasMore = false

    /// `file` is empty. Before the loop runs.
    init(_ shard: Shard, _ loop: Loop, _ persistence: Persistence, file: DiskFile) {
        (self.shard, self.loop, self.persistence) = (shard, loop, persistence)
        index = shard.index - 1
        figures = persistence.logs[index]
        store = shard.state.pointee.store
        logged = store.ownSeq
        thread = DiskThread()
        files[file.header.number] = file
        plan = WriteLog(
            store, persistence.settings.policy, file: LogFile(file.header, capacity: file.capacity), host: self)
        if persistence.settings.policy == .everysec {
            loop.schedule(everyMillis: LogLimits().flushMillis) { [unowned self] in plan.flushDue() }
        }
    }

    /// Replies of those who write wait for the pen.
    var isHelped: Bool { plan.isHelped }

    static func firstFile(_ actor: Int, _ persistence: Persistence) throws(DiskError) -> DiskFile {
        try makeFile(1, LogLimits().fileBytesMin, actor, persistence)
    }

    private static func makeFile(
        _ number: UInt64, _ capacity: Int, _ actor: Int, _ persistence: Persistence
    ) throws(DiskError) -> DiskFile {
        let header = DiskHeader(
            kind: .log, file: Machine.random() | 1, epoch: persistence.epoch, server: persistence.server, actor: actor,
            number: number, name: Bytes(persistence.name), lineage: persistence.lineage,
            cluster: Bytes(persistence.cluster))
        return try DiskFile.make(
            DataDirectory.logName(persistence.server, actor, number), header, capacity: capacity,
            isWritten: persistence.settings.policy == .always, in: persistence.directory.descriptor)
    }

    // MARK: What goes in

    /// What another server sent has taken effect.
    func learn(_ item: LearnedItem) {
        plan.learn(item)
        hasMore = plan.hasMore
    }

    /// The member table has changed.
    func noteRows() {
        plan.noteRows()
        hasMore = true
    }

    /// The replies in the connection's output tell of writes that are in no chunk yet.
    func keepWaiting(_ receiver: QueryReceiver, _ connection: Connection) {
        waiting.append(receiver, connection, store.ownSeq)
    }

    /// The job's answer tells of such writes.
    func keepWaiting(_ job: any HomeJob) { waiting.append(job, store.ownSeq) }

    // MARK: Turns

    /// Whatever the turn did is done; nothing of it has left the process yet.
    @inline(__always)
    func turnEnded() {
        if store.ownSeq != logged || hasMore { write() }
    }

    @inline(never)
    private func write() {
        plan.turnEnded()
        (logged, hasMore) = (plan.logged, plan.hasMore)
    }

    /// What of the actor's vector a power cut leaves.
    func durableVector() -> VersionVector { plan.durableVector() }

    /// Tells which file is the first that a snapshot does not cover that begins with `vector`, once what is written is
    /// on the disk.
    func tellFirstNeeded(beside vector: VersionVector, _ tell: @escaping (UInt64) -> Void) {
        plan.settle { [unowned self] in tell(plan.firstNeeded(beside: vector)) }
    }

    private func made(_ result: Result<DiskFile, DiskError>) {
        switch result {
        case .success(let file):
            files[file.header.number] = file
            plan.made(LogFile(file.header, capacity: file.capacity))
        case .failure(let error):
            lastError = error
            figures.noteFailedWrite()
            plan.made(nil)
        }
        (logged, hasMore) = (plan.logged, plan.hasMore)
    }

    private func synced(_ failure: DiskError?) {
        lastError = failure ?? lastError
        if failure != nil { figures.noteFailedSync() }
        plan.synced(failure == nil)
        (logged, hasMore) = (plan.logged, plan.hasMore)
    }

    private func wrote(_ done: LogPen.Done) {
        lastError = done.failure ?? lastError
        switch done.result {
        case .done: break
        case .notWritten: figures.noteFailedWrite()
        case .notSynced: figures.noteFailedSync()
        }
        plan.wrote(done.result, nanos: done.nanos)
        (logged, hasMore) = (plan.logged, plan.hasMore)
    }

    // MARK: The end

    /// All is on the disk, if that takes it. When the loop has ended; waits. False if not.
    func finish() -> Bool {
        plan.close()
        thread.finish()
        waiting.close()
        do throws(DiskError) {
            try pen.finish(plan.unwritten, files)
            for number in plan.openFiles { try files[number]?.sync() }
        } catch {
            persistence.log.error("\(error): the last writes may not be on the disk")
            return false
        }
        return plan.isWell
    }
}

extension ActorLog: LogHost {
    /// There are clients that may only read.
    var hasOthers: Bool { ActorLog.helpsBesideOthers && shard.sessions.count > 1 }
    private static let helpsBesideOthers = true
    var now: Nanos { loop.nowNanos }

    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Nanos? {
        let began = Machine.monotonicNanos
        do throws(DiskError) { try files[file.number]!.write(chunk, at: file.end) } catch {
            lastError = error
            figures.noteFailedWrite()
            return nil
        }
        return Machine.monotonicNanos - began
    }

    func write(_ pieces: LogPieces, syncing full: [UInt64]?) {
        pen.write(pieces, files, syncing: full, loop) { [unowned self] in wrote($0) }
    }

    func make(_ number: UInt64, capacity: Int) {
        let (actor, persistence, loop, box) = (index, persistence, loop, UncheckedBox(self))
        thread.perform {
            let result: Result<DiskFile, DiskError>
            do throws(DiskError) {
                result = .success(try ActorLog.makeFile(number, capacity, actor, persistence))
            } catch {
                result = .failure(error)
            }
            loop.perform { box.value.made(result) }
        }
    }

    func sync(_ numbers: [UInt64]) {
        let (files, box, loop) = (numbers.compactMap { self.files[$0] }, UncheckedBox(self), loop)
        thread.perform {
            var failure: DiskError?
            for file in files {
                do throws(DiskError) { try file.sync() } catch { failure = failure ?? error }
            }
            loop.perform { [failure] in box.value.synced(failure) }
        }
    }

    func release(_ file: UInt64) { files[file] = nil }

    func wait(_ millis: Int64, for alarm: LogAlarm) {
        loop.schedule(afterMillis: millis) { [unowned self] in plan.ring(alarm) }
    }

    func save(tells: Bool) {
        guard tells else { return persistence.save(isFresh: true) }
        let (box, loop) = (UncheckedBox(self), loop)
        persistence.save(isFresh: true) { isDone in
            loop.perform { box.value.plan.saved(isDone) }
        }
    }

    func requestTurn() { loop.requestTurn() }
    func vector() -> VersionVector { shard.replicator?.replica.durableVector ?? VersionVector() }
    func rows() -> [MemberRow]? { shard.replicator?.replica.memberRows }
    func giveUp(_ segment: DeltaSegment) { shard.replicator?.replica.giveUp(segment) }
    func refuseWrites(_ refuses: Bool) { shard.refuseWrites(byDisk: refuses) }
    func aim(at chunk: UInt64, through seq: UInt64) { waiting.aim(at: chunk, through: seq) }
    func letGo(through chunk: UInt64) { waiting.take(through: chunk) { $0.giveBack(from: shard) } }
    func holdAnswered() { shard.holdAnswered(for: self) }
    func closeAnswered() { shard.closeAnswered() }

    func closeHeld() {
        waiting.close()
        waiting.take(through: .max) { job in
            job.refuse(WriteRefusal.disk.reply)
            job.giveBack(from: shard)
        }
    }

    private var error: String { lastError?.description ?? "the disk failed" }

    func note(_ news: LogNews) {
        switch news {
        case .grew(let bytes): persistence.noteLogged(bytes)
        case .logged(let seq): figures.note(writes: seq)
        case .durable(let seq): figures.note(durable: seq)
        case .unsynced(let isAny): figures.note(unsyncedSince: isAny ? loop.nowNanos : 0)
        case .syncing(let isOn): figures.note(isSyncing: isOn)
        case .delayedSync: figures.noteDelayedSync()
        case .full:
            persistence.log.error("\(error): writes are refused when the log's file is full")
            figures.note(isFailing: true)
        case .hasRoom:
            persistence.log.notice("the log of actor \(index + 1) has room again: writes go on")
            figures.note(isFailing: false)
        case .failed:
            persistence.log.critical("\(error): writes are refused, reads go on; trying again each second")
            figures.note(isFailing: true)
        case .resumed:
            persistence.log.notice("the log of actor \(index + 1) is written again: writes go on")
            figures.note(isFailing: false)
        }
    }
}
