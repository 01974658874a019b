// Loops that stand still for a while, so that another thread may do what is otherwise done before they run. That other
// thread.

import Glibc

/// From `init` to `end` the loops' threads wait within a turn. Whoever has it may touch what is theirs, and call what
/// is to be called before a loop runs. What it hands them meanwhile runs afterwards. A loop that has ended is not
/// waited for.
package final class LoopPause {
    /// Carries one loop's arrival, also if it is dropped without having run.
    private final class Seat: @unchecked Sendable {
        private let arrived: SystemSemaphore
        private let going: SystemSemaphore
        private var isTaken = false

        init(_ arrived: SystemSemaphore, _ going: SystemSemaphore) { (self.arrived, self.going) = (arrived, going) }

        func stand() {
            isTaken = true
            arrived.post()
            going.wait()
        }

        deinit { if !isTaken { arrived.post() } }
    }

    private let going = SystemSemaphore()
    private let count: Int

    /// Waits until all of them stand. Not on a thread of one of them.
    package init(_ loops: [Loop]) {
        precondition(!loops.contains(where: \.isCurrent), "a loop cannot wait for itself")
        count = loops.count
        let arrived = SystemSemaphore()
        for loop in loops { LoopPause.seat(loop, arrived, going) }
        for _ in loops { arrived.wait() }
    }

    private static func seat(_ loop: Loop, _ arrived: SystemSemaphore, _ going: SystemSemaphore) {
        let seat = Seat(arrived, going)
        loop.perform { seat.stand() }
    }

    /// They go on. Once.
    package func end() { for _ in 0..<count { going.post() } }
}
