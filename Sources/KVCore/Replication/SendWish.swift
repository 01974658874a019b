// From when on a message to a peer is wanted for other reasons than deltas. Plain value, owned by the replica.

import KVBase

struct SendWish {
    /// `.max` if none is.
    private var time: Millis = .min

    var at: Millis { time }

    /// A message is wanted at `now`, even if one was wanted for another time.
    mutating func want(at now: Millis) { time = now }

    /// A message is wanted at `now` at the latest.
    mutating func want(by now: Millis) { time = min(time, now) }

    /// A message went out.
    mutating func fulfil() { time = .max }
}
