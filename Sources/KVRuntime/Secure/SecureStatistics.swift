// What became of TLS connections, of all loops together. Any thread.

import Synchronization

package final class SecureStatistics: Sendable {
    private let doneCount = Atomic<Int>(0)
    private let resumedCount = Atomic<Int>(0)
    private let failedCount = Atomic<Int>(0)
    private let lateCount = Atomic<Int>(0)
    private let plainCount = Atomic<Int>(0)
    private let openCount = Atomic<Int>(0)
    private let lastFailure = Mutex("")
    private let toldCount = Atomic<Int>(0)

    package init() {}

    /// Handshakes that were done, and those of them that took up an earlier session.
    package var done: Int { doneCount.load(ordering: .relaxed) }
    package var resumed: Int { resumedCount.load(ordering: .relaxed) }
    /// Connections that ended with an error of TLS, in the handshake or later.
    package var failed: Int { failedCount.load(ordering: .relaxed) }
    /// Handshakes that were not done in time.
    package var late: Int { lateCount.load(ordering: .relaxed) }
    /// Clients without TLS where it is required.
    package var plainRefused: Int { plainCount.load(ordering: .relaxed) }
    /// Connections with TLS that there are.
    package var open: Int { openCount.load(ordering: .relaxed) }

    func opened() { openCount.add(1, ordering: .relaxed) }
    func closed() { openCount.subtract(1, ordering: .relaxed) }

    func noteDone(isResumed: Bool) {
        doneCount.add(1, ordering: .relaxed)
        if isResumed { resumedCount.add(1, ordering: .relaxed) }
    }

    func noteLate() { lateCount.add(1, ordering: .relaxed) }
    func notePlainRefused() { plainCount.add(1, ordering: .relaxed) }

    func noteFailure(_ reason: String, peer: String) {
        failedCount.add(1, ordering: .relaxed)
        lastFailure.withLock { $0 = "\(peer): \(reason)" }
    }

    /// Failures since the last call, in a line; nil if there was none.
    package func news() -> String? {
        let (now, told) = (failed, toldCount.load(ordering: .relaxed))
        guard now > told else { return nil }
        toldCount.store(now, ordering: .relaxed)
        let last = lastFailure.withLock { $0 }
        return now - told == 1 ? "TLS with \(last)" : "TLS with \(now - told) clients failed, last with \(last)"
    }
}
