// A name that was typed, and whether who typed it may have the character. A part of `GameSession`; on its thread.

import KVBase

struct LoginAttempt {
    static let triesMax = 3
    static let claimsMax = 4

    private var typed = ""
    private var known: [Claim] = []
    private var verifiers: [String: Verifier] = [:]
    private var tries = 0

    var name: String { typed }
    /// The claims on the name that a password is tried on, the owner's first.
    var claims: [Claim] { known }
    var triesLeft: Int { LoginAttempt.triesMax - tries }
    var isFirstTry: Bool { tries == 0 }
    /// Whether any of the claims has a password.
    var hasPassword: Bool { !verifiers.isEmpty }
    /// Whether the first claim has none.
    var isOpen: Bool { known.first.map { verifiers[$0.pid] == nil } ?? false }

    init() {}

    init(name: String) { typed = name }

    /// `claims` in the order of owning.
    mutating func found(_ claims: [Claim]) { known = Array(claims.prefix(LoginAttempt.claimsMax)) }

    mutating func found(_ verifier: Verifier?, of pid: String) { verifiers[pid] = verifier }

    func verifier(_ claim: Claim) -> Verifier? { verifiers[claim.pid] }

    mutating func failed() { tries += 1 }

    func checkInvariants() {
        check(known.count <= LoginAttempt.claimsMax && tries <= LoginAttempt.triesMax)
        check(verifiers.keys.allSatisfy { pid in known.contains { $0.pid == pid } })
        check(zip(known, known.dropFirst()).allSatisfy { ($0.time, $0.pid) <= ($1.time, $1.pid) })
    }
}
