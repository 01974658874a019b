// A thread that waits for others without using the processor. Any thread.

import Glibc

/// A counting semaphore: whoever waits sees what was done before it was posted.
package final class SystemSemaphore: @unchecked Sendable {
    private let semaphore: UnsafeMutablePointer<sem_t>

    /// So many waits end at once.
    package init(posts: Int = 0) {
        semaphore = .allocate(capacity: 1)
        sem_init(semaphore, 0, UInt32(posts))
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    package func post() { sem_post(semaphore) }

    /// Takes a post; not given up by a signal.
    package func wait() { while sem_wait(semaphore) != 0 {} }
}
