// Merges into stores beside the thread that reads a directory. The thread that reads, but for what it was given.

import KVCore
import KVRuntime

final class RecoveryThreads: RecoveryCrew {
    let goesMax = 8

    private let threads: [DiskThread]
    /// A post for each go that may begin.
    private let free: SystemSemaphore

    var lanes: Int { threads.count }

    /// Nil on a machine of one processor: nobody would work beside anybody.
    init?(stores: Int, processors: Int = Machine.processorCount) {
        guard processors > 1 else { return nil }
        threads = (0..<min(stores, processors)).map { _ in DiskThread() }
        free = SystemSemaphore(posts: goesMax)
    }

    func perform(_ work: @escaping @Sendable (Int) -> Void, last: @escaping @Sendable () -> Void) {
        free.wait()
        let (left, free) = (Locked(lanes), free)
        for (lane, thread) in threads.enumerated() {
            thread.perform {
                work(lane)
                let isLast = left.withLock { left in
                    left -= 1
                    return left == 0
                }
                guard isLast else { return }
                last()
                free.post()
            }
        }
    }

    func settle() {
        for _ in 0..<goesMax { free.wait() }
        for _ in 0..<goesMax { free.post() }
    }

    /// Once; nothing is under way.
    func finish() { for thread in threads { thread.finish() } }
}
