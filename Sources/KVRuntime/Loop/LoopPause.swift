// Loops that stand still for a while, so that another thread may do what is otherwise done before they run. That other
// thread.

import Glibc

/// From `init` to `end` the loops' threads wait within a turn. Whoever has it may touch what is theirs, and call what
/// is to be called before a loop runs. What it hands them meanwhile runs afterwards. A loop that has ended is not
/// waited for.
package final class LoopPause {
    /// Carries one loop's arrival, also if it is dropped without having run.
    private final class Seat: @unchecked Sendable {
        private let arrived: Signal
        private let going: Signal
        private var isTaken = false

        init(_ arrived: Signal, _ going: Signal) { (self.arrived, self.going) = (arrived, going) }

        func stand() {
            isTaken = true
            arrived.send()
            going.wait()
        }

        deinit { if !isTaken { arrived.send() } }
    }

    /// A counting semaphore: whoever waits sees what was done before it was sent.
    private final class Signal: @unchecked Sendable {
        private let semaphore: UnsafeMutablePointer<sem_t>

        init() {
            semaphore = .allocate(capacity: 1)
            sem_init(semaphore, 0, 0)
        }

        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }

        func send() { sem_post(semaphore) }
        func wait() { while sem_wait(semaphore) != 0 {} }
    }

    private let going = Signal()
    private let count: Int

    /// Waits until all of them stand. Not on a thread of one of them.
    package init(_ loops: [Loop]) {
        precondition(!loops.contains(where: \.isCurrent), "a loop cannot wait for itself")
        count = loops.count
        let arrived = Signal()
        for loop in loops { LoopPause.seat(loop, arrived, going) }
        for _ in loops { arrived.wait() }
    }

    private static func seat(_ loop: Loop, _ arrived: Signal, _ going: Signal) {
        let seat = Seat(arrived, going)
        loop.perform { seat.stand() }
    }

    /// They go on. Once.
    package func end() { for _ in 0..<count { going.send() } }
}
