// What a member says of deadlines is believed by the rules that hold for values (docs/replication.md 5.7, 15.2).

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct DeadlineTrustTests {
    private static let own = ActorUID(server: 7, index: 0)
    private static let other = ActorUID(server: 9, index: 2)
    private static let now: Millis = 1_780_000_000_000

    /// What becomes of an entry; nil if it is malformed.
    private func decoded(
        _ key: [UInt8], _ addition: RecordExtension?, _ value: String = "", isTombstone: Bool = false, ms: Millis = now
    ) -> Bool {
        let origins = OriginTable()
        let origin = origins.intern(Self.own)!
        let record = key.withUnsafeBytes { key in
            Bytes(value).withBytes { value in
                addition.map {
                    Record.create(
                        key: ByteView(key), $0, value: ByteView(value), ms: ms, origin: origin, seq: 5,
                        isTombstone: isTombstone)
                }
                    ?? Record.create(
                        key: ByteView(key), value: ByteView(value), ms: ms, origin: origin, seq: 5,
                        isTombstone: isTombstone)
            }
        }
        defer { record.release() }
        var out = OutputBuffer()
        defer { out.deallocate() }
        var encoder = EntryEncoder()
        encoder.encode(record, origins, into: &out)
        var decoder = EntryDecoder(from: 0, to: out.count, count: 1, millisMax: Self.now)
        guard let got = decoder.next(out.bytes, origins) else { return false }
        got.release()
        return true
    }

    /// A write is stamped above the deadline that it keeps, so no other order is true.
    @Test func aDeadlineThatWasKeptIsOlderThanTheWrite() {
        func isTaken(_ ms: Millis, _ uid: ActorUID, _ seq: UInt64) -> Bool {
            decoded(
                [1], RecordExtension(deadline: 5, version: Version(ms: ms, uid: uid, seq: seq)), "v")
        }
        #expect(isTaken(Self.now, Self.own, 4) && isTaken(Self.now - 1, Self.other, 99))
        #expect(!isTaken(Self.now, Self.own, 5) && !isTaken(Self.now, Self.own, 6))
        // Of one millisecond the greater id is later.
        #expect(!isTaken(Self.now, Self.other, 1) && !isTaken(Self.now + 1, Self.own, 1))
    }

    /// A zero says at a later version that there is no deadline: its own, and within what clocks allow.
    @Test func thatThereIsNoDeadlineMayBeNewerThanTheWrite() {
        func isTaken(_ deadline: Millis, _ ms: Millis, _ uid: ActorUID, _ seq: UInt64) -> Bool {
            decoded(
                [1], RecordExtension(deadline: deadline, version: Version(ms: ms, uid: uid, seq: seq)), "0",
                ms: Self.now - 9)
        }
        #expect(isTaken(0, Self.now - 1, Self.own, 5) && isTaken(0, Self.now, Self.own, 5))
        #expect(!isTaken(5, Self.now - 1, Self.own, 5), "a deadline was kept")
        #expect(!isTaken(0, Self.now - 1, Self.other, 5) && !isTaken(0, Self.now - 1, Self.own, 6))
        #expect(!isTaken(0, Self.now + 1, Self.own, 5), "nobody takes a stamp that is so far ahead")
        #expect(!isTaken(0, Self.now - 9, Self.own, 5), "that is the write's own version")
    }

    @Test func aCompanionIsADeadlineAndNothingElse() {
        let key: [UInt8] = [0xFF, 0x00, Companion.deadlineKind, 1]
        let earlier = Version(ms: 1, uid: Self.own, seq: 1)
        #expect(decoded(key, RecordExtension(deadline: 5)) && decoded(key, RecordExtension(deadline: 0)))
        #expect(decoded(Array(key.prefix(3)), RecordExtension(deadline: 5)))
        #expect(!decoded(key, nil, "v") && !decoded(key, nil, isTombstone: true))
        #expect(!decoded(key, RecordExtension(deadline: 5), "v"))
        #expect(!decoded(key, RecordExtension(deadline: 5, version: earlier)))
        #expect(!decoded([0xFF, 0x00, UInt8(ascii: "e"), 1], RecordExtension(deadline: 5)))
        #expect(!decoded([0xFF, 0x00], RecordExtension(deadline: 5)) && !decoded([0xFF, 0x00], nil, "v"))
        // A tombstone has no deadline.
        #expect(!decoded([1], RecordExtension(deadline: 5), isTombstone: true) && decoded([1], nil, isTombstone: true))
        // Keys of databases begin with the same byte.
        #expect(decoded([0xFF, 0x01, 1], nil, "v") && decoded([0xFF, 0xFF], RecordExtension(deadline: 5), "v"))
    }

    @Test(arguments: [FrameLie.deadlineAhead, .hiddenValue]) func whatNoDeadlineIsClosesTheLink(_ lie: FrameLie) {
        let three = MemberTrustTests.Three(actors: 2)
        let before = three.a.actors.map { $0.version("shared") }
        #expect(three.tell(lie, to: three.a).events.contains(.malformed(server: three.liar.id)))
        three.cluster.run(3_000)
        #expect(three.a.actors.map { $0.version("shared") } == before && three.cluster.isConverged)
        let hidden: [UInt8] = [0xFF, 0x00, Companion.deadlineKind] + Array("shared".utf8)
        for actor in three.a.actors {
            #expect(Bytes(hidden).withBytes { actor.store.find(actor.store.key($0)) } == nil)
            actor.store.checkInvariants()
        }
    }

    /// A companion in this actor's own name is what it forgot with its key, unless the journal knows better.
    @Test func aDeadlineInTheOwnNameIsTakenIfItMayHaveBeenWrittenHere() {
        let three = MemberTrustTests.Three()
        let (actor, at) = (three.a.actors[0], three.cluster.moment(three.a))
        #expect(actor.store.expire("shared", at: at.wall + 60_000, now: at.wall) == .done)
        let touched = actor.store.ownSeq
        actor.put("another", "v", at)
        let replica = actor.replica
        func credit(_ key: String, _ seq: UInt64, _ origin: OriginIndex, ms: Millis = 0) -> Replica.Credit {
            Bytes(key).withBytes { key in
                Companion.withKey(Companion.deadlineKind, of: ByteView(key)) { name in
                    let record = Record.create(
                        key: name, RecordExtension(deadline: 5), value: nil, ms: at.wall + 10 + ms, origin: origin,
                        seq: seq)
                    defer { record.release() }
                    return replica.credit(record, actor.store.hash(record.keyView), force: false)
                }
            }
        }
        #expect(credit("shared", touched, replica.own) == .due)
        #expect(credit("shared", touched + 1, replica.own) == .none)
        #expect(credit("shared", touched + 2, replica.own) == .none)
        // Where nothing waits for it, it has taken effect.
        #expect(credit("nothing", touched, replica.own) == .hasTakenEffect)
        #expect(credit("shared", touched, replica.own, ms: -3_600_000) == .hasTakenEffect)
        // The journal has forgotten that write.
        actor.store.trimJournal(through: touched)
        #expect(credit("shared", touched, replica.own) == .due && credit("shared", touched - 1, replica.own) == .due)
        // Another writer's, which the vector covers.
        let its = three.a.origins.index(of: three.c.actors[0].replica.uid)!
        #expect(replica.vector[its] >= 1 && credit("shared", 1, its) == .due)
        #expect(credit("nothing", 1, its) == .hasTakenEffect)
    }

    @Test func noDeadlineIsStampedSoThatOthersRefuseIt() {
        let (cluster, a, b) = RemoteTests.pair(1, 1)
        b.actors[0].put("k", "v", cluster.moment(b))
        cluster.run(1_000)
        b.wallOffset = 366 * 24 * 3_600_000
        cluster.run(2_500)
        let late = cluster.moment(b).wall
        #expect(b.actors[0].store.expire("k", at: late + 60_000, now: late) == .refused)
        #expect(b.actors[0].store.increment("n", now: late) == .refused)
        #expect(b.actors[0].get("k") == "v" && a.actors[0].replica.statistics.clockRejects == 0)
    }

    @Test func aReportsClockBeyondWhatAClockCanShowIsMalformed() {
        let table = OriginTable()
        for (clock, isTaken) in [(Version.msMax, true), (Version.msMax + 1, false), (.max, false), (.min, false)] {
            var head = FrameHead()
            head.sender = Self.own
            head.report = StabilityReport(
                stamp: 1, least: VersionVector(), heads: [], level: [], retired: [], clock: clock)
            var writer = FrameWriter(buffer: OutputBuffer(), table: table)
            writer.head(head, cluster: 7)
            let (bytes, buffer) = writer.finish()
            buffer.deallocate()
            let got = bytes.withUnsafeBytes { FrameReader.decode($0, cluster: 7, table) }
            if case .frame = got { #expect(isTaken) } else { #expect(!isTaken) }
        }
    }
}
