// What is to be done later. A part of `GameSession`; on its thread.

import KVBase

/// Alarms in the order in which they are due; of two that are due at once, the one that was set first.
struct Alarms {
    private struct Alarm {
        let id: UInt64
        let due: Millis
        let run: () -> Void
    }

    private var waiting: [Alarm] = []
    private var count: UInt64 = 0

    /// When the next one is due, on the steady clock.
    var next: Millis? { waiting.first?.due }

    /// Runs `run` at `due`; the result cancels it. O(alarms).
    mutating func set(_ due: Millis, _ run: @escaping () -> Void) -> UInt64 {
        count += 1
        let index = waiting.firstIndex { $0.due > due } ?? waiting.count
        waiting.insert(Alarm(id: count, due: due, run: run), at: index)
        return count
    }

    mutating func cancel(_ id: UInt64) { waiting.removeAll { $0.id == id } }

    /// What is due by now, taken off the list; call again until nil, since what runs may set or cancel others.
    mutating func takeDue(_ now: Millis) -> (() -> Void)? {
        guard let first = waiting.first, first.due <= now else { return nil }
        return waiting.removeFirst().run
    }

    mutating func clear() { waiting.removeAll() }

    func checkInvariants() {
        check(zip(waiting, waiting.dropFirst()).allSatisfy { ($0.due, $0.id) < ($1.due, $1.id) })
        check(waiting.allSatisfy { $0.id <= count })
    }
}
