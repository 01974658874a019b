// Questions about people and places: look, who, where, map, stats, scores. Called by the session.

import KVBase

extension GameSession {
    static let namesResolvedMax = 200
    /// Of those who left, `map all` shows so many.
    static let goneMax = 50

    // MARK: names

    /// Learns the shown names of players from their claims. A claimed name that is not theirs gets a mark, none at all
    /// a neutral one. Calls back when all are known, at once when they were.
    func resolve(_ people: [(pid: String, claimed: String)], _ then: @escaping () -> Void) {
        var unknown: [String: String] = [:]
        for (other, claimed) in people where other != pid {
            let bare = Directory.unmarked(claimed)
            // A name that changed is looked up again at once.
            if names.isKnown(other, now: now.steady), bare.isEmpty || Directory.unmarked(names[other]) == bare {
                continue
            }
            if !bare.isEmpty || unknown[other] == nil { unknown[other] = bare }
        }
        let all = unknown.keys.sorted().prefix(GameSession.namesResolvedMax)
        guard !all.isEmpty else { return then() }
        var waiting = all.count
        for other in all {
            lookUp(other, unknown[other] ?? "") {
                waiting -= 1
                if waiting == 0 { then() }
            }
        }
    }

    private func lookUp(_ other: String, _ claimed: String, _ done: @escaping () -> Void) {
        guard Names.fault(claimed) == nil else {
            // Somebody met only by identifier: the score board knows the name to look for.
            return get(keys.score(other)) { [unowned self] reply in
                let name = reply.flatMap { $0 }.flatMap { JSON.parse($0) }?["name"]?.text ?? ""
                guard Names.fault(Directory.unmarked(name)) == nil else { return done() }
                lookUp(other, Directory.unmarked(name), done)
            }
        }
        let canonical = Names.canonical(claimed)
        list(keys.claims(canonical), limit: 50) { [unowned self] pairs in
            defer { done() }
            guard let pairs else { return }
            let claims = Claim.all(pairs, canonical: canonical, prefix: keys.claims(canonical))
            if let owner = claims.first, owner.pid == other {
                names.learn(other, owner.name, now: now.steady)
            } else if let claim = claims.first(where: { $0.pid == other }) {
                names.learn(other, Directory.marked(claim.name, other), now: now.steady)
            } else {
                let stranger = Directory.marked("someone", other)
                names.learn(other, stranger, now: now.steady, for: Directory.unknownMillis)
            }
        }
    }

    /// Finds one player by name or by a beginning of it; says what is wrong otherwise.
    func findPlayer(_ word: String, _ found: @escaping (_ pid: String, _ shown: String) -> Void) {
        if word.lowercased() == "me" { return found(pid, displayName) }
        let bare = Directory.unmarked(word)
        guard bare.utf8.count <= Names.lengthMax, bare.utf8.allSatisfy({ $0 < 0x80 }),
            Keys.isComponent(bare.lowercased())
        else {
            return fail("Nobody is called \"\(clip(word))\"", "`who` lists who is online")
        }
        begin()
        list(keys.namesBeginning(bare.lowercased()), limit: 200) { [unowned self] pairs in
            defer { finish() }
            guard let pairs else { return storeFailed() }
            var owners: [String: [Claim]] = [:]
            for (key, value) in pairs {
                let parts = key.dropFirst(keys.root.count).split(separator: "/")
                guard parts.count == 3 else { continue }
                let canonical = String(parts[1])
                if let claim = Claim(key: key, value: value, canonical: canonical, prefix: keys.claims(canonical)) {
                    owners[canonical, default: []].append(claim)
                }
            }
            let sorted = owners.mapValues { $0.sorted { ($0.time, $0.pid) < ($1.time, $1.pid) } }
            if word != bare,
                let claim = sorted[bare.lowercased()]?.first(where: {
                    Directory.marked($0.name, $0.pid).lowercased() == word.lowercased()
                })
            {
                return found(claim.pid, Directory.marked(claim.name, claim.pid))
            }
            let exact = sorted[bare.lowercased()]?.first
            let candidates = exact.map { [$0] } ?? sorted.keys.sorted().compactMap { sorted[$0]?.first }
            guard let only = candidates.first else {
                return fail("Nobody is called \"\(clip(word))\"", "`who` lists who is online")
            }
            guard candidates.count == 1 else {
                let choices = candidates.prefix(8).map(\.name)
                return fail("\"\(clip(word))\" could be \(Show.list(choices))", "type more of the name")
            }
            names.learn(only.pid, only.name, now: now.steady)
            found(only.pid, only.name)
        }
    }

    /// Reads the presence of the whole building.
    func everybody(_ then: @escaping () -> Void) {
        list(keys.everywhere, limit: GameSession.occupantsMax) { [unowned self] pairs in
            guard let pairs else { return then() }
            var occupants: [Occupant] = []
            for (key, value) in pairs {
                let parts = key.dropFirst(keys.root.count).split(separator: "/")
                guard parts.count == 3, let place = Place(key: String(parts[1])), Names.isIdentifier(parts[2]),
                    String(parts[2]) != pid
                else { continue }
                guard let occupant = Occupant(place: place, pid: String(parts[2]), value: value) else {
                    world.noteUnreadable()
                    continue
                }
                occupants.append(occupant)
            }
            presence.see(
                occupants, in: nil, areAll: pairs.count < GameSession.occupantsMax, correctedWall: correctedWall)
            resolve(presence.present.map { ($0.pid, $0.name) }, then)
        }
    }

    // MARK: look

    func look(_ text: String) {
        guard text.isEmpty else { return lookAt(text) }
        begin()
        // What was polled a moment ago may miss who came since, and after login nothing was polled yet.
        pollRoom { [unowned self] isHeard in
            showRoom(isHeard: isHeard)
            finish()
        }
    }

    private func showRoom(isHeard: Bool) {
        let others = presence.present.filter { $0.place == record.place }
        let people = others.prefix(GameSession.namesResolvedMax).map { occupant in
            RoomPerson(
                name: names[occupant.pid], rank: occupant.rank, activity: occupant.activity, away: occupant.away,
                isLinkLost: presence.state(occupant.pid) == .linkLost)
        }
        var view = RoomView(place: record.place, isBrief: record.options.brief, people: Array(people))
        view.hiddenPeople = others.count - people.count
        view.isHeard = isHeard
        view.terms = balance.terms(record.place).text
        if record.place == .fence { view.paint = world.painting }
        emit(.room(view))
        if record.place == .fence { hint("paint", "`paint TEXT` gives the Fence a new coat.") }
        if balance.terms(record.place).hasLessons, let lesson = lessonAdvice { hint("hall", lesson) }
        if balance.terms(record.place).hasCoffee {
            let price = Show.coins(balance.cupPrice(power: power))
            hint("cafe", "A round of `coffee` costs \(price) now: \(Balance.cupTries) quicker tries.", isRepeated: true)
        }
    }

    private func lookAt(_ text: String) {
        findPlayer(text) { [unowned self] other, shown in
            if other == pid { return stats("") }
            begin()
            everybody { [unowned self] in
                defer { finish() }
                guard presence.state(other) != .hidden, let occupant = presence.occupant(other),
                    occupant.place == record.place
                else { return fail("\(shown) is not here", "`where \(shown)` tells where") }
                emit(
                    .person(
                        RoomPerson(
                            name: shown, rank: occupant.rank, activity: occupant.activity, away: occupant.away,
                            isLinkLost: presence.state(other) == .linkLost),
                        idleSeconds: max(0, (correctedWall - occupant.since) / 1_000),
                        onSeconds: max(0, (correctedWall - occupant.sessionStart) / 1_000)))
            }
        }
    }

    // MARK: who, where, map

    private func rows() -> [WhoRow] {
        let mine = WhoRow(
            name: displayName, rank: record.rank, place: record.place, activity: activityNow, idleSeconds: 0,
            away: signs.away, isSelf: true)
        return [mine]
            + presence.present.map { occupant in
                WhoRow(
                    name: names[occupant.pid], rank: occupant.rank, place: occupant.place, activity: occupant.activity,
                    idleSeconds: max(0, (correctedWall - occupant.since) / 1_000), away: occupant.away,
                    isLinkLost: presence.state(occupant.pid) == .linkLost)
            }
    }

    func who() {
        begin()
        everybody { [unowned self] in
            emit(.who(rows().sorted { ($1.rank, $0.name) < ($0.rank, $1.name) }))
            finish()
        }
    }

    func whereabouts(_ text: String) {
        guard !text.isEmpty else {
            begin()
            return everybody { [unowned self] in
                emit(.whereAbouts(rows().sorted { $0.name < $1.name }))
                finish()
            }
        }
        findPlayer(text) { [unowned self] other, shown in
            begin()
            everybody { [unowned self] in
                defer { finish() }
                if other == pid { return emit(.whereAbouts(rows().filter(\.isSelf))) }
                guard presence.state(other) != .hidden else {
                    return emit(.notice("\(shown) is not online. `tell \(shown) TEXT` leaves a word."))
                }
                emit(.whereAbouts(rows().filter { $0.name == names[other] }))
            }
        }
    }

    func map(_ text: String) {
        let wantsAll = text.lowercased() == "all"
        guard text.isEmpty || wantsAll else { return fail("The map shows people or `all`", "type `map` or `map all`") }
        begin()
        everybody { [unowned self] in
            let rows = rows()
            var map = Place.allCases.map { place in
                MapRow(
                    place: place, isHere: place == record.place, names: rows.filter { $0.place == place }.map(\.name),
                    tag: balance.terms(place).tag)
            }
            guard wantsAll else {
                emit(.map(map))
                return finish()
            }
            let gone = presence.gone.prefix(GameSession.goneMax)
            resolve(gone.map { ($0.pid, $0.name) }) { [unowned self] in
                for occupant in gone {
                    guard let index = map.firstIndex(where: { $0.place == occupant.place }) else { continue }
                    let seconds = max(0, (correctedWall - occupant.time) / 1_000)
                    map[index].lastSeen.append((names[occupant.pid], seconds))
                }
                emit(.map(map))
                finish()
            }
        }
    }

    // MARK: stats

    func stats(_ text: String) {
        guard text.isEmpty else {
            return findPlayer(text) { [unowned self] other, shown in
                if other == pid { return stats("") }
                begin()
                list(keys.slots(other)) { [unowned self] pairs in
                    guard let pairs else {
                        storeFailed()
                        return finish()
                    }
                    let records = CharacterSlots(pairs, prefix: keys.slots(other))
                    everybody { [unowned self] in
                        emit(.stats(view(of: records, other, shown)))
                        finish()
                    }
                }
            }
        }
        let total = total
        emit(
            .stats(
                StatsView(
                    name: displayName, rank: record.rank, isSelf: true, coins: coins, power: total.power,
                    hardware: hardware(total),
                    place: record.place, playSeconds: total.playSeconds, share: total.work(record.rank),
                    size: balance.size(record.rank), activity: activityNow, idleSeconds: nil, goal: advice,
                    lessons: total.lessons, insight: total.insightLeft, cupLeft: total.cupLeft)))
    }

    private func view(of records: CharacterSlots, _ other: String, _ shown: String) -> StatsView {
        let total = records.total
        let isOnline = presence.state(other) != .hidden
        let occupant = presence.occupant(other)
        return StatsView(
            name: shown, rank: records.rank, isSelf: false, coins: nil, power: total.power, hardware: hardware(total),
            place: isOnline ? occupant?.place ?? records.place : records.place, playSeconds: total.playSeconds,
            share: total.work(records.rank), size: balance.size(records.rank),
            activity: isOnline ? occupant?.activity : nil,
            idleSeconds: isOnline ? occupant.map { max(0, (correctedWall - $0.since) / 1_000) } : nil, goal: nil,
            lessons: total.lessons)
    }

    private func hardware(_ total: Ledger) -> [InventoryRow] {
        Item.allCases.filter { total.owned($0) > 0 }.map { InventoryRow(item: $0, count: total.owned($0)) }
    }
}
