// WAITAOF: until what was written is on disks. Handler and its continuation; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks every few milliseconds whether this server's disk has the client's writes, by whichever actor they were made,
/// and how many other servers have reported that theirs have.
final class WaitDiskRun: Continuation {
    private static let pollMillis: Int64 = 2

    /// What is on disks: this server's, 0 or 1, and others'.
    struct Kept {
        var local: Int
        var servers: Int

        func reaches(_ wanted: Kept) -> Bool { local >= wanted.local && servers >= wanted.servers }
    }

    private let writes: [(actor: Int, seq: UInt64)]
    private let wanted: Kept
    /// On the monotonic clock; nil: without an end.
    private let deadline: Nanos?
    private weak var session: Session?
    private var timer: LoopTimer?
    private var isDone = false
    private var isRefused = false
    private let statistics: ShardStatistics

    /// Nil if it is there now.
    init?(_ x: Execution, wanted: Kept, millis: Int, loop: Loop) {
        writes = WaitRun.writes(x)
        guard !WaitDiskRun.kept(x.shard, writes).reaches(wanted) else { return nil }
        (self.wanted, session, statistics) = (wanted, x.session, x.shard.statistics)
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
            WaitDiskRun.kept(session.shard, writes).reaches(wanted)
            || deadline.map { Machine.monotonicNanos >= $0 } ?? false
        if isDone { session.owner?.sessionShouldRun() }
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard isDone else { return false }
        if isRefused {
            x.error(Continuation.unblockedError)
            return true
        }
        WaitDiskRun.reply(&x, writes)
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

    /// What there is now. O(servers).
    static func kept(_ shard: Shard, _ writes: [(actor: Int, seq: UInt64)]) -> Kept {
        let persistence = shard.context.persistence
        let isHere = persistence.map { $0.has(writes) } ?? false
        let servers = shard.replicator?.replica.serversKeeping(writes.map { (index: $0.actor - 1, seq: $0.seq) })
        return Kept(local: isHere ? 1 : 0, servers: servers ?? 0)
    }

    static func reply(_ x: inout Execution, _ writes: [(actor: Int, seq: UInt64)]) {
        let kept = kept(x.shard, writes)
        x.output.pointee.arrayHeader(2)
        x.output.pointee.integer(kept.local)
        x.output.pointee.integer(kept.servers)
    }
}

extension Persistence {
    /// All of these writes are on the disk.
    fileprivate func has(_ writes: [(actor: Int, seq: UInt64)]) -> Bool {
        writes.allSatisfy { logs[$0.actor - 1].durable >= $0.seq }
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
        if local > 0, x.shard.context.persistence == nil {
            return x.error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
        }
        let wanted = WaitDiskRun.Kept(local: local, servers: servers)
        guard !x.session.isGuest, let loop = x.shard.loop,
            let wait = WaitDiskRun(x, wanted: wanted, millis: millis, loop: loop)
        else { return WaitDiskRun.reply(&x, WaitRun.writes(x)) }
        x.session.continuation = wait
    }
}
