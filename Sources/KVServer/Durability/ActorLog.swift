// The log of one actor: what it and, through it, other servers wrote, a chunk a turn, before the turn's replies go. Its
// loop's thread; a thread of its own does what may wait for the disk.

import KVBase
import KVCore
import KVRuntime
import Logging
import RESP

final class ActorLog {
    /// Files begin small, as most servers never hold much, and each is four times as large as the one before.
    private static let fileBytesMin = 4 * 1024 * 1024
    static let fileBytesMax = 64 * 1024 * 1024
    /// With less room than this and no next file writes are refused: what is under way still fits.
    private static let roomBytesMin = 512 * 1024
    /// What other servers sent is logged in pieces of so many bytes, and so many in a turn, unless more than
    /// `learnedBytesMax` waits.
    private static let learnedPieceBytes = 32 * 1024
    private static let learnedBytesPerTurn = 128 * 1024
    private static let learnedBytesMax = 64 * 1024 * 1024
    private static let retryMillis: Int64 = 1000

    private enum Health {
        case well
        /// No next file is to be had.
        case full
        /// Nothing is logged.
        case failed
        /// It is logged again, and a snapshot has what was not.
        case resuming
    }

    /// A file that is full, and what it holds.
    private struct Closed {
        var file: DiskFile
        var greatest: VersionVector
    }

    /// Position of the actor, from 0.
    private let index: Int
    private unowned let shard: Shard
    let loop: Loop
    private let persistence: Persistence
    private let figures: LogFigures
    private let thread: DiskThread
    private let store: Store

    private var writer: ChunkWriter
    private var file: DiskFile
    private var next: DiskFile?
    private var isPreparing = false
    private var closed: [Closed] = []
    private var health = Health.well
    // The two that `turnEnded` looks at in every turn: one thread, and nothing calls back.
    /// Own writes that are in chunks.
    @exclusivity(unchecked) private var logged: UInt64
    private var learned: [LearnedItem] = []
    private var learnedBytes = 0
    /// Entries of the first item that are in chunks.
    private var learnedDone = 0
    private var wantsRows = false
    @exclusivity(unchecked) private var hasMore = false
    /// Chunks written, and of those on the disk.
    private var written: UInt64 = 0
    private var synced: UInt64 = 0
    private var isFlushing = false
    /// Full files that are not on the disk.
    private var unsynced: [DiskFile] = []
    /// What the next chunk says of the disk.
    private var syncedPlace: (file: UInt64, chunks: UInt32)?
    private var waiting = HeldReplies()

    /// `file` is empty. Before the loop runs.
    init(_ shard: Shard, _ loop: Loop, _ persistence: Persistence, file: DiskFile) {
        (self.shard, self.loop, self.persistence, self.file) = (shard, loop, persistence, file)
        index = shard.index - 1
        figures = persistence.logs[index]
        store = shard.state.pointee.store
        logged = store.ownSeq
        thread = DiskThread()
        writer = ChunkWriter(origins: store.origins)
        writer.begin(file: file.header)
        if persistence.settings.policy == .everysec {
            loop.schedule(everyMillis: 1000) { [unowned self] in flushSecond() }
        }
    }

    deinit { writer.deallocate() }

    private var policy: AppendPolicy { persistence.settings.policy }

    /// Replies to writes wait for the disk: sessions are asked after each go whether they wrote.
    var tracksWriters: Bool { policy == .always }

    static func firstFile(_ actor: Int, _ persistence: Persistence) throws(DiskError) -> DiskFile {
        try makeFile(1, fileBytesMin, actor, persistence)
    }

    private static func makeFile(
        _ number: UInt64, _ capacity: Int, _ actor: Int, _ persistence: Persistence
    ) throws(DiskError) -> DiskFile {
        let header = DiskHeader(
            kind: .log, file: Machine.random() | 1, epoch: persistence.epoch, server: persistence.server, actor: actor,
            number: number, name: Bytes(persistence.name), lineage: persistence.lineage)
        return try DiskFile.make(
            DataDirectory.logName(persistence.server, actor, number), header, capacity: capacity,
            isWritten: persistence.settings.policy == .always, in: persistence.directory.descriptor)
    }

    // MARK: What goes in

    /// What another server sent has taken effect.
    func learn(_ item: LearnedItem) {
        if health == .failed { return giveUp(item) }
        learned.append(item)
        if case .segment(let segment, _) = item { learnedBytes += segment.wireBytes }
        hasMore = true
    }

    /// The member table has changed.
    func noteRows() { (wantsRows, hasMore) = (true, true) }

    /// The replies in the connection's output tell of writes that are in no chunk yet.
    func keepWaiting(_ receiver: QueryReceiver, _ connection: Connection) { waiting.append(receiver, connection) }

    /// The request's answer tells of such writes.
    func keepWaiting(_ request: HomeRequest) { waiting.append(request) }

    // MARK: Turns

    /// Whatever the turn did is done; nothing of it has left the process yet.
    @inline(__always)
    func turnEnded() {
        if store.ownSeq != logged || hasMore { write() }
    }

    @inline(never)
    private func write() {
        guard health != .failed else { return skip() }
        if file.end + file.capacity / 16 > file.capacity, let next { turn(to: next) }
        if let place = syncedPlace {
            writer.synced(file: place.file, chunks: place.chunks)
            syncedPlace = nil
        }
        if wantsRows, let rows = shard.replicator?.replica.memberRows {
            writer.rows(rows)
            wantsRows = false
        }
        if store.ownSeq > logged {
            // Further back than the journal goes only after a turn without end: then a snapshot must say the rest.
            let from = max(logged, store.journalFirstSeq - 1)
            if from > logged { persistence.save(isFresh: true) }
            writer.own(store, after: from)
            logged = store.ownSeq
            figures.note(writes: logged)
        }
        takeLearned()
        guard !writer.isEmpty else { return }
        let chunk = writer.seal()
        do throws(DiskError) { try file.append(chunk) } catch { return fail(error) }
        persistence.noteLogged(chunk.count)
        writer.clear()
        if written == synced { figures.note(unsyncedSince: loop.nowNanos) }
        written += 1
        waiting.aim(at: written)
        if policy == .always { flush() } else { letGo(through: written) }
        if next == nil, !isPreparing, file.end > file.capacity / 2 { prepare() }
        if health == .full, room < ActorLog.roomBytesMin { shard.refuseWrites(byDisk: true) }
    }

    private var room: Int { file.capacity - file.end }

    private func takeLearned() {
        var left = learnedBytes > ActorLog.learnedBytesMax ? Int.max : ActorLog.learnedBytesPerTurn
        var taken = 0
        while taken < learned.count, left > 0 {
            switch learned[taken] {
            case .proof(let asked, let start, let frontier, let floor):
                writer.proof(asked: asked, start: start, frontier: frontier, floor: floor)
            case .segment(let segment, let proves):
                let before = writer.byteCount
                learnedDone = writer.learned(
                    segment, from: learnedDone, bytesMax: min(left, ActorLog.learnedPieceBytes), proves: proves)
                left -= writer.byteCount - before
                guard learnedDone == segment.count else { continue }
                learnedDone = 0
                learnedBytes -= segment.wireBytes
                giveUp(learned[taken])
            }
            taken += 1
        }
        learned.removeFirst(taken)
        hasMore = !learned.isEmpty
        if hasMore { loop.requestTurn() }
    }

    private func giveUp(_ item: LearnedItem) {
        if case .segment(let segment, _) = item { shard.replicator?.replica.giveUp(segment) }
    }

    /// Nothing can be logged, and no write was let in but what replication itself makes.
    private func skip() {
        logged = store.ownSeq
        for item in learned { giveUp(item) }
        (learned, learnedBytes, learnedDone, hasMore) = ([], 0, 0, false)
        waiting.close()
        waiting.take(through: .max) { request in
            request.output.count = 0
            request.output.error(WriteRefusal.disk.reply)
            shard.giveBack(request)
        }
    }

    // MARK: Files

    private func turn(to next: DiskFile, afterFailure: Bool = false) {
        closed.append(Closed(file: file, greatest: writer.greatest))
        let (number, chunks) = (file.header.number, writer.number)
        if !afterFailure { unsynced.append(file) }
        self.next = nil
        file = next
        writer.begin(file: next.header)
        if afterFailure { return writer.abandoned(file: number) }
        writer.follows(file: number, chunks: chunks)
        if policy == .no { flush() }
    }

    /// Has the next file made.
    private func prepare() {
        isPreparing = true
        let capacity = min(ActorLog.fileBytesMax, max(ActorLog.fileBytesMin, file.capacity * 4))
        makeNext(capacity) { [unowned self] result in
            isPreparing = false
            // The one who tries again makes its own.
            guard health != .failed else { return }
            switch result {
            case .success(let made):
                next = made
                if health == .full {
                    health = .well
                    persistence.log.notice("the log of actor \(index + 1) has room again: writes go on")
                    shard.refuseWrites(byDisk: false)
                    figures.note(isFailing: false)
                }
            case .failure(let error):
                if health == .well {
                    health = .full
                    persistence.log.error("\(error): writes are refused when the log's file is full")
                    figures.note(isFailing: true)
                }
                loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in
                    if next == nil, !isPreparing, health == .full { prepare() }
                }
            }
        }
    }

    private func makeNext(_ capacity: Int, _ done: @escaping (Result<DiskFile, DiskError>) -> Void) {
        let (number, actor, persistence, loop) = (file.header.number + 1, index, persistence, loop)
        let box = UncheckedBox(done)
        thread.perform {
            let result: Result<DiskFile, DiskError>
            do throws(DiskError) {
                result = .success(try ActorLog.makeFile(number, capacity, actor, persistence))
            } catch {
                result = .failure(error)
            }
            loop.perform { box.value(result) }
        }
    }

    /// Which file is the first that a snapshot does not cover that begins with `vector`.
    func firstNeeded(beside vector: VersionVector) -> UInt64 {
        while let first = closed.first, vector.dominates(first.greatest) {
            unsynced.removeAll { $0 === first.file }
            closed.removeFirst()
        }
        return closed.first?.file.header.number ?? file.header.number
    }

    // MARK: Onto the disk

    private func flushSecond() {
        guard written > synced || !unsynced.isEmpty else { return }
        if isFlushing { return figures.noteDelayedSync() }
        flush()
    }

    /// One at a time; what is written meanwhile waits for the next.
    private func flush() {
        guard !isFlushing, health != .failed, written > synced || !unsynced.isEmpty else { return }
        isFlushing = true
        figures.note(isSyncing: true)
        let (target, place) = (written, (file: file.header.number, chunks: writer.number))
        let onlyFull = policy == .no
        let (full, current) = (unsynced, onlyFull ? nil : file)
        let (box, loop) = (UncheckedBox(self), loop)
        thread.perform {
            var failure: DiskError?
            for file in full + (current.map { [$0] } ?? []) {
                do throws(DiskError) { try file.sync() } catch { failure = failure ?? error }
            }
            loop.perform { [failure] in box.value.flushed(full, onlyFull ? nil : target, place, failure) }
        }
    }

    private func flushed(
        _ full: [DiskFile], _ target: UInt64?, _ place: (file: UInt64, chunks: UInt32), _ failure: DiskError?
    ) {
        isFlushing = false
        figures.note(isSyncing: false)
        guard health != .failed else { return }
        // Whatever was written before may be lost, and no second sync would say so.
        if let failure { return fail(failure) }
        unsynced.removeAll { file in full.contains { $0 === file } }
        guard let target else {
            syncedPlace = (place.file, 0)
            return
        }
        synced = target
        syncedPlace = place
        figures.note(unsyncedSince: written > synced ? loop.nowNanos : 0)
        letGo(through: synced)
        if policy == .always { flush() }
    }

    private func letGo(through position: UInt64) {
        waiting.take(through: position) { request in shard.giveBack(request) }
    }

    // MARK: Failure

    /// The file is not trusted any more: writes are refused until another one takes them, and a snapshot has what was
    /// lost.
    private func fail(_ error: DiskError) {
        health = .failed
        persistence.log.critical("\(error): writes are refused, reads go on; trying again each second")
        figures.note(isFailing: true)
        shard.refuseWrites(byDisk: true)
        writer.clear()
        (next, unsynced, syncedPlace) = (nil, [], nil)
        // What was executed and is in no log must not be answered as if it were.
        if policy != .always { shard.closeAnswered() }
        skip()
        loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in retry() }
    }

    private func retry() {
        makeNext(ActorLog.fileBytesMin) { [unowned self] result in
            guard case .success(let made) = result else {
                loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in retry() }
                return
            }
            health = .resuming
            turn(to: made, afterFailure: true)
            (synced, logged) = (written, store.ownSeq)
            noteRows()
            saveUntilDone()
        }
    }

    private func saveUntilDone() {
        let (box, loop) = (UncheckedBox(self), loop)
        persistence.save(isFresh: true) { isDone in
            loop.perform { box.value.resume(isDone) }
        }
    }

    private func resume(_ isDone: Bool) {
        guard health == .resuming else { return }
        guard isDone else {
            loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in saveUntilDone() }
            return
        }
        health = .well
        figures.note(isFailing: false)
        persistence.log.notice("the log of actor \(index + 1) is written again: writes go on")
        shard.refuseWrites(byDisk: false)
    }

    // MARK: The end

    /// All is on the disk, if that takes it. When the loop has ended; waits. False if not.
    func finish() -> Bool {
        thread.finish()
        waiting.close()
        do {
            for file in unsynced + [file] { try file.sync() }
        } catch {
            persistence.log.error("\(error): the last writes may not be on the disk")
            return false
        }
        return health == .well || health == .full
    }
}
