// Where a key's home is, and the way to it: messages between the query actors of one process. Any thread.

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

    /// The home of a stored key: by its {tag}, if it has one, else by all of it. The same for a key in every database.
    func home(of key: ByteView, _ store: Store) -> Int {
        let shown = Keyspace.shown(key.bytes)
        return 1 + Int(store.hash(ByteView(Homes.tag(of: shown))) % UInt64(actorCount))
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

    /// In the order of the actors.
    init(_ actors: [(loop: Loop, shard: Shard)]) {
        self.actors = actors.map { ($0.loop, UncheckedBox($0.shard)) }
        super.init(actorCount: actors.count)
    }

    override func tell(_ index: Int, _ body: @escaping @Sendable (Shard) -> Void) -> Bool {
        let (loop, shard) = actors[index - 1]
        return loop.perform {
            shard.value.beginTurn(loop)
            body(shard.value)
        }
    }
}
