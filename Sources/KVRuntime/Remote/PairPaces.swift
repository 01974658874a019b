// The limit of messages a second of a pair of actors, kept where they leave this machine. A value, owned by the peer.

import KVBase

/// The distance that tracked messages of one actor to another keep where they leave this machine, whatever queues they
/// went through and whichever connection takes them. Owned by the peer.
struct PairPaces {
    private struct Pace {
        var session: UInt64
        /// Position of its first byte in that connection's stream.
        var start: Int
        var leftAt: Nanos?
    }

    private struct Pair: Hashable {
        var sender: UInt64
        var target: UInt64
    }

    private static let pairsMax = 4 * Limits.actorsMax
    let spacing: Nanos
    private var pairs: [Pair: Pace] = [:]

    init(spacing: Nanos) { self.spacing = spacing }

    /// The one before it has left, long enough ago.
    func mayBegin(_ stream: LinkStream, _ now: Nanos) -> Bool {
        guard spacing > 0, let pace = pairs[Pair(sender: stream.sender, target: stream.target)] else { return true }
        return pace.leftAt.map { now - $0 >= spacing } ?? false
    }

    mutating func begun(_ stream: LinkStream, at start: Int, of session: UInt64, _ now: Nanos) {
        guard spacing > 0 else { return }
        if pairs.count >= PairPaces.pairsMax {
            pairs = pairs.filter { $0.value.leftAt.map { now - $0 < spacing } ?? true }
        }
        pairs[Pair(sender: stream.sender, target: stream.target)] = Pace(session: session, start: start)
    }

    /// A connection's stream has left this machine up to `sent`.
    mutating func left(_ session: UInt64, upTo sent: Int, _ now: Nanos) {
        for (pair, pace) in pairs where pace.leftAt == nil && pace.session == session && pace.start < sent {
            pairs[pair]!.leftAt = now
        }
    }

    /// A connection ended: what was begun on it left, or never will.
    mutating func ended(_ session: UInt64, _ now: Nanos) { left(session, upTo: .max, now) }

    /// Something has begun that has not left.
    var isWaiting: Bool { pairs.contains { $0.value.leftAt == nil } }
}
