// WAIT: until so many other servers have what was written. Handler and its continuation; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks every few milliseconds how many servers have acknowledged this actor's own writes up to the command, and those
/// that other actors of this server made for the client.
final class WaitRun: Continuation {
    private static let pollMillis: Int64 = 2

    private let writes: [(actor: Int, seq: UInt64)]
    private let wanted: Int
    /// On the monotonic clock; nil: without an end.
    private let deadline: Nanos?
    private weak var session: Session?
    private var timer: LoopTimer?
    private var isDone = false
    private var isRefused = false
    private let statistics: ShardStatistics

    /// Nil if enough servers have it now.
    init?(_ x: Execution, wanted: Int, millis: Int, loop: Loop) {
        writes = WaitRun.writes(x)
        guard WaitRun.count(x.shard, writes) < wanted else { return nil }
        (self.wanted, session, statistics) = (wanted, x.session, x.shard.statistics)
        let now = Machine.monotonicNanos
        deadline = millis == 0 ? nil : now &+ Nanos(min(millis, 1 << 40)) * 1_000_000
        super.init()
        statistics.noteBlocked(1)
        timer = loop.schedule(everyMillis: WaitRun.pollMillis) { [unowned self] in look() }
    }

    override var isSuspended: Bool { !isDone }
    override var isSlowable: Bool { false }

    private func look() {
        guard let session, !isDone else { return }
        isDone =
            WaitRun.count(session.shard, writes) >= wanted || deadline.map { Machine.monotonicNanos >= $0 } ?? false
        if isDone { session.owner?.sessionShouldRun() }
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard isDone else { return false }
        if isRefused {
            x.error(Continuation.unblockedError)
            return true
        }
        x.output.pointee.integer(WaitRun.count(x.shard, writes))
        return true
    }

    override func unblock(_ session: Session, withError: Bool) -> Bool {
        guard !isDone else { return false }
        (isDone, isRefused) = (true, withError)
        session.owner?.sessionShouldRun()
        return true
    }

    override func cancel() {
        if timer != nil { statistics.noteBlocked(-1) }
        timer?.cancel()
        (timer, session) = (nil, nil)
    }

    /// The writes that a WAIT is about: this actor's own, and those of others for this client.
    static func writes(_ x: Execution) -> [(actor: Int, seq: UInt64)] {
        [(x.shard.index, x.store.ownSeq)]
            + x.session.written.filter { $0.key != x.shard.index }.map { ($0.key, $0.value) }
    }

    /// Servers that have them all.
    static func count(_ shard: Shard, _ writes: [(actor: Int, seq: UInt64)]) -> Int {
        shard.replicator?.replica.serversHolding(writes.map { (index: $0.actor - 1, seq: $0.seq) }) ?? 0
    }
}

extension Commands {
    /// WAIT numservers milliseconds.
    @Sendable static func wait(_ x: inout Execution) {
        guard let wanted = x.integer(1) else { return x.error("ERR value is not an integer or out of range") }
        guard let millis = x.integer(2) else { return x.error("ERR timeout is not an integer or out of range") }
        if millis < 0 { return x.error("ERR timeout is negative") }
        guard !x.session.isGuest, let loop = x.shard.loop,
            let wait = WaitRun(x, wanted: wanted, millis: millis, loop: loop)
        else { return x.output.pointee.integer(WaitRun.count(x.shard, WaitRun.writes(x))) }
        x.session.continuation = wait
    }
}
