// What was beaten, where what beat it was collected: no log may bring it back.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct BeatenEntriesTests {
    private let origins = OriginTable()

    /// A delete of "k" by another actor, which the log has, and a write that it beats, which lies beyond a gap.
    private func deleteAndLoser() -> (log: TestLog, deleter: TestLog, loser: TestLog) {
        let log = TestLog(origins)
        let (deleter, loser) = (TestLog(origins, actor: 1), TestLog(origins, server: 40))
        for key in ["never arrives", "k"] { loser.store.set(key, "lost", now: 1_000) }
        deleter.store.set("k", "old", now: 1_500)
        deleter.store.remove("k", now: 2_000)
        log.hear(deleter)
        return (log, deleter, loser)
    }

    private func page(of log: TestLog) -> DeltaSegment {
        var entries = DeltaEntries()
        let segment = log.segment(from: 1)
        for entry in segment.entries { entries.append(entry.hash, entry.record.retained()) }
        return DeltaSegment(
            origin: segment.origin, from: 0, to: 0, isPage: true, cut: VersionVector(), taking: entries)
    }

    private func collect(_ log: TestLog) {
        Bytes("k").withBytes { #expect(log.store.dropTombstone(log.store.key($0))) }
    }

    private func has(_ store: Store) -> Bool { Bytes("k").withBytes { store.find(store.key($0)) != nil } }

    private func vector(_ logs: TestLog...) -> VersionVector {
        var vector = VersionVector()
        for log in logs { vector.set(log.store.ownOrigin, log.store.ownSeq) }
        return vector
    }

    /// A page's entry lost; what beat it is collected, before the page is logged or after.
    @Test(arguments: [false, true]) func anEntryOfAPageThatLostIsNotReadAgain(_ isCollectedBefore: Bool) throws {
        let (log, deleter, loser) = deleteAndLoser()
        let page = page(of: loser)
        for entry in page.entries { log.store.merge(entry.record, entry.hash) }
        if isCollectedBefore { collect(log) }
        log.turn { _ = $0.learned(page, from: 0, bytesMax: .max, winners: log.store) }
        if !isCollectedBefore {
            // The delete is in the log instead.
            #expect(try Comeback(origins, [log]).recovery.entryCount == 1)
            collect(log)
        }
        let snapshot = takeSnapshot(log.store, vector: vector(log, deleter))
        let back = try Comeback(origins, snapshot: snapshot, [log])
        #expect(!has(back.store))
        // As it came, it would be there again.
        let careless = TestLog(origins, actor: 2)
        careless.turn { _ = $0.learned(page, from: 0, bytesMax: .max) }
        let again = try Comeback(origins, snapshot: snapshot, [careless])
        #expect(again.store.shown("k", now: 0) == "lost" && again.stores.count == 1)
    }

    /// An interval covers what its own writer wrote. What else is in it may be covered by nothing.
    @Test func anIntervalHasTheWinnersOfOtherWritersEntries() throws {
        let (log, deleter, loser) = deleteAndLoser()
        let (adopter, key) = (TestLog(origins, server: 41), Bytes("k"))
        let page = page(of: loser)
        for entry in page.entries { adopter.store.merge(entry.record, entry.hash) }
        key.withBytes { adopter.store.noteOwnWrite(adopter.store.hash(ByteView($0))) }
        let segment = adopter.segment()
        log.turn { _ = $0.learned(segment, from: 0, bytesMax: .max, winners: log.store) }
        collect(log)
        let snapshot = takeSnapshot(log.store, vector: vector(log, deleter))
        let back = try Comeback(origins, snapshot: snapshot, [log])
        #expect(!has(back.store) && back.seen(adopter.uid) == 1)
    }

    /// One actor's log has what was beaten, another one's the write that beat it, which was deleted in turn.
    @Test(arguments: [false, true]) func whatASnapshotCoversAndHasNotBeatsWhatIsOlder(_ isReversed: Bool) throws {
        let (log, writer) = (TestLog(origins), TestLog(origins, actor: 1))
        let loser = TestLog(origins, server: 40)
        for key in ["never arrives", "k"] { loser.store.set(key, "lost", now: 1_000) }
        let page = page(of: loser)
        log.turn { _ = $0.learned(page, from: 0, bytesMax: .max) }
        writer.store.set("k", "won", now: 2_000)
        writer.turn()
        // The snapshot is of a store that had both, and has collected a delete since.
        let snapshot = takeSnapshot(log.store, vector: vector(log, writer))
        let logs = isReversed ? [writer, log] : [log, writer]
        let back = try Comeback(origins, actors: 2, snapshot: snapshot, logs)
        for store in back.stores { #expect(!has(store) && store.count == 0) }
        // What came later is newer than all of it.
        log.store.set("k", "newer", now: 3_000)
        log.turn()
        let later = try Comeback(origins, snapshot: snapshot, logs)
        #expect(later.store.shown("k", now: 0) == "newer" && later.stores.count == 1)
    }

    /// A log that has something loose also has what beats it, though that came by way of a sibling.
    @Test func whatBeatsSomethingLooseGoesIntoTheLogThatHasIt() {
        let cluster = TestCluster()
        let server = cluster.start(actors: 2)
        cluster.run(3_000)
        let (writer, other) = (server.actors[0], server.actors[1])
        var kept: [String] = []
        other.replica.onLearned = { item in
            guard case .segment(let segment, _) = item else { return }
            for entry in segment.entries { kept.append(String(decoding: entry.record.key, as: UTF8.self)) }
        }
        let gone = other.store.origins.intern(ActorUID(server: 40, index: 0))!
        for (key, seq) in [("loose", UInt64(5)), ("covered", 1)] {
            Bytes(key).withBytes { key in
                let origin = seq == 1 ? other.store.ownOrigin : gone
                let record = Record.create(
                    key: ByteView(key), value: nil, ms: 1, origin: origin, seq: seq, isTombstone: true)
                other.store.merge(record)
                record.release()
            }
        }
        for key in ["loose", "covered", "new"] { writer.put(key, "v", cluster.moment(server)) }
        cluster.run(500)
        #expect(other.get("loose") == "v" && other.get("covered") == "v")
        #expect(kept == ["loose"])
    }
}
