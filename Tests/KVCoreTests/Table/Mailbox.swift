// Threads of a test, and a locked queue of records between them.

import Foundation
import KVCore

/// Runs `body` on `count` threads of its own at once and returns what each returned. Real threads: the bodies wait for
/// each other, which tasks on a pool of two threads could not.
func onThreads<R: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) -> R) -> [R] {
    let results = Locked<[Int: R]>([:])
    let done = DispatchSemaphore(value: 0)
    for i in 0..<count {
        Thread.detachNewThread {
            let result = body(i)
            results.withLock { $0[i] = result }
            done.signal()
        }
    }
    for _ in 0..<count { done.wait() }
    return results.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
}

/// A value behind a lock of the system's, which ThreadSanitizer knows (it does not follow Synchronization.Mutex).
final class Locked<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    init(_ value: Value) { self.value = value }

    func withLock<R>(_ body: (inout Value) -> R) -> R {
        lock.lock()
        defer { lock.unlock() }
        return body(&value)
    }
}

final class Mailbox: Sendable {
    private let state = Locked<(records: [Record], finished: Int)>(([], 0))

    func push(_ record: Record) { state.withLock { $0.records.append(record) } }

    func takeAll() -> [Record] {
        state.withLock { state in
            defer { state.records = [] }
            return state.records
        }
    }

    /// Says that one more sender has sent everything.
    func finish() { state.withLock { $0.finished += 1 } }

    var finished: Int { state.withLock { $0.finished } }
}
