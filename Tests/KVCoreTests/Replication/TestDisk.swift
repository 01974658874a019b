// What a server would find in its directory: a copy of what an actor had at some moment. One thread.

import KVBase

@testable import KVCore

struct TestDisk {
    private struct Entry {
        var key: Bytes
        var value: Bytes
        var version: Version
        var isTombstone: Bool
    }

    private var entries: [Entry] = []
    private var vector: [(uid: ActorUID, seq: UInt64)] = []
    private var frontier: [(uid: ActorUID, seq: UInt64)] = []
    private var floor: Millis
    /// The member table, in which the server itself is over.
    var rows: [MemberRow]

    init(_ server: TestServer) {
        let actor = server.actors[0]
        let (store, replica) = (actor.store, actor.replica)
        var cursor = WalkCursor()
        var found: [Entry] = []
        while !cursor.isDone {
            store.walk(&cursor, budget: 64) { record in
                found.append(
                    Entry(
                        key: Bytes(record.key), value: Bytes(record.content), version: record.version(store.origins),
                        isTombstone: record.isTombstone))
            }
        }
        entries = found
        func named(_ vector: VersionVector) -> [(uid: ActorUID, seq: UInt64)] {
            vector.seqs.enumerated().filter { $1 != 0 && $1 != VersionVector.retired }
                .map { (uid: store.origins.uid(OriginIndex($0)), seq: $1) }
        }
        (vector, frontier, floor) = (
            named(replica.durableVector), named(replica.collectedFrontier), store.gcFloor
        )
        rows = replica.memberRows.map { row in
            var row = row
            if row.server == server.id { row.status = .forgotten }
            return row
        }
    }

    /// Puts everything into an empty store.
    func fill(_ store: Store) -> RecoveredState {
        func origin(_ uid: ActorUID) -> OriginIndex { store.origins.intern(uid)! }
        store.noteClock(TestCluster.wallStart)
        for entry in entries {
            entry.key.withBytes { key in
                entry.value.withBytes { value in
                    let record = Record.create(
                        key: ByteView(key), value: entry.isTombstone ? nil : ByteView(value), ms: entry.version.ms,
                        origin: origin(entry.version.uid), seq: entry.version.seq, isTombstone: entry.isTombstone)
                    store.merge(record, store.key(key).hash)
                    record.release()
                }
            }
        }
        var state = RecoveredState()
        for (uid, seq) in vector { state.vector.set(origin(uid), seq) }
        for (uid, seq) in frontier { state.frontier.set(origin(uid), seq) }
        (state.newest, state.floor) = (state.vector, floor)
        return state
    }
}
