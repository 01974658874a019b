// What a line of the log looks like, and how often one place may write one. Values; any thread.

import Glibc
package import Logging
import Synchronization

/// `2026-11-29T07:10:30.123Z info kvd: serving actors=2 io=io_uring`.
package struct ServerLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    /// That of the process, whichever logger asks.
    package var logLevel: Logger.Level {
        get { level.level }
        nonmutating set { level.level = newValue }
    }
    private let level: LogLevel
    private let format: LogFormat
    private let label: String
    private let queue: LogQueue
    private let rates: LogRates

    package init(
        label: String, queue: LogQueue = .standardError, rates: LogRates = .shared, level: LogLevel = .shared,
        format: LogFormat = .text
    ) {
        (self.label, self.queue, self.rates, self.level, self.format) = (label, queue, rates, level, format)
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let millis = Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec / 1_000_000)
        switch rates.admit("\(event.file):\(event.line)", atMillis: millis) {
        case .refused: return
        case .admitted(let refused):
            if refused > 0 { write(millis, event.level, "\(refused) more like the next were not written", []) }
            write(millis, event.level, "\(event.message)", fields(event.metadata))
        }
    }

    private func write(
        _ millis: Int64, _ level: Logger.Level, _ message: String, _ fields: [(name: String, value: String)]
    ) {
        queue.write(format.line(millis: millis, level: level, label: label, message: message, fields: fields))
    }

    private func fields(_ added: Logger.Metadata?) -> [(name: String, value: String)] {
        let all = added.map { metadata.merging($0) { $1 } } ?? metadata
        return all.sorted { $0.key < $1.key }.map { ($0.key, "\($0.value)") }
    }
}

/// A place in the code that logs for every client or every attempt would fill the log when something is wrong: each may
/// write a few lines at once, then some a second; the others are counted.
package final class LogRates: Sendable {
    static let burst = 20
    static let millisPerLine: Int64 = 500
    /// Places kept; there are fewer in the code.
    private static let placesMax = 512

    package enum Verdict: Equatable {
        case refused
        /// With how many were refused since the last one.
        case admitted(refused: Int)
    }

    private struct Place {
        /// When it will have been quiet for long enough to write a whole burst.
        var fullAtMillis: Int64 = 0
        var refused = 0
    }

    private let places = Mutex<[String: Place]>([:])

    package static let shared = LogRates()

    package init() {}

    package func admit(_ name: String, atMillis now: Int64) -> Verdict {
        places.withLock { places in
            var place = places[name] ?? Place()
            if places.count >= LogRates.placesMax, places[name] == nil { return .admitted(refused: 0) }
            defer { places[name] = place }
            let full = max(place.fullAtMillis, now)
            // A clock that was set back must not silence the log.
            let isAhead = full - now > Int64(LogRates.burst) * LogRates.millisPerLine
            guard full - now <= Int64(LogRates.burst - 1) * LogRates.millisPerLine || isAhead else {
                place.refused += 1
                return .refused
            }
            place.fullAtMillis = (isAhead ? now : full) + LogRates.millisPerLine
            defer { place.refused = 0 }
            return .admitted(refused: place.refused)
        }
    }
}

/// UTC with milliseconds.
enum LogTime {
    static func text(_ millis: Int64) -> String {
        var seconds = time_t(millis / 1000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func padded(_ value: Int, _ digits: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        let date =
            "\(padded(Int(parts.tm_year) + 1900, 4))-\(padded(Int(parts.tm_mon) + 1, 2))-\(padded(Int(parts.tm_mday), 2))"
        let clock = "\(padded(Int(parts.tm_hour), 2)):\(padded(Int(parts.tm_min), 2)):\(padded(Int(parts.tm_sec), 2))"
        return "\(date)T\(clock).\(padded(Int(millis % 1000), 3))Z"
    }
}
