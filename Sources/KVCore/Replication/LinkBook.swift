// Connections of which it is not known yet whose they are, or that wait for their server to become known. A part of
// `Replica`; on its actor's thread.

import KVBase

/// A connection over which a greeting went before it was known whose it is, and up to which own write.
struct Greeting {
    let session: UInt64
    let at: Millis
    let to: UInt64
}

struct LinkBook {
    private static let linksMax = 1024
    /// How long nothing is collected while somebody who was sent own writes has not said who it is.
    private static let holdMillis: Millis = 60_000

    private var standing: [(server: UInt64, session: UInt64)] = []
    private var greetings: [Greeting] = []

    /// A connection of a server that is not known stands; it replaces one that did.
    mutating func note(_ server: UInt64, session: UInt64) {
        standing.removeAll { $0.server == server }
        standing.append((server, session))
        if standing.count > LinkBook.linksMax { standing.removeFirst() }
    }

    /// The server is known now: the connection that waits for it.
    mutating func take(_ server: UInt64) -> UInt64? {
        guard let place = standing.firstIndex(where: { $0.server == server }) else { return nil }
        return standing.remove(at: place).session
    }

    /// The connection is lost; `session` 0 means any.
    mutating func lose(_ server: UInt64, session: UInt64) {
        standing.removeAll { $0.server == server && (session == 0 || $0.session == session) }
    }

    func isGreeted(_ session: UInt64) -> Bool { greetings.contains { $0.session == session } }

    /// Own writes went to somebody who is not known yet, and so is not asked before a tombstone is collected.
    func isHoldingCollection(_ now: Millis) -> Bool {
        greetings.contains { $0.to > 0 && now - $0.at < LinkBook.holdMillis }
    }

    mutating func noteGreeting(_ session: UInt64, at: Millis, to: UInt64) {
        greetings.append(Greeting(session: session, at: at, to: to))
        if greetings.count > LinkBook.linksMax { greetings.removeFirst() }
    }

    /// It is known whose the connection is: what it was greeted with.
    mutating func takeGreeting(_ session: UInt64) -> Greeting? {
        let greeting = greetings.first { $0.session == session }
        greetings.removeAll { $0.session == session }
        return greeting
    }

    func checkInvariants() { check(standing.count <= LinkBook.linksMax && greetings.count <= LinkBook.linksMax) }
}
