// A command that waits for what others do: it looks every few milliseconds. Loop thread.

import KVBase
import KVRuntime

/// Ends when what it waits for is there, when its time is over, or by CLIENT UNBLOCK.
class PolledWait: Continuation {
    private static let pollMillis: Int64 = 2

    /// What it is about: the client's writes, at whichever actor.
    let writes: [(actor: Int, seq: UInt64)]
    /// On the monotonic clock; nil: without an end.
    private let deadline: Nanos?
    private weak var session: Session?
    private var timer: LoopTimer?
    private var isDone = false
    private var isRefused = false
    private let statistics: ShardStatistics

    /// `millis` 0: without an end.
    init(_ x: Execution, _ writes: [(actor: Int, seq: UInt64)], millis: Int, loop: Loop) {
        (self.writes, session, statistics) = (writes, x.session, x.shard.statistics)
        deadline = millis == 0 ? nil : Machine.monotonicNanos &+ Nanos(min(millis, 1 << 40)) * 1_000_000
        super.init()
        statistics.noteBlocked(1)
        timer = loop.schedule(everyMillis: PolledWait.pollMillis) { [unowned self] in look() }
    }

    /// What it waits for is there.
    func isReached(_ shard: Shard) -> Bool { true }

    /// Writes the reply, whether that is there or not.
    func answer(_ x: inout Execution) {}

    override var isSuspended: Bool { !isDone }
    override var isSlowable: Bool { false }

    private func look() {
        guard let session, !isDone else { return }
        isDone = isReached(session.shard) || deadline.map { Machine.monotonicNanos >= $0 } ?? false
        if isDone { session.owner?.sessionShouldRun() }
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard isDone else { return false }
        isRefused ? x.error("UNBLOCKED client unblocked via CLIENT UNBLOCK") : answer(&x)
        return true
    }

    /// Ends it as its time would, or with an error; false if it has ended.
    func unblock(withError: Bool) -> Bool {
        guard let session, !isDone else { return false }
        (isDone, isRefused) = (true, withError)
        // Not at once: who asks for it is in the middle of its commands.
        session.shard.enqueue(session)
        return true
    }

    override func cancel() {
        if timer != nil { statistics.noteBlocked(-1) }
        timer?.cancel()
        (timer, session) = (nil, nil)
    }
}
