// A thread for what may wait for a disk: loops never do. perform, finish: any thread.

import Glibc
import KVRuntime

/// Runs jobs one after the other, in the order in which they were given. How many may wait is for its users to bound.
final class DiskThread: @unchecked Sendable {
    private let jobs = Locked<[@Sendable () -> Void]>([])
    private let wake: UnsafeMutablePointer<sem_t>
    private var thread = pthread_t()

    init() {
        wake = .allocate(capacity: 1)
        sem_init(wake, 0, 0)
        let box = Unmanaged.passRetained(self).toOpaque()
        let failure = pthread_create(
            &thread, nil,
            { argument in
                var all = sigset_t()
                sigfillset(&all)
                pthread_sigmask(SIG_BLOCK, &all, nil)
                Unmanaged<DiskThread>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box)
        precondition(failure == 0, "cannot create a thread")
    }

    deinit {
        sem_destroy(wake)
        wake.deallocate()
    }

    func perform(_ job: @escaping @Sendable () -> Void) {
        jobs.withLock { $0.append(job) }
        sem_post(wake)
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
