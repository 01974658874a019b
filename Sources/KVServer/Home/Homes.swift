// Where a key's home is, and the way to it: messages between the query actors of one process. Any thread.

import Glibc
import KVBase
import KVCore
import KVRuntime

/// Every key has a home among the actors of a server: there every command runs that reads before it writes, so that on
/// one server all of them on one key happen in one order (docs/data-model.md 2).
package class Homes: @unchecked Sendable {
    let actorCount: Int

    package init(actorCount: Int) { self.actorCount = actorCount }

    /// Runs `body` with the shard of actor `index`, from 1, on its thread: in order for each sender and receiver. False
    /// if that actor has stopped; then it never runs.
    package func tell(_ index: Int, _ body: @escaping @Sendable (Shard) -> Void) -> Bool { fatalError("abstract") }

    /// Takes a trip to an actor, from 1: at the end of this turn, with all others that go there. False if that actor is
    /// known to have stopped; else it is told by `HomeTrip.stop`.
    func send(_ trip: HomeTrip, to index: Int) -> Bool { tell(index) { $0.take(trip) } }

    /// The home of a key as its client names it, with its hash.
    @inline(__always)
    func home(of key: HashedKey, _ store: Store) -> Int {
        let isPlain = key.view.count == 0 || memchr(key.view.start, 0x7B, key.view.count) == nil
        return isPlain ? place(key.hash) : homeOfTagged(key, store)
    }

    @inline(never)
    private func homeOfTagged(_ key: HashedKey, _ store: Store) -> Int {
        place(store.hash(ByteView(Homes.tag(of: key.view.bytes))))
    }

    @inline(__always)
    private func place(_ hash: UInt64) -> Int { 1 &+ Int(truncatingIfNeeded: hash % UInt64(actorCount)) }

    /// The home of a stored key: by its {tag}, if it has one, else by all of it. The same for a key in every database.
    func home(of key: ByteView, _ store: Store) -> Int {
        home(of: store.key(Keyspace.shown(key.bytes)), store)
    }

    /// What stands between the first brace and the next closing one, if anything; else the whole key. As in a Redis
    /// cluster.
    static func tag(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")) else { return key }
        let rest = key[(open + 1)...]
        guard let close = rest.firstIndex(of: UInt8(ascii: "}")), close > open + 1 else { return key }
        return UnsafeRawBufferPointer(rebasing: key[(open + 1)..<close])
    }
}

/// Those of a running server.
final class LoopHomes: Homes, @unchecked Sendable {
    private let actors: [(loop: Loop, shard: UncheckedBox<Shard>)]
    /// Their loops keep them.
    private let inboxes: [(inbox: Unmanaged<ObjectInbox>, loop: Unmanaged<Loop>)]

    /// In the order of the actors. Before their loops run.
    init(_ actors: [(loop: Loop, shard: Shard)]) {
        self.actors = actors.map { ($0.loop, UncheckedBox($0.shard)) }
        let inboxes = actors.map { LoopHomes.inbox($0.shard, $0.loop) }
        for (actor, inbox) in zip(actors, inboxes) { actor.loop.keep(inbox) }
        self.inboxes = zip(actors, inboxes).map {
            (Unmanaged.passUnretained($0.1), Unmanaged.passUnretained($0.0.loop))
        }
        super.init(actorCount: actors.count)
    }

    /// Where trips arrive at an actor. The loop outlives its last turn, and the shard that one.
    private static func inbox(_ shard: Shard, _ loop: Loop) -> ObjectInbox {
        let (index, shard, loop) = (shard.index, Unmanaged.passUnretained(shard), Unmanaged.passUnretained(loop))
        return ObjectInbox { trip in
            shard._withUnsafeGuaranteedRef { shard in
                loop._withUnsafeGuaranteedRef { shard.beginTurn($0) }
                shard.take(unsafeDowncast(trip, to: HomeTrip.self))
            }
        } refused: {
            unsafeDowncast($0, to: HomeTrip.self).refused(by: index)
        }
    }

    override func send(_ trip: HomeTrip, to index: Int) -> Bool {
        let (inbox, loop) = inboxes[index &- 1]
        return Loop.withCurrent { $0.send(trip, to: inbox, of: loop) } != nil
    }

    override func tell(_ index: Int, _ body: @escaping @Sendable (Shard) -> Void) -> Bool {
        let (loop, shard) = actors[index - 1]
        return loop.perform {
            shard.value.beginTurn(loop)
            body(shard.value)
        }
    }
}
