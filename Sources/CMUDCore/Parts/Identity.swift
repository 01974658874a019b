// Who plays. A part of `GameSession`; on its thread.

import KVBase

struct Identity {
    private let login: String
    private var character = ""
    private var ownName = ""
    private var shownName = ""
    private var ownClaim: Claim?
    private var since: Millis = 0

    init(sid: String) { login = sid }

    /// This login.
    var sid: String { login }
    /// The character; empty as long as none was entered.
    var pid: String { character }
    /// The name that the claim is for.
    var name: String { ownName }
    /// How others see it: with a mark when somebody else's claim came first.
    var displayName: String { shownName }
    var claim: Claim? { ownClaim }
    /// When this login began, by the store's clock.
    var loginTime: Millis { since }

    /// The player was let in.
    mutating func enter(_ claim: Claim, at time: Millis) {
        character = claim.pid
        take(claim)
        since = time
    }

    /// The session's own Put set the clock: this is when it began.
    mutating func noteLogin(at time: Millis) { since = time }

    /// A claim on a name, first or another. The character stays.
    mutating func take(_ claim: Claim) { (ownName, shownName, ownClaim) = (claim.name, claim.name, claim) }

    mutating func show(as name: String) { shownName = name }

    func checkInvariants() {
        check(Names.isIdentifier(login))
        check(character.isEmpty == (ownClaim == nil))
        check(ownClaim.map { $0.pid == character && $0.name == ownName } ?? true)
        check(Directory.unmarked(shownName) == ownName)
    }
}
