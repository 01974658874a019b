// A thread that runs one loop, pinned to a processor if wanted. start and join: any thread.

import CMemory
import CSupport
import Glibc

package final class LoopThread: @unchecked Sendable {
    package let loop: Loop
    private let processor: Int?
    private let name: String
    private let warmsMemory: Bool
    private var thread = pthread_t()
    /// Written by the thread before it ends, read after join.
    private var failure: (any Error)?
    private var joined = false

    /// `processor` counts among those this process may use, modulo their number; nil leaves the choice to the kernel.
    /// With `warmsMemory` fresh memory is made ready beside the loop; then `Loop.tendMemory` is to be called regularly.
    package init(loop: Loop, processor: Int? = nil, name: String = "loop", warmsMemory: Bool = false) {
        self.loop = loop
        self.processor = processor
        self.name = name
        self.warmsMemory = warmsMemory
    }

    package func start() {
        let failure = SystemThread.start(&thread) { self.body() }
        precondition(failure == 0, "cannot create a thread")
    }

    private func body() {
        cs_name_thread(String(name.prefix(15)))
        if let processor { _ = cs_pin_thread(Int32(truncatingIfNeeded: processor)) }
        if warmsMemory { _ = cm_warm_this_thread(Int32(truncatingIfNeeded: processor ?? -1)) }
        do { try loop.run() } catch { failure = error }
        cm_leave_this_thread()
    }

    /// Waits for the thread's end; throws if the loop could not run. Once, after `start`.
    package func join() throws {
        precondition(!joined, "joined twice")
        joined = true
        pthread_join(thread, nil)
        if let failure { throw failure }
    }

    package func stopAndJoin() throws {
        loop.stop()
        try join()
    }
}
