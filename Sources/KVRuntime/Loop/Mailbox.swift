// The many-producers, one-consumer queue of CSupport with an owner, a close and a waker. push and close: any thread.

package import CSupport
import Glibc

/// Unbounded, FIFO per producer, lock-free (csupport_mpsc.h holds the argument). Nodes are intrusive: the pusher
/// allocates, the consumer owns what it pops. Several mailboxes share nothing.
package final class Mailbox: @unchecked Sendable {
    package enum Outcome: Sendable { case delivered, wokeConsumer, closed }

    package typealias Node = UnsafeMutablePointer<cs_node>

    private let queue: UnsafeMutablePointer<cs_mpsc>
    /// Written once by close, on a cache line that producers otherwise only read.
    private let closedFlag: UnsafeMutablePointer<UInt32>
    private let wake: @Sendable () -> Void

    /// `wake` is called by producers, from their threads, when the consumer said it would wait.
    package init(wake: @escaping @Sendable () -> Void) {
        var memory: UnsafeMutableRawPointer?
        precondition(posix_memalign(&memory, 64, 192) == 0)
        queue = memory!.assumingMemoryBound(to: cs_mpsc.self)
        closedFlag = (memory! + 128).assumingMemoryBound(to: UInt32.self)
        cs_mpsc_init(queue)
        closedFlag.initialize(to: 0)
        self.wake = wake
    }

    /// The last owner is gone, so nobody pushes; nodes still queued are the business of whoever defined them.
    deinit { free(queue) }

    /// Never blocks. When closed, the node stays the caller's.
    package func push(_ node: Node) -> Outcome { push(first: node, last: node) }

    /// Pushes a chain linked by `next`; one exchange and at most one wake-up for all of it, and nobody else's nodes
    /// between.
    package func push(first: Node, last: Node) -> Outcome {
        if cs_load_flag(closedFlag) != 0 { return .closed }
        if cs_mpsc_push_chain(queue, first, last) == 0 { return .delivered }
        wake()
        return .wokeConsumer
    }

    /// From now on pushes are refused (a push under way may still arrive), and the consumer wakes to notice.
    package func close() {
        cs_publish_flag(closedFlag, 1)
        wake()
    }

    package var isClosed: Bool { cs_load_flag(closedFlag) != 0 }

    /// Consumer. nil if empty, or if a producer is in the middle of its push.
    package func pop() -> Node? { cs_mpsc_pop(queue) }

    /// Consumer.
    package var isEmpty: Bool { cs_mpsc_is_empty(queue) != 0 }

    /// Consumer, before it waits: false means there is something to pop, so do not wait.
    package func prepareToWait() -> Bool { cs_mpsc_idle(queue) != 0 }

    /// Consumer, after it waited for whatever reason: producers need not wake it any more.
    package func waited() { cs_mpsc_busy(queue) }
}
