// A thread for what may wait for a disk: loops never do. perform, finish: any thread.

import Glibc
import KVRuntime

/// Runs jobs one after the other, in the order in which they were given.
final class DiskThread: @unchecked Sendable {
    /// That wait. Whoever works for a server's own files has a few at a time; clients that fetch backups may have more,
    /// and are refused.
    static let jobsMax = 1024

    private let jobs = Locked<[@Sendable () -> Void]>([])
    private let wake = SystemSemaphore()
    private var thread = pthread_t()

    init() {
        let failure = SystemThread.start(&thread, blocksSignals: true) { self.run() }
        precondition(failure == 0, "cannot create a thread")
    }

    /// False, and nothing done, if too many wait.
    @discardableResult
    func perform(_ job: @escaping @Sendable () -> Void) -> Bool {
        let isTaken = jobs.withLock { jobs in
            if jobs.count >= DiskThread.jobsMax { return false }
            jobs.append(job)
            return true
        }
        if isTaken { wake.post() }
        return isTaken
    }

    /// Runs what was given, then ends the thread. Once.
    func finish() {
        wake.post()
        pthread_join(thread, nil)
    }

    private func run() {
        while true {
            wake.wait()
            // One post for each job, and one more at the end.
            let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            guard let job else { return }
            job()
        }
    }
}
