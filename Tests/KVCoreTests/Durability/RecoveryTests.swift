// A server that comes back from its files: what it holds, what it says it has seen, what is damaged.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct RecoveryTests {
    /// All that the logs' stores hold, merged.
    private func union(_ origins: OriginTable, _ logs: [TestLog]) -> UInt64 {
        let all = TestLog.store(origins, server: 88)
        defer { all.destroy() }
        for log in logs {
            var cursor = WalkCursor()
            while !cursor.isDone { log.store.walk(&cursor, budget: 1 << 20) { _ = all.merge($0) } }
        }
        return all.digestAll
    }

    private func write(_ log: TestLog, _ random: inout PRNG, now: Millis) {
        let key = "key \(random.below(40))"
        switch random.below(12) {
        case 0...5: log.store.set(key, String(repeating: "v", count: random.below(300)), now: now)
        case 6: log.store.set(key, String(repeating: "w", count: 1_000 + random.below(5_000)), now: now)
        case 7: log.store.set(key, "with deadline", .at(now + Millis(random.below(4_000))), now: now)
        case 8: log.store.expire(key, at: now + Millis(1 + random.below(4_000)), now: now)
        case 9: log.store.persist(key, now: now)
        case 10: log.store.set(key, "kept", .keep, now: now)
        default: log.store.remove(key, now: now)
        }
    }

    /// Two actors write and hear of each other; each logs its own.
    @Test(arguments: 0..<40) func whatWasWrittenIsThereAgainAtEveryActor(_ seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        let origins = OriginTable()
        let logs = [TestLog(origins), TestLog(origins, actor: 1)]
        for round in 0..<200 {
            let i = random.below(2)
            for _ in 0...random.below(5) { write(logs[i], &random, now: 1_000 + Millis(round)) }
            if random.chance(0.2) { logs[i].hear(logs[1 - i]) }
            logs[i].turn()
            if random.chance(0.02) { logs[i].begin() }
        }
        for log in logs { log.turn() }
        let back = try Comeback(origins, actors: 3, seed % 2 == 0 ? logs : logs.reversed(), now: 1_200)
        #expect(back.findings.isEmpty)
        for store in back.stores { #expect(store.digestAll == union(origins, logs), "seed \(seed)") }
        for log in logs { #expect(back.seen(log.uid) == log.store.ownSeq) }
        #expect(back.state.vector.dominates(back.state.newest))
    }

    /// The first part of a segment is in the file that is missing, its interval in the next one.
    @Test(arguments: [true, false]) func aLogWithoutItsBeginningProvesNothing(_ isTold: Bool) throws {
        let origins = OriginTable()
        let (log, other) = (TestLog(origins), TestLog(origins, server: 8))
        for i in 0..<10 { other.store.set("key \(i)", String(repeating: "v", count: 100), now: 1_000) }
        let segment = other.segment()
        var done = 0
        log.turn { done = $0.learned(segment, from: 0, bytesMax: 300) }
        log.begin()
        log.turn { done = $0.learned(segment, from: done, bytesMax: .max) }
        log.drop(0)
        let back = try Comeback(origins, [log], isWhole: !isTold)
        #expect(back.store.count > 0 && back.store.count < 10)
        #expect(back.seen(other.uid) == (isTold ? 0 : 10), "so it must be told")
    }

    @Test func writesKeepTheirStamps() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        log.store.set("k", "v", now: 1_234)
        log.store.set("k", "w", now: 1_234)
        log.turn()
        let back = try Comeback(origins, [log])
        let version = Bytes("k").withBytes { back.store.find(back.store.key($0))!.version(origins) }
        #expect(version == Version(ms: 1_234, uid: log.uid, seq: 2))
        // The next write is above it, whatever the clock says.
        #expect(back.store.set("k", "x", now: 5)!.ms >= 1_234)
        #expect(back.store.shown("k", now: 0) == "x")
    }

    /// A chunk has each key once, at the last of its writes in it.
    @Test func aKeyWrittenOftenInOneTurnIsLoggedOnce() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<1_000 { log.store.set("hot", "value \(i)", now: 1_000 + Millis(i)) }
        log.store.set("other", "v", now: 9)
        log.turn()
        #expect(log.files[0].bytes.count < DiskHeader.byteCount + 120)
        let back = try Comeback(origins, [log])
        #expect(back.recovery.entryCount == 2 && back.store.shown("hot", now: 0) == "value 999")
        #expect(back.seen(log.uid) == 1_001)
    }

    @Test func aTornEndIsCutAndWhatIsBeforeStays() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<5 {
            log.store.set("k\(i)", "v", now: 1)
            log.turn()
        }
        let bytes = log.files[0].bytes.count
        log.change(0) { $0.removeLast(3) }
        let back = try Comeback(origins, [log])
        #expect(back.store.count == 4 && back.seen(log.uid) == 4)
        if case .torn(file: 1, let at) = back.findings.first { #expect(at < bytes) } else { Issue.record("not found") }
        #expect(back.findings.count == 1)
    }

    /// Damage in the middle: what comes behind is taken, as it may be all there is, but proves nothing.
    @Test(arguments: [false, true]) func damageInTheMiddleIsToldApartByWhatWasSynced(_ wasSynced: Bool) throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        var places: [Int] = []
        for i in 0..<6 {
            places.append(log.files[0].bytes.count)
            log.store.set("k\(i)", "v", now: 1)
            log.turn { if i == 4 { $0.synced(file: 1, chunks: wasSynced ? 4 : 2) } }
        }
        log.change(0) { $0[places[2] + 20] ^= 4 }
        let back = try Comeback(origins, [log])
        #expect(
            back.findings == [
                wasSynced ? .damaged(file: 1, at: places[2]) : .unwritten(file: 1, at: places[2])
            ])
        #expect(back.store.count == 5 && back.store.shown("k2", now: 0) == nil && back.seen(log.uid) == 2)
        // What is beyond is known to be more than the vector says.
        #expect(back.state.newest[origins.index(of: log.uid)!] == 6)
    }

    @Test func aFileThatIsMissingOrTooShortIsFound() throws {
        func logs() -> (OriginTable, TestLog) {
            let origins = OriginTable()
            let log = TestLog(origins)
            for i in 0..<9 {
                log.store.set("k\(i)", "v", now: 1)
                log.turn()
                if i % 3 == 2 { log.begin() }
            }
            log.store.set("k9", "v", now: 1)
            log.turn { $0.synced(file: 4, chunks: 0) }
            return (origins, log)
        }
        do {
            let (origins, log) = logs()
            #expect(try Comeback(origins, [log]).findings.isEmpty)
            log.drop(1)
            let back = try Comeback(origins, [log])
            #expect(back.findings == [.damaged(file: 2, at: 0)])
            #expect(back.store.count == 7 && back.seen(log.uid) == 3)
        }
        do {
            // Cut between two chunks: nothing in the file itself says so.
            let (origins, log) = logs()
            let chunk = (log.files[0].bytes.count - DiskHeader.byteCount) / 3
            log.change(1) { $0.removeLast(chunk) }
            let back = try Comeback(origins, [log])
            #expect(back.findings.contains(.damaged(file: 2, at: 0)) && back.store.count == 9)
            #expect(back.seen(log.uid) == 5)
        }
    }

    @Test func aFileGivenUpWhenItsDiskFailedIsNoDamage() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<3 {
            log.store.set("k\(i)", "v", now: 1)
            log.turn()
        }
        log.change(0) { $0.removeLast(5) }
        // The next file, without what `begin` says of this one.
        log.begin()
        log.writer.clear()
        log.store.set("k3", "v", now: 1)
        log.turn {
            $0.abandoned(file: 1)
            $0.synced(file: 2, chunks: 0)
        }
        let back = try Comeback(origins, [log])
        #expect(back.findings.allSatisfy { if case .unwritten(file: 1, _) = $0 { true } else { false } })
        #expect(!back.findings.isEmpty && back.store.count == 3 && back.seen(log.uid) == 2)
    }

    @Test func sectionsOfALaterReleaseAreLeftOutIfTheySayTheyCanBe() throws {
        for (kind, isTaken) in [(UInt8(0x80 | 90), true), (UInt8(90), false)] {
            let origins = OriginTable()
            let log = TestLog(origins)
            let header = log.files[0].header
            // A chunk made by hand: an unknown section of two bytes, then the member table.
            var body: [UInt8] = [kind, 2, 0, 0, 0, 7, 7, SectionKind.rows.rawValue, 1, 0, 0, 0, 0]
            let first = header.encoded().withUnsafeBytes { ChunkFormat.first(of: $0) }
            var chunk = [UInt8](repeating: 0, count: 16)
            withUnsafeBytes(of: UInt32(body.count).littleEndian) { chunk.replaceSubrange(0..<4, with: $0) }
            withUnsafeBytes(of: first.littleEndian) { chunk.replaceSubrange(12..<16, with: $0) }
            body = chunk + body
            let crc = body.withUnsafeBytes { ChunkFormat.checksum($0, salt: header.salt) }
            withUnsafeBytes(of: crc.littleEndian) { body.replaceSubrange(4..<8, with: $0) }
            log.change(0) { $0 += body }
            if isTaken {
                #expect(try Comeback(origins, [log]).findings.isEmpty)
            } else {
                #expect(throws: DiskFault.newer(reader: 2)) { try Comeback(origins, [log]) }
            }
        }
    }

    // MARK: What other servers sent

    @Test func whatOtherServersSentCountsOnceItsIntervalIsWhole() throws {
        let origins = OriginTable()
        let (own, other) = (TestLog(origins), TestLog(origins, server: 40))
        for i in 0..<300 { other.store.set("k\(i)", "v", now: 1) }
        let segment = other.segment()
        var done = 0
        var turns = 0
        while done < segment.count {
            own.turn { done = $0.learned(segment, from: done, bytesMax: 500) }
            turns += 1
            let back = try Comeback(origins, [own])
            #expect(back.store.count == done && back.seen(other.uid) == (done == 300 ? 300 : 0))
            // As long as it is not covered it is known to be loose.
            #expect(back.state.newest[origins.index(of: other.uid)!] == UInt64(done))
        }
        #expect(turns > 5)
    }

    @Test func aGapBetweenIntervalsEndsWhatIsSeen() throws {
        let origins = OriginTable()
        let (a, b, other) = (TestLog(origins), TestLog(origins, actor: 1), TestLog(origins, server: 40))
        var segments: [DeltaSegment] = []
        for part in 0..<3 {
            for i in 0..<10 { other.store.set("k\(part) \(i)", "v", now: 1) }
            segments.append(other.segment(from: UInt64(part * 10)))
        }
        // One actor was the gateway for the first and the last.
        for segment in [segments[0], segments[2]] { a.turn { _ = $0.learned(segment, from: 0, bytesMax: .max) } }
        #expect(try Comeback(origins, [a]).seen(other.uid) == 10)
        b.turn { _ = $0.learned(segments[1], from: 0, bytesMax: .max) }
        #expect(try Comeback(origins, [a, b]).seen(other.uid) == 30)
        #expect(try Comeback(origins, [b, a]).seen(other.uid) == 30)
    }

    /// A scan brings only what its asker lacked. If what it had is lost, the scan proves nothing.
    @Test func aScanCountsOnlyForWhoStillHasWhatItWasFilteredBy() throws {
        let origins = OriginTable()
        let (a, b, other) = (TestLog(origins), TestLog(origins, actor: 1), TestLog(origins, server: 40))
        for i in 0..<10 { other.store.set("k\(i)", "v", now: 1) }
        let had = other.segment()
        for i in 10..<20 { other.store.set("k\(i)", "v", now: 1) }
        let rest = other.segment(from: 10)
        var (asked, start) = (VersionVector(), VersionVector())
        asked.set(other.store.ownOrigin, 10)
        start.set(other.store.ownOrigin, 20)
        b.turn { _ = $0.learned(had, from: 0, bytesMax: .max) }
        let page = DeltaSegment(
            origin: rest.origin, from: 0, to: 0, isPage: true, cut: VersionVector(), taking: entries(of: rest))
        a.turn { _ = $0.learned(page, from: 0, bytesMax: .max) }
        a.turn { $0.proof(asked: asked, start: start, frontier: VersionVector(), floor: 7) }
        #expect(try Comeback(origins, [a, b]).seen(other.uid) == 20)
        let without = try Comeback(origins, [a])
        #expect(without.seen(other.uid) == 0 && without.store.count == 10)
        // A floor may always be taken: it only lifts what is written next.
        #expect(without.store.gcFloor == 7)
    }

    private func entries(of segment: DeltaSegment) -> DeltaEntries {
        var entries = DeltaEntries()
        for entry in segment.entries { entries.append(entry.hash, entry.record.retained()) }
        return entries
    }

    @Test func memberRowsComeBackAndEarlierLivesAreOver() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        let rows = [
            MemberRow(server: 9, status: .up, actorCount: 2, address: "h:1", name: "n", isNamed: true),
            MemberRow(server: 40, incarnation: 3, status: .up, actorCount: 4, address: "h:2"),
            MemberRow(server: 41, status: .retired, actorCount: 1, address: "h:3"),
        ]
        log.turn { $0.rows([rows[0], MemberRow(server: 40, status: .joining, actorCount: 4, address: "h:9")]) }
        log.turn { $0.rows(rows) }
        let back = try Comeback(origins, [log])
        #expect(back.state.rows.map(\.server) == [9, 40, 41])
        #expect(back.state.rows.map(\.status) == [.forgotten, .up, .retired])
        #expect(back.state.rows[1] == rows[1] && back.state.rows[0].name == "n")
    }

    // MARK: Snapshots

    /// Written while it is made: what comes later is in the log, and both together are all.
    @Test(arguments: 0..<20) func aSnapshotAndTheLogSinceAreEverything(_ seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<2_000 { log.store.set("old \(i)", "value \(i)", now: 1_000) }
        for i in 0..<300 { log.store.remove("old \(i * 5)", now: 1_001) }
        for i in 0..<300 { log.store.expire("old \(i * 5 + 1)", at: 90_000, now: 1_002) }
        log.turn()
        var vector = VersionVector()
        vector.set(log.store.ownOrigin, log.store.ownSeq)
        let atStart = log.store.ownSeq
        var now: Millis = 2_000
        let snapshot = takeSnapshot(log.store, vector: vector) {
            now += 1
            if random.chance(0.3) {
                log.store.set("old \(random.below(2_500))", "newer", now: now)
            } else if random.chance(0.2) {
                log.store.remove("old \(random.below(2_500))", now: now)
            } else if random.chance(0.1) {
                log.store.expire("old \(random.below(2_500))", at: now + 50_000, now: now)
            }
            log.turn()
        }
        let whole = try Comeback(origins, snapshot: snapshot, [log], now: now)
        #expect(whole.store.digestAll == union(origins, [log]), "seed \(seed)")
        #expect(whole.seen(log.uid) == log.store.ownSeq)
        #expect(try Comeback(origins, snapshot: snapshot, [], now: now).seen(log.uid) == atStart)
        #expect(throws: Never.self) { try snapshot.withUnsafeBytes { try Recovery.verify(snapshot: $0) } }
    }

    /// An old log is still there and has the value; the delete was collected before the snapshot.
    @Test func whatWasCollectedDoesNotComeBackFromAnOlderLog() throws {
        let origins = OriginTable()
        let (writer, deleter) = (TestLog(origins), TestLog(origins, actor: 1))
        writer.store.set("gone", "value", now: 1_000)
        writer.store.set("stays", "value", now: 1_000)
        writer.turn()
        deleter.hear(writer)
        deleter.store.remove("gone", now: 2_000)
        deleter.turn()
        writer.hear(deleter)
        Bytes("gone").withBytes { #expect(writer.store.dropTombstone(writer.store.key($0))) }
        var vector = VersionVector()
        vector.set(writer.store.ownOrigin, 2)
        vector.set(deleter.store.ownOrigin, 1)
        let snapshot = takeSnapshot(writer.store, vector: vector)
        let back = try Comeback(origins, snapshot: snapshot, [writer])
        #expect(back.store.shown("gone", now: 0) == nil && back.store.shown("stays", now: 0) == "value")
        // What is written next is above the delete.
        #expect(back.store.gcFloor == 2_000 && back.store.set("gone", "again", now: 5)!.ms == 2_001)
        // Without the snapshot the log alone says what it says.
        let alone = try Comeback(origins, [writer])
        #expect(alone.store.shown("gone", now: 0) == "value")
    }

    /// A value goes with its deadline although the walk came by the deadline first, and it was forgotten since.
    @Test func aDeadlineGoesIntoTheSnapshotWithItsValue() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<200 {
            log.store.set("k\(i)", "v", now: 1_000)
            log.store.expire("k\(i)", at: 5_000, now: 1_000)
        }
        var vector = VersionVector()
        vector.set(log.store.ownOrigin, log.store.ownSeq)
        var steps = 0
        let snapshot = takeSnapshot(log.store, vector: vector) {
            steps += 1
            guard steps == 5 else { return }
            log.store.expireAll(now: 6_000)
            while log.store.sweepLeftovers(budget: 1_000, { _, _ in true }) > 0 {}
        }
        #expect(steps > 5 && log.store.storedCount == 0)
        let back = try Comeback(origins, snapshot: snapshot, [], now: 6_000)
        #expect(back.store.storedCount > 0)
        for i in 0..<200 { #expect(back.store.shown("k\(i)", now: 6_000) == nil, "k\(i)") }
    }

    @Test func aSnapshotWithOneBitFlippedOrWithoutItsEndIsRefused() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<60 { log.store.set("key \(i)", "value \(i)", now: 1_000) }
        let snapshot = takeSnapshot(log.store, vector: VersionVector())
        for bit in 0..<snapshot.count * 8 where bit / 8 >= DiskHeader.byteCount || bit % 64 == 0 {
            var broken = snapshot
            broken[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: DiskFault.self, "bit \(bit)") {
                try broken.withUnsafeBytes { try Recovery.verify(snapshot: $0) }
            }
        }
        for count in stride(from: 0, to: snapshot.count, by: 7) {
            #expect(throws: DiskFault.self, "cut at \(count)") {
                try snapshot.withUnsafeBytes {
                    try Recovery.verify(snapshot: UnsafeRawBufferPointer(rebasing: $0[..<count]))
                }
            }
        }
        var broken = snapshot
        broken[DiskHeader.byteCount + 40] ^= 1
        #expect(throws: DiskFault.self) { try Comeback(origins, snapshot: broken, []) }
    }

    // MARK: A replica that begins with it

    @Test func aReplicaBeginsWithWhatWasRecovered() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<5 { log.store.set("k\(i)", "v", now: 1_000) }
        log.turn()
        let back = try Comeback(origins, [log])
        let config = ReplicaConfig(
            clusterId: 1, server: 77, actorIndex: 0, actorCount: 1, address: "h:1", joining: false)
        let replica = Replica(config: config, store: back.store, origins: origins, recovered: back.state)
        #expect(replica.vector[origins.index(of: log.uid)!] == 5 && replica.durableVector == replica.vector)
        #expect(replica.vector[back.store.ownOrigin] == 0)
        // The earlier life is retired once this server has nobody to ask, and its writes stay.
        var effects = ReplicaEffects()
        replica.learn(
            MemberRow(server: 9, status: .forgotten, actorCount: 1, address: "h:1"), Moment(wall: 1_000, steady: 0),
            into: &effects)
        var steady: Millis = 0
        while steady < 10_000 {
            steady += 100
            replica.tick(Moment(wall: 1_000 + steady, steady: steady), into: &effects)
            while replica.step(Moment(wall: 1_000 + steady, steady: steady), into: &effects) {}
        }
        #expect(replica.vector[origins.index(of: log.uid)!] == VersionVector.retired && back.store.count == 5)
        #expect(replica.durableVector[origins.index(of: log.uid)!] == 5)
    }
}
