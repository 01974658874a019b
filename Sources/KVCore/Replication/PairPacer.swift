// The message limit of an ordered pair of actors: the only place that enforces it. Plain value, owned by the sending
// actor.

import KVBase

/// A token that returns `spacing` after it was used: at 105 ms no closed window of one second holds more than ten
/// messages, and after idleness a message goes out at once.
struct PairPacer {
    private var last: Millis?

    /// Steady time of the last message; nil before the first.
    var lastSent: Millis? { last }

    /// Earliest steady time of the next message.
    func earliest(_ spacing: Millis) -> Millis { last.map { $0 + spacing } ?? .min }

    func isReady(_ now: Millis, _ spacing: Millis) -> Bool { now >= earliest(spacing) }

    mutating func sent(_ now: Millis) { last = now }
}
