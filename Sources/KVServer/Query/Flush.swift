// FLUSHDB and FLUSHALL: databases emptied in slices. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Deletes what this actor shows of some databases, as DEL does: each key gets a tombstone, and what the actor has not
/// seen yet is spared. So is what its clients write while the command runs. The connection's later commands wait.
final class Flush: Continuation {
    /// Keys deleted between two looks at the clock.
    private static let pageKeys = 64

    /// The databases still to be emptied, the one under way first.
    private var databases: Range<UInt8>
    private let isAsync: Bool
    private var hasAnswered = false
    /// Own writes up to this one are deleted.
    private let ownSeq: UInt64
    private var position: Bytes?
    private var page: [Record] = []

    init(_ databases: Range<UInt8>, isAsync: Bool, ownSeq: UInt64) {
        (self.databases, self.isAsync, self.ownSeq) = (databases, isAsync, ownSeq)
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        if isAsync, !hasAnswered {
            x.output.pointee.ok()
            hasAnswered = true
        }
        let deadline = x.sliceDeadline
        while let number = databases.first {
            guard deletePage(&x, Keyspace(number: number, store: x.store, now: x.nowMillis)) else {
                (databases, position) = (databases.dropFirst(), nil)
                continue
            }
            guard Machine.monotonicNanos < deadline else { return false }
        }
        if !hasAnswered { x.output.pointee.ok() }
        return true
    }

    /// False when the database has no more keys.
    private func deletePage(_ x: inout Execution, _ keyspace: Keyspace) -> Bool {
        if keyspace.count == 0 { return false }
        let found = keyspace.page(prefix: keyspace.start, after: position, limit: Flush.pageKeys)
        let records = found.records
        position = found.position
        for i in 0..<records.count { page.append(records[i].retained()) }
        for record in page {
            if record.origin != x.store.ownOrigin || record.seq <= ownSeq {
                x.store.delete(x.store.key(record.keyView), now: x.nowMillis)
            }
            record.release()
        }
        page.removeAll(keepingCapacity: true)
        return !found.isLast
    }
}

extension Commands {
    @Sendable static func flushdb(_ x: inout Execution) {
        let number = x.session.state.pointee.database
        flush(&x, number..<number + 1)
    }

    @Sendable static func flushall(_ x: inout Execution) { flush(&x, 0..<UInt8(Keyspace.count)) }

    private static func flush(_ x: inout Execution, _ databases: Range<UInt8>) {
        guard x.count == 1 || x.count == 2 && (x.argument(1, is: "ASYNC") || x.argument(1, is: "SYNC")) else {
            return x.error("ERR syntax error")
        }
        x.session.continuation = Flush(
            databases, isAsync: x.count == 2 && x.argument(1, is: "ASYNC"), ownSeq: x.store.ownSeq)
    }
}
