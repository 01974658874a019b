// WAITAOF: until what was written is on disks. Handler and its continuation; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks whether this server's disk has the client's writes, by whichever actor they were made, and how many other
/// servers have reported that theirs have.
final class WaitDiskRun: PolledWait {
    /// What is on disks: this server's, 0 or 1, and others'.
    struct Kept {
        var local: Int
        var servers: Int

        func reaches(_ wanted: Kept) -> Bool { local >= wanted.local && servers >= wanted.servers }
    }

    private let wanted: Kept

    /// Nil if it is there now.
    init?(_ x: Execution, wanted: Kept, millis: Int, loop: Loop) {
        let writes = WaitRun.writes(x)
        guard !WaitDiskRun.kept(x.shard, writes).reaches(wanted) else { return nil }
        self.wanted = wanted
        super.init(x, writes, millis: millis, loop: loop)
    }

    override func isReached(_ shard: Shard) -> Bool { WaitDiskRun.kept(shard, writes).reaches(wanted) }

    override func answer(_ x: inout Execution) { WaitDiskRun.reply(&x, writes) }

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
