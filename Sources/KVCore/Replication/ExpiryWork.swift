// Whether keys wait to be counted out, and when that is looked at. A part of `Replica`; on its actor's thread.

import KVBase

struct ExpiryWork {
    /// With the wheel's tick of 64 ms, figures follow within a fifth of a second.
    static let lookEveryMillis: Millis = 100

    private var underWay = false
    private var lookedAt: Millis?

    var isUnderWay: Bool { underWay }

    /// Steady time of the next look, now before the first.
    func nextLook(_ now: Millis) -> Millis { lookedAt.map { $0 + ExpiryWork.lookEveryMillis } ?? now }

    mutating func noteLook(_ now: Millis) { lookedAt = now }
    mutating func begin() { underWay = true }
    mutating func end() { underWay = false }
}
