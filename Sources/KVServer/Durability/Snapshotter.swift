// Makes snapshots of one actor's store while it serves: a slice a turn, written by a thread of its own. That actor's
// loop; `request` on any thread.

import Glibc
import KVBase
import KVCore
import KVRuntime
import Logging

final class Snapshotter {
    /// Blocks on their way to the disk: with so many the walk waits.
    private static let blocksMax = 4
    /// Of a turn, where clients were served in it and where none was.
    private static let sliceNanosServing: Nanos = 50_000
    private static let sliceNanos: Nanos = 300_000

    /// One that is being made.
    private struct Work {
        let number: UInt64
        let file: DiskFile
        var walk = SnapshotWalk()
        /// What the replica had seen when the walk began, for the disk, and for comparison with logs.
        let start: VersionVector
        let covered: VersionVector
        let writes: UInt64
        let logged: Int
        let beganNanos: Nanos
        var blocksUnderWay = 0
        var isPageBegun = false
        var failure: DiskError?
    }

    private unowned let shard: Shard
    private unowned let replica: Replica
    let loop: Loop
    private let persistence: Persistence
    private let thread = DiskThread()
    private var logs: [(loop: Loop, log: UncheckedBox<ActorLog>)] = []
    private var writer: ChunkWriter
    private var work: Work?
    /// Looked at in every turn.
    @exclusivity(unchecked) private var isWalking = false
    private var isOpening = false
    private var isEnding = false
    private var commandsSeen = 0
    /// Who waits for the one under way, and for the next.
    private var waiting: [@Sendable (Bool) -> Void] = []
    private var waitingNext: [@Sendable (Bool) -> Void] = []
    private var wantsNext = false

    /// Before the loops run.
    init(_ shard: Shard, _ replica: Replica, _ loop: Loop, _ persistence: Persistence, logs: [ActorLog]) {
        (self.shard, self.replica, self.loop, self.persistence) = (shard, replica, loop, persistence)
        self.logs = logs.map { ($0.loop, UncheckedBox($0)) }
        writer = ChunkWriter(origins: shard.state.pointee.store.origins)
        let box = UncheckedBox(self)
        persistence.saves { [loop] isFresh, done in loop.perform { box.value.request(isFresh, done) } }
    }

    deinit { writer.deallocate() }

    /// When the loop has ended.
    func finish() { thread.finish() }

    private func request(_ isFresh: Bool, _ done: (@Sendable (Bool) -> Void)?) {
        if work == nil, !isOpening {
            if let done { waiting.append(done) }
            return begin()
        }
        if isFresh || isEnding {
            if let done { waitingNext.append(done) }
            wantsNext = true
        } else if let done {
            waiting.append(done)
        }
    }

    // MARK: Beginning

    private func begin() {
        isOpening = true
        persistence.noteSaving()
        let number = (persistence.manifestNow.snapshot?.number ?? 0) + 1
        let header = DiskHeader(
            kind: .snapshot, file: Machine.random() | 1, epoch: persistence.epoch, server: persistence.server,
            actor: shard.index - 1, number: number, name: Bytes(persistence.name), lineage: persistence.lineage,
            cluster: Bytes(persistence.cluster))
        let (box, loop, directory) = (UncheckedBox(self), loop, persistence.directory.descriptor)
        thread.perform {
            do throws(DiskError) {
                let file = try DiskFile.make(
                    DataDirectory.snapshotName(number), header, capacity: 0, isTemporary: true, in: directory)
                loop.perform { box.value.opened(file) }
            } catch { loop.perform { box.value.end(nil, error) } }
        }
    }

    private func opened(_ file: DiskFile) {
        isOpening = false
        writer.clear()
        writer.begin(file: file.header)
        work = Work(
            number: file.header.number, file: file, start: replica.durableVector, covered: replica.vector,
            writes: persistence.writes, logged: persistence.loggedBytes, beganNanos: Machine.monotonicNanos)
        isWalking = true
        loop.requestTurn()
    }

    // MARK: Turns

    @inline(__always)
    func turnEnded() { if isWalking { advance() } }

    private func advance() {
        let isServing = shard.state.pointee.counters.commands != commandsSeen
        commandsSeen = shard.state.pointee.counters.commands
        let end = Machine.monotonicNanos + (isServing ? Snapshotter.sliceNanosServing : Snapshotter.sliceNanos)
        while work!.failure == nil, work!.blocksUnderWay < Snapshotter.blocksMax, !work!.walk.isDone {
            if !work!.isPageBegun {
                writer.beginPage()
                work!.isPageBegun = true
            }
            work!.walk.step(shard.state.pointee.store, into: &writer)
            if writer.byteCount >= SnapshotWalk.blockBytes { endBlock() }
            if Machine.monotonicNanos >= end { break }
        }
        if work!.failure != nil || work!.walk.isDone { return conclude() }
        if work!.blocksUnderWay < Snapshotter.blocksMax { loop.requestTurn() }
    }

    private func endBlock() {
        if work!.isPageBegun { writer.endPage() }
        work!.isPageBegun = false
        let chunk = writer.seal()
        var block = OutputBuffer(capacity: chunk.count)
        block.append(chunk)
        writer.clear()
        work!.blocksUnderWay += 1
        let (file, bytes) = (work!.file, UncheckedBox(block))
        let (box, loop) = (UncheckedBox(self), loop)
        thread.perform {
            var failure: DiskError?
            do throws(DiskError) { try file.append(bytes.value.bytes) } catch { failure = error }
            bytes.value.deallocate()
            loop.perform { [failure] in box.value.blockWritten(failure) }
        }
    }

    private func blockWritten(_ failure: DiskError?) {
        guard work != nil else { return }
        work!.blocksUnderWay -= 1
        if let failure { work!.failure = work!.failure ?? failure }
    }

    // MARK: Ending

    private func conclude() {
        (isWalking, isEnding) = (false, true)
        let current = work!
        if let failure = current.failure { return end(nil, failure) }
        if work!.isPageBegun { writer.endPage() }
        work!.isPageBegun = false
        writer.rows(replica.memberRows)
        writer.end(
            SnapshotEnd(
                vector: current.start, frontier: replica.collectedFrontier,
                floor: shard.state.pointee.store.gcFloor, records: current.walk.records))
        endBlock()
        let (box, loop, directory) = (UncheckedBox(self), loop, persistence.directory.descriptor)
        thread.perform {
            do throws(DiskError) {
                let bytes = try Snapshotter.verify(current.file, directory)
                loop.perform { box.value.gather(bytes) }
            } catch { loop.perform { box.value.end(nil, error) } }
        }
    }

    /// Reads back what was written: only then anything else is given up for it. Waits for the disk.
    private static func verify(_ file: DiskFile, _ directory: Int32) throws(DiskError) -> Int {
        try file.giveName(in: directory)
        do { return try readBack(file) } catch let error as DiskError { throw error } catch {
            throw DiskError("read \(file.name) back (\(error))", EIO)
        }
    }

    /// Chunk by chunk: a snapshot may be as large as memory. Returns its bytes.
    private static func readBack(_ file: DiskFile) throws -> Int {
        var chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * SnapshotWalk.blockBytes, alignment: 16)
        defer { chunk.deallocate() }
        func read(_ count: Int, at place: Int) throws -> UnsafeRawBufferPointer {
            if count > chunk.count {
                chunk.deallocate()
                chunk = .allocate(byteCount: count, alignment: 16)
            }
            let found = try file.read(UnsafeMutableRawBufferPointer(rebasing: chunk[..<count]), at: place)
            return UnsafeRawBufferPointer(rebasing: chunk[..<found])
        }
        var check = try SnapshotCheck(page: try read(DiskHeader.byteCount, at: 0))
        var at = DiskHeader.byteCount
        while case let head = try read(ChunkFormat.headerBytes, at: at), !head.isEmpty {
            let count = ChunkFormat.headerBytes + (try check.bodyBytes(head))
            try check.take(try read(count, at: at))
            at += count
        }
        try check.finish()
        return at
    }

    /// Asks each log which of its files are needed beside the snapshot.
    private func gather(_ bytes: Int) {
        guard let work else { return }
        let firsts = Locked([UInt64?](repeating: nil, count: logs.count))
        let (box, loop) = (UncheckedBox(self), loop)
        for (index, entry) in logs.enumerated() {
            let (log, covered) = (entry.log, work.covered)
            entry.loop.perform {
                let first = log.value.firstNeeded(beside: covered)
                let all = firsts.withLock { firsts -> [UInt64]? in
                    firsts[index] = first
                    let known = firsts.compactMap { $0 }
                    return known.count == firsts.count ? known : nil
                }
                if let all { loop.perform { box.value.settle(bytes, all) } }
            }
        }
    }

    /// The manifest names the snapshot, and the logs that are needed beside it; then the others go.
    private func settle(_ bytes: Int, _ firsts: [UInt64]) {
        guard let work else { return }
        let snapshot = Manifest.Snapshot(number: work.number, bytes: UInt64(bytes), at: Machine.wallMillis)
        let (box, loop, persistence) = (UncheckedBox(self), loop, persistence)
        thread.perform {
            let before = persistence.manifestNow
            do throws(DiskError) {
                try persistence.change { manifest in
                    manifest.snapshot = snapshot
                    for i in manifest.lives.indices {
                        let isOwn = manifest.lives[i].server == persistence.server
                        // What was read at the start is in the stores, and so in the snapshot.
                        manifest.lives[i].firstLogs =
                            isOwn ? firsts : manifest.lives[i].firstLogs.map { _ in 0 }
                    }
                }
                persistence.removeUnneeded(before)
                loop.perform { box.value.end(snapshot, nil) }
            } catch { loop.perform { box.value.end(nil, error) } }
        }
    }

    private func end(_ snapshot: Manifest.Snapshot?, _ failure: DiskError?) {
        let nanos = work.map { Machine.monotonicNanos - $0.beganNanos } ?? 0
        if let failure {
            persistence.log.error("no snapshot was made: \(failure)")
            if let work { persistence.directory.remove(work.file.name + ".new") }
        }
        persistence.noteSaved(snapshot, writes: work?.writes ?? 0, logged: work?.logged ?? 0, nanos: nanos)
        writer.clear()
        (work, isOpening, isEnding) = (nil, false, false)
        let done = waiting
        (waiting, waitingNext) = (waitingNext, [])
        for tell in done { tell(snapshot != nil) }
        if wantsNext {
            wantsNext = false
            begin()
        }
    }
}
