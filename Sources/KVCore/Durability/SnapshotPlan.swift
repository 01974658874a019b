// Decides how a snapshot of an actor's store is made while it serves, and what is given up for it. That actor's thread.

package import KVBase

/// What the maker of snapshots asks of who owns it. Nothing calls it back before it returns; each names the call that
/// tells its end.
package protocol SnapshotHost: AnyObject {
    /// Makes the file, under a name that does not count: `opened`.
    func open(_ number: UInt64)
    /// Writes at the file's end what is valid until this returns: `blockWritten`, in the order of the calls.
    func write(_ block: UnsafeRawBufferPointer)
    /// Puts the file on the disk under its name and reads all of it back: `verified`.
    func verify()
    /// Asks each log which of its files are needed beside a snapshot that has this: `gathered`. Each answers when what
    /// is written of it by now is on the disk: deletes that the snapshot lacks are there with what they deleted.
    func gather(beside vector: VersionVector)
    /// Writes the manifest anew, then removes what it does not need: `settled`.
    func settle(_ snapshot: Manifest.Snapshot, firstLogs: [UInt64])
    /// The work is over: with this snapshot, or with none.
    func ended(_ snapshot: Manifest.Snapshot?)
    /// When it is, in milliseconds since 1970.
    var wallMillis: Millis { get }
    /// The snapshot that counts now.
    var lastNumber: UInt64 { get }
}

/// The vector is that of the beginning, the floor and the frontier are those of the end. Nothing is given up before the
/// snapshot was read back.
package final class SnapshotPlan {
    /// Blocks on their way to the disk: with so many the walk waits.
    private static let blocksMax = 4

    private enum Stage { case idle, opening, walking, ending }

    /// One that is being made.
    private struct Work {
        let number: UInt64
        var walk = SnapshotWalk()
        /// What the replica had seen when the walk began, for the disk, and for comparison with logs.
        var start = VersionVector()
        var covered = VersionVector()
        /// Only planted mistakes look at these.
        var floor: Millis = 0
        var frontier = VersionVector()
        var blocksUnderWay = 0
        var isPageBegun = false
        var hasFailed = false
    }

    private let replica: Replica
    private let blockBytes: Int
    private let planted: PlantedMistakes
    private unowned let host: any SnapshotHost
    private var writer: ChunkWriter
    private var work: Work?
    private var stage = Stage.idle
    /// Who waits for the one under way, and for the next.
    private var waiting: [@Sendable (Bool) -> Void] = []
    private var waitingNext: [@Sendable (Bool) -> Void] = []
    private var wantsNext = false

    package init(
        _ replica: Replica, host: any SnapshotHost, blockBytes: Int = SnapshotWalk.blockBytes,
        planted: PlantedMistakes = []
    ) {
        (self.replica, self.host, self.blockBytes, self.planted) = (replica, host, blockBytes, planted)
        writer = ChunkWriter(origins: replica.origins, planted: planted)
    }

    deinit { writer.deallocate() }

    package var isWalking: Bool { stage == .walking }

    /// Asks for a snapshot; `isFresh`: one that begins after now, even if one is being made. `done` is told whether it
    /// is on the disk.
    package func request(_ isFresh: Bool, _ done: (@Sendable (Bool) -> Void)?) {
        if stage == .idle {
            if let done { waiting.append(done) }
            return begin()
        }
        if isFresh || stage == .ending {
            if let done { waitingNext.append(done) }
            wantsNext = true
        } else if let done {
            waiting.append(done)
        }
    }

    // MARK: Beginning

    private func begin() {
        stage = .opening
        host.open(host.lastNumber + 1)
    }

    /// The file was made, or not.
    package func opened(_ header: DiskHeader?) {
        guard let header else { return end(nil) }
        writer.clear()
        writer.begin(file: header)
        var begun = Work(number: header.number)
        (begun.start, begun.covered) = (replica.durableVector, replica.vector)
        (begun.floor, begun.frontier) = (replica.store.gcFloor, replica.collectedFrontier)
        work = begun
        stage = .walking
    }

    // MARK: Walking

    /// One small step. False if the walk cannot go on now, or is over: then `pause`.
    package func step() -> Bool {
        guard !work!.hasFailed, work!.blocksUnderWay < SnapshotPlan.blocksMax, !work!.walk.isDone else { return false }
        if !work!.isPageBegun {
            writer.beginPage()
            work!.isPageBegun = true
        }
        work!.walk.step(replica.store, into: &writer)
        if writer.byteCount >= blockBytes { endBlock() }
        return true
    }

    /// The end of a slice. True if the next turn is to go on.
    package func pause() -> Bool {
        if work!.hasFailed || work!.walk.isDone {
            conclude()
            return false
        }
        return work!.blocksUnderWay < SnapshotPlan.blocksMax
    }

    private func endBlock() {
        if work!.isPageBegun { writer.endPage() }
        work!.isPageBegun = false
        work!.blocksUnderWay += 1
        host.write(writer.seal())
        writer.clear()
    }

    package func blockWritten(_ isDone: Bool) {
        guard work != nil else { return }
        work!.blocksUnderWay -= 1
        if !isDone { work!.hasFailed = true }
    }

    // MARK: Ending

    private func conclude() {
        stage = .ending
        guard let current = work, !current.hasFailed else { return end(nil) }
        if work!.isPageBegun { writer.endPage() }
        work!.isPageBegun = false
        writer.rows(replica.memberRows)
        var proof = SnapshotEnd(
            vector: current.start, frontier: replica.collectedFrontier, floor: replica.store.gcFloor,
            records: current.walk.records)
        if planted(.snapshotVectorAtEnd) { proof.vector = replica.durableVector }
        if planted(.floorAtStart) { (proof.floor, proof.frontier) = (current.floor, current.frontier) }
        writer.end(proof)
        endBlock()
        host.verify()
    }

    /// It was read back and is whole: so many bytes. Nil if not.
    package func verified(_ bytes: Int?) {
        guard let work, let bytes else { return end(nil) }
        let snapshot = Manifest.Snapshot(number: work.number, bytes: UInt64(bytes), at: host.wallMillis)
        finished = snapshot
        host.gather(beside: work.covered)
    }

    private var finished: Manifest.Snapshot?

    /// By actor: the first file of its log that is needed.
    package func gathered(_ firstLogs: [UInt64]) {
        guard let finished else { return end(nil) }
        host.settle(finished, firstLogs: firstLogs)
    }

    package func settled(_ isDone: Bool) { end(isDone ? finished : nil) }

    private func end(_ snapshot: Manifest.Snapshot?) {
        host.ended(snapshot)
        writer.clear()
        (work, finished, stage) = (nil, nil, .idle)
        let done = waiting
        (waiting, waitingNext) = (waitingNext, [])
        for tell in done { tell(snapshot != nil) }
        if wantsNext {
            wantsNext = false
            begin()
        }
    }
}
