// A thread for what may wait for a disk: loops never do. perform, finish: any thread.

import Glibc
import KVRuntime

/// Runs jobs one after the other, in the order in which they were given.
final class DiskThread: @unchecked Sendable {
    /// That wait. Whoever works for a server's own files has a few at a time; clients that fetch backups may have more,
    /// and are refused.
    static let jobsMax = 1024

    private let jobs = Locked<[@Sendable () -> Void]>([])
    private let wake: UnsafeMutablePointer<sem_t>
    private var thread = pthread_t()

    init() {
        wake = .allocate(capacity: 1)
        sem_init(wake, 0, 0)
        let failure = SystemThread.start(&thread, blocksSignals: true) { self.run() }
        precondition(failure == 0, "cannot create a thread")
    }

    deinit {
        sem_destroy(wake)
        wake.deallocate()
    }

    /// False, and nothing done, if too many wait.
    @discardableResult
    func perform(_ job: @escaping @Sendable () -> Void) -> Bool {
        let isTaken = jobs.withLock { jobs in
            if jobs.count >= DiskThread.jobsMax { return false }
            jobs.append(job)
            return true
        }
        if isTaken { sem_post(wake) }
        return isTaken
    }

    /// Runs what was given, then ends the thread. Once.
    func finish() {
        sem_post(wake)
        pthread_join(thread, nil)
    }

    private func run() {
        while true {
            while sem_wait(wake) != 0 {}
            // One post for each job, and one more at the end.
            let job = jobs.withLock { $0.isEmpty ? nil : $0.removeFirst() }
            guard let job else { return }
            job()
        }
    }
}
