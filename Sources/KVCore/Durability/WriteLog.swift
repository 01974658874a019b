// Decides what goes into the log of one actor, when, and what may go then: replies, and files. Its actor's thread.

package import KVBase

/// What the actor and, through it, other servers wrote, a chunk a turn. Nothing in here waits: `LogHost` does what it
/// says.
package final class WriteLog {
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
        var number: UInt64
        var greatest: VersionVector
    }

    /// What a sync is about.
    private struct Target {
        /// All up to this one; nil: only full files.
        var chunk: UInt64?
        var place: (file: UInt64, chunks: UInt32)?
        var full: [UInt64] = []
        var seq: UInt64 = 0
    }

    private let store: Store
    private let policy: AppendPolicy
    private let limits: LogLimits
    private let planted: PlantedMistakes
    private unowned let host: any LogHost

    private var writer: ChunkWriter
    private var file: LogFile
    private var next: LogFile?
    /// For what the files that are being made are.
    private var makings: [LogAlarm] = []
    private var closed: [Closed] = []
    /// Files that a snapshot covers and that are not released: no manifest may say so yet.
    private var covered: [UInt64] = []
    private var health = Health.well
    /// Own writes that are in chunks.
    package private(set) var logged: UInt64
    /// Something beside own writes is to be written.
    package private(set) var hasMore = false
    private var learned: [LearnedItem] = []
    private var learnedBytes = 0
    /// Entries of the first item that are in chunks.
    private var learnedDone = 0
    private var wantsRows = false
    /// Chunks put together, of those written, and of those on the disk.
    package private(set) var sealed: UInt64 = 0
    package private(set) var written: UInt64 = 0
    package private(set) var synced: UInt64 = 0
    private var isFlushing = false
    /// With `everysec`: when the first chunk was answered that the sync under way has, and the first of those after.
    private var answeredBefore: Nanos?
    private var answeredSince: Nanos?
    /// The same, as long as nothing more is answered for a sync that takes too long: the last chunk that was.
    private var pausedAt: UInt64?
    private var isPaused: Bool { pausedAt != nil }
    /// What is on the disk when the sync under way has ended.
    private var target = Target()
    /// Who waits until chunks up to one are on the disk.
    private var settling: (chunk: UInt64, done: () -> Void)?
    /// Full files that are not on the disk, each with its last chunk.
    private var unsynced: [(file: UInt64, last: UInt64)] = []
    /// What the next chunk says of the disk.
    private var syncedPlace: (file: UInt64, chunks: UInt32)?
    /// What the log had at some chunk that is not safe yet; and what a power cut leaves, as last known.
    private var mark: (chunk: UInt64, vector: VersionVector)?
    private var onDisk = VersionVector()

    /// The pen writes: replies of those who write wait for it.
    package private(set) var isHelped: Bool
    /// For the pen: one is gathered while the other is written.
    private var gathered: LogPieces
    private var underWay: LogPieces
    private var isWriting = false
    /// Full files that are synced with what is under way.
    private var fullUnderWay: [UInt64] = []
    /// Own writes that are written, and of those that the pen is about.
    private var seqWritten: UInt64 = 0
    private var seqUnderWay: UInt64 = 0
    private var quickWrites = 0
    /// The pen has more than it may.
    private var isFull = false
    private var isRefusing = false
    /// A planted mistake: the chunk of the last turn is still to be written.
    private var isLate = false

    /// `file` is empty. `host` outlives the log.
    package init(
        _ store: Store, _ policy: AppendPolicy, file: LogFile, host: any LogHost, limits: LogLimits = LogLimits(),
        planted: PlantedMistakes = []
    ) {
        (self.store, self.policy, self.file, self.host) = (store, policy, file, host)
        (self.limits, self.planted) = (limits, planted)
        logged = store.ownSeq
        isHelped = policy == .always
        gathered = LogPieces(copiedBytesMax: limits.chunkBytesMax)
        underWay = LogPieces(copiedBytesMax: limits.chunkBytesMax)
        writer = ChunkWriter(origins: store.origins, planted: planted)
        writer.begin(file: file.header)
    }

    deinit { writer.deallocate() }

    /// All that was answered is in a log that is trusted.
    package var isWell: Bool { health == .well || health == .full }
    /// Its last file, and the full ones that are not on the disk.
    package var openFiles: [UInt64] { unsynced.map(\.file) + [file.number] }
    /// What nobody writes yet, when the loop has ended.
    package var unwritten: LogPieces { gathered }

    // MARK: What goes in

    /// What another server sent has taken effect.
    package func learn(_ item: LearnedItem) {
        if health == .failed { return giveUp(item) }
        learned.append(item)
        if case .segment(let segment, _) = item { learnedBytes += segment.wireBytes }
        hasMore = true
    }

    /// The member table has changed.
    package func noteRows() { (wantsRows, hasMore) = (true, true) }

    /// What of the actor's vector a power cut leaves. With the policy `no`: what is in the log. O(origins).
    package func durableVector() -> VersionVector {
        let safe = policy == .no ? written : synced
        if let mark, mark.chunk <= safe { (onDisk, self.mark) = (mark.vector, nil) }
        if mark == nil, let vector = inLog() {
            if sealed == safe { onDisk = vector } else { mark = (sealed, vector) }
        }
        return onDisk
    }

    /// What of the actor's vector is in chunks. Nil if that cannot be said now.
    private func inLog() -> VersionVector? {
        guard isWell else { return nil }
        var vector = host.vector()
        vector.set(store.ownOrigin, min(vector[store.ownOrigin], logged))
        for item in learned {
            guard case .segment(let segment, _) = item else { return nil }
            if !segment.isPage, segment.from < vector[segment.origin] { vector.set(segment.origin, segment.from) }
        }
        return vector
    }

    // MARK: Turns

    /// Whatever the turn did is done; nothing of it has left the process yet.
    package func turnEnded() {
        guard store.ownSeq != logged || hasMore else { return }
        if planted(.replyBeforeWrite), !isLate {
            isLate = true
            return host.letGo(through: sealed + 1)
        }
        isLate = false
        write()
    }

    /// The end: own writes that are in no chunk yet are put into chunks, for the pen.
    package func close() {
        guard isWell else { return }
        isHelped = true
        while isWell, store.ownSeq > logged || writer.isOpen { write() }
    }

    private func write() {
        guard health != .failed else { return skip() }
        if !writer.isOpen, file.end + file.capacity / 16 > file.capacity, let next { turn(to: next) }
        fill()
        guard !writer.isEmpty else { return }
        let hasRest = store.ownSeq > logged
        if hasRest || hasMore { host.requestTurn() }
        settlePause()
        if !isHelped, isPaused || hasRest || writer.isOpen || writer.byteCount > limits.chunkBytesMax {
            host.holdAnswered()
            help()
        }
        guard !writer.isOpen else { return }
        if sealed == synced { host.note(.unsynced(true)) }
        host.note(.grew(by: writer.byteCount))
        sealed += 1
        host.aim(at: sealed, through: logged)
        if isHelped { writeByPen() } else if !writeHere() { return }
        if next == nil, makings.isEmpty, file.end > file.capacity / 2 { prepare() }
        settleRefusal()
    }

    /// Puts together what the turn left behind. If that is more than a turn may bear, the next one goes on.
    private func fill() {
        if !writer.isOpen { fillFirst() }
        // A value of others is being put in.
        if writer.isOpen, !writer.isBetween { return takeLearned() }
        if store.ownSeq > logged {
            // Further back than the journal goes only after a turn without end: then a snapshot must say the rest.
            if max(logged, writer.ownDone) < store.journalFirstSeq - 1 { host.save(tells: false) }
            guard let through = writer.own(store, after: logged, bytesMax: limits.ownBytesPerTurn) else { return }
            logged = through
            host.note(.logged(logged))
        }
        if !writer.isInPieces { takeLearned() }
    }

    private func fillFirst() {
        if let place = syncedPlace {
            writer.synced(file: place.file, chunks: place.chunks)
            syncedPlace = nil
        }
        if wantsRows, let rows = host.rows() {
            writer.rows(rows)
            wantsRows = false
        }
    }

    /// Writes are refused as long as they could not be logged.
    private func settleRefusal() {
        let refuses = !isWell || isFull || health == .full && file.room < limits.roomBytesMin
        guard refuses != isRefusing else { return }
        isRefusing = refuses
        host.refuseWrites(refuses)
    }

    private func takeLearned() {
        var left = learnedBytes > limits.learnedBytesMax ? Int.max : limits.learnedBytesPerTurn
        var taken = 0
        while taken < learned.count, left > 0, writer.isOpen || !writer.isInPieces {
            switch learned[taken] {
            case .proof(let asked, let start, let frontier, let floor):
                writer.proof(asked: asked, start: start, frontier: frontier, floor: floor)
            case .segment(let segment, let proves):
                let before = writer.byteCount
                let isFirst = learnedDone == 0 && !writer.isOpen
                if planted(.vectorBeforeEntries), proves, isFirst { proveEarly(segment) }
                learnedDone = writer.learned(
                    segment, from: learnedDone, bytesMax: min(left, limits.learnedPieceBytes),
                    valueBytesMax: limits.ownBytesPerTurn, proves: proves,
                    winners: planted(.losersLogged) ? nil : store)
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
    }

    /// A planted mistake: the interval of entries that are not in the log yet.
    private func proveEarly(_ segment: DeltaSegment) {
        guard !segment.isPage else { return }
        let interval = DeltaSegment(
            origin: segment.origin, from: segment.from, to: segment.to, isPage: false, cut: VersionVector(),
            taking: DeltaEntries())
        _ = writer.learned(interval, from: 0, bytesMax: 0)
    }

    private func giveUp(_ item: LearnedItem) { if case .segment(let segment, _) = item { host.giveUp(segment) } }

    /// Nothing can be logged, and no write was let in but what replication itself makes.
    private func skip() {
        logged = store.ownSeq
        for item in learned { giveUp(item) }
        (learned, learnedBytes, learnedDone, hasMore) = ([], 0, 0, false)
        host.closeHeld()
    }

    // MARK: Who writes

    /// False if the disk does not take it.
    private func writeHere() -> Bool {
        let chunk = writer.seal()
        guard let nanos = host.append(chunk, to: file) else {
            fail()
            return false
        }
        file.end += chunk.count
        writer.clear()
        written += 1
        seqWritten = logged
        letGo()
        // From the next turn on: who wrote in this one has its reply.
        if nanos > limits.slowNanos || host.hasOthers { help() }
        return true
    }

    private func help() { (isHelped, quickWrites) = (true, 0) }

    private func writeByPen() {
        gathered.add(&writer, to: &file)
        if gathered.byteCount > limits.gatheredBytesMax { isFull = true }
        goOn()
    }

    /// With `always` what was written is synced at once, in the same go.
    private func goOn() {
        guard !isWriting, gathered.chunks > 0 else { return }
        isWriting = true
        swap(&gathered, &underWay)
        seqUnderWay = logged
        fullUnderWay = policy == .always ? unsynced.map(\.file) : []
        host.write(underWay, syncing: policy == .always ? fullUnderWay : nil)
    }

    /// What the pen was about is written, or not; how long that took.
    package func wrote(_ result: LogWriting, nanos: Nanos) {
        let chunks = UInt64(underWay.chunks)
        underWay.clear()
        isWriting = false
        guard health != .failed else { return }
        let isRetried = planted(.fsyncRetried) && result == .notSynced
        guard result == .done || isRetried else { return fail() }
        written += chunks
        seqWritten = seqUnderWay
        if isRetried { flush() } else if policy == .always { noteSynced() }
        settlePause()
        letGo()
        let isSlow = nanos > limits.slowNanos
        quickWrites = isSlow ? 0 : quickWrites + 1
        if isFull, gathered.byteCount < limits.gatheredBytesMax / 2 {
            isFull = false
            settleRefusal()
        }
        goOn()
        // Full files whose last chunk has come.
        if policy == .no, !unsynced.isEmpty { flush() }
        let mayStopHelp = !isWriting && policy != .always && !isPaused && !host.hasOthers
        if mayStopHelp, quickWrites >= limits.quickWritesMin { isHelped = false }
    }

    /// All that is written is on the disk, with the full files of that go.
    private func noteSynced() {
        unsynced.removeAll { fullUnderWay.contains($0.file) }
        releaseCovered()
        syncedPlace = placeWritten ?? syncedPlace
        note(synced: written, seq: seqWritten)
    }

    private func note(synced chunk: UInt64, seq: UInt64) {
        synced = max(synced, chunk)
        if isWell { host.note(.durable(seq)) }
        host.note(.unsynced(sealed > synced))
    }

    private func letGo() {
        if policy == .always || isPaused { return host.letGo(through: synced) }
        if policy == .everysec, answeredSince == nil, written > (isFlushing ? target.chunk ?? 0 : synced) {
            answeredSince = host.now
        }
        host.letGo(through: written)
    }

    /// With `everysec`: when what was answered a second ago is not on the disk, no more is answered until all that was
    /// is there.
    private func settlePause() {
        guard let oldest = answeredBefore ?? answeredSince, pausedAt == nil else { return }
        guard host.now - oldest > limits.unsyncedNanosMax, !planted(.answersWhileBehind) else { return }
        pausedAt = written
        flush()
    }

    /// Up to where this file is written, and all before it; nil as long as the pen is about one before it.
    private var placeWritten: (file: UInt64, chunks: UInt32)? {
        let pending = sealed - written
        return pending > UInt64(writer.number) ? nil : (file.number, writer.number - UInt32(pending))
    }

    // MARK: Files

    private func turn(to next: LogFile, afterFailure: Bool = false) {
        closed.append(Closed(number: file.number, greatest: writer.greatest))
        let (number, chunks) = (file.number, writer.number)
        if !afterFailure { unsynced.append((number, sealed)) }
        self.next = nil
        file = next
        writer.begin(file: next.header)
        if afterFailure { return writer.abandoned(file: number) }
        writer.follows(file: number, chunks: chunks)
        if policy == .no { flush() }
    }

    /// Has the next file made.
    private func prepare() {
        make(min(limits.fileBytesMax, max(limits.fileBytesMin, file.capacity * 4)), for: .prepare)
    }

    private func make(_ capacity: Int, for purpose: LogAlarm) {
        makings.append(purpose)
        host.make(file.number + 1, capacity: capacity)
    }

    /// A file was made, or not.
    package func made(_ made: LogFile?) {
        let purpose = makings.removeFirst()
        if purpose == .retry { return retried(made) }
        // The one who tries again makes its own.
        guard health != .failed else { return }
        if let made {
            next = made
            guard health == .full else { return }
            health = .well
            host.note(.hasRoom)
            settleRefusal()
        } else {
            if health == .well {
                health = .full
                host.note(.full)
            }
            host.wait(limits.retryMillis, for: .prepare)
        }
    }

    /// Which file is the first that a snapshot does not cover that begins with `vector`.
    package func firstNeeded(beside vector: VersionVector) -> UInt64 {
        while let first = closed.first, vector.dominates(first.greatest) || planted(.segmentDroppedEarly) {
            closed.removeFirst()
            covered.append(first.number)
        }
        releaseCovered()
        return closed.first?.number ?? file.number
    }

    /// Not before they are on the disk: until there is a manifest with that snapshot they count, and perhaps there is
    /// never one.
    private func releaseCovered() {
        guard !covered.isEmpty else { return }
        let waiting = covered.filter { number in unsynced.contains { $0.file == number } }
        for number in covered where !waiting.contains(number) { host.release(number) }
        covered = waiting
    }

    // MARK: Onto the disk

    /// Calls `done` once what is written by now is on the disk, or given up. One at a time.
    package func settle(_ done: @escaping () -> Void) {
        settling = (planted(.snapshotBeforeLogs) ? 0 : written, done)
        goOnSettling()
    }

    private func goOnSettling() {
        guard let (chunk, done) = settling else { return }
        if synced < chunk, health != .failed { return flush() }
        settling = nil
        done()
    }

    /// Each `LogLimits.flushMillis`, with `everysec`.
    package func flushDue() {
        guard written > synced || !unsynced.isEmpty else { return }
        if isFlushing { return host.note(.delayedSync) }
        flush()
    }

    /// One at a time; what is written meanwhile waits for the next. So does what the pen is about.
    private func flush() {
        let onlyFull = policy == .no && settling == nil
        let due = unsynced.filter { $0.last <= written }.map(\.file)
        guard !isFlushing, health != .failed, !due.isEmpty || !onlyFull && written > synced else { return }
        isFlushing = true
        host.note(.syncing(true))
        let place = onlyFull ? due.last.map { (file: $0 + 1, chunks: UInt32(0)) } : placeWritten
        target = Target(chunk: onlyFull ? nil : written, place: place, full: due, seq: seqWritten)
        (answeredBefore, answeredSince) = (answeredSince, nil)
        // Chunks of a full file may be written of which the last is not.
        host.sync(onlyFull ? due : openFiles)
    }

    /// The sync has ended. `isDone`: all of it is on the disk.
    package func synced(_ isDone: Bool) {
        isFlushing = false
        host.note(.syncing(false))
        guard health != .failed else { return }
        // Whatever was written before may be lost, and no second sync would say so.
        guard isDone else { return planted(.fsyncRetried) ? flush() : fail() }
        let target = target
        unsynced.removeAll { target.full.contains($0.file) }
        releaseCovered()
        syncedPlace = target.place ?? syncedPlace
        guard let chunk = target.chunk else { return goOnSettling() }
        note(synced: chunk, seq: target.seq)
        answeredBefore = nil
        if let answered = pausedAt, answered <= synced { pausedAt = nil }
        letGo()
        // What was answered while this one was under way.
        if isPaused { flush() }
        goOnSettling()
    }

    // MARK: Failure

    /// The file is not trusted any more: writes are refused until another one takes them, and a snapshot has what was
    /// lost.
    private func fail() {
        (health, isFull) = (.failed, false)
        (answeredBefore, answeredSince, pausedAt) = (nil, nil, nil)
        host.note(.failed)
        settleRefusal()
        writer.giveUp()
        gathered.clear()
        (next, unsynced, syncedPlace, mark) = (nil, [], nil, nil)
        releaseCovered()
        // What was executed and is in no log must not be answered as if it were.
        if !isHelped { host.closeAnswered() }
        skip()
        host.wait(limits.retryMillis, for: .retry)
        goOnSettling()
    }

    /// What was waited for has come.
    package func ring(_ alarm: LogAlarm) {
        switch alarm {
        case .prepare: if next == nil, makings.isEmpty, health == .full { prepare() }
        case .retry:
            // What the pen is in the middle of is of the file that was given up.
            guard !isWriting else { return host.wait(limits.retryMillis, for: .retry) }
            make(limits.fileBytesMin, for: .retry)
        case .save: host.save(tells: true)
        }
    }

    private func retried(_ made: LogFile?) {
        guard let made else { return host.wait(limits.retryMillis, for: .retry) }
        health = .resuming
        turn(to: made, afterFailure: true)
        (written, synced, logged) = (sealed, sealed, store.ownSeq)
        noteRows()
        host.save(tells: true)
    }

    /// A snapshot that was asked for is on the disk, or not.
    package func saved(_ isDone: Bool) {
        guard health == .resuming else { return }
        guard isDone else { return host.wait(limits.retryMillis, for: .save) }
        health = .well
        host.note(.resumed)
        settleRefusal()
    }
}
