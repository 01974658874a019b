// What took longer than `latency-monitor-threshold`, by kind, as LATENCY LATEST and HISTORY tell of it. Any thread.

import Synchronization

/// Kinds are Redis's: `fast-command` and `command`. The worst of each second is kept, for the last 160 such seconds.
final class LatencyEvents: Sendable {
    static let samplesMax = 160

    struct Sample: Sendable, Equatable {
        var seconds: Int
        var millis: Int
    }

    struct Event: Sendable {
        var name: String
        var worstMillis: Int
        /// Oldest first, one at least.
        var samples: [Sample]
    }

    private let events = Mutex<[String: Event]>([:])

    func add(_ name: String, seconds: Int, millis: Int) {
        events.withLock { events in
            let sample = Sample(seconds: seconds, millis: millis)
            guard var event = events[name] else {
                events[name] = Event(name: name, worstMillis: millis, samples: [sample])
                return
            }
            event.worstMillis = max(event.worstMillis, millis)
            if event.samples[event.samples.count - 1].seconds == seconds {
                let worst = max(event.samples[event.samples.count - 1].millis, millis)
                event.samples[event.samples.count - 1].millis = worst
            } else {
                event.samples.append(sample)
                if event.samples.count > LatencyEvents.samplesMax { event.samples.removeFirst() }
            }
            events[name] = event
        }
    }

    /// By name.
    var all: [Event] { events.withLock { $0.values.sorted { $0.name < $1.name } } }

    func event(_ name: String) -> Event? { events.withLock { $0[name] } }

    /// Forgets one kind; whether it was there.
    func reset(_ name: String) -> Bool { events.withLock { $0.removeValue(forKey: name) != nil } }

    /// Forgets all; how many kinds there were.
    func reset() -> Int {
        events.withLock { events in
            defer { events = [:] }
            return events.count
        }
    }
}
