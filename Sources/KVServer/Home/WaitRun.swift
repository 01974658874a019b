// WAIT: until so many other servers have what was written. Handler and its continuation; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks how many servers have acknowledged this actor's own writes up to the command, and those that other actors of
/// this server made for the client.
final class WaitRun: PolledWait {
    private let wanted: Int

    /// Nil if enough servers have it now.
    init?(_ x: Execution, wanted: Int, millis: Int, loop: Loop) {
        let writes = WaitRun.writes(x)
        guard WaitRun.count(x.shard, writes) < wanted else { return nil }
        self.wanted = wanted
        super.init(x, writes, millis: millis, loop: loop)
    }

    override func isReached(_ shard: Shard) -> Bool { WaitRun.count(shard, writes) >= wanted }

    override func answer(_ x: inout Execution) { x.output.pointee.integer(WaitRun.count(x.shard, writes)) }

    /// The writes that a WAIT is about: this actor's own, and those of others for this client.
    static func writes(_ x: Execution) -> [(actor: Int, seq: UInt64)] {
        [(x.shard.index, x.store.ownSeq)]
            + x.session.written.ofActors.filter { $0.actor != x.shard.index }
    }

    /// Servers that have them all.
    static func count(_ shard: Shard, _ writes: [(actor: Int, seq: UInt64)]) -> Int {
        shard.replicator?.replica.serversHolding(writes.map { (index: $0.actor - 1, seq: $0.seq) }) ?? 0
    }
}

/// How far other actors' own writes were when they had written for a client.
struct WritesElsewhere {
    /// In no order.
    private(set) var ofActors: [(actor: Int, seq: UInt64)] = []

    mutating func note(_ actor: Int, _ seq: UInt64) {
        for i in ofActors.indices where ofActors[i].actor == actor {
            ofActors[i].seq = seq
            return
        }
        ofActors.append((actor, seq))
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
