// What CONFIG SET can change, by name: how a value is read, and what it does. Any thread.

import KVBase
import Logging

/// Why a value cannot be used, as Redis says it.
struct LiveSettingError: Error { let reason: String }

struct LiveSetting: Sendable {
    let name: String
    /// Checks the value, and returns what makes it count.
    let change: @Sendable (ServerContext, String) throws(LiveSettingError) -> () -> Void

    private init(
        _ name: String, _ change: @escaping @Sendable (ServerContext, String) throws(LiveSettingError) -> () -> Void
    ) { (self.name, self.change) = (name, change) }

    static let all: [LiveSetting] = [
        LiveSetting("slowlog-log-slower-than") { context, text throws(LiveSettingError) in
            let micros = try number(text, -1...Int.max)
            return { context.live.slowLogMicros = micros }
        },
        LiveSetting("slowlog-max-len") { context, text throws(LiveSettingError) in
            let entries = try number(text, 0...SlowLog.entriesMax)
            return { context.live.slowLogEntries = entries }
        },
        LiveSetting("latency-monitor-threshold") { context, text throws(LiveSettingError) in
            let millis = try number(text, 0...Int.max)
            return { context.live.latencyMillis = millis }
        },
        LiveSetting("maxclients") { context, text throws(LiveSettingError) in
            let clients = try number(text, 1...1_000_000)
            let possible = ServerContext.clientsPossible(actors: context.config.actors)
            guard clients <= possible else {
                throw LiveSettingError(
                    reason: "The operating system is not able to handle the specified number of clients, try with "
                        + "\(possible)")
            }
            return { context.live.clientsMax = clients }
        },
        LiveSetting("maxmemory") { context, text throws(LiveSettingError) in
            guard let bytes = MemoryLimit.parse(text) else {
                throw LiveSettingError(reason: "argument must be a memory value")
            }
            return { context.memory.set(bytes) }
        },
        LiveSetting("max-lag") { context, text throws(LiveSettingError) in
            let seconds = text == "off" ? nil : try number(text, 1...86_400)
            return { context.live.maxLagSeconds = seconds }
        },
        LiveSetting("drain-timeout") { context, text throws(LiveSettingError) in
            let seconds = try number(text, 0...3600)
            return { context.live.drainSeconds = seconds }
        },
        LiveSetting("log-level") { _, text throws(LiveSettingError) in
            guard let level = Logger.Level(rawValue: text) else { throw choice(Config.logLevels) }
            return { LogLevel.shared.level = level }
        },
        LiveSetting("loglevel") { _, text throws(LiveSettingError) in
            guard let level = redisLevels[text] else { throw choice(["debug", "verbose", "notice", "warning"]) }
            return { LogLevel.shared.level = level }
        },
    ]

    /// Redis's words.
    static let redisLevels: [String: Logger.Level] = [
        "debug": .debug, "verbose": .info, "notice": .notice, "warning": .warning,
    ]

    private static func number(_ text: String, _ range: ClosedRange<Int>) throws(LiveSettingError) -> Int {
        guard let value = Int(text) else {
            throw LiveSettingError(reason: "argument couldn't be parsed into an integer")
        }
        guard range.contains(value) else {
            throw LiveSettingError(
                reason: "argument must be between \(range.lowerBound) and \(range.upperBound) inclusive")
        }
        return value
    }

    private static func choice(_ words: [String]) -> LiveSettingError {
        LiveSettingError(reason: "argument(s) must be one of the following: \(words.joined(separator: ", "))")
    }
}
