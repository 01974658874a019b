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
    /// Between two syncs with `everysec`: with the time that one takes it stays below a second.
    private static let flushMillis: Int64 = 500
    /// A write that takes longer shows that the disk is slow: then the pen writes, and loops do not wait.
    private static let slowNanos: Nanos = 1_000_000
    /// So many quick writes of the pen show that it is not any more.
    private static let quickWritesMin = 64
    /// What is written at once where the pen does not.
    private static let chunkBytesMax = 256 * 1024

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
    /// Chunks put together, of those written, and of those on the disk.
    private var sealed: UInt64 = 0
    private var written: UInt64 = 0
    private var synced: UInt64 = 0
    private var isFlushing = false
    /// Full files that are not on the disk, each with its last chunk.
    private var unsynced: [(file: DiskFile, last: UInt64)] = []
    private let pen = LogPen()
    /// Own writes that are written, and of those that the pen is about.
    private var seqWritten: UInt64 = 0
    private var seqUnderWay: UInt64 = 0
    /// The pen writes: replies of those who write wait for it.
    private(set) var isHelped: Bool
    private var isSlow = false
    private var quickWrites = 0
    /// The pen has more than it may: writes are refused.
    private var isFull = false
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
        isHelped = persistence.settings.policy == .always
        writer = ChunkWriter(origins: store.origins)
        writer.begin(file: file.header)
        if persistence.settings.policy == .everysec {
            loop.schedule(everyMillis: ActorLog.flushMillis) { [unowned self] in flushSecond() }
        }
    }

    deinit { writer.deallocate() }

    private var policy: AppendPolicy { persistence.settings.policy }

    static func firstFile(_ actor: Int, _ persistence: Persistence) throws(DiskError) -> DiskFile {
        try makeFile(1, fileBytesMin, actor, persistence)
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
        if sealed == synced { figures.note(unsyncedSince: loop.nowNanos) }
        persistence.noteLogged(writer.byteCount)
        if !isHelped, writer.byteCount > ActorLog.chunkBytesMax {
            shard.holdAnswered(for: self)
            (isHelped, quickWrites) = (true, 0)
        }
        sealed += 1
        waiting.aim(at: sealed)
        if isHelped { writeByPen() } else if !writeHere() { return }
        if next == nil, !isPreparing, file.end > file.capacity / 2 { prepare() }
        if health == .full, room < ActorLog.roomBytesMin { shard.refuseWrites(byDisk: true) }
    }

    // MARK: Who writes

    /// False if the disk does not take it.
    private func writeHere() -> Bool {
        let began = Machine.monotonicNanos
        do throws(DiskError) { try file.append(writer.seal()) } catch {
            // What was executed and is in no log must not be answered as if it were.
            shard.closeAnswered()
            fail(error)
            return false
        }
        writer.clear()
        noteWritten(1)
        seqWritten = logged
        letGo(through: written)
        isSlow = Machine.monotonicNanos - began > ActorLog.slowNanos
        // From the next turn on: who wrote in this one has its reply.
        if isSlow || hasOthers { (isHelped, quickWrites) = (true, 0) }
        return true
    }

    /// There are clients that may only read: no write is made here that could keep them waiting.
    private var hasOthers: Bool { ActorLog.helpsBesideOthers && shard.sessions.count > 1 }
    private static let helpsBesideOthers = true

    private func writeByPen() {
        pen.add(&writer, to: file)
        if pen.gatheredBytes > LogPen.gatheredBytesMax, !isFull {
            isFull = true
            shard.refuseWrites(byDisk: true)
        }
        goOn()
    }

    /// With `always` what was written is synced at once, by the same thread.
    private func goOn() {
        guard !pen.isBusy else { return }
        seqUnderWay = logged
        let full = policy == .always ? unsynced.map(\.file) : nil
        pen.go(loop, syncing: full) { [unowned self] in penDone($0, synced: full) }
    }

    private func penDone(_ done: LogPen.Done, synced full: [DiskFile]?) {
        guard health != .failed else { return pen.drop() }
        if let failure = done.failure { return fail(failure) }
        noteWritten(UInt64(done.chunks))
        seqWritten = seqUnderWay
        if let full {
            unsynced.removeAll { entry in full.contains { $0 === entry.file } }
            noteSynced(written)
            figures.note(durable: seqWritten)
            syncedPlace = placeWritten ?? syncedPlace
        }
        letGo(through: full == nil ? written : synced)
        isSlow = done.nanos > ActorLog.slowNanos
        quickWrites = isSlow ? 0 : quickWrites + 1
        if isFull, pen.gatheredBytes < LogPen.gatheredBytesMax / 2 {
            isFull = false
            if health == .well { shard.refuseWrites(byDisk: false) }
        }
        goOn()
        if pen.isEmpty, policy != .always, !hasOthers, quickWrites >= ActorLog.quickWritesMin { isHelped = false }
    }

    private func noteWritten(_ chunks: UInt64) { written += chunks }

    /// Up to where this file is written, and all before it; nil as long as the pen is about one before it.
    private var placeWritten: (file: UInt64, chunks: UInt32)? {
        let pending = sealed - written
        return pending > writer.number ? nil : (file.header.number, writer.number - UInt32(pending))
    }

    private func noteSynced(_ chunk: UInt64) {
        synced = max(synced, chunk)
        figures.note(unsyncedSince: sealed > synced ? loop.nowNanos : 0)
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
        if !afterFailure { unsynced.append((file, sealed)) }
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
                    if !isFull { shard.refuseWrites(byDisk: false) }
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
            unsynced.removeAll { $0.file === first.file }
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
        let due = unsynced.filter { $0.last <= written }.map(\.file)
        guard !isFlushing, health != .failed, written > synced || !due.isEmpty else { return }
        isFlushing = true
        figures.note(isSyncing: true)
        // What the pen is about is not in it.
        let (target, place, seq) = (written, placeWritten, seqWritten)
        let onlyFull = policy == .no
        let (full, current) = (due, onlyFull ? nil : file)
        let (box, loop) = (UncheckedBox(self), loop)
        thread.perform {
            var failure: DiskError?
            for file in full + (current.map { [$0] } ?? []) {
                do throws(DiskError) { try file.sync() } catch { failure = failure ?? error }
            }
            loop.perform { [failure] in box.value.flushed(full, onlyFull ? nil : (target, seq), place, failure) }
        }
    }

    private func flushed(
        _ full: [DiskFile], _ target: (chunk: UInt64, seq: UInt64)?, _ place: (file: UInt64, chunks: UInt32)?,
        _ failure: DiskError?
    ) {
        isFlushing = false
        figures.note(isSyncing: false)
        guard health != .failed else { return }
        // Whatever was written before may be lost, and no second sync would say so.
        if let failure { return fail(failure) }
        unsynced.removeAll { entry in full.contains { $0 === entry.file } }
        guard let target else {
            if let last = full.last { syncedPlace = (last.header.number + 1, 0) }
            return
        }
        noteSynced(target.chunk)
        if health == .well || health == .full { figures.note(durable: target.seq) }
        if let place { syncedPlace = place }
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
        pen.drop()
        isFull = false
        (next, unsynced, syncedPlace) = (nil, [], nil)
        skip()
        loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in retry() }
    }

    private func retry() {
        makeNext(ActorLog.fileBytesMin) { [unowned self] result in
            guard case .success(let made) = result else {
                loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in retry() }
                return
            }
            // What the pen is in the middle of is of the file that was given up.
            guard !pen.isBusy else {
                loop.schedule(afterMillis: ActorLog.retryMillis) { [unowned self] in retry() }
                return
            }
            health = .resuming
            turn(to: made, afterFailure: true)
            (written, synced, logged) = (sealed, sealed, store.ownSeq)
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
        if !isFull { shard.refuseWrites(byDisk: false) }
    }

    // MARK: The end

    /// All is on the disk, if that takes it. When the loop has ended; waits. False if not.
    func finish() -> Bool {
        thread.finish()
        waiting.close()
        do throws(DiskError) {
            try pen.finish()
            for file in unsynced.map(\.file) + [file] { try file.sync() }
        } catch {
            persistence.log.error("\(error): the last writes may not be on the disk")
            return false
        }
        return health == .well || health == .full
    }
}
