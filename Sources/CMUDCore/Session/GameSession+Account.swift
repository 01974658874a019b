// Passwords and names (docs/cmud/design.md 5). Called by the session.

import KVBase

extension GameSession {
    static let passwordGood = 8

    /// Asks for the old password if there is one, then twice for the new one.
    func password() {
        begin()
        get(keys.auth(pid)) { [unowned self] reply in
            guard let found = reply else {
                storeFailed()
                return finish()
            }
            if let verifier = found.flatMap(Verifier.init) {
                ask(.secret("Old password: ")) { [unowned self] old in
                    begin()
                    request(.derive(password: old, salt: verifier.salt, parameters: verifier.parameters)) {
                        [unowned self] reply in
                        if case .derived(let bytes) = reply, sameBytes(bytes, verifier.hash) { return askNewPassword() }
                        promptAgain()
                        fail("Wrong password", "nothing was changed; `password` tries again")
                        finish()
                    }
                }
            } else {
                askNewPassword()
                return
            }
            finish()
        }
    }

    private func askNewPassword() {
        ask(.secret("New password (Enter for none): ")) { [unowned self] first in
            ask(.secret("The same again: ")) { [unowned self] second in
                promptAgain()
                guard first == second else {
                    return fail("Those were two different passwords", "nothing was changed; `password` tries again")
                }
                begin()
                setPassword(first) { [unowned self] in finish() }
            }
        }
        finish()
    }

    func setPassword(_ password: String, _ then: @escaping () -> Void) {
        if password.isEmpty {
            return publish(keys.auth(pid), Verifier.open) { [unowned self] in
                emit(.notice("No password: anybody who types the name \(name) can play it."))
                then()
            }
        }
        if password.count < GameSession.passwordGood || password.allSatisfy(\.isNumber) {
            emit(
                .warning(
                    "A short password, or digits only, is soon guessed; \(GameSession.passwordGood) or more are better."
                ))
        }
        var salt: [UInt8] = []
        for _ in 0..<2 { withUnsafeBytes(of: random.next()) { salt += Array($0) } }
        let parameters = PasswordParameters.current
        request(.derive(password: password, salt: salt, parameters: parameters)) { [unowned self] reply in
            guard case .derived(let hash) = reply else {
                fail("The password could not be set", "try again")
                return then()
            }
            publish(keys.auth(pid), Verifier(salt: salt, parameters: parameters, hash: hash).bytes) { [unowned self] in
                emit(.notice("Password set. It keeps honest people out; the store itself is open to its operators."))
                then()
            }
        }
    }

    /// Claims another name, waits until other servers had time to object, then gives the old one up.
    func rename(_ text: String) {
        if let fault = Names.fault(text) { return fail(fault, "type `rename NEWNAME`, such as `rename ada-2`") }
        let (old, canonical) = (name, Names.canonical(text))
        let isSameKey = canonical == Names.canonical(old)
        guard text != old else { return fail("You are \(old) already", "type `rename` and another name") }
        begin()
        list(keys.claims(canonical)) { [unowned self] pairs in
            guard let pairs else {
                storeFailed()
                return finish()
            }
            let claims = Claim.all(pairs, canonical: canonical, prefix: keys.claims(canonical))
            guard claims.allSatisfy({ $0.pid == pid }) else {
                fail("The name \(text) is taken", "try another")
                return finish()
            }
            let time = isSameKey ? player.claim?.time ?? correctedWall : correctedWall
            let claim = Claim(pid: pid, name: text, time: time)
            publish(keys.claim(canonical, pid), claim.bytes) { [unowned self] in
                guard !isSameKey else { return renamed(claim, from: old) }
                emit(.notice("Asking around whether anybody else is \(text)..."))
                after(GameSession.claimSettleMillis) { [unowned self] in confirm(claim, from: old) }
            }
        }
    }

    private func confirm(_ claim: Claim, from old: String) {
        let canonical = Names.canonical(claim.name)
        list(keys.claims(canonical)) { [unowned self] pairs in
            let claims = Claim.all(pairs ?? [], canonical: canonical, prefix: keys.claims(canonical))
            guard pairs != nil, claims.first?.pid == pid else {
                request(.delete(keys.claim(canonical, pid))) { _ in }
                fail("Somebody else took \(claim.name) first", "try another name")
                return finish()
            }
            request(.delete(keys.claim(Names.canonical(old), pid))) { _ in }
            renamed(claim, from: old)
        }
    }

    private func renamed(_ claim: Claim, from old: String) {
        player.take(claim)
        names.learn(pid, name, now: now.steady)
        publishHere()
        publishScore()
        emit(.notice("You were \(old). You are \(name)."))
        finish()
    }
}
