// Timers of one loop: a binary heap by deadline. Loop's thread.

import KVBase

/// A scheduled call; keep it to cancel, drop it otherwise: the loop holds it until it has fired.
package final class LoopTimer {
    fileprivate(set) var intervalNanos: Nanos
    fileprivate var action: (() -> Void)?

    init(intervalNanos: Nanos, action: @escaping () -> Void) {
        self.intervalNanos = intervalNanos
        self.action = action
    }

    /// Loop's thread. The call will not happen (again); what it captured is released at once.
    package func cancel() { action = nil }

    package var isScheduled: Bool { action != nil }
}

struct TimerHeap {
    private struct Entry {
        var deadline: Nanos
        /// Equal deadlines fire in the order they were scheduled.
        var order: UInt64
        var timer: LoopTimer

        func precedes(_ other: Entry) -> Bool {
            deadline != other.deadline ? deadline < other.deadline : order < other.order
        }
    }

    private var entries: [Entry] = []
    private var nextOrder: UInt64 = 0

    /// Deadline of the earliest timer, cancelled or not. O(1).
    var earliest: Nanos? { entries.first?.deadline }
    var count: Int { entries.count }

    /// O(log n).
    mutating func insert(_ timer: LoopTimer, deadline: Nanos) {
        if entries.count > 1024, entries.count.nonzeroBitCount == 1 { dropCancelled() }
        entries.append(Entry(deadline: deadline, order: nextOrder, timer: timer))
        nextOrder += 1
        siftUp(entries.count - 1)
    }

    /// Removes the earliest timer if it is due. A repeating one goes back in, counted from `now` when it was late by
    /// more than an interval so that a stall is not followed by a burst. O(log n).
    mutating func popDue(now: Nanos) -> (() -> Void)? {
        while let first = entries.first, first.deadline <= now {
            let timer = first.timer
            guard let action = timer.action else {
                removeFirst()
                continue
            }
            if timer.intervalNanos > 0 {
                let next = first.deadline + timer.intervalNanos
                entries[0].deadline = next > now ? next : now + timer.intervalNanos
                entries[0].order = nextOrder
                nextOrder += 1
                siftDown(0)
            } else {
                timer.action = nil
                removeFirst()
            }
            return action
        }
        return nil
    }

    /// Cancelled timers are normally dropped when due; with many far ones they go now. O(n), amortised by doubling.
    private mutating func dropCancelled() {
        entries.removeAll { !$0.timer.isScheduled }
        entries.sort { $0.precedes($1) }
    }

    private mutating func removeFirst() {
        entries.swapAt(0, entries.count - 1)
        entries.removeLast()
        if !entries.isEmpty { siftDown(0) }
    }

    private mutating func siftUp(_ start: Int) {
        var at = start
        while at > 0 {
            let parent = (at - 1) / 2
            guard entries[at].precedes(entries[parent]) else { return }
            entries.swapAt(at, parent)
            at = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var at = start
        while true {
            var least = at
            for child in (2 * at + 1)...(2 * at + 2) where child < entries.count {
                if entries[child].precedes(entries[least]) { least = child }
            }
            if least == at { return }
            entries.swapAt(at, least)
            at = least
        }
    }
}
