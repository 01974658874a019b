// When silence, retirement and clocks are looked at. A part of `Replica`; on its actor's thread.

import KVBase

struct Census {
    static let everyMillis: Millis = 500
    /// One that comes later than this shows that this process was held up.
    private static let pauseMillis: Millis = 1_000

    private var startedAt: Millis?
    private var lastAt: Millis?

    /// The first turn begins.
    mutating func start(_ now: Millis) { if startedAt == nil { startedAt = now } }

    /// When the first turn began; nil before it.
    var start: Millis? { startedAt }

    /// Milliseconds since the first turn.
    func age(_ now: Millis) -> Millis { startedAt.map { now - $0 } ?? 0 }

    func isDue(_ now: Millis) -> Bool { lastAt.map { now - $0 >= Census.everyMillis } ?? true }

    /// When the next one is due: now, before the first.
    func due(_ now: Millis) -> Millis { lastAt.map { $0 + Census.everyMillis } ?? now }

    /// When the next one may be, `spacing` after the last; nil before the first.
    func next(_ spacing: Millis) -> Millis? { lastAt.map { $0 + spacing } }

    /// Takes one. Returns for how long this process did not run (stopped, starved), or 0.
    mutating func take(_ now: Millis) -> Millis {
        defer { lastAt = now }
        guard let lastAt else { return 0 }
        let pause = now - lastAt - Census.everyMillis
        return pause > Census.pauseMillis ? pause : 0
    }
}
