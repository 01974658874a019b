// From a name to a character in the world: claims, passwords, slots (docs/cmud/design.md 5, rules R7 and
// R8). Called by the session.

import KVBase

/// One claim on a name. The least (time, pid) owns it.
struct Claim: Equatable {
    var pid: String
    var name: String
    var time: Millis

    init(pid: String, name: String, time: Millis) { (self.pid, self.name, self.time) = (pid, name, time) }

    /// Nil unless the value is a claim on the name whose key it stands at.
    init?(key: String, value: [UInt8], canonical: String, prefix: String) {
        guard let pid = Keys.identifier(key, after: prefix), let json = JSON.parse(value), json["v"]?.int == 1,
            let name = json["name"]?.text, Names.fault(name) == nil, Names.canonical(name) == canonical
        else { return nil }
        self.init(pid: pid, name: name, time: json["t"]?.amount ?? 0)
    }

    var bytes: [UInt8] { JSON.object([("v", .number(1)), ("name", .string(name)), ("t", .number(time))]).bytes }

    static func all(_ pairs: [(key: String, value: [UInt8])], canonical: String, prefix: String) -> [Claim] {
        pairs.compactMap { Claim(key: $0.key, value: $0.value, canonical: canonical, prefix: prefix) }
            .sorted { ($0.time, $0.pid) < ($1.time, $1.pid) }
    }
}

extension GameSession {
    static let claimSettleMillis: Millis = 4_000

    func readWorld() {
        untilItWorks { [unowned self] done in
            get(keys.world) { [unowned self] reply in
                guard let found = reply else { return done(false) }
                let json = found.flatMap { JSON.parse($0) }
                if let pace = json?["pace"]?.text.flatMap(Pace.init(rawValue:)) {
                    world.follow(pace)
                } else if found == nil, let pace = configuration.newWorldPace {
                    world.follow(pace)
                    publish(keys.world, JSON.object([("v", .number(1)), ("pace", .string(pace.rawValue))]).bytes)
                }
                if let note = json?["motd"]?.text { emit(.operatorNote(Safe.text(note))) }
                done(true)
            }
        }
    }

    func chooseName(_ text: String) {
        if text.isEmpty { return promptAgain() }
        if ["quit", "exit", "bye"].contains(text.lowercased()) {
            emit(.notice("Goodbye."))
            return end(.quit)
        }
        if let fault = Names.fault(text) {
            fail(fault, "try another name, such as ada or turing-7")
            stage.enter(.naming)
            return promptAgain()
        }
        login = LoginAttempt(name: text)
        stage.enter(.entering)
        lines.show(.none)
        begin()
        let canonical = Names.canonical(text)
        untilItWorks { [unowned self] done in
            list(keys.claims(canonical)) { [unowned self] pairs in
                guard let pairs else { return done(false) }
                done(true)
                let claims = Claim.all(pairs, canonical: canonical, prefix: keys.claims(canonical))
                login.found(claims)
                if login.claims.isEmpty { createCharacter() } else { readVerifiers(0) }
            }
        }
    }

    // MARK: an existing character

    private func readVerifiers(_ index: Int) {
        guard index < login.claims.count else { return chooseClaim() }
        let pid = login.claims[index].pid
        untilItWorks { [unowned self] done in
            get(keys.auth(pid)) { [unowned self] reply in
                guard let found = reply else { return done(false) }
                done(true)
                login.found(found.flatMap(Verifier.init), of: pid)
                readVerifiers(index + 1)
            }
        }
    }

    private func chooseClaim() {
        if !login.hasPassword { return enter(login.claims[0], isNew: false) }
        if let password = configuration.password, login.isFirstTry { return tryPassword(password) }
        askPassword()
    }

    private func askPassword() {
        let text = login.isOpen ? "Password (Enter if \(login.name) has none): " : "Password: "
        ask(.secret(text)) { [unowned self] password in
            lines.show(.none)
            begin()
            tryPassword(password)
        }
        finish()
    }

    private func tryPassword(_ password: String) {
        if password.isEmpty, login.isOpen { return enter(login.claims[0], isNew: false) }
        compare(password, 0) { [unowned self] claim in
            if let claim { return enter(claim, isNew: false) }
            login.failed()
            if login.triesLeft <= 0 || (configuration.password != nil && configuration.name != nil) {
                fail("Wrong password", "if \(login.name) is not yours, come back with another name")
                return end(.refused)
            }
            fail("Wrong password", "try again (\(login.triesLeft) left)")
            askPassword()
        }
    }

    /// The first claim from `index` on whose verifier fits `password`.
    private func compare(_ password: String, _ index: Int, _ found: @escaping (Claim?) -> Void) {
        guard index < login.claims.count else { return found(nil) }
        let claim = login.claims[index]
        guard let verifier = login.verifier(claim), verifier.parameters.isBearable else {
            return compare(password, index + 1, found)
        }
        request(.derive(password: password, salt: verifier.salt, parameters: verifier.parameters)) {
            [unowned self] reply in
            if case .derived(let bytes) = reply, sameBytes(bytes, verifier.hash) { return found(claim) }
            compare(password, index + 1, found)
        }
    }

    // MARK: a new character

    private func createCharacter() {
        let claim = Claim(pid: Names.identifier(random.next()), name: login.name, time: correctedWall)
        enter(claim, isNew: true)
    }

    // MARK: into the world

    private func enter(_ claim: Claim, isNew: Bool) {
        player.enter(claim, at: correctedWall)
        names.learn(pid, claim.name, now: now.steady)
        // The session's own Put comes first: it tells an older session to leave and its stamp sets the clock.
        publishSession { [unowned self] in
            player.noteLogin(at: correctedWall)
            readSlots(isNew: isNew)
        }
    }

    private func publishSession(_ then: (() -> Void)? = nil) {
        let value = JSON.object([
            ("v", .number(1)), ("sid", .string(sid)), ("slot", .number(Int64(slot))), ("t", .number(player.loginTime)),
        ])
        publish(keys.session(pid), value.bytes, acknowledged: then)
    }

    func republishSession() { publishSession() }

    private func readSlots(isNew: Bool) {
        untilItWorks { [unowned self] done in
            list(keys.slots(pid)) { [unowned self] pairs in
                guard let pairs else { return done(false) }
                done(true)
                sheet.load(CharacterSlots(pairs, prefix: keys.slots(pid)))
                guard let free = sheet.freeSlot(corrected: correctedWall, using: &random) else {
                    fail("All \(Keys.slotCount) terminals of \(name) are in use", "try again in a minute")
                    return end(.refused)
                }
                sheet.take(free)
                commit { [unowned self] in
                    publishSession()
                    if isNew, let old = player.claim {
                        let claim = Claim(pid: old.pid, name: old.name, time: correctedWall)
                        player.take(claim)
                        publish(keys.claim(Names.canonical(name), pid), claim.bytes) { [unowned self] in
                            arrive(isNew: true)
                        }
                    } else {
                        arrive(isNew: false)
                    }
                }
            }
        }
    }

    private func arrive(isNew: Bool) {
        let lastSeen = sheet.lastSeen
        stage.enter(.playing)
        visit.arrive(now, record.rank, earned: total.earned)
        if record.options.reader { isReader = true }
        signs.startCounting(now: now.steady)
        ring(.arrive(from: nil))
        publishHere()
        detached { startPolling() }
        readGifts { [unowned self] in
            promptAgain()
            emit(.welcome(name: displayName, isNew: isNew))
            if isNew {
                if let password = configuration.password, !password.isEmpty { setPassword(password) {} }
                tell(Chapter.of(.undergraduate))
            } else {
                let away = lastSeen.map { max(0, (correctedWall - $0) / 1_000) }
                emit(.returning(rank: record.rank, coins: coins, power: power, awaySeconds: away))
                loginHint()
            }
            visit.welcome()
            noteGifts(from: nil)
            repairProjections()
            checkPromotion()
            finish()
        }
    }

    // MARK: the claim, later

    /// Looks again at who owns the name: a claim made on another server may have come first.
    func checkClaim() {
        guard let mine = player.claim else { return }
        let canonical = Names.canonical(name)
        list(keys.claims(canonical)) { [unowned self] pairs in
            guard let pairs, let current = player.claim, Names.canonical(name) == canonical else { return }
            let claims = Claim.all(pairs, canonical: canonical, prefix: keys.claims(canonical))
            if !claims.contains(where: { $0.pid == pid }) {
                publish(keys.claim(canonical, pid), current.bytes)
            }
            guard let owner = claims.first else { return }
            let isMine = owner.pid == pid || (mine.time, pid) < (owner.time, owner.pid)
            let shown = isMine ? name : Directory.marked(name, pid)
            guard shown != displayName else { return }
            player.show(as: shown)
            names.learn(pid, shown, now: now.steady)
            publishHere()
            if isMine {
                emit(.notice("The name \(name) is yours alone again."))
            } else {
                emit(.warning("Somebody else had the name \(name) a moment earlier; others see you as \(shown)."))
                emit(
                    .hint(
                        "Nothing of yours is lost. `rename NEWNAME` takes another name; if the older \(name) is you, "
                            + "`quit` and log in again."))
            }
        }
    }
}

func sameBytes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    return zip(a, b).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}
