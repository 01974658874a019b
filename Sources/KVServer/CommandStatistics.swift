// How often each command ran, failed and was refused, and each kind of error was answered: for INFO. Written by the
// query actors' threads, read by any.

import KVBase
import RESP
import Synchronization

/// Of one query actor, which alone writes: plain sums behind relaxed atomics. GET and SET in their short way are not
/// counted here but once a turn (`ShardStatistics.publish`).
final class CommandStatistics: Sendable {
    private struct Row: ~Copyable {
        let calls = Atomic<Int>(0)
        let rejected = Atomic<Int>(0)
        let failed = Atomic<Int>(0)
    }

    private nonisolated(unsafe) let rows: UnsafeMutablePointer<Row>
    private let count = CommandTable.standard.rows.count
    private let errors = Mutex<[String: Int]>([:])

    init() {
        rows = .allocate(capacity: count)
        for i in 0..<count { (rows + i).initialize(to: Row()) }
    }

    deinit {
        rows.deinitialize(count: count)
        rows.deallocate()
    }

    func note(_ index: Int, isRejected: Bool, isFailed: Bool) {
        if isRejected {
            rows[index].rejected.add(1, ordering: .relaxed)
        } else {
            rows[index].calls.add(1, ordering: .relaxed)
            if isFailed { rows[index].failed.add(1, ordering: .relaxed) }
        }
    }

    func noteError(_ code: String) { errors.withLock { $0[code, default: 0] += 1 } }

    func reset() {
        for i in 0..<count {
            rows[i].calls.store(0, ordering: .relaxed)
            rows[i].rejected.store(0, ordering: .relaxed)
            rows[i].failed.store(0, ordering: .relaxed)
        }
        errors.withLock { $0 = [:] }
    }

    func of(_ index: Int) -> (calls: Int, rejected: Int, failed: Int) {
        (
            rows[index].calls.load(ordering: .relaxed), rows[index].rejected.load(ordering: .relaxed),
            rows[index].failed.load(ordering: .relaxed)
        )
    }

    var errorCounts: [String: Int] { errors.withLock { $0 } }
}

extension Shard {
    /// Longest code of an error reply that is told apart.
    private static let errorCodeBytesMax = 32

    /// A command of the table has been run, or refused (nil: it is not in the table); its reply begins at `before`.
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
