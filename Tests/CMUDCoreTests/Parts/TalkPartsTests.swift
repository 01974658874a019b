// What is said and heard, how fast, and who is there.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct TalkPartsTests {
    private let ada = Names.identifier(1)
    private let bob = Names.identifier(2)

    private func line(_ seq: Int64, _ text: String, time: Millis = 1_000) -> RingLine {
        RingLine(seq: seq, time: time, kind: "s", text: Safe.text(text))
    }

    @Test func ringsHoldTheLastLinesUnderOneCount() {
        var rings = OwnRings()
        for _ in 0..<RingLine.ringMax { rings.say(.say(Safe.text("hello")), at: 5) }
        rings.shout(.shout(Safe.text("all")), at: 6)
        rings.say(.coffee, at: 7)
        #expect(rings.roomLines.map(\.seq) == [2, 3, 4, 5, 6, 7, 8, 10] && rings.buildingLines.map(\.seq) == [9])
        rings.checkInvariants()
        rings.leaveRoom()
        rings.say(.coffee, at: 8)
        #expect(rings.roomLines.map(\.seq) == [11] && rings.buildingLines.count == 1)
    }

    @Test func aRingIsReadOnceAndTellsWhatWasMissed() {
        var reader = RingReader()
        let first = RingSource(pid: ada, sid: "s", lines: [line(1, "one"), line(2, "two")])
        #expect(reader.hasNews(first, .room))
        #expect(reader.read([first], .room, corrected: 2_000) { _ in true }.lines.map(\.line.seq) == [1, 2])
        #expect(!reader.hasNews(first, .room) && reader.hasNews(first, .building), "each board has its own mark")
        #expect(reader.read([first], .room, corrected: 2_000) { _ in true }.lines.isEmpty)
        let later = RingSource(pid: ada, sid: "s", lines: (5...12).map { line($0, "\($0)") })
        let news = reader.read([later], .room, corrected: 2_000) { _ in true }
        #expect(news.lines.count == 8 && news.missed.count == 1 && news.missed.first?.count == 2, "3 and 4 are gone")
        let again = RingSource(pid: ada, sid: "t", lines: [line(1, "back")])
        #expect(reader.read([again], .room, corrected: 2_000) { _ in true }.lines.count == 1, "a new login counts anew")
        reader.checkInvariants()
    }

    @Test func oldLinesAreNoNews() {
        var reader = RingReader()
        let source = RingSource(pid: ada, sid: "s", lines: [line(1, "old", time: 0), line(2, "new", time: 1)])
        let news = reader.read([source], .room, corrected: RingReader.newsMillis) { _ in true }
        #expect(news.lines.map(\.line.seq) == [2])
    }

    @Test func placesAreNewUntilTheyWereListenedTo() {
        var reader = RingReader()
        #expect(reader.isNew(.fence) && reader.isBuildingNew)
        reader.listened(in: .fence)
        reader.listenedToBuilding()
        #expect(!reader.isNew(.fence) && reader.isNew(.bridge) && !reader.isBuildingNew)
    }

    @Test func whatOnePersonRepeatsIsCounted() {
        let lines = [
            HeardLine(pid: bob, line: line(1, "hi", time: 3)), HeardLine(pid: ada, line: line(2, "hi", time: 2)),
            HeardLine(pid: ada, line: line(1, "hi", time: 1)), HeardLine(pid: ada, line: line(3, "ho", time: 4)),
        ]
        let heard = RingReader.inOrder(lines)
        #expect(heard.map(\.pid) == [ada, bob, ada] && heard.map(\.count) == [2, 1, 1])
    }

    @Test func historyIsBounded() {
        var history = TalkHistory()
        #expect(history.lastTeller == nil)
        for number in 0..<(TalkHistory.eventsMax + 5) { history.remember(.notice("\(number)"), at: Millis(number)) }
        #expect(history.last(1_000).count == TalkHistory.eventsMax && history.last(2).map(\.time) == [203, 204])
        history.noteTeller(ada)
        #expect(history.lastTeller == ada)
        history.checkInvariants()
    }

    @Test func eachDeedHasItsOwnPace() {
        var limits = TalkLimits()
        for _ in 0..<5 { #expect(limits.take(.say, now: 1_000) == nil) }
        #expect(limits.take(.say, now: 1_000) == 1_000 && limits.take(.shout, now: 1_000) == nil)
        #expect(limits.take(.shout, now: 1_000) == 30_000 && limits.take(.say, now: 2_000) == nil)
        #expect(limits.take(.paint, now: 1_000) == nil && limits.take(.paint, now: 2_000) == 299_000)
        for _ in 0..<4 { #expect(limits.take(.move, now: 5_000) == nil) }
        #expect(limits.take(.move, now: 5_000) == 500)
        limits.checkInvariants()
    }

    @Test func aNameIsForgottenSoThatALateClaimShows() {
        var names = Directory()
        #expect(names[ada] == Directory.marked("someone", ada) && !names.isKnown(ada, now: 0))
        names.learn(ada, "ada", now: 0)
        #expect(names.isKnown(ada, now: Directory.rememberedMillis - 1))
        #expect(!names.isKnown(ada, now: Directory.rememberedMillis) && names[ada] == "ada", "shown until looked up")
        #expect(Directory.unmarked("ada~1b2") == "ada" && Directory.unmarked("ada~") == "ada~")
        names.checkInvariants()
    }

    @Test func namesAndPeopleAreBounded() {
        var (names, presence) = (Directory(), PresenceBoard())
        presence.listened(now: 0)
        for number in 0..<(PresenceBoard.entriesMax + 3) {
            let pid = Names.identifier(UInt64(number))
            names.learn(pid, "ada", now: 0)
            presence.see([occupant(pid)], in: nil, areAll: false, correctedWall: 0)
            names.checkInvariants()
        }
        presence.checkInvariants()
        #expect(presence.count == PresenceBoard.entriesMax && presence.isKnown(Names.identifier(0)))
        #expect(!presence.isKnown(Names.identifier(UInt64(PresenceBoard.entriesMax))), "everybody is still here")
    }

    private func occupant(_ pid: String, time: Millis = 0, isGone: Bool = false) -> Occupant {
        Occupant(
            pid: pid, place: .fence, sid: "s", beats: time, moves: 0, sessionStart: 0, time: time, name: "ada",
            rank: .phd, activity: .idle, isGone: isGone, away: nil, since: 0, lines: [])
    }

    @Test func whoLeftIsGoneAndLastIsFirst() {
        var presence = PresenceBoard()
        presence.listened(now: 0)
        let people = [occupant(ada), occupant(bob, isGone: true), occupant(Names.identifier(3), time: 9, isGone: true)]
        presence.see(people, in: .fence, areAll: true, correctedWall: 0)
        #expect(presence.present.map(\.pid) == [ada] && presence.gone.map(\.pid) == [Names.identifier(3), bob])
        #expect(presence.occupant(bob)?.isGone == true && presence.state(bob) == .hidden && presence.count == 3)
        presence.checkInvariants()
    }
}
