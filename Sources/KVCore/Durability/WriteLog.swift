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
    /// Chunks written, and of those on the disk.
    package private(set) var written: UInt64 = 0
    package private(set) var synced: UInt64 = 0
    private var isFlushing = false
    /// What is on the disk when the sync under way has ended.
    private var target: (chunks: UInt64?, place: (file: UInt64, chunks: UInt32), full: [UInt64]) = (nil, (0, 0), [])
    /// Full files that are not on the disk.
    private var unsynced: [UInt64] = []
    /// What the next chunk says of the disk.
    private var syncedPlace: (file: UInt64, chunks: UInt32)?
    /// What the log had when the sync under way began; and what a power cut leaves, as last known.
    private var flushing: VersionVector?
    private var onDisk = VersionVector()
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
        writer = ChunkWriter(origins: store.origins, planted: planted)
        writer.begin(file: file.header)
    }

    deinit { writer.deallocate() }

    /// All that was answered is in a log that is trusted.
    package var isWell: Bool { health == .well || health == .full }
    /// Its last file, and the full ones that are not on the disk.
    package var openFiles: [UInt64] { unsynced + [file.number] }

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
        if policy == .no || synced == written, let vector = inLog() { onDisk = vector }
        return onDisk
    }

    /// What of the actor's vector is in the log. Nil if that cannot be said now.
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
            return host.letGo(through: written + 1)
        }
        isLate = false
        write()
    }

    private func write() {
        guard health != .failed else { return skip() }
        if file.end + file.capacity / 16 > file.capacity, let next { turn(to: next) }
        if let place = syncedPlace {
            writer.synced(file: place.file, chunks: place.chunks)
            syncedPlace = nil
        }
        if wantsRows, let rows = host.rows() {
            writer.rows(rows)
            wantsRows = false
        }
        if store.ownSeq > logged {
            // Further back than the journal goes only after a turn without end: then a snapshot must say the rest.
            let from = max(logged, store.journalFirstSeq - 1)
            if from > logged { host.save(tells: false) }
            writer.own(store, after: from)
            logged = store.ownSeq
            host.note(.logged(logged))
        }
        takeLearned()
        guard !writer.isEmpty else { return }
        let chunk = writer.seal()
        guard host.append(chunk, to: file) else { return fail() }
        file.end += chunk.count
        writer.clear()
        if written == synced { host.note(.unsynced(true)) }
        written += 1
        host.aim(at: written)
        if policy == .always { flush() } else { host.letGo(through: written) }
        if next == nil, makings.isEmpty, file.end > file.capacity / 2 { prepare() }
        if health == .full, file.room < limits.roomBytesMin { host.refuseWrites(true) }
    }

    private func takeLearned() {
        var left = learnedBytes > limits.learnedBytesMax ? Int.max : limits.learnedBytesPerTurn
        var taken = 0
        while taken < learned.count, left > 0 {
            switch learned[taken] {
            case .proof(let asked, let start, let frontier, let floor):
                writer.proof(asked: asked, start: start, frontier: frontier, floor: floor)
            case .segment(let segment, let proves):
                let before = writer.byteCount
                if planted(.vectorBeforeEntries), proves, learnedDone == 0 { proveEarly(segment) }
                learnedDone = writer.learned(
                    segment, from: learnedDone, bytesMax: min(left, limits.learnedPieceBytes), proves: proves)
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
        if hasMore { host.requestTurn() }
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

    // MARK: Files

    private func turn(to next: LogFile, afterFailure: Bool = false) {
        closed.append(Closed(number: file.number, greatest: writer.greatest))
        let (number, chunks) = (file.number, writer.number)
        if !afterFailure { unsynced.append(number) }
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
            host.refuseWrites(false)
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
            unsynced.removeAll { $0 == first.number }
            closed.removeFirst()
            host.release(first.number)
        }
        return closed.first?.number ?? file.number
    }

    // MARK: Onto the disk

    /// Once a second, with `everysec`.
    package func flushSecond() {
        guard written > synced || !unsynced.isEmpty else { return }
        if isFlushing { return host.note(.delayedSync) }
        flush()
    }

    /// One at a time; what is written meanwhile waits for the next.
    private func flush() {
        guard !isFlushing, health != .failed, written > synced || !unsynced.isEmpty else { return }
        isFlushing = true
        host.note(.syncing(true))
        let onlyFull = policy == .no
        target = (onlyFull ? nil : written, (file.number, writer.number), unsynced)
        flushing = inLog()
        host.sync(unsynced + (onlyFull ? [] : [file.number]))
    }

    /// The sync has ended. `isDone`: all of it is on the disk.
    package func synced(_ isDone: Bool) {
        isFlushing = false
        host.note(.syncing(false))
        guard health != .failed else { return }
        // Whatever was written before may be lost, and no second sync would say so.
        guard isDone else { return planted(.fsyncRetried) ? flush() : fail() }
        let target = target
        unsynced.removeAll { target.full.contains($0) }
        guard let chunks = target.chunks else {
            syncedPlace = (target.place.file, 0)
            return
        }
        synced = chunks
        if let flushing { onDisk = flushing }
        syncedPlace = target.place
        host.note(.unsynced(written > synced))
        host.letGo(through: synced)
        if policy == .always { flush() }
    }

    // MARK: Failure

    /// The file is not trusted any more: writes are refused until another one takes them, and a snapshot has what was
    /// lost.
    private func fail() {
        health = .failed
        host.note(.failed)
        host.refuseWrites(true)
        writer.clear()
        (next, unsynced, syncedPlace) = (nil, [], nil)
        // What was executed and is in no log must not be answered as if it were.
        if policy != .always { host.closeAnswered() }
        skip()
        host.wait(limits.retryMillis, for: .retry)
    }

    /// What was waited for has come.
    package func ring(_ alarm: LogAlarm) {
        switch alarm {
        case .prepare: if next == nil, makings.isEmpty, health == .full { prepare() }
        case .retry: make(limits.fileBytesMin, for: .retry)
        case .save: host.save(tells: true)
        }
    }

    private func retried(_ made: LogFile?) {
        guard let made else { return host.wait(limits.retryMillis, for: .retry) }
        health = .resuming
        turn(to: made, afterFailure: true)
        (synced, logged) = (written, store.ownSeq)
        noteRows()
        host.save(tells: true)
    }

    /// A snapshot that was asked for is on the disk, or not.
    package func saved(_ isDone: Bool) {
        guard health == .resuming else { return }
        guard isDone else { return host.wait(limits.retryMillis, for: .save) }
        health = .well
        host.note(.resumed)
        host.refuseWrites(false)
    }
}
