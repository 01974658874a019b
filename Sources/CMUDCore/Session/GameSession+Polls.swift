// What a session looks at again and again: its room, its tells, the building, its own records
// (docs/cmud/design.md 7). Called by the session.

import KVBase

extension GameSession {
    static let occupantsMax = 400
    static let staleKeyMillis: Millis = 3_600_000
    /// The claim is looked at once others had time to object, and again when most replicas have heard of it.
    static let claimChecks = [claimSettleMillis, 20_000]

    func startPolling() {
        for poll in Poll.allCases { schedule(poll, after: poll.times.first) }
        for delay in GameSession.claimChecks { after(delay) { [unowned self] in checkClaim() } }
        pollRoom { _ in }
    }

    private func schedule(_ poll: Poll, after millis: Millis) {
        after(millis) { [unowned self] in
            guard phase == .playing, !stage.isResyncing else {
                if ending == nil { schedule(poll, after: GameSession.retryMillis) }
                return
            }
            run(poll) { [unowned self] in
                let isIdle =
                    now.steady - signs.lastInput > Poll.idleMillis && work == nil && configuration.isBackground
                schedule(poll, after: poll.interval(people: presence.count, isIdle: isIdle))
            }
        }
    }

    private func run(_ poll: Poll, _ done: @escaping () -> Void) {
        switch poll {
        case .room: pollRoom { _ in done() }
        case .tells: pollTells(done)
        case .building: pollGlobal(done)
        case .own: pollOwn(done)
        case .gifts: readGifts(done)
        case .problem: pollProblem(done)
        case .beat:
            beat()
            done()
        case .score:
            publishScore()
            done()
        case .claim:
            checkClaim()
            done()
        }
    }

    // MARK: signs of life

    var idleSince: Millis { correctedWall - (now.steady - signs.lastInput) }

    func beat() {
        sheet.play(signs.takeSeconds(now: now.steady))
        commit {}
        publishHere()
    }

    var activityNow: Activity { work?.activity ?? (mode == .solving ? .solving : .idle) }

    func publishHere(isGone: Bool = false, at place: Place? = nil) {
        signs.beat()
        var occupant = Occupant(
            pid: pid, place: place ?? record.place, sid: sid, beats: signs.beats, moves: signs.moves,
            sessionStart: player.loginTime, time: correctedWall, name: displayName, rank: record.rank,
            activity: activityNow, isGone: isGone, away: signs.away, since: idleSince, lines: rings.roomLines)
        occupant.power = power
        publish(keys.here(place ?? record.place, pid), occupant.bytes)
    }

    /// Adds a line to the ring of the room, which the next presence record carries.
    func ring(_ talk: Talk) { rings.say(talk, at: correctedWall) }

    func ringEverywhere(_ talk: Talk) {
        rings.shout(talk, at: correctedWall)
        let value = JSON.object([
            ("v", .number(1)), ("sid", .string(sid)), ("name", .string(displayName)),
            ("ring", .array(rings.buildingLines.map(\.json))),
        ])
        publish(keys.global(pid), value.bytes)
    }

    // MARK: the room

    /// Reads who is here and what they say; what is heard is never part of an answer. Calls back with false when the
    /// store failed.
    func pollRoom(_ done: @escaping (_ isHeard: Bool) -> Void) {
        let place = record.place
        let isFirst = reader.isNew(place)
        let read = { [unowned self] in
            list(keys.room(place), limit: GameSession.occupantsMax) { [unowned self] pairs in
                guard let pairs, place == record.place else { return done(pairs != nil) }
                reader.listened(in: place)
                let occupants = occupants(pairs, in: place)
                removeStale(occupants)
                resolve(occupants.map { ($0.pid, $0.name) }) { [unowned self] in
                    guard place == record.place else { return done(true) }
                    presence.see(
                        occupants, in: place, areAll: pairs.count < GameSession.occupantsMax,
                        correctedWall: correctedWall)
                    let sources = occupants.map { RingSource(pid: $0.pid, sid: $0.sid, lines: $0.lines) }
                    detached { show(sources, .room, isFirst: isFirst) }
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
                world.noteUnreadable()
                continue
            }
            occupants.append(occupant)
        }
        return occupants
    }

    /// Presence that nobody refreshed for an hour may be deleted by anybody; its owner's next beat would restore it.
    private func removeStale(_ occupants: [Occupant]) {
        guard let stale = occupants.first(where: { correctedWall - $0.time > GameSession.staleKeyMillis }) else {
            return
        }
        request(.delete(keys.here(stale.place, stale.pid))) { _ in }
    }

    func pollGlobal(_ done: @escaping () -> Void) {
        let isFirst = reader.isBuildingNew
        list(keys.global) { [unowned self] pairs in
            guard let pairs else { return done() }
            reader.listenedToBuilding()
            var sources: [RingSource] = []
            var people: [(String, String)] = []
            for (key, value) in pairs {
                guard let other = Keys.identifier(key, after: keys.global), other != pid else { continue }
                guard let json = JSON.parse(value), json["v"]?.int == 1, let sid = json["sid"]?.text,
                    let name = json["name"]?.text
                else {
                    world.noteUnreadable()
                    continue
                }
                let source = RingSource(pid: other, sid: sid, lines: RingLine.ring(json["ring"]))
                guard reader.hasNews(source, .building) else { continue }
                sources.append(source)
                people.append((other, name))
            }
            resolve(people) { [unowned self] in
                show(sources, .building, isFirst: isFirst)
                done()
            }
        }
    }

    // MARK: rings

    /// Shows the lines that are newer than what was shown of each sender, oldest first.
    private func show(_ sources: [RingSource], _ board: RingReader.Board, isFirst: Bool) {
        let (fresh, missed) = reader.read(sources, board, corrected: correctedWall, isKnown: presence.isKnown)
        // What was said before anybody listened is history.
        if isFirst {
            for heard in fresh { remember(heard.line, of: heard.pid) }
            return
        }
        if board == .room {
            for (sender, count) in missed { emit(.missed(name: names[sender], count: count)) }
        }
        for heard in RingReader.inOrder(fresh) {
            guard record.options.ignored[heard.pid] == nil, let talk = heard.line.talk else { continue }
            emit(.talk(name: names[heard.pid], talk, isOwn: false))
            if talk == .coffee, board == .room { roundArrived() }
            if heard.count > 1 { emit(.repeated(name: names[heard.pid], count: heard.count)) }
            remember(heard.line, of: heard.pid)
        }
    }

    private func remember(_ line: RingLine, of sender: String) {
        guard record.options.ignored[sender] == nil, let talk = line.talk else { return }
        remember(.talk(name: names[sender], talk, isOwn: false), at: clock.ownWall(line.time))
    }

    func remember(_ event: Event, at time: Millis) { history.remember(event, at: time) }

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
                    world.noteUnreadable()
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
                    sheet.read(sender, upTo: line.seq)
                    guard record.options.ignored[sender] == nil, !line.text.isEmpty else { continue }
                    let age = max(0, (correctedWall - line.time) / 1_000)
                    let event = Event.told(from: names[sender], line.text, ageSeconds: age)
                    emit(event)
                    remember(event, at: clock.ownWall(line.time))
                    history.noteTeller(sender)
                    hint("reply", "`reply TEXT` answers.")
                }
                done()
            }
        }
    }

    // MARK: own keys: taken over, or somebody else in the slot

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
            guard (json?["t"]?.amount ?? 0, other) > (player.loginTime, sid) else {
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
        stage.enter(.leaving)
        lines.show(.none)
        lines.clear()
        if let alarm = work?.undecided { alarms.cancel(alarm) }
        detached {
            emit(.warning("\(name) has logged in elsewhere; this terminal is done. Everything is saved."))
            guard otherSlot == Int64(slot) else { return whenSettled { [unowned self] in end(.refused) } }
            vacate(until: now.steady + GameSession.vacateMillis)
        }
    }

    private func vacate(until deadline: Millis) {
        let old = slot
        readOwnSlots { [unowned self] in
            if slot != old || now.steady >= deadline { return whenSettled { [unowned self] in end(.refused) } }
            after(GameSession.retryMillis) { [unowned self] in vacate(until: deadline) }
        }
    }

    static let vacateMillis: Millis = 15_000

    private func readOwnSlots(_ done: @escaping () -> Void) {
        list(keys.slots(pid)) { [unowned self] pairs in
            guard let pairs else { return done() }
            let seen = CharacterSlots(pairs, prefix: keys.slots(pid))
            sheet.see(seen)
            if let other = sheet.intruder(in: seen) { moveOut(seeing: other) }
            done()
        }
    }

    /// Another session sits in this slot: a partition let both take it.
    private func moveOut(seeing other: SlotRecord) {
        guard let old = sheet.moveOut(seeing: other, corrected: correctedWall, using: &random) else { return }
        let waiting = puts.abandon(keys.slot(pid, old))
        commit { for acknowledge in waiting { acknowledge() } }
        if phase == .playing { republishSession() }
        for rank in Rank.working {
            for (instance, amount) in other.total.work[rank.rawValue].sorted(by: { $0.key < $1.key }) where instance > 0
            {
                publish(keys.share(rank, instance, pid, old), GameSession.shareBytes(amount))
            }
        }
        repairProjections()
    }

    // MARK: after a pause

    /// The process was stopped for a while. Before it writes anything it looks whether it still has the character.
    func resynchronize() {
        guard stage.beginResync() else { return }
        signs.startCounting(now: now.steady)
        detached {
            untilItWorks { [unowned self] done in
                get(keys.session(pid)) { [unowned self] reply in
                    guard let found = reply else { return done(false) }
                    done(true)
                    let json = found.flatMap { JSON.parse($0) }
                    let isTaken =
                        json?["sid"]?.text != nil && json?["sid"]?.text != sid
                        && (json?["t"]?.amount ?? 0) > player.loginTime
                    // The slot first: what waits to be written must not overwrite a session that took it.
                    readOwnSlots { [unowned self] in
                        stage.endResync()
                        sendWaiting()
                        if isTaken { takenOver(otherSlot: json?["slot"]?.amount ?? 0) }
                    }
                }
            }
        }
    }
}
