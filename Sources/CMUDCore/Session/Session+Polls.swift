// What a session looks at again and again: its room, its tells, the building, its own records
// (docs/cmud/design.md 7). Called by the session.

import KVBase

extension Session {
    static let beatMillis: Millis = 5_000
    static let idleMillis: Millis = 120_000
    static let occupantsMax = 400
    static let staleKeyMillis: Millis = 3_600_000
    /// Lines older than this are history when they turn up late, not news.
    static let newsMillis: Millis = 120_000

    func startPolling() {
        repeated(1_000) { [unowned self] in
            Swift.max(1_000, Int64(presence.entries.count) / 25 * 1_000)
        } _: {
            [unowned self] done in
            pollRoom { _ in done() }
        }
        repeated(1_000) {
            1_000
        } _: { [unowned self] done in
            pollTells(done)
        }
        repeated(500) {
            3_000
        } _: { [unowned self] done in
            pollGlobal(done)
        }
        repeated(2_500, isSteady: true) {
            Session.beatMillis
        } _: { [unowned self] done in
            beat()
            done()
        }
        repeated(2_500) {
            Session.beatMillis
        } _: { [unowned self] done in
            pollOwn(done)
        }
        repeated(5_000) {
            5_000
        } _: { [unowned self] done in
            readGifts(done)
        }
        repeated(3_000) {
            3_000
        } _: { [unowned self] done in
            pollProblem(done)
        }
        repeated(60_000) {
            60_000
        } _: { [unowned self] done in
            publishScore()
            done()
        }
        for delay in [Session.claimSettleMillis, 20_000] { after(delay) { [unowned self] in checkClaim() } }
        repeated(60_000) {
            60_000
        } _: { [unowned self] done in
            checkClaim()
            done()
        }
        pollRoom { _ in }
    }

    /// Runs `attempt` after `first`, and again `interval` after each time it is done. When nobody typed anything for
    /// two minutes, a third as often, unless it `isSteady`: a sign of life that others wait for.
    private func repeated(
        _ first: Millis, isSteady: Bool = false, _ interval: @escaping () -> Millis,
        _ attempt: @escaping (_ done: @escaping () -> Void) -> Void
    ) {
        after(first) { [unowned self] in
            guard phase == .playing, !isResyncing else {
                if ending == nil { repeated(1_000, isSteady: isSteady, interval, attempt) }
                return
            }
            attempt { [unowned self] in
                let isIdle = now.mono - lastInput > Session.idleMillis && work == nil && configuration.isBackground
                repeated(interval() * (isIdle && !isSteady ? 3 : 1), isSteady: isSteady, interval, attempt)
            }
        }
    }

    // MARK: my own signs of life

    var idleSince: Millis { correctedWall - (now.mono - lastInput) }

    func beat() {
        record.total.playSeconds = record.total.playSeconds.adding(max(0, now.mono - lastBeat) / 1_000)
        lastBeat += max(0, now.mono - lastBeat) / 1_000 * 1_000
        commit {}
        publishHere()
    }

    var activityNow: Activity { work?.activity ?? (mode == .solving ? .solving : .idle) }

    func publishHere(isGone: Bool = false, at place: Place? = nil) {
        beats += 1
        var occupant = Occupant(
            pid: pid, place: place ?? record.place, sid: sid, beats: beats, moves: moves,
            sessionStart: login.sessionTime, time: correctedWall, name: displayName, rank: record.rank,
            activity: activityNow, isGone: isGone, away: awayText, since: idleSince, lines: roomRing)
        occupant.power = power
        publish(keys.here(place ?? record.place, pid), occupant.bytes)
    }

    /// Adds a line to the ring of the room, which the next presence record carries.
    func ring(_ talk: Talk) {
        mySequence += 1
        roomRing.append(RingLine(seq: mySequence, time: correctedWall, talk: talk))
        if roomRing.count > RingLine.ringMax { roomRing.removeFirst() }
    }

    func ringEverywhere(_ talk: Talk) {
        mySequence += 1
        globalRing.append(RingLine(seq: mySequence, time: correctedWall, talk: talk))
        if globalRing.count > RingLine.ringMax { globalRing.removeFirst() }
        let value = JSON.object([
            ("v", .number(1)), ("sid", .string(sid)), ("name", .string(displayName)),
            ("ring", .array(globalRing.map(\.json))),
        ])
        publish(keys.global(pid), value.bytes)
    }

    // MARK: the room

    /// Reads who is here and what they say; what is heard is never part of an answer. Calls back with false when the
    /// store failed.
    func pollRoom(_ done: @escaping (_ isHeard: Bool) -> Void) {
        let place = record.place
        let isFirst = polledPlace != place
        let read = { [unowned self] in
            list(keys.room(place), limit: Session.occupantsMax) { [unowned self] pairs in
                guard let pairs, place == record.place else { return done(pairs != nil) }
                polledPlace = place
                let occupants = occupants(pairs, in: place)
                removeStale(occupants)
                resolve(occupants.map { ($0.pid, $0.name) }) { [unowned self] in
                    guard place == record.place else { return done(true) }
                    presence.see(
                        occupants, in: place, areAll: pairs.count < Session.occupantsMax, correctedWall: correctedWall)
                    let sources = occupants.map { RingSource(pid: $0.pid, sid: $0.sid, lines: $0.lines) }
                    detached { show(sources, board: "room", isFirst: isFirst) }
                    done(true)
                }
            }
        }
        if place == .fence { readFence(read) } else { read() }
    }

    private func occupants(_ pairs: [(key: String, value: [UInt8])], in place: Place) -> [Occupant] {
        var occupants: [Occupant] = []
        for (key, value) in pairs {
            guard let other = Keys.identifier(key, after: keys.room(place)), other != pid else { continue }
            guard let occupant = Occupant(place: place, pid: other, value: value) else {
                unreadableRecords += 1
                continue
            }
            occupants.append(occupant)
        }
        return occupants
    }

    /// Presence that nobody refreshed for an hour may be deleted by anybody; its owner's next beat would restore it.
    private func removeStale(_ occupants: [Occupant]) {
        guard let stale = occupants.first(where: { correctedWall - $0.time > Session.staleKeyMillis }) else { return }
        request(.delete(keys.here(stale.place, stale.pid))) { _ in }
    }

    func pollGlobal(_ done: @escaping () -> Void) {
        let isFirst = !polledGlobal
        list(keys.global) { [unowned self] pairs in
            guard let pairs else { return done() }
            polledGlobal = true
            var sources: [RingSource] = []
            var people: [(String, String)] = []
            for (key, value) in pairs {
                guard let other = Keys.identifier(key, after: keys.global), other != pid else { continue }
                guard let json = JSON.parse(value), json["v"]?.int == 1, let sid = json["sid"]?.text,
                    let name = json["name"]?.text
                else {
                    unreadableRecords += 1
                    continue
                }
                let source = RingSource(pid: other, sid: sid, lines: RingLine.ring(json["ring"]))
                guard hasNews(source, board: "global") else { continue }
                sources.append(source)
                people.append((other, name))
            }
            resolve(people) { [unowned self] in
                show(sources, board: "global", isFirst: isFirst)
                done()
            }
        }
    }

    // MARK: rings

    private func hasNews(_ source: RingSource, board: String) -> Bool {
        let mark = ringMarks[board + source.pid]
        return mark?.sid != source.sid || (source.lines.last?.seq ?? 0) > (mark?.seq ?? 0)
    }

    /// Shows the lines that are newer than what was shown of each sender, oldest first.
    private func show(_ sources: [RingSource], board: String, isFirst: Bool) {
        if ringMarks.count > 2 * PresenceBoard.entriesMax {
            ringMarks = ringMarks.filter { presence.entries[String($0.key.suffix(13))] != nil }
        }
        var fresh: [(pid: String, line: RingLine)] = []
        for source in sources where hasNews(source, board: board) {
            let mark = ringMarks[board + source.pid]
            let seen = mark?.sid == source.sid ? mark?.seq ?? 0 : 0
            ringMarks[board + source.pid] = (source.sid, source.lines.last?.seq ?? 0)
            let lines = source.lines.filter { $0.seq > seen && correctedWall - $0.time < Session.newsMillis }
            if isFirst {
                for line in lines { remember(line, of: source.pid) }
                continue
            }
            if seen > 0, source.lines.count == RingLine.ringMax, let first = lines.first, first.seq > seen + 1,
                board == "room"
            {
                emit(.missed(name: names[source.pid], count: first.seq - seen - 1))
            }
            fresh += lines.map { (source.pid, $0) }
        }
        fresh.sort { ($0.line.time, $0.pid, $0.line.seq) < ($1.line.time, $1.pid, $1.line.seq) }
        var index = 0
        while index < fresh.count {
            let (sender, line) = fresh[index]
            var same = 1
            while index + same < fresh.count, fresh[index + same].pid == sender,
                fresh[index + same].line.kind == line.kind, fresh[index + same].line.text == line.text
            {
                same += 1
            }
            index += same
            guard record.options.ignored[sender] == nil, let talk = line.talk else { continue }
            emit(.talk(name: names[sender], talk, isOwn: false))
            if talk == .coffee, board == "room" { roundArrived() }
            if same > 1 { emit(.repeated(name: names[sender], count: same)) }
            remember(line, of: sender)
        }
    }

    private func remember(_ line: RingLine, of sender: String) {
        guard record.options.ignored[sender] == nil, let talk = line.talk else { return }
        remember(.talk(name: names[sender], talk, isOwn: false), at: line.time - clockOffset)
    }

    func remember(_ event: Event, at time: Millis) {
        seenHistory.append((time, event))
        if seenHistory.count > Session.historyMax { seenHistory.removeFirst() }
    }

    static let historyMax = 200

    // MARK: tells

    func pollTells(_ done: @escaping () -> Void) {
        let prefix = keys.tells(to: pid)
        list(prefix) { [unowned self] pairs in
            guard let pairs else { return done() }
            var fresh: [(pid: String, line: RingLine)] = []
            var people: [(String, String)] = []
            for (key, value) in pairs {
                guard let sender = Keys.identifier(key, after: prefix), sender != pid else { continue }
                guard let json = JSON.parse(value), json["v"]?.int == 1, let name = json["name"]?.text else {
                    unreadableRecords += 1
                    continue
                }
                let lines = RingLine.ring(json["ring"]).filter { $0.seq > record.options.mark(sender) }
                guard !lines.isEmpty else { continue }
                people.append((sender, name))
                fresh += lines.map { (sender, $0) }
            }
            guard !fresh.isEmpty else { return done() }
            fresh.sort { ($0.line.time, $0.pid, $0.line.seq) < ($1.line.time, $1.pid, $1.line.seq) }
            resolve(people) { [unowned self] in
                for (sender, line) in fresh where line.seq > record.options.mark(sender) {
                    record.options.read(sender, upTo: line.seq)
                    guard record.options.ignored[sender] == nil, !line.text.isEmpty else { continue }
                    let age = max(0, (correctedWall - line.time) / 1_000)
                    let event = Event.told(from: names[sender], line.text, ageSeconds: age)
                    emit(event)
                    remember(event, at: line.time - clockOffset)
                    lastTeller = sender
                    hint("reply", "`reply TEXT` answers.")
                }
                done()
            }
        }
    }

    // MARK: my own keys: taken over, or somebody else in my slot

    func pollOwn(_ done: @escaping () -> Void) {
        readSession { [unowned self] isMine in
            guard isMine else { return done() }
            readOwnSlots(done)
        }
    }

    private func readSession(_ then: @escaping (Bool) -> Void) {
        get(keys.session(pid)) { [unowned self] reply in
            guard let found = reply else { return then(true) }
            let json = found.flatMap { JSON.parse($0) }
            guard let other = json?["sid"]?.text, other != sid else { return then(true) }
            // An older session here means a replica that has not heard of this one yet.
            guard (json?["t"]?.amount ?? 0, other) > (login.sessionTime, sid) else {
                republishSession()
                return then(true)
            }
            takenOver(otherSlot: json?["slot"]?.amount ?? 0)
            then(false)
        }
    }

    /// A newer login has the character. This session writes nothing new; it ends once what it wrote is safe, which
    /// takes a moment when a partition let both sessions use one slot: then its additions must move out of it first.
    private func takenOver(otherSlot: Int64) {
        guard phase == .playing else { return }
        phase = .leaving
        prompt = .none
        queue.removeAll()
        if let timer = work?.timer { cancel(timer) }
        detached {
            emit(.warning("\(name) has logged in elsewhere; this terminal is done. Everything is saved."))
            guard otherSlot == Int64(slot) else { return whenSettled { [unowned self] in end(.refused) } }
            vacate(until: now.mono + Session.vacateMillis)
        }
    }

    private func vacate(until deadline: Millis) {
        let old = slot
        readOwnSlots { [unowned self] in
            if slot != old || now.mono >= deadline { return whenSettled { [unowned self] in end(.refused) } }
            after(Session.retryMillis) { [unowned self] in vacate(until: deadline) }
        }
    }

    static let vacateMillis: Millis = 15_000

    private func readOwnSlots(_ done: @escaping () -> Void) {
        list(keys.slots(pid)) { [unowned self] pairs in
            guard let pairs else { return done() }
            let seen = CharacterSlots(pairs, prefix: keys.slots(pid))
            for (index, other) in seen.records where index != slot {
                // Never backwards: after a change of server the replica may lag behind what this session saw.
                if let known = slots.records[index], known.sid == other.sid, known.seq > other.seq { continue }
                slots.records[index] = other
            }
            if slots.rank > record.rank { record.rank = slots.rank }
            if let other = seen.records[slot], other.sid != sid, other.sid != login.previousSid,
                other.time > login.previousTime
            {
                moveOut(seeing: other)
            }
            done()
        }
    }

    /// Another session sits in this slot: a partition let both take it. What this session added moves to another slot,
    /// and the record says so, so that nothing counts twice whichever of the two writes wins the old slot.
    private func moveOut(seeing other: SlotRecord) {
        let old = slot
        var moving = record
        slots.records[old] = other
        guard let free = freeSlot() else { return }
        let previous = slots.records[free]
        let added = record.total.minus(record.base)
        moving.base = slots.counted(free)
        moving.total = moving.base
        moving.total.add(added)
        moving.seq = previous?.seq ?? 0
        moving.moved = (previous?.moved ?? [:]).merging(record.moved) { $1 }
        moving.moved[old] = sid
        moving.moved[free] = nil
        login.previousSid = previous?.sid ?? ""
        login.previousTime = previous?.time ?? 0
        slot = free
        record = moving
        outbox[keys.slot(pid, old)]?.isChangedSince = false
        let waiting = outbox.removeValue(forKey: keys.slot(pid, old))?.acknowledged ?? []
        commit { for acknowledge in waiting { acknowledge() } }
        if phase == .playing { republishSession() }
        for rank in Rank.working {
            for (instance, amount) in other.total.work[rank.rawValue].sorted(by: { $0.key < $1.key }) where instance > 0
            {
                publish(keys.share(rank, instance, pid, old), Session.shareBytes(amount))
            }
        }
        repairProjections()
    }

    // MARK: after a pause

    /// The process was stopped for a while: before anything is written, look whether this session still is the one.
    func resynchronize() {
        guard !isResyncing else { return }
        isResyncing = true
        lastBeat = now.mono
        detached {
            untilItWorks { [unowned self] done in
                get(keys.session(pid)) { [unowned self] reply in
                    guard let found = reply else { return done(false) }
                    done(true)
                    let json = found.flatMap { JSON.parse($0) }
                    let isTaken =
                        json?["sid"]?.text != nil && json?["sid"]?.text != sid
                        && (json?["t"]?.amount ?? 0) > login.sessionTime
                    // The slot before the outbox: what waits there must not overwrite a session that took the slot.
                    readOwnSlots { [unowned self] in
                        isResyncing = false
                        resumeOutbox()
                        if isTaken { takenOver(otherSlot: json?["slot"]?.amount ?? 0) }
                    }
                }
            }
        }
    }
}

struct RingSource {
    var pid: String
    var sid: String
    var lines: [RingLine]
}
