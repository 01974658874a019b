// A trait for suites that block on sockets and processes: they run on threads of their own, two at a time.

import Foundation
package import Testing

/// Swift Testing runs as many tests at once as there are cores, on threads that asynchronous tests need too. A test
/// that blocks one of them for seconds makes the deadlines of others fail. Tests under this trait run on a thread pool
/// of their own, and at most `BlockingTrait.atOnce` of them at a time.
package struct BlockingTrait: SuiteTrait, TestTrait, TestScoping {
    package static let atOnce = 2
    package let isRecursive = true
    private static let gate = Gate(places: atOnce)
    private static let executor = ThreadExecutor()

    package func scopeProvider(for test: Test, testCase: Test.Case?) -> BlockingTrait? {
        testCase == nil ? nil : self
    }

    package func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        await Self.gate.enter()
        do {
            try await withTaskExecutorPreference(Self.executor) { try await function() }
        } catch {
            await Self.gate.leave()
            throw error
        }
        await Self.gate.leave()
    }
}

extension Trait where Self == BlockingTrait {
    package static var blocking: BlockingTrait { BlockingTrait() }
}

extension Trait where Self == TimeLimitTrait {
    /// For tests that may hang. The time counts while a test waits for others to be done with the machine, too, so it
    /// is longer than the whole suite takes on a slow one.
    package static var waitingLimit: TimeLimitTrait { .timeLimit(.minutes(20)) }
}

/// Lets a number of tasks in at a time, in the order they came.
private actor Gate {
    private var places: Int
    private var waiting: [CheckedContinuation<Void, Never>] = []

    init(places: Int) { self.places = places }

    func enter() async {
        if places > 0 {
            places -= 1
            return
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func leave() {
        if waiting.isEmpty { places += 1 } else { waiting.removeFirst().resume() }
    }
}

/// One thread per job that cannot be run by an idle one. Jobs of tests are few, so the number of threads is not
/// bounded.
private final class ThreadExecutor: TaskExecutor, @unchecked Sendable {
    private let condition = NSCondition()
    private var jobs: [UnownedJob] = []
    private var idleThreads = 0

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        condition.lock()
        jobs.append(job)
        let isEnough = idleThreads >= jobs.count
        condition.signal()
        condition.unlock()
        if !isEnough { Thread.detachNewThread { [self] in run() } }
    }

    private func run() {
        // Worker threads of the pool that made this one block signals; children started here must not inherit that.
        var none = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, nil)
        let executor = asUnownedTaskExecutor()
        condition.lock()
        while true {
            while jobs.isEmpty {
                idleThreads += 1
                condition.wait()
                idleThreads -= 1
            }
            let job = jobs.removeFirst()
            condition.unlock()
            job.runSynchronously(on: executor)
            condition.lock()
        }
    }
}
