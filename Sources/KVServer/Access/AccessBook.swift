// The users of this server, who tried to come in, and what was denied. Shared by all loops; any thread.

import KVBase
import KVRuntime
import Synchronization

/// A user as a connection holds it: never changed, replaced when the user is.
final class Login: Sendable {
    let user: AccessUser

    init(_ user: AccessUser) { self.user = user }

    var name: String { user.name }
}

package final class AccessBook: @unchecked Sendable {
    static let defaultName = "default"
    static let usersMax = 4096

    enum Verdict {
        case accepted(Login)
        case rejected
        /// Too many wrong ones came before: to be asked again in so many milliseconds.
        case wait(Millis)
    }

    private struct State {
        var logins: [String: Login] = [:]
        var attempts = LoginAttempts()
        var log = AccessLog()
        /// Times that files were begun to be read, and the last of which users were taken.
        var readings = 0
        var taken = 0
    }

    private let state: Mutex<State>
    /// At a place of its own, so that a turn reads it without going through objects.
    private let changes: UnsafeMutablePointer<Atomic<Int>>

    package init() {
        changes = .allocate(capacity: 1)
        changes.initialize(to: Atomic(1))
        let first = Login(.unlimited(AccessBook.defaultName))
        state = Mutex(State(logins: [first.name: first]))
    }

    /// Rises with every change of a user. A connection looks its user up again when it does.
    var generation: Int { changes.pointee.load(ordering: .acquiring) }
    /// The same for who outlives nothing: valid as long as the book.
    var changeCounter: UnsafePointer<Atomic<Int>> { UnsafePointer(changes) }

    deinit {
        changes.deinitialize(count: 1)
        changes.deallocate()
    }

    // MARK: Coming in

    /// What a new connection is, and whether it needs to say who it is.
    func arrival() -> (login: Login, isAuthenticated: Bool) {
        let login = state.withLock { $0.logins[AccessBook.defaultName]! }
        return (login, login.user.isOn && login.user.needsNoPassword)
    }

    /// Everybody may do everything, from anywhere.
    var isOpen: Bool { arrival().isAuthenticated }

    func login(_ name: String) -> Login? { state.withLock { $0.logins[name] } }

    /// `source`: the client's address without its port.
    func authenticate(_ name: String, _ password: UnsafeRawBufferPointer, from source: String, _ now: Millis) -> Verdict
    {
        let digest = SecureHash.sha256(password)
        return state.withLock { state in
            if let wait = state.attempts.wait(name, source, now) { return .wait(wait) }
            // A name that does not exist takes as long.
            let login = state.logins[name]
            let user = login?.user ?? AccessUser(name)
            guard user.accepts(digest: digest), user.isOn, let login else {
                state.attempts.noteFailure(name, source, now)
                return .rejected
            }
            state.attempts.noteSuccess(name, source)
            return .accepted(login)
        }
    }

    // MARK: Changing

    /// All of the rules, or none. Nil, or the rule that is none and why.
    func set(_ name: String, _ rules: [String]) -> (rule: String, error: AccessRuleError)? {
        state.withLock { state in
            var user = state.logins[name]?.user ?? AccessUser(name)
            guard state.logins[name] != nil || state.logins.count < AccessBook.usersMax else { return (name, .tooMany) }
            if let fault = user.apply(all: rules) { return fault }
            state.logins[name] = Login(user)
            changes.pointee.add(1, ordering: .acquiringAndReleasing)
            return nil
        }
    }

    /// How many there were. Not the default one.
    func delete(_ names: [String]) -> Int {
        state.withLock { state in
            let count = names.count { $0 != AccessBook.defaultName && state.logins.removeValue(forKey: $0) != nil }
            if count > 0 { changes.pointee.add(1, ordering: .acquiringAndReleasing) }
            return count
        }
    }

    /// Before files are read: a number for `replace`.
    func beginReading() -> Int {
        state.withLock { state in
            state.readings += 1
            return state.readings
        }
    }

    /// Takes the place of all users. Who is not named is gone; the default one is as it was at the beginning then, but
    /// for the password that it needs. Nothing where users of a later reading have been taken.
    package func replace(_ users: [AccessUser], password: String? = nil, reading: Int? = nil) {
        state.withLock { state in
            if let reading {
                guard reading > state.taken else { return }
                state.taken = reading
            }
            var logins = Dictionary(uniqueKeysWithValues: users.map { ($0.name, Login($0)) })
            if logins[AccessBook.defaultName] == nil {
                var user = AccessUser.unlimited(AccessBook.defaultName)
                if let password { _ = user.apply(all: AccessBook.rules(requiring: password)) }
                logins[AccessBook.defaultName] = Login(user)
            }
            // One that has not changed keeps its object, and those who are it are not closed.
            for (name, login) in logins {
                if let old = state.logins[name], old.user.line == login.user.line { logins[name] = old }
            }
            state.logins = logins
            changes.pointee.add(1, ordering: .acquiringAndReleasing)
        }
    }

    /// Of the default user: this password and no other; `rules` are those of a file, if there is one.
    package func requirePassword(_ password: String) {
        _ = set(AccessBook.defaultName, AccessBook.rules(requiring: password))
    }

    private static func rules(requiring password: String) -> [String] { ["resetpass", ">" + password] }

    // MARK: Telling

    /// Sorted by name.
    var users: [AccessUser] { state.withLock { $0.logins.values.map(\.user) }.sorted { $0.name < $1.name } }

    func note(_ denial: AccessLog.Entry, _ now: Millis) { state.withLock { $0.log.add(denial, now) } }

    /// Newest first.
    func denials(_ count: Int) -> [AccessLog.Entry] { state.withLock { Array($0.log.entries.prefix(count)) } }
    func forgetDenials() { state.withLock { $0.log.reset() } }
    var denialCounts: AccessLog.Counts { state.withLock { $0.log.counts } }
}

/// Who gave wrong passwords of late: three in a row from one address, or for one user, and each further attempt of that
/// address waits. Bounded.
private struct LoginAttempts {
    static let freeFailures = 3
    static let waitMillis: Millis = 1000
    /// Without an attempt for so long what was is forgotten.
    static let quietMillis: Millis = 60_000
    /// Attempts for one user that are judged within a second.
    static let judgedMax = 7
    static let namesMax = 4096

    private struct Failures {
        var count = 0
        var lastAt: Millis = 0
    }
    private struct Judged {
        var since: Millis = 0
        var count = 0
    }

    private var bySource: [String: Failures] = [:]
    private var byUser: [String: Failures] = [:]
    private var judged: [String: Judged] = [:]

    /// How long an attempt has to wait; nil if it is judged now, and then it counts.
    mutating func wait(_ name: String, _ source: String, _ now: Millis) -> Millis? {
        if let mine = recent(bySource[source], now) {
            let isMany =
                mine.count >= LoginAttempts.freeFailures
                || recent(byUser[name], now).map { $0.count >= LoginAttempts.freeFailures } ?? false
            let left = mine.lastAt + LoginAttempts.waitMillis - now
            if isMany, left > 0 { return left }
        }
        var mine = judged[name] ?? Judged()
        if now - mine.since >= 1000 { mine = Judged(since: now) }
        if mine.count >= LoginAttempts.judgedMax, bySource[source] != nil { return mine.since + 1000 - now }
        mine.count += 1
        judged[name] = mine
        if judged.count > LoginAttempts.namesMax { judged = judged.filter { now - $0.value.since < 1000 } }
        if judged.count > LoginAttempts.namesMax { judged = [name: mine] }
        return nil
    }

    private func recent(_ failures: Failures?, _ now: Millis) -> Failures? {
        failures.flatMap { now - $0.lastAt < LoginAttempts.quietMillis ? $0 : nil }
    }

    mutating func noteFailure(_ name: String, _ source: String, _ now: Millis) {
        LoginAttempts.note(&bySource, source, now)
        LoginAttempts.note(&byUser, name, now)
    }

    private static func note(_ all: inout [String: Failures], _ key: String, _ now: Millis) {
        let before = all[key].flatMap { now - $0.lastAt < quietMillis ? $0.count : nil } ?? 0
        all[key] = Failures(count: before + 1, lastAt: now)
        guard all.count > namesMax else { return }
        all = all.filter { now - $0.value.lastAt < quietMillis }
        if all.count > namesMax, let oldest = all.min(by: { $0.value.lastAt < $1.value.lastAt }) {
            all[oldest.key] = nil
        }
    }

    mutating func noteSuccess(_ name: String, _ source: String) { (bySource[source], byUser[name]) = (nil, nil) }
}
