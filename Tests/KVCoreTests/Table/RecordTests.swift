// Records: layout, lengths, reference counts, sharing across threads. And the origin table.

import Glibc
import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct RecordTests {
    static let uid = ActorUID(server: 3, index: 2)

    @Test func fieldsOfEveryLengthComeBack() {
        let origins = OriginTable()
        for keyCount in [0, 1, 7, 8, 16, 255, 256, 70_000] {
            for valueCount in [0, 1, 64, 255, 256, 5000, 1 << 20] {
                let key = Bytes([UInt8](repeating: 3, count: keyCount))
                let value = Bytes([UInt8](repeating: 4, count: valueCount))
                let version = Version(ms: Version.msMax, uid: RecordTests.uid, seq: Version.seqMax - 1)
                let record = Record.make(key, value, version, origins)
                #expect(Bytes(record.key) == key && Bytes(record.value) == value && !record.isTombstone)
                #expect(record.version(origins) == version && record.referenceCount == 1)
                #expect(record.allocatedBytes >= 16 + keyCount + valueCount)
                record.release()
            }
        }
        let dead = Record.make("k", nil, Version(ms: 0, uid: RecordTests.uid, seq: 0), origins)
        #expect(dead.isTombstone && dead.valueCount == 0 && dead.version(origins).ms == 0)
        dead.release()
    }

    @Test func aSixteenByteKeyWithSixtyFourBytesOfValueTakesNinetySix() {
        let record = Record.make(
            Bytes([UInt8](repeating: 1, count: 16)), Bytes([UInt8](repeating: 1, count: 64)),
            Version(ms: 1, uid: RecordTests.uid, seq: 1), OriginTable())
        #expect(record.allocatedBytes == 96)
        record.release()
    }

    @Test func sharedRecordsAreNeverWrittenInPlace() {
        let store = WriteRuleTests.makeStore()
        let held = store.put("k", "value 1", now: 1)!.retained()
        #expect(held.referenceCount == 2)
        let next = store.put("k", "value 2", now: 2)!
        #expect(next != held && Bytes(held.value) == "value 1" && held.ms == 1 && held.referenceCount == 1)
        let same = store.put("k", "value 3", now: 3)!
        #expect(same == next, "not shared: in place")
        held.release()
        store.checkInvariants()
        store.destroy()
    }

    @Test func referencesAreGivenBack() {
        let origins = OriginTable()
        let stores = (1...3).map {
            Store(
                StoreConfig(
                    hashSeed: 1, digestKey: 2, own: ActorUID(server: 1, index: UInt16($0)), origins: origins,
                    journalCapacity: 4096))
        }
        var held: [Record] = []
        for i in 0..<500 { held.append(stores[0].put(Bytes("k\(i)"), "v", now: 1)!.retained()) }
        for record in held { for store in stores[1...] { #expect(store.merge(record) == .applied) } }
        #expect(held.allSatisfy { $0.referenceCount == 4 })
        for i in 0..<500 where i % 2 == 0 { _ = stores[1].put(Bytes("k\(i)"), "w", now: 2) }
        stores[2].destroy()
        #expect(held.enumerated().allSatisfy { $0.element.referenceCount == ($0.offset % 2 == 0 ? 2 : 3) })
        stores[1].destroy()
        stores[0].destroy()
        #expect(held.allSatisfy { $0.referenceCount == 1 })
        for record in held { record.release() }
    }

    @Test func beyondTheCountersRangeACopyIsHandedOut() {
        let record = Record.make("k", "v", Version(ms: 1, uid: RecordTests.uid, seq: 1), OriginTable())
        let references = (0..<500).map { _ in record.retained() }
        #expect(Set(references.map(\.raw)).count > 1 && record.referenceCount <= 121)
        #expect(references.allSatisfy { Bytes($0.value) == "v" })
        for reference in references { reference.release() }
        #expect(record.referenceCount == 1)
        record.release()
    }

    /// Three actors on three threads hand each other every record they write, all overwriting the same keys. Run under
    /// ThreadSanitizer too.
    @Test func actorsOnSeveralThreadsShareRecords() {
        let origins = OriginTable()
        let mailboxes = (0..<3).map { _ in Mailbox() }
        let digests = onThreads(3) { RecordTests.exchange($0, mailboxes, origins) }
        #expect(Set(digests).count == 1)
    }

    static func exchange(_ me: Int, _ mailboxes: [Mailbox], _ origins: OriginTable) -> UInt64 {
        let store = Store(
            StoreConfig(
                hashSeed: 1, digestKey: 2, own: ActorUID(server: 1, index: UInt16(me + 1)), origins: origins,
                journalCapacity: 4096))
        var random = PRNG(seed: UInt64(me))
        for round in 0..<60 {
            for _ in 0..<50 {
                let key = Bytes("k\(random.below(20))")
                let written =
                    random.chance(0.2)
                    ? store.delete(key, now: Millis(round))
                    : store.put(key, Bytes("value \(random.below(9))"), now: Millis(round))
                guard let written else { continue }
                for other in 0..<3 where other != me { mailboxes[other].push(written.retained()) }
            }
            for record in mailboxes[me].takeAll() {
                store.merge(record)
                record.release()
            }
        }
        mailboxes.forEach { $0.finish() }
        while true {
            sched_yield()
            let isLast = mailboxes[me].finished == 3
            for record in mailboxes[me].takeAll() {
                store.merge(record)
                record.release()
            }
            if isLast { break }
        }
        store.checkInvariants()
        defer { store.destroy() }
        return store.digestAll
    }

    @Test func originsAreInternedOnceFromSeveralThreads() {
        let origins = OriginTable()
        let lists = onThreads(4) { _ in
            (0..<500).map { origins.intern(ActorUID(server: UInt64($0) * 3, index: UInt16($0)))! }
        }
        #expect(Set(lists).count == 1 && origins.count == 500)
        #expect(lists[0].enumerated().allSatisfy { origins.uid($0.element).server == UInt64($0.offset) * 3 })
        #expect(origins.index(of: ActorUID(server: 1, index: 1)) == nil)
    }

    @Test func theOriginTableRefusesWhatItCannotName() {
        let origins = OriginTable()
        for i in 0..<OriginTable.capacity { _ = origins.intern(ActorUID(server: UInt64(i), index: 0)) }
        #expect(origins.intern(ActorUID(server: 1 << 40, index: 0)) == nil)
        #expect(origins.intern(ActorUID(server: 5, index: 0)) == 5)
    }

    @Test func uidTextHasTheOrderOfTheUIDs() {
        let uids = [
            ActorUID(server: 0, index: 0), ActorUID(server: 0, index: 0xFFFF), ActorUID(server: 0xA, index: 2),
            ActorUID(server: .max, index: 1),
        ]
        #expect(uids == uids.sorted() && uids.map(\.description) == uids.map(\.description).sorted())
        #expect(uids[2].description == "000000000000000a/0002")
        for uid in uids { #expect(ActorUID(uid.description) == uid) }
        for bad in [
            "", "000000000000000a", "000000000000000a/2", "+00000000000000a/0002", "000000000000000a/0002/",
            "00000000000000ag/0002",
        ] {
            #expect(ActorUID(bad) == nil)
        }
    }
}
