// From which level on lines are written: one for the process, so that it can change while loggers are everywhere. Any
// thread.

package import Logging
import Synchronization

package final class LogLevel: Sendable {
    private let place: Atomic<Int>

    package init(_ level: Logger.Level = .info) { place = Atomic(LogLevel.place(of: level)) }

    /// That of the process.
    package static let shared = LogLevel()

    package var level: Logger.Level {
        get { Logger.Level.allCases[place.load(ordering: .relaxed)] }
        set { place.store(LogLevel.place(of: newValue), ordering: .relaxed) }
    }

    private static func place(of level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level) ?? 0 }
}
