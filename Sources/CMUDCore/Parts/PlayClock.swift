// What time it is for a session, and for the store. A part of `GameSession`; on its thread.

import KVBase

struct PlayClock {
    /// A gap between two calls that means the process was stopped: others may have taken the session over meanwhile.
    static let suspendMillis: Millis = 10_000

    private let started: Millis
    private var current: Moment
    /// Server time minus own wall clock, learnt from the stamps of writes.
    private var offset: Millis = 0

    init(_ moment: Moment) { (started, current) = (moment.steady, moment) }

    var now: Moment { current }
    /// The store's idea of the time.
    var corrected: Millis { current.wall + offset }

    /// A time of the store on the own wall clock.
    func ownWall(_ corrected: Millis) -> Millis { corrected - offset }

    /// The steady clock never goes back. True when so much time passed that the process must have been stopped.
    mutating func advance(to moment: Moment) -> Bool {
        let gap = moment.steady - current.steady
        current = Moment(wall: moment.wall, steady: max(current.steady, moment.steady))
        return gap > PlayClock.suspendMillis
    }

    /// A write made just now got this stamp.
    mutating func learn(stamp: Millis) { offset = stamp - current.wall }

    func checkInvariants() { check(current.steady >= started) }
}
