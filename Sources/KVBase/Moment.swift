// The two clocks an input is stamped with. Plain value; whoever waits (a loop, a front end, a simulator) fills it in.

/// One instant as the process sees it.
///
/// `wall` may step, drift or run backwards: it only ever becomes part of what is stored or shown. `steady` never goes
/// back and paces everything, so that a clock step can neither stop replication nor break the message limit.
package struct Moment: Sendable, Hashable {
    /// Milliseconds since 1970 by the machine's real-time clock.
    package var wall: Millis
    /// Milliseconds of the process-wide monotonic clock: everything in one process reads the same one.
    package var steady: Millis

    package init(wall: Millis, steady: Millis) {
        self.wall = wall
        self.steady = steady
    }
}
