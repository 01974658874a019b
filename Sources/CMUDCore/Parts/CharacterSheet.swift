// What a character has and is: the slot this session writes, and the others that it reads (docs/cmud/design.md 5.3,
// rules R4 to R6). A part of `GameSession`; on its thread.

import KVBase

struct CharacterSheet {
    static let slotClosedMillis: Millis = 10_000
    static let slotSilentMillis: Millis = 60_000

    /// All slots; the own one as it is here, whatever a replica says.
    private var slots = CharacterSlots()
    private var index = 0
    private var own: SlotRecord
    /// Who sat in the slot before, and until when.
    private var previousSid = ""
    private var previousTime: Millis = 0

    init(sid: String) { own = SlotRecord(sid: sid) }

    var slot: Int { index }
    /// The own slot. A copy: what changes it is below.
    var record: SlotRecord { own }
    /// What all slots amount to.
    var total: Ledger { slots.total }
    /// Seconds played until the retirement; 0 before it.
    var career: Int64 { slots.career }
    /// What each slot counts for, by slot.
    var counted: [(slot: Int, ledger: Ledger)] { slots.records.keys.sorted().map { ($0, slots.counted($0)) } }

    /// When the character was played last, by another terminal or by the one before in this slot.
    var lastSeen: Millis? {
        let others = slots.records.filter { $0.key != index }.values.map(\.time).max()
        return others.map { max($0, previousTime) } ?? (previousTime > 0 ? previousTime : nil)
    }

    private mutating func change(_ body: (inout SlotRecord) -> Void) {
        body(&own)
        slots.records[index] = own
    }

    // MARK: slots

    /// A character's slots as they were read at login.
    mutating func load(_ slots: CharacterSlots) { self.slots = slots }

    /// A never used slot if there is one, so that nobody's last words are overwritten by somebody who has not read them
    /// yet; then a cleanly closed one; then the one that fell silent longest ago. Random, so that two logins on two
    /// servers that cannot see each other rarely choose the same. Nil when all are in use.
    func freeSlot(corrected: Millis, using random: inout PRNG) -> Int? {
        let all = 0..<Keys.slotCount
        if let choice = all.filter({ slots.records[$0] == nil }).randomElement(using: &random) { return choice }
        let age = { (slot: Int) in corrected - (slots.records[slot]?.time ?? 0) }
        let closed = all.filter {
            slots.records[$0]?.closed == true && age($0) > CharacterSheet.slotClosedMillis
        }
        if let choice = closed.randomElement(using: &random) { return choice }
        let silent = all.filter {
            age($0) > CharacterSheet.slotSilentMillis && slots.records[$0]?.sid != own.sid
        }
        return silent.max { age($0) < age($1) }
    }

    /// Sits down in a slot: what was in it is the base that this session adds to.
    mutating func take(_ free: Int) {
        let previous = slots.records[free]
        var record = SlotRecord(sid: own.sid)
        record.seq = previous?.seq ?? 0
        record.base = slots.counted(free)
        record.total = record.base
        record.moved = previous?.moved ?? [:]
        record.rank = slots.rank
        record.career = slots.career
        record.place = slots.place
        record.options = slots.options
        sit(free, record, after: previous)
    }

    private mutating func sit(_ free: Int, _ record: SlotRecord, after previous: SlotRecord?) {
        (previousSid, previousTime) = (previous?.sid ?? "", previous?.time ?? 0)
        index = free
        own = record
        slots.records[free] = record
    }

    /// What other terminals wrote. Never backwards: after a change of server the replica may lag behind what this
    /// session saw.
    mutating func see(_ seen: CharacterSlots) {
        for (index, other) in seen.records where index != self.index {
            if let known = slots.records[index], known.sid == other.sid, known.seq > other.seq { continue }
            slots.records[index] = other
        }
        let rank = slots.rank
        if rank > own.rank { change { $0.rank = rank } }
    }

    /// Another session that sits in this slot: a partition let both take it.
    func intruder(in seen: CharacterSlots) -> SlotRecord? {
        guard let other = seen.records[index], other.sid != own.sid, other.sid != previousSid,
            other.time > previousTime
        else { return nil }
        return other
    }

    /// Leaves the slot to `other`. What this session added moves to another slot, and the record says so, so that
    /// nothing counts twice whichever of the two writes wins the old slot. Returns the old slot; nil if none is free.
    mutating func moveOut(seeing other: SlotRecord, corrected: Millis, using random: inout PRNG) -> Int? {
        let old = index
        slots.records[old] = other
        guard let free = freeSlot(corrected: corrected, using: &random) else {
            slots.records[old] = own
            return nil
        }
        let previous = slots.records[free]
        var moving = own
        moving.base = slots.counted(free)
        moving.total = moving.base
        moving.total.add(own.total.minus(own.base))
        moving.seq = previous?.seq ?? 0
        moving.moved = (previous?.moved ?? [:]).merging(own.moved) { $1 }
        moving.moved[old] = own.sid
        moving.moved[free] = nil
        sit(free, moving, after: previous)
        return old
    }

    /// The record to put now: what was changed before this call is in it.
    mutating func write(at corrected: Millis) -> [UInt8] {
        change {
            $0.seq += 1
            $0.time = corrected
        }
        return own.bytes
    }

    mutating func close() { change { $0.closed = true } }

    // MARK: the ledger

    mutating func mine(_ coins: Int64) {
        change {
            $0.total.mineAttempts += 1
            $0.total.earned = $0.total.earned.adding(coins)
        }
    }

    mutating func study(_ insight: Int64) {
        change {
            $0.total.studyTries += 1
            $0.total.insight = $0.total.insight.adding(insight)
        }
    }

    mutating func learn(_ subject: Subject) { change { $0.total.lessons[subject.rawValue] += 1 } }

    /// A step of solving or mentoring, whatever comes of it.
    mutating func step() { change { $0.total.solveSteps += 1 } }

    mutating func work(_ amount: Int64, _ rank: Rank, _ instance: Int64) {
        change { $0.total.addWork(amount, rank, instance) }
    }

    mutating func lose(_ item: Item, _ count: Int64) {
        change { $0.total.lost[item.rawValue] = $0.total.lost[item.rawValue].adding(count) }
    }

    mutating func buy(_ items: [(item: Item, count: Int64)], cost: Int64) {
        change {
            for (item, count) in items { $0.total.bought[item.rawValue] = $0.total.bought[item.rawValue].adding(count) }
            $0.total.spent = $0.total.spent.adding(cost)
        }
    }

    mutating func pay(_ price: Int64) { change { $0.total.spent = $0.total.spent.adding(price) } }

    mutating func fillCup() {
        let missing = Balance.cupTries - total.cupLeft
        change { $0.total.cups = $0.total.cups.adding(missing) }
    }

    mutating func sip() { change { $0.total.sips += 1 } }

    mutating func play(_ seconds: Int64) { change { $0.total.playSeconds = $0.total.playSeconds.adding(seconds) } }

    /// `today` is what was given on `day` with this.
    mutating func give(_ amount: Int64, to receiver: String, day: Int64, today: Int64) {
        change {
            $0.options.giftDay = day
            $0.options.giftToday = today
            $0.total.given[receiver] = ($0.total.given[receiver] ?? 0).adding(amount)
        }
    }

    /// Work on problems of the old rank that are solved, those below `solvedBelow`, is folded.
    mutating func promote(to next: Rank, solvedBelow instance: Int64) {
        let played = slots.career > 0 ? slots.career : slots.total.playSeconds
        change {
            $0.total.fold($0.rank, solvedBelow: instance)
            $0.rank = next
            if next == .retired { $0.career = played }
        }
    }

    mutating func walk(to place: Place) { change { $0.place = place } }

    // MARK: settings

    mutating func setHints(_ isOn: Bool) { change { $0.options.hints = isOn } }
    mutating func setBrief(_ isOn: Bool) { change { $0.options.brief = isOn } }
    mutating func setReader(_ isOn: Bool) { change { $0.options.reader = isOn } }
    mutating func read(_ sender: String, upTo seq: Int64) { change { $0.options.read(sender, upTo: seq) } }
    mutating func ignore(_ pid: String, _ name: String) { change { $0.options.ignored[pid] = name } }
    mutating func unignore(_ pid: String) { change { $0.options.ignored[pid] = nil } }
    mutating func noteGifts(_ sum: Int64) { change { $0.options.giftsSeen = sum } }

    func checkInvariants() {
        check((0..<Keys.slotCount).contains(index))
        // Before login there is no slot yet.
        check(slots.records[index] == own || own.seq == 0)
        check(
            own.options.ignored.count <= PlayerSettings.ignoredMax && own.options.marks.count <= PlayerSettings.marksMax
        )
    }
}
