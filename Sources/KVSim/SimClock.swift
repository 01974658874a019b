// A simulated server's clocks: a wall clock that may be off, drift, freeze or run backwards, and a monotonic one that
// only drifts. Used by SimWorld only, one thread.
package import KVBase

/// Where true time 0 lies on a correct wall clock (2023-11-14).
package let simEpochMillis: Millis = 1_700_000_000_000

package struct SimClock {
    private var since: SimTime = 0
    private var wallMicrosThen: Int64 = simEpochMillis * 1000
    /// Error of the wall clock's rate in parts per million: -1,000,000 stands still, -2,000,000 runs backwards.
    private var ratePPM: Int64 = 0
    private let monotonicPPM: Int64
    private let monotonicBase: SimTime

    package init(monotonicPPM: Int64, monotonicBase: SimTime) {
        self.monotonicPPM = monotonicPPM
        self.monotonicBase = monotonicBase
    }

    package func wallMillis(at time: SimTime) -> Millis { wallMicros(at: time) / 1000 }

    package func monotonicMillis(at time: SimTime) -> Millis {
        (monotonicBase + time + time / 1_000_000 * monotonicPPM) / 1000
    }

    /// How far the wall clock is ahead of a correct one.
    package func errorMillis(at time: SimTime) -> Millis { wallMillis(at: time) - simEpochMillis - time / 1000 }

    package mutating func step(at time: SimTime, byMillis step: Millis) {
        rebase(at: time)
        wallMicrosThen += step * 1000
    }

    package mutating func setRate(at time: SimTime, ppm: Int64) {
        rebase(at: time)
        ratePPM = ppm
    }

    package mutating func set(at time: SimTime, wallMillis: Millis) {
        rebase(at: time)
        wallMicrosThen = wallMillis * 1000
    }

    package mutating func correct(at time: SimTime) {
        since = time
        wallMicrosThen = simEpochMillis * 1000 + time
        ratePPM = 0
    }

    private func wallMicros(at time: SimTime) -> Int64 {
        let elapsed = time - since
        return max(0, wallMicrosThen + elapsed + elapsed / 1000 * ratePPM / 1000)
    }

    private mutating func rebase(at time: SimTime) {
        wallMicrosThen = wallMicros(at: time)
        since = time
    }
}
