// How often each command ran, how long it took, how often it failed and was refused, and each kind of error was
// answered: for INFO, LATENCY and metrics. Written by the query actors' threads, read by any.

import Glibc
import KVBase
import RESP
import Synchronization

/// Of one query actor, which alone writes: so plain sums behind relaxed atomics, stored and not added, as nobody else
/// does. GET and SET in their short way are not counted here but once a turn (`ShardStatistics.publish`); how long they
/// took is here.
final class CommandStatistics: Sendable {
    /// Of each command: calls, rejected, failed, nanoseconds, then the buckets of its histogram.
    private static let headCells = 4
    private static let cellsPerRow = headCells + LatencyHistogram.bucketCount

    private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<Int>>
    let count = CommandTable.standard.rows.count
    private let errors = Mutex<[String: Int]>([:])

    init() {
        // Zeros that the kernel gives, so that a command nobody uses takes no memory: two kilobytes each.
        let bytes = count * Self.cellsPerRow * MemoryLayout<Atomic<Int>>.stride
        let zeros = calloc(1, bytes) ?? outOfMemory(bytes)
        cells = zeros.bindMemory(to: Atomic<Int>.self, capacity: count * Self.cellsPerRow)
    }

    deinit { free(cells) }

    /// If every command has been used.
    var bytesMax: Int { count * Self.cellsPerRow * MemoryLayout<Atomic<Int>>.stride }

    @inline(__always)
    private func raise(_ cell: Int, by n: Int) {
        cells[cell].store(cells[cell].load(ordering: .relaxed) &+ n, ordering: .relaxed)
    }

    private func value(_ cell: Int) -> Int { cells[cell].load(ordering: .relaxed) }

    // Owner's thread only.

    func note(_ index: Int, isRejected: Bool, isFailed: Bool) {
        let row = index &* Self.cellsPerRow
        if isRejected {
            raise(row &+ 1, by: 1)
        } else {
            raise(row, by: 1)
            if isFailed { raise(row &+ 2, by: 1) }
        }
    }

    /// `calls` of a command took so long each.
    @inline(__always)
    func noteTime(_ index: Int, calls: Int, nanos: UInt64) {
        let row = index &* Self.cellsPerRow
        raise(row &+ 3, by: Int(truncatingIfNeeded: nanos) &* calls)
        raise(row &+ Self.headCells &+ LatencyHistogram.bucket(nanos), by: calls)
    }

    func noteError(_ code: String) { errors.withLock { $0[code, default: 0] += 1 } }

    func reset() {
        for cell in 0..<count * Self.cellsPerRow where value(cell) != 0 { cells[cell].store(0, ordering: .relaxed) }
        errors.withLock { $0 = [:] }
    }

    // Any thread.

    func of(_ index: Int) -> CommandFigures {
        let row = index * Self.cellsPerRow
        return CommandFigures(
            calls: value(row), rejected: value(row + 1), failed: value(row + 2), nanos: value(row + 3))
    }

    func histogram(of index: Int) -> LatencyHistogram {
        var histogram = LatencyHistogram()
        add(index, to: &histogram)
        return histogram
    }

    /// O(buckets).
    func add(_ index: Int, to histogram: inout LatencyHistogram) {
        let first = index * Self.cellsPerRow + Self.headCells
        for bucket in 0..<LatencyHistogram.bucketCount {
            let count = value(first + bucket)
            if count != 0 { histogram.add(bucket, count) }
        }
    }

    var errorCounts: [String: Int] { errors.withLock { $0 } }
    var errorTotal: Int { errors.withLock { $0.values.reduce(0, +) } }
}

/// Of one command, at one or all actors.
struct CommandFigures: Sendable {
    var calls = 0
    var rejected = 0
    var failed = 0
    /// Of the commands whose time is known.
    var nanos = 0

    static func + (a: CommandFigures, b: CommandFigures) -> CommandFigures {
        CommandFigures(
            calls: a.calls + b.calls, rejected: a.rejected + b.rejected, failed: a.failed + b.failed,
            nanos: a.nanos + b.nanos)
    }
}

extension [ShardStatistics] {
    /// Of a command of the table, by all actors; GET and SET in their short way included.
    func figures(of index: Int) -> CommandFigures {
        var sum = reduce(CommandFigures()) { $0 + $1.byCommand.of(index) }
        if index == CommandTable.getRow { sum.calls += reduce(0) { $0 + $1.hotGets } }
        if index == CommandTable.setRow { sum.calls += reduce(0) { $0 + $1.hotSets } }
        return sum
    }

    func histogram(of index: Int) -> LatencyHistogram {
        var sum = LatencyHistogram()
        for statistics in self { statistics.byCommand.add(index, to: &sum) }
        return sum
    }
}

extension CommandTable {
    /// Places of the two that have a short way.
    static let getRow = place(of: "get")
    static let setRow = place(of: "set")
    static let incrRow = place(of: "incr")

    private static func place(of name: String) -> Int { standard.rows.firstIndex { $0.nameText == name }! }
}

extension Shard {
    /// Longest code of an error reply that is told apart.
    private static let errorCodeBytesMax = 32

    /// A command of the table has been run, or refused (nil: it is not in the table, or not to be counted); its reply
    /// begins at `before`.
    func noteCommand(
        _ command: (index: Int, isRejected: Bool)?, _ output: UnsafeMutablePointer<OutputBuffer>, from before: Int
    ) {
        let reply = output.pointee.bytes[before...]
        let isError = reply.first == UInt8(ascii: "-")
        if let command {
            statistics.byCommand.note(command.index, isRejected: command.isRejected, isFailed: isError)
        }
        guard isError else { return }
        let code = reply.dropFirst().prefix(Shard.errorCodeBytesMax).prefix { $0 > 32 }
        statistics.byCommand.noteError(String(decoding: code, as: UTF8.self))
    }
}
