// What players say to each other, where they walk and what they paint. Called by the session.

import KVBase

extension GameSession {
    // MARK: speaking

    /// The text of a command that says something, or nil after saying what is wrong with it.
    private func spoken(_ text: String, _ command: GameCommand) -> SafeText? {
        let safe = Safe.text(text)
        guard !safe.isEmpty else {
            fail("\(command.rawValue.capitalizedFirst) what?", "type `\(command.example)`")
            return nil
        }
        guard Safe.text(text, columns: Safe.columnsMax + 1) == safe else {
            fail("That is longer than \(Safe.columnsMax) characters", "say it in two lines")
            return nil
        }
        return safe
    }

    private func mayTalk() -> Bool {
        guard let wait = limits.take(.say, now: now.steady) else { return true }
        fail("You are talking too fast", "wait \((wait + 999) / 1_000) s")
        return false
    }

    func say(_ text: String) {
        guard let safe = spoken(text, .say), mayTalk() else { return }
        speak(.say(safe))
    }

    func emote(_ text: String) {
        guard let safe = spoken(text, .emote), mayTalk() else { return }
        speak(.emote(safe))
    }

    private func speak(_ talk: Talk) {
        ring(talk)
        publishHere()
        let event = Event.talk(name: displayName, talk, isOwn: true)
        emit(event)
        remember(event, at: now.wall)
        if presence.present.allSatisfy({ $0.place != record.place }) {
            hint("alone", "Nobody else is here. `who` shows who is online, `shout` reaches the whole building.")
        }
    }

    func shout(_ text: String) {
        guard let safe = spoken(text, .shout) else { return }
        if let wait = limits.take(.shout, now: now.steady) {
            return fail("Your voice is not back yet", "wait \((wait + 999) / 1_000) s")
        }
        ringEverywhere(.shout(safe))
        let event = Event.talk(name: displayName, .shout(safe), isOwn: true)
        emit(event)
        remember(event, at: now.wall)
    }

    func tellCommand(_ rest: String) {
        let word = String(rest.prefix { !$0.isWhitespace })
        let text = GameCommand.trimmed(String(rest.dropFirst(word.count)))
        guard !word.isEmpty, !text.isEmpty else { return fail("Tell whom what?", "type `\(GameCommand.tell.example)`") }
        guard let safe = spoken(text, .tell) else { return }
        findPlayer(word) { [unowned self] receiver, shown in sendTell(to: receiver, shown, safe) }
    }

    func reply(_ text: String) {
        guard let receiver = history.lastTeller else {
            return fail("Nobody told you anything yet", "type `\(GameCommand.tell.example)`")
        }
        guard let safe = spoken(text, .reply) else { return }
        sendTell(to: receiver, names[receiver], safe)
    }

    private func sendTell(to receiver: String, _ shown: String, _ text: SafeText) {
        guard receiver != pid else { return fail("You already know", "tell somebody else") }
        guard record.options.ignored[receiver] == nil else {
            return fail("You are ignoring \(shown)", "`unignore \(shown)` first, to hear the answer")
        }
        guard mayTalk() else { return }
        begin()
        let key = keys.tell(to: receiver, from: pid)
        get(key) { [unowned self] reply in
            guard let found = reply else {
                storeFailed()
                return finish()
            }
            var lines = RingLine.ring(found.flatMap { JSON.parse($0) }?["ring"])
            // Numbers are times, so that a session on a replica that lags still counts up.
            let seq = max(correctedWall, (lines.last?.seq ?? 0) + 1)
            lines.append(RingLine(seq: seq, time: correctedWall, kind: "t", text: text))
            let value = JSON.object([
                ("v", .number(1)), ("name", .string(displayName)),
                ("ring", .array(lines.suffix(RingLine.ringMax).map(\.json))),
            ])
            publish(key, value.bytes)
            everybody { [unowned self] in
                let isOffline = presence.state(receiver) == .hidden
                let event = Event.toldOwn(to: shown, text, isOffline: isOffline)
                emit(event)
                remember(event, at: now.wall)
                finish()
            }
        }
    }

    // MARK: walking

    func move(_ text: String) {
        guard !text.isEmpty else { return fail("Move where?", "places: " + GameSession.placeList) }
        guard let place = Place(words: text) else {
            return fail("There is no place \"\(clip(text))\"", "places: " + GameSession.placeList)
        }
        guard place != record.place else {
            return fail("You are already \(place.preposition) \(place.phrase)", "`look` shows it")
        }
        if mode == .solving { return fail("You are at the whiteboard", "`resign` first, then `move \(place.key)`") }
        if limits.take(.move, now: now.steady) != nil { return fail("You are out of breath", "wait a second") }
        let old = record.place
        signs.move()
        ring(.leave(to: place))
        publishHere(isGone: true)
        after(10_000) { [unowned self] in
            if record.place != old { request(.delete(keys.here(old, pid))) { _ in } }
        }
        sheet.walk(to: place)
        rings.leaveRoom()
        signs.move()
        ring(.arrive(from: old))
        publishHere()
        begin()
        commit { [unowned self] in
            look("")
            finish()
        }
    }

    static let placeList =
        Place.allCases.filter { $0 == .fence || $0 == .bridge }.map(\.key).joined(separator: ", ") + ", 1 to 9"

    // MARK: the Fence

    func paint(_ text: String) {
        guard record.place == .fence else { return fail("There is nothing to paint here", "`move fence` first") }
        guard let safe = spoken(text, .paint) else { return }
        if let wait = limits.take(.paint, now: now.steady) {
            return fail("Your brush is still wet", "wait \(Show.duration((wait + 999) / 1_000))")
        }
        let value = JSON.object([
            ("v", .number(1)), ("text", .string(safe.string)), ("pid", .string(pid)), ("name", .string(displayName)),
            ("t", .number(correctedWall)),
        ])
        begin()
        publish(keys.fence, value.bytes) { [unowned self] in
            world.saw(safe, by: displayName)
            ring(.paint(safe))
            publishHere()
            let event = Event.talk(name: displayName, .paint(safe), isOwn: true)
            emit(event)
            remember(event, at: now.wall)
            finish()
        }
    }

    func readFence(_ then: @escaping () -> Void) {
        get(keys.fence) { [unowned self] reply in
            guard let found = reply, let json = found.flatMap({ JSON.parse($0) }), json["v"]?.int == 1,
                let text = json["text"]?.text, let painter = json["pid"]?.text, Names.isIdentifier(painter)
            else { return then() }
            resolve([(painter, json["name"]?.text ?? "")]) { [unowned self] in
                world.saw(Safe.text(text), by: names[painter])
                then()
            }
        }
    }

    // MARK: how much to hear

    func ignore(_ text: String) {
        guard !text.isEmpty else {
            let names = record.options.ignored.values.sorted()
            return emit(.notice(names.isEmpty ? "You ignore nobody." : "You ignore \(Show.list(names))."))
        }
        findPlayer(text) { [unowned self] other, shown in
            guard other != pid else { return fail("You cannot ignore yourself", "many have tried") }
            guard record.options.ignored.count < PlayerSettings.ignoredMax else {
                return fail("You ignore \(PlayerSettings.ignoredMax) people already", "`unignore` one of them first")
            }
            sheet.ignore(other, Directory.unmarked(shown))
            commit {}
            emit(.notice("You no longer hear \(shown)."))
        }
    }

    func unignore(_ text: String) {
        let wanted = text.lowercased()
        guard let found = record.options.ignored.first(where: { $0.value.lowercased() == wanted }) else {
            return fail(
                text.isEmpty ? "Unignore whom?" : "You do not ignore \"\(clip(text))\"",
                "`ignore` lists whom you ignore")
        }
        sheet.unignore(found.key)
        commit {}
        emit(.notice("You hear \(found.value) again."))
    }

    func away(_ text: String) {
        if signs.away != nil, text.isEmpty {
            signs.setAway(nil)
            emit(.notice("Welcome back."))
        } else {
            let note = Safe.text(text.isEmpty ? "away" : text, columns: 60)
            signs.setAway(note)
            emit(.notice("Others see you as away: \(note.string). `away` ends it."))
        }
        publishHere()
    }

    func history(_ text: String) {
        let most = TalkHistory.eventsMax
        guard text.isEmpty || Int(text).map({ (1...most).contains($0) }) == true else {
            return fail("\"\(clip(text))\" is not a number from 1 to \(most)", "type `history 20`")
        }
        emit(.history(history.last(Int(text) ?? 20)))
    }
}

extension String {
    var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
