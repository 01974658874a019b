// The simulator's event queue: a binary heap ordered by virtual time, then by insertion. Used by SimWorld only, one
// thread.

/// Microseconds of true time since the simulated world began. Nobody in the world can read it; clocks are derived from
/// it.
package typealias SimTime = Int64

package let simMillisecond: SimTime = 1000
package let simSecond: SimTime = 1_000_000

/// What happens at a moment. Operands are indexes into the world's tables, so that an event is 32 plain bytes.
package struct SimEvent {
    package enum Kind: UInt8 {
        case operation, tick, delivery, localDelivery, fault, faultEnd, start, resume, check, connect, handshake, leave
        case wireHello, wireWake, wireArrive, wireAck, wireResume, wireDeliver, wireProgress, dial, bandwidth
        case job, forget
    }

    package var time: SimTime
    package var order: UInt64
    package var kind: Kind
    package var a: Int32
    package var b: Int32
}

/// Equal times come out in insertion order, so the sequence of events is a function of the seed alone. O(log n) each
/// way.
package struct SimQueue {
    private var heap: [SimEvent] = []
    private var inserted: UInt64 = 0

    package init() { heap.reserveCapacity(1024) }

    package var isEmpty: Bool { heap.isEmpty }
    package var count: Int { heap.count }
    package var nextTime: SimTime? { heap.first?.time }

    package mutating func push(_ kind: SimEvent.Kind, at time: SimTime, _ a: Int = 0, _ b: Int = 0) {
        inserted += 1
        let event = SimEvent(
            time: time, order: inserted, kind: kind, a: Int32(truncatingIfNeeded: a), b: Int32(truncatingIfNeeded: b))
        heap.append(event)
        heap.withUnsafeMutableBufferPointer { heap in
            var at = heap.count - 1
            while at > 0 {
                let parent = (at - 1) / 2
                guard precedes(event, heap[parent]) else { break }
                heap[at] = heap[parent]
                at = parent
            }
            heap[at] = event
        }
    }

    package mutating func pop() -> SimEvent? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if heap.isEmpty { return first }
        heap.withUnsafeMutableBufferPointer { heap in
            var at = 0
            while true {
                var child = 2 * at + 1
                guard child < heap.count else { break }
                if child + 1 < heap.count, precedes(heap[child + 1], heap[child]) { child += 1 }
                guard precedes(heap[child], last) else { break }
                heap[at] = heap[child]
                at = child
            }
            heap[at] = last
        }
        return first
    }
}

@inline(__always)
private func precedes(_ a: SimEvent, _ b: SimEvent) -> Bool {
    a.time != b.time ? a.time < b.time : a.order < b.order
}
