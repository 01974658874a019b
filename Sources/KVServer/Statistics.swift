// Counters of one query actor, written by its thread once per turn and read by any.

import KVBase
import Synchronization

package final class ActorStatistics: Sendable {
    private let commandCount = Atomic<Int>(0)
    private let hitCount = Atomic<Int>(0)
    private let missCount = Atomic<Int>(0)
    private let connectionCount = Atomic<Int>(0)
    private let clientCount = Atomic<Int>(0)
    private let rate = Atomic<Int>(0)
    private let received = Atomic<Int>(0)
    private let sent = Atomic<Int>(0)

    package init() {}

    package var commands: Int { commandCount.load(ordering: .relaxed) }
    package var hits: Int { hitCount.load(ordering: .relaxed) }
    package var misses: Int { missCount.load(ordering: .relaxed) }
    package var connectionsReceived: Int { connectionCount.load(ordering: .relaxed) }
    package var clients: Int { clientCount.load(ordering: .relaxed) }
    package var commandsPerSecond: Int { rate.load(ordering: .relaxed) }
    package var bytesReceived: Int { received.load(ordering: .relaxed) }
    package var bytesSent: Int { sent.load(ordering: .relaxed) }

    // Owner's thread only.

    func publish(_ state: QueryState) {
        commandCount.store(state.commands, ordering: .relaxed)
        hitCount.store(state.hits, ordering: .relaxed)
        missCount.store(state.misses, ordering: .relaxed)
        received.store(state.bytesReceived, ordering: .relaxed)
        sent.store(state.bytesSent, ordering: .relaxed)
    }

    func connected(_ now: Int) {
        clientCount.store(now, ordering: .relaxed)
        connectionCount.add(1, ordering: .relaxed)
    }

    func disconnected(_ now: Int) { clientCount.store(now, ordering: .relaxed) }
    func setRate(_ perSecond: Int) { rate.store(perSecond, ordering: .relaxed) }
}

/// Commands per second over the last 1.6 s, as Redis computes it: 16 samples, one every 100 ms.
struct RateMeter {
    static let sampleNanos: Nanos = 100_000_000
    private var samples = [Int](repeating: 0, count: 16)
    private var next = 0
    private var lastCount = 0
    private var lastNanos: Nanos

    init(now: Nanos) { lastNanos = now }

    /// O(16), every 100 ms.
    mutating func sample(count: Int, now: Nanos) -> Int {
        let elapsed = now - lastNanos
        if elapsed > 0 {
            samples[next] = Int(Int64(count - lastCount) * 1_000_000_000 / elapsed)
            next = (next + 1) % samples.count
        }
        (lastCount, lastNanos) = (count, now)
        return samples.reduce(0, +) / samples.count
    }
}
