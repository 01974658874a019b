// Threads of a test, and a locked queue of records between them.

import Foundation
import KVCore
import Synchronization

/// Runs `body` on `count` threads of its own at once and returns what each returned. Real threads: the bodies wait
/// for each other, which tasks on a pool of two threads could not.
func onThreads<R: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) -> R) -> [R] {
    let results = ResultBox<R>()
    let done = DispatchSemaphore(value: 0)
    for i in 0..<count {
        Thread.detachNewThread {
            results.add(i, body(i))
            done.signal()
        }
    }
    for _ in 0..<count { done.wait() }
    return results.sorted
}

private final class ResultBox<R: Sendable>: Sendable {
    private let results = Mutex<[Int: R]>([:])

    func add(_ index: Int, _ result: R) { results.withLock { $0[index] = result } }
    var sorted: [R] { results.withLock { $0.sorted { $0.key < $1.key }.map(\.value) } }
}

final class Mailbox: Sendable {
    private let state = Mutex<(records: [Record], finished: Int)>(([], 0))

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
