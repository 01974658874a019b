// A trait for suites that block on sockets and processes: they run on threads of their own, two at a time, and more
// while the machine has nothing to do.

import Foundation
package import Testing

/// Swift Testing runs as many tests at once as there are cores, on threads that asynchronous tests need too. A test
/// that blocks one of them for seconds makes the deadlines of others fail. Tests under this trait run on a thread pool
/// of their own, and at most `atOnce` of them at a time. Most of them wait most of the time: one more begins after each
/// second of which the processors were idle for `idleShare`, up to `atOnceIdle`.
package struct BlockingTrait: SuiteTrait, TestTrait, TestScoping {
    private static let atOnce = 2
    private static let atOnceIdle = 4
    private static let idleShare = 0.4
    package let isRecursive = true
    private static let gate = Gate(places: atOnce, placesIdle: atOnceIdle, idleShare: idleShare)
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

/// Lets a number of tasks in at a time, in the order they came; more while the machine is idle.
private actor Gate {
    private let places: Int
    private let placesIdle: Int
    private let idleShare: Double
    private var inside = 0
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var isWatching = false

    init(places: Int, placesIdle: Int, idleShare: Double) {
        (self.places, self.placesIdle, self.idleShare) = (places, placesIdle, idleShare)
    }

    func enter() async {
        if inside < places {
            inside += 1
            return
        }
        if !isWatching {
            isWatching = true
            Task { await watch() }
        }
        await withCheckedContinuation { waiting.append($0) }
    }

    func leave() {
        inside -= 1
        if inside < places { admit() }
    }

    private func admit() {
        guard !waiting.isEmpty else { return }
        inside += 1
        waiting.removeFirst().resume()
    }

    private func watch() async {
        var before = ProcessorTimes.now
        while !waiting.isEmpty {
            // A poll of the processors, as long as somebody waits.
            try? await Task.sleep(for: .seconds(1))
            let now = ProcessorTimes.now
            if inside < placesIdle, now.idleShare(since: before) >= idleShare { admit() }
            before = now
        }
        isWatching = false
    }
}

/// What all processors did since the machine started, in ticks (proc(5), the first line of /proc/stat).
private struct ProcessorTimes {
    private var idle = 0
    private var all = 0

    /// All 0 where the system does not say: then nothing is ever idle.
    static var now: ProcessorTimes {
        var times = ProcessorTimes()
        guard let text = try? String(contentsOfFile: "/proc/stat", encoding: .utf8) else { return times }
        let ticks = text.prefix { $0 != "\n" }.split(separator: " ").dropFirst().prefix(8).compactMap { Int($0) }
        guard ticks.count == 8 else { return times }
        // Idle, and waiting for a disk.
        (times.idle, times.all) = (ticks[3] + ticks[4], ticks.reduce(0, +))
        return times
    }

    func idleShare(since before: ProcessorTimes) -> Double {
        all > before.all ? Double(idle - before.idle) / Double(all - before.all) : 0
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
