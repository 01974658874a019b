// Who a client is, and what that lets it do. Loop thread of the session's shard.

import KVBase
import RESP

extension Session {
    /// What a client may send that has not said who it is.
    static let limitsBeforeLogin = RESPLimits(
        valueBytesMax: 16 * 1024, bulkBytesMax: 16 * 1024, commandBytesMax: 32 * 1024, argumentsMax: 10,
        argumentsSkippedMax: 10, inlineBytesMax: 16 * 1024)

    /// What may wait behind a login that waits.
    static let inputBeforeLoginMax = 8 * 1024

    /// What the client became: by arriving, by AUTH, by HELLO.
    func enter(_ login: Login, isAuthenticated: Bool) {
        (self.login, self.isAuthenticated) = (login, isAuthenticated)
        state.pointee.isRestricted = !isAuthenticated || !login.user.isUnlimited
        if isAuthenticated != hasFullLimits { state.pointee.hasNewLimits = true }
    }

    /// The handshake of TLS is done. `certificateName`: of its user, where certificates tell that and the client
    /// showed one. Whom no user has that name of, or one that is off, has to say who it is.
    func secured(certificateName: String?) {
        state.pointee.askedMillis = shard.state.pointee.nowMillis
        guard let name = certificateName else { return }
        if let login = shard.context.access.login(name), login.user.isOn {
            enter(login, isAuthenticated: true)
        } else {
            note(.auth, "certificate", user: name)
            enter(login, isAuthenticated: false)
        }
        if state.pointee.hasNewLimits { restartParser() }
    }

    private var hasFullLimits: Bool {
        state.pointee.parser.limits.argumentsMax > Session.limitsBeforeLogin.argumentsMax
    }

    /// A user has changed: this session's may have. False if it is gone, and the client has to go too.
    func refreshLogin() -> Bool {
        guard let new = shard.context.access.login(login.name) else { return false }
        if new !== login { enter(new, isAuthenticated: isAuthenticated) }
        return true
    }

    /// Whether the client may not run the command; writes the error then. Only where `isRestricted`.
    func isDenied(_ x: Execution, row index: Int) -> Bool {
        let question = AccessQuestion(row: index, count: x.count) { [batch = x.batch, command = x.command] in
            batch.argument($0, of: command)
        }
        if question.isFree { return false }
        guard isAuthenticated else {
            if question.isFreeBeforeLogin { return false }
            x.error("NOAUTH Authentication required.")
            // Asks on and reads nothing.
            if x.output.pointee.count > Limits.outputBytesBeforeLogin { state.pointee.closing = true }
            return true
        }
        switch question.denial(of: login.user) {
        case nil: return false
        case .command(let name):
            note(.command, name)
            x.output.pointee.error("NOPERM this user has no permissions to run the '\(name)' command")
        case .key(let key):
            note(.key, key)
            x.error("NOPERM this user has no permissions to access one of the keys used as arguments")
        case .tooMany: x.error(AccessQuestion.tooMany)
        }
        return true
    }

    /// Whether LIST, KEYS and SCAN may show a key. `key` as the client names it.
    func mayRead(_ key: UnsafeRawBufferPointer) -> Bool {
        !state.pointee.isRestricted || login.user.mayUse(key, reading: true, writing: false)
    }

    /// They show every key that is there.
    var readsEverything: Bool { !state.pointee.isRestricted || login.user.readsEverything }

    func note(_ reason: AccessLog.Reason, _ object: String, user: String? = nil) {
        var text = OutputBuffer(capacity: 512)
        describe(into: &text)
        let client = String(decoding: text.bytes, as: UTF8.self)
        text.deallocate()
        let entry = AccessLog.Entry(
            reason, context: transaction == nil && !isGuest ? "toplevel" : "multi", object: object,
            user: user ?? login.name, client: String(client.dropLast()))
        shard.context.access.note(entry, shard.state.pointee.nowMillis)
    }
}
