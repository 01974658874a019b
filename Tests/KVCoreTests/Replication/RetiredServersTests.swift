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
            retired.add(row(9), origins, at: VersionVector())
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
        for id in [UInt64(9), 4, 6] { retired.add(row(id), origins, at: VersionVector()) }
        #expect(retired.servers == [9, 4, 6] && retired.sortedMarks == retired.sortedMarks.sorted())
        retired.remove(4)
        retired.remove(5)
        #expect(retired.servers == [9, 6] && retired.sortedMarks.count == 2)
        retired.checkInvariants()
    }

    @Test func aMarkCountsOnceEverybodyHasSeenWhatWasHereThen() {
        let origins = OriginTable()
        let gone = origins.intern(ActorUID(server: 9, index: 0))!
        let writer = origins.intern(ActorUID(server: 4, index: 0))!
        var retired = RetiredServers()
        var here = VersionVector()
        here.set(gone, VersionVector.retired)
        here.set(writer, 7)
        retired.add(row(9), origins, at: here)
        func known(_ seen: UInt64, at vector: VersionVector) -> [UInt64] {
            var stable = VersionVector()
            stable.set(writer, seen)
            return retired.knownEverywhere(stable, vector, origins) { _ in true }
        }
        #expect(known(6, at: here) == [] && known(7, at: here) == [9])
        #expect(retired.knownEverywhere(here, here, origins) { _ in false } == [])
        here.set(writer, 5)
        #expect(known(5, at: here) == [9], "what was said of the writer was refuted")
        here.set(writer, VersionVector.retired)
        #expect(known(0, at: here) == [], "who has not retired the writer may lack what it wrote")
        retired.add(row(4, actors: 1), origins, at: here)
        #expect(known(0, at: here) == [9, 4])
    }

    @Test func looseEntriesAreAdoptedThreeSecondsAfterTheDepartureAndFoundByOneWalk() {
        let (store, origins) = parts.store()
        defer { store.destroy() }
        for i in 0..<2_000 { parts.put(store, "k\(i)", "v") }
        var departures = Departures()
        #expect(departures.note(9, 1_000) == 1_000 && departures.note(9, 5_000) == 1_000)
        func may(_ index: Int, _ now: Millis) -> Bool { departures.mayAdopt(9, since: 1_000, actorIndex: index, now) }
        #expect(!may(0, 3_999) && may(0, 4_000), "one actor after the other:")
        #expect(!may(2, 5_999) && may(2, 6_000) && !may(63, 7_999) && may(63, 8_000))
        // The store's own writes stand for those of a departed server: all from 1,500 on are loose.
        var seen = Seen(own: 63)
        _ = seen.advance(store.ownOrigin, 0, 1_499)
        departures.adopt(9, [store.ownOrigin], 9_000)
        #expect(departures.isAdopting(9) && !departures.isAdopting(8))
        #expect(!may(0, 9_000), "one at a time")
        #expect(!departures.isPressed(68_999) && departures.isPressed(69_000))
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
        departures.adopt(9, [store.ownOrigin], 9_000)
        var again = 0
        while departures.isAdopting { again += departures.walk(store, budget: 10_000, seen).found.count }
        departures.forgetAdopted()
        departures.adopt(9, [store.ownOrigin], 9_000)
        var anew = 0
        while departures.isAdopting { anew += departures.walk(store, budget: 10_000, seen).found.count }
        #expect(again == 0 && anew == 501)
        departures.checkInvariants(RetiredServers())
        departures.forget(9)
        #expect(departures.note(9, 7_000) == 7_000)
        _ = origins
    }

    /// Siblings catch up at the same time, long after the departure, and get what comes late at the same time too.
    @Test func anActorsTurnToAdoptComesAfterItBecameLooseAndAfterASiblingPassedSomethingOn() {
        let (store, _) = parts.store()
        defer { store.destroy() }
        parts.put(store, "k", "v")
        let record = Bytes("k").withBytes { store.find(store.key($0))! }
        var departures = Departures()
        func may(_ index: Int, _ now: Millis) -> Bool { departures.mayAdopt(9, since: 1_000, actorIndex: index, now) }
        #expect(may(0, 20_000) && !may(1, 20_000) && !may(1, 20_999) && may(1, 21_000))
        departures.noteLevel(9)
        #expect(!may(1, 30_000) && may(1, 31_000), "loose anew")
        departures.notePassedOn(record)
        #expect(!may(1, 31_500) && !may(1, 32_499) && may(1, 32_500))
        departures.notePassedOn(record)
        #expect(may(1, 32_600), "the same again is nothing new")
        departures.adopt(9, [store.ownOrigin], 33_000)
        departures.noteOwn(through: 5)
        #expect(departures.isAtIt(7))
        while departures.isAdopting {
            let found = departures.walk(store, budget: 100, Seen(own: 63)).found
            #expect(found.isEmpty)
        }
        #expect(departures.isAtIt(4) && !departures.isAtIt(5))
        departures.checkInvariants(RetiredServers())
    }
}
