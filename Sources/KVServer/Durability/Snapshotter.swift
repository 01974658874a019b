// Makes snapshots of one actor's store while it serves: a slice a turn, written by a thread of its own. Carries out
// what `SnapshotPlan` decides. That actor's loop; `request` on any thread.

import Glibc
import KVBase
import KVCore
import KVRuntime
import Logging

final class Snapshotter {
    /// Of a turn, where clients were served in it and where none was.
    private static let sliceNanosServing: Nanos = 50_000
    private static let sliceNanos: Nanos = 300_000

    private unowned let shard: Shard
    let loop: Loop
    private let persistence: Persistence
    private let thread = DiskThread()
    private var logs: [(loop: Loop, log: UncheckedBox<ActorLog>)] = []
    private var plan: SnapshotPlan!
    /// Looked at in every turn.
    @exclusivity(unchecked) private var isWalking = false
    private var commandsSeen = 0
    /// Of the one that is being made.
    private var file: DiskFile?
    private var (writes, logged, beganNanos) = (UInt64(0), 0, Nanos(0))
    private var lastError: DiskError?

    /// Before the loops run.
    init(_ shard: Shard, _ replica: Replica, _ loop: Loop, _ persistence: Persistence, logs: [ActorLog]) {
        (self.shard, self.loop, self.persistence) = (shard, loop, persistence)
        self.logs = logs.map { ($0.loop, UncheckedBox($0)) }
        plan = SnapshotPlan(replica, host: self)
        let box = UncheckedBox(self)
        loop.schedule(everyMillis: Backups.lookMillis) { persistence.look() }
        persistence.saves { [loop] isFresh, done in loop.perform { box.value.plan.request(isFresh, done) } }
    }

    /// When the loop has ended.
    func finish() { thread.finish() }

    @inline(__always)
    func turnEnded() { if isWalking { advance() } }

    private func advance() {
        let isServing = shard.state.pointee.counters.commands != commandsSeen
        commandsSeen = shard.state.pointee.counters.commands
        let end = Machine.monotonicNanos + (isServing ? Snapshotter.sliceNanosServing : Snapshotter.sliceNanos)
        while plan.step(), Machine.monotonicNanos < end {}
        if plan.pause() { loop.requestTurn() }
        isWalking = plan.isWalking
    }

    private func opened(_ result: Result<DiskFile, DiskError>) {
        switch result {
        case .success(let made):
            file = made
            (writes, logged, beganNanos) = (persistence.writes, persistence.loggedBytes, Machine.monotonicNanos)
            plan.opened(made.header)
            isWalking = true
            loop.requestTurn()
        case .failure(let error):
            lastError = error
            plan.opened(nil)
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

    /// On the thread that may wait; then `done` on the loop.
    private func perform<T: Sendable>(
        _ job: @escaping @Sendable () throws(DiskError) -> T, _ done: @escaping (Snapshotter, T?) -> Void
    ) {
        let (box, loop, done) = (UncheckedBox(self), loop, UncheckedBox(done))
        thread.perform {
            let result: Result<T, DiskError>
            do throws(DiskError) { result = .success(try job()) } catch { result = .failure(error) }
            loop.perform {
                if case .failure(let error) = result { box.value.lastError = error }
                done.value(box.value, try? result.get())
            }
        }
    }
}

extension Snapshotter: SnapshotHost {
    var wallMillis: Millis { Machine.wallMillis }
    var lastNumber: UInt64 { persistence.manifestNow.snapshot?.number ?? 0 }

    func open(_ number: UInt64) {
        persistence.noteSaving()
        (file, lastError, beganNanos) = (nil, nil, 0)
        let header = DiskHeader(
            kind: .snapshot, file: Machine.random() | 1, epoch: persistence.epoch, server: persistence.server,
            actor: shard.index - 1, number: number, name: Bytes(persistence.name), lineage: persistence.lineage,
            cluster: Bytes(persistence.cluster))
        let (box, loop, directory) = (UncheckedBox(self), loop, persistence.directory.descriptor)
        thread.perform {
            let result: Result<DiskFile, DiskError>
            do throws(DiskError) {
                result = .success(
                    try DiskFile.make(
                        DataDirectory.snapshotName(number), header, capacity: 0, isTemporary: true, in: directory))
            } catch { result = .failure(error) }
            loop.perform { box.value.opened(result) }
        }
    }

    func write(_ chunk: UnsafeRawBufferPointer) {
        var block = OutputBuffer(capacity: chunk.count)
        block.append(chunk)
        let (file, bytes) = (file!, UncheckedBox(block))
        perform { () throws(DiskError) in
            defer { bytes.value.deallocate() }
            try file.append(bytes.value.bytes)
        } _: {
            $0.plan.blockWritten($1 != nil)
        }
    }

    func verify() {
        let (file, directory) = (file!, persistence.directory.descriptor)
        perform { () throws(DiskError) in
            try Snapshotter.verify(file, directory)
        } _: {
            $0.plan.verified($1)
        }
    }

    func gather(beside vector: VersionVector) {
        let firsts = Locked([UInt64?](repeating: nil, count: logs.count))
        let (box, loop) = (UncheckedBox(self), loop)
        for (index, entry) in logs.enumerated() {
            let log = entry.log
            entry.loop.perform {
                log.value.tellFirstNeeded(beside: vector) { first in
                    let all = firsts.withLock { firsts -> [UInt64]? in
                        firsts[index] = first
                        let known = firsts.compactMap { $0 }
                        return known.count == firsts.count ? known : nil
                    }
                    if let all { loop.perform { box.value.plan.gathered(all) } }
                }
            }
        }
    }

    func settle(_ snapshot: Manifest.Snapshot, firstLogs: [UInt64]) {
        let persistence = persistence
        perform { () throws(DiskError) in
            let before = persistence.manifestNow
            try persistence.change { $0.settle(snapshot, of: persistence.server, firstLogs: firstLogs) }
            persistence.removeUnneeded(before)
        } _: {
            $0.plan.settled($1 != nil)
        }
    }

    func ended(_ snapshot: Manifest.Snapshot?) {
        let nanos = beganNanos == 0 ? 0 : Machine.monotonicNanos - beganNanos
        if snapshot == nil {
            persistence.log.error("no snapshot was made: \(lastError?.description ?? "the disk failed")")
            if let file { persistence.directory.remove(file.name + ".new") }
        }
        let begun = file != nil
        persistence.noteSaved(
            snapshot, writes: begun ? writes : 0, logged: begun ? logged : 0, nanos: nanos)
        isWalking = false
        file = nil
    }
}
