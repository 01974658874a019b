// Merges into stores beside the thread that reads a directory. The thread that reads, but for what it was given.

import Glibc
import KVCore
import KVRuntime

final class RecoveryThreads: RecoveryCrew {
    let goesMax = 8

    private let threads: [DiskThread]
    /// A post for each go that may begin.
    private let free: UnsafeMutablePointer<sem_t>

    var lanes: Int { threads.count }

    /// Nil on a machine of one processor: nobody would work beside anybody.
    init?(stores: Int, processors: Int = Machine.processorCount) {
        guard processors > 1 else { return nil }
        threads = (0..<min(stores, processors)).map { _ in DiskThread() }
        free = .allocate(capacity: 1)
        sem_init(free, 0, UInt32(goesMax))
    }

    deinit {
        sem_destroy(free)
        free.deallocate()
    }

    func perform(_ work: @escaping @Sendable (Int) -> Void, last: @escaping @Sendable () -> Void) {
        take()
        let (left, free) = (Locked(lanes), UncheckedBox(free))
        for (lane, thread) in threads.enumerated() {
            thread.perform {
                work(lane)
                let isLast = left.withLock { left in
                    left -= 1
                    return left == 0
                }
                guard isLast else { return }
                last()
                sem_post(free.value)
            }
        }
    }

    func settle() {
        for _ in 0..<goesMax { take() }
        for _ in 0..<goesMax { sem_post(free) }
    }

    private func take() { while sem_wait(free) != 0 {} }

    /// Once; nothing is under way.
    func finish() { for thread in threads { thread.finish() } }
}
