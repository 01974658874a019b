// The ledger of a character over its slots: what is written counts once, whoever else writes.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct CharacterSheetTests {
    private let sid = Names.identifier(1)
    private let other = Names.identifier(2)
    private var random = PRNG(seed: 7)

    private func record(_ sid: String, earned: Int64 = 0, time: Millis = 0, isClosed: Bool = false) -> SlotRecord {
        var record = SlotRecord(sid: sid)
        record.total.earned = earned
        record.time = time
        record.seq = 1
        record.closed = isClosed
        return record
    }

    private func slots(_ records: [Int: SlotRecord]) -> CharacterSlots {
        var slots = CharacterSlots()
        slots.records = records
        return slots
    }

    private func sheet(_ records: [Int: SlotRecord], in slot: Int) -> CharacterSheet {
        var sheet = CharacterSheet(sid: sid)
        sheet.load(slots(records))
        sheet.take(slot)
        sheet.checkInvariants()
        return sheet
    }

    @Test mutating func anUnusedSlotComesFirstThenAClosedOneThenTheMostSilent() {
        let now: Millis = 1_000_000
        var records = [Int: SlotRecord]()
        for slot in 0..<Keys.slotCount { records[slot] = record(other, time: now - 1_000) }
        var sheet = CharacterSheet(sid: sid)
        sheet.load(slots(records))
        #expect(sheet.freeSlot(corrected: now, using: &random) == nil, "all in use")
        records[2]?.time = now - CharacterSheet.slotSilentMillis - 1
        records[6]?.time = now - CharacterSheet.slotSilentMillis - 9
        sheet.load(slots(records))
        #expect(sheet.freeSlot(corrected: now, using: &random) == 6)
        records[4] = record(other, time: now - CharacterSheet.slotClosedMillis - 1, isClosed: true)
        sheet.load(slots(records))
        #expect(sheet.freeSlot(corrected: now, using: &random) == 4)
        records[5] = nil
        sheet.load(slots(records))
        #expect(sheet.freeSlot(corrected: now, using: &random) == 5)
    }

    @Test func aSlotThatIsTakenGoesOnFromWhatWasInIt() {
        var sheet = sheet([0: record(other, earned: 70, time: 10), 3: record(other, earned: 30, time: 20)], in: 0)
        #expect(sheet.slot == 0 && sheet.record.sid == sid && sheet.total.earned == 100)
        #expect(sheet.record.base.earned == 70 && sheet.record.seq == 1)
        #expect(sheet.lastSeen == 20)
        sheet.mine(5)
        #expect(sheet.total.earned == 105 && sheet.total.mineAttempts == 1)
        let read = SlotRecord(sheet.write(at: 50))
        #expect(read == sheet.record && read?.seq == 2 && read?.time == 50)
        sheet.close()
        #expect(sheet.record.closed)
        sheet.checkInvariants()
    }

    @Test func otherSlotsNeverGoBack() {
        var sheet = sheet([:], in: 0)
        var newer = record(other, earned: 10)
        newer.seq = 5
        newer.rank = .masters
        sheet.see(slots([1: newer, 0: record(other, earned: 999)]))
        #expect(sheet.total.earned == 10, "the own slot is known better here")
        #expect(sheet.record.rank == .masters, "the rank is the highest of all slots")
        sheet.see(slots([1: record(other, earned: 3)]))
        #expect(sheet.total.earned == 10, "an older record of the same session")
        sheet.see(slots([1: record(Names.identifier(3), earned: 12)]))
        #expect(sheet.total.earned == 12, "another session took the slot")
        sheet.checkInvariants()
    }

    @Test mutating func twoSessionsInOneSlotCountOnceEach() throws {
        var sheet = sheet([0: record(other, earned: 100, time: 10)], in: 0)
        sheet.mine(7)
        #expect(sheet.intruder(in: slots([0: record(other, earned: 100, time: 10)])) == nil, "the one before")
        let stranger = record(Names.identifier(3), earned: 120, time: 30)
        let seen = slots([0: stranger])
        let found = try #require(sheet.intruder(in: seen))
        #expect(sheet.moveOut(seeing: found, corrected: 40, using: &random) == 0)
        sheet.checkInvariants()
        #expect(sheet.slot != 0 && sheet.record.moved[0] == sid && sheet.record.total.earned == 7)
        #expect(sheet.total.earned == 127, "the other's slot, and what was added here")
        // Should the own old record win the old slot after all, it counts at its base.
        var old = record(sid, earned: 107, time: 50)
        old.base.earned = 100
        sheet.see(slots([0: old]))
        #expect(sheet.total.earned == 107)
    }

    @Test mutating func withoutAFreeSlotNothingMoves() {
        var records = [Int: SlotRecord]()
        for slot in 0..<Keys.slotCount { records[slot] = record(other, time: 100) }
        var sheet = sheet(records, in: 2)
        sheet.mine(7)
        #expect(sheet.moveOut(seeing: record(other, earned: 1, time: 101), corrected: 102, using: &random) == nil)
        #expect(sheet.slot == 2 && sheet.total.earned == 7)
        sheet.checkInvariants()
    }

    @Test func everyDeedIsInTheLedger() {
        var sheet = sheet([:], in: 1)
        sheet.study(4)
        sheet.learn(.care)
        sheet.step()
        sheet.work(30, .undergraduate, 1)
        sheet.buy([(.cpu, 3), (.gpu, 1)], cost: 9)
        sheet.lose(.cpu, 2)
        sheet.pay(6)
        sheet.play(12)
        sheet.fillCup()
        sheet.sip()
        sheet.fillCup()
        let total = sheet.total
        #expect(total.studyTries == 1 && total.insight == 4 && total.lessons(.care) == 1 && total.solveSteps == 1)
        #expect(total.work(.undergraduate) == 30 && total.spent == 15 && total.playSeconds == 12)
        #expect(total.owned(.cpu) == 2 && total.owned(.gpu) == 1, "the laptop never breaks")
        #expect(total.cupLeft == Balance.cupTries && total.cups == Balance.cupTries + 1)
        sheet.promote(to: .masters, solvedBelow: 2)
        sheet.walk(to: .floor4)
        #expect(sheet.record.rank == .masters && sheet.record.place == .floor4)
        sheet.checkInvariants()
    }

    @Test func giftsAndSettingsAreInTheRecord() {
        var sheet = sheet([:], in: 1)
        sheet.give(5, to: other, day: 3, today: 5)
        sheet.give(2, to: other, day: 3, today: 7)
        sheet.noteGifts(40)
        sheet.setHints(false)
        sheet.setBrief(true)
        sheet.setReader(true)
        sheet.ignore(other, "bob")
        sheet.read(other, upTo: 8)
        let options = sheet.record.options
        #expect(sheet.total.given[other] == 7 && options.giftDay == 3 && options.giftToday == 7)
        #expect(options.giftsSeen == 40 && !options.hints && options.brief && options.reader)
        #expect(options.ignored == [other: "bob"] && options.mark(other) == 8)
        sheet.unignore(other)
        #expect(sheet.record.options.ignored.isEmpty)
        sheet.checkInvariants()
    }
}
