// Departed servers: which are retired, by which mark, and what is adopted before.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct RetiredServersTests {
    private let parts = ReplicationPartsTests()

    private func row(_ server: UInt64, actors: Int = 2) -> MemberRow {
        MemberRow(server: server, status: .left, actorCount: actors, address: Bytes("a:1"))
    }

    @Test func marksAreEqualWhereTheSameWritesWereSeen() {
        let origins = OriginTable()
        let first = origins.intern(ActorUID(server: 9, index: 0))!
        let second = origins.intern(ActorUID(server: 9, index: 1))!
        func retired(_ a: UInt64, _ b: UInt64) -> RetiredServers {
            var retired = RetiredServers()
            retired.note(first, last: a)
            retired.note(second, last: b)
            retired.add(row(9), origins)
            retired.checkInvariants()
            return retired
        }
        let one = retired(10, 20)
        #expect(one.sortedMarks == retired(10, 20).sortedMarks)
        #expect(one.sortedMarks != retired(10, 21).sortedMarks && one.sortedMarks != retired(20, 10).sortedMarks)
        #expect(one.last(second) == 20 && one.contains(9) && !one.contains(8))
        let mark = one.sortedMarks[0]
        #expect(one.servers { $0 == mark } == [9] && one.servers { $0 != mark } == [])
        #expect(one.marks { $0 != mark } == [])
    }

    @Test func aReopenedServerIsRetiredNoLonger() {
        let origins = OriginTable()
        var retired = RetiredServers()
        for id in [UInt64(9), 4, 6] { retired.add(row(id), origins) }
        #expect(retired.servers == [9, 4, 6] && retired.sortedMarks == retired.sortedMarks.sorted())
        retired.remove(4)
        retired.remove(5)
        #expect(retired.servers == [9, 6] && retired.sortedMarks.count == 2)
        retired.checkInvariants()
    }

    @Test func looseEntriesAreAdoptedThreeSecondsAfterTheDepartureAndFoundByOneWalk() {
        let (store, origins) = parts.store()
        defer { store.destroy() }
        for i in 0..<2_000 { parts.put(store, "k\(i)", "v") }
        var departures = Departures()
        #expect(departures.note(9, 1_000) == 1_000 && departures.note(9, 5_000) == 1_000)
        #expect(!departures.mayAdopt(since: 1_000, actorIndex: 0, 3_999))
        #expect(departures.mayAdopt(since: 1_000, actorIndex: 0, 4_000), "one actor after the other:")
        #expect(!departures.mayAdopt(since: 1_000, actorIndex: 2, 5_999))
        #expect(departures.mayAdopt(since: 1_000, actorIndex: 2, 6_000))
        #expect(departures.mayAdopt(since: 1_000, actorIndex: 63, 8_000))
        // The store's own writes stand for those of a departed server: all from 1,500 on are loose.
        var seen = Seen(own: 63)
        _ = seen.advance(store.ownOrigin, 0, 1_499)
        departures.adopt(9, [store.ownOrigin])
        #expect(departures.isAdopting(9) && !departures.isAdopting(8))
        #expect(!departures.mayAdopt(since: 1_000, actorIndex: 0, 9_000), "one at a time")
        departures.checkInvariants(RetiredServers())
        var found: [UInt64] = []
        var ended: [OriginIndex] = []
        var slices = 0
        while departures.isAdopting {
            let slice = departures.walk(store, budget: 10_000, seen)
            #expect(slice.looked < 600)
            found += slice.found
            ended += slice.ended
            slices += 1
        }
        #expect(found.count == 501 && Set(found).count == 501 && ended == [store.ownOrigin] && slices > 3)
        // A second walk finds what the first one did, which is adopted already.
        departures.adopt(9, [store.ownOrigin])
        var again = 0
        while departures.isAdopting { again += departures.walk(store, budget: 10_000, seen).found.count }
        departures.forgetAdopted()
        departures.adopt(9, [store.ownOrigin])
        var anew = 0
        while departures.isAdopting { anew += departures.walk(store, budget: 10_000, seen).found.count }
        #expect(again == 0 && anew == 501)
        departures.checkInvariants(RetiredServers())
        departures.forget(9)
        #expect(departures.note(9, 7_000) == 7_000)
        _ = origins
    }
}
