// WAITAOF: until what was written is on the disk. Handler and its continuation; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks every few milliseconds whether this server's disk has the client's writes, by whichever actor they were made.
final class WaitDiskRun: Continuation {
    private static let pollMillis: Int64 = 2

    private let writes: [(actor: Int, seq: UInt64)]
    private let persistence: Persistence?
    /// On the monotonic clock; nil: without an end.
    private let deadline: Nanos?
    private let isMore: Bool
    private weak var session: Session?
    private var timer: LoopTimer?
    private var isDone = false
    private let statistics: ShardStatistics

    /// Nil if it is there now. `servers`: how many others are wanted; what those have on disk is not known here.
    init?(_ x: Execution, local: Int, servers: Int, millis: Int, loop: Loop) {
        (writes, persistence) = (WaitRun.writes(x), x.shard.context.persistence)
        isMore = servers > 0
        guard isMore || local > 0 && WaitDiskRun.local(writes, persistence) == 0 else { return nil }
        (session, statistics) = (x.session, x.shard.statistics)
        deadline = millis == 0 ? nil : Machine.monotonicNanos &+ Nanos(min(millis, 1 << 40)) * 1_000_000
        super.init()
        statistics.noteBlocked(1)
        timer = loop.schedule(everyMillis: WaitDiskRun.pollMillis) { [unowned self] in look() }
    }

    override var isSuspended: Bool { !isDone }
    override var isSlowable: Bool { false }

    private func look() {
        guard let session, !isDone else { return }
        isDone =
            !isMore && WaitDiskRun.local(writes, persistence) == 1
            || deadline.map { Machine.monotonicNanos >= $0 } ?? false
        if isDone { session.owner?.sessionShouldRun() }
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard isDone else { return false }
        WaitDiskRun.reply(&x, writes, persistence)
        return true
    }

    override func cancel() {
        if timer != nil { statistics.noteBlocked(-1) }
        timer?.cancel()
        (timer, session) = (nil, nil)
    }

    /// 1 if this server's disk has them.
    static func local(_ writes: [(actor: Int, seq: UInt64)], _ persistence: Persistence?) -> Int {
        guard let persistence else { return 0 }
        return writes.allSatisfy { persistence.logs[$0.actor - 1].durable >= $0.seq } ? 1 : 0
    }

    static func reply(
        _ x: inout Execution, _ writes: [(actor: Int, seq: UInt64)], _ persistence: Persistence?
    ) {
        x.output.pointee.arrayHeader(2)
        x.output.pointee.integer(local(writes, persistence))
        x.output.pointee.integer(0)
    }
}

extension Commands {
    /// WAITAOF numlocal numservers milliseconds.
    @Sendable static func waitaof(_ x: inout Execution) {
        guard let local = x.integer(1) else { return x.error("ERR value is not an integer or out of range") }
        guard (0...1).contains(local) else { return x.error("ERR value is out of range, must be between 0 and 1") }
        guard let servers = x.integer(2) else { return x.error("ERR value is not an integer or out of range") }
        guard servers >= 0 else { return x.error("ERR value is out of range, must be positive") }
        guard let millis = x.integer(3) else { return x.error("ERR timeout is not an integer or out of range") }
        if millis < 0 { return x.error("ERR timeout is negative") }
        let persistence = x.shard.context.persistence
        if local > 0, persistence == nil {
            return x.error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        }
        guard !x.session.isGuest, let loop = x.shard.loop,
            let wait = WaitDiskRun(x, local: local, servers: servers, millis: millis, loop: loop)
        else { return WaitDiskRun.reply(&x, WaitRun.writes(x), persistence) }
        x.session.continuation = wait
    }
}
