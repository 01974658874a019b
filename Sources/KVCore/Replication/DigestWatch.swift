// Whether a peer with an equal vector has other content, and for how long. Plain value, owned by the replica.

import KVBase

struct DigestWatch {
    private var since: Millis?
    private var times = 0

    mutating func noteEqual() { (since, times) = (nil, 0) }

    /// The digests differ. True if they have for more than `patience` milliseconds and at least `timesMin` times in a
    /// row: that is a fault. Then the watch begins anew.
    mutating func noteDifferent(_ now: Millis, patience: Millis, timesMin: Int = 1) -> Bool {
        times += 1
        guard let since else {
            self.since = now
            return false
        }
        guard now - since > patience, times >= timesMin else { return false }
        noteEqual()
        return true
    }
}
