// The last ten minutes of a server, for the charts of the page: a sample each ten seconds, from counters alone. The
// metrics loop's thread.

import KVBase
import KVRuntime

struct StatusHistory {
    static let sampleMillis: Int64 = 10_000
    static let samplesMax = 60

    /// Of one actor and ten seconds.
    struct Sample: Equatable {
        var commandsPerSecond = 0
        /// 99 of 100 commands took no longer; 0 without any.
        var slowNanos = 0
    }

    /// By actor, oldest first.
    private(set) var actors: [[Sample]]
    private var before: [(commands: Int, histogram: LatencyHistogram)] = []
    private var beforeNanos: Nanos = 0

    init(actors: Int) { self.actors = Array(repeating: [], count: actors) }

    /// Of all commands of each actor, at `now`.
    mutating func sample(_ statistics: [ShardStatistics], now: Nanos) {
        let counts = statistics.map { one in
            var histogram = LatencyHistogram()
            for row in 0..<one.byCommand.count { one.byCommand.add(row, to: &histogram) }
            return (commands: one.commands, histogram: histogram)
        }
        take(counts, now: now)
    }

    mutating func take(_ counts: [(commands: Int, histogram: LatencyHistogram)], now: Nanos) {
        defer { (before, beforeNanos) = (counts, now) }
        guard before.count == counts.count, now > beforeNanos else { return }
        for (place, count) in counts.enumerated() {
            let commands = max(0, count.commands - before[place].commands)
            let since = count.histogram.since(before[place].histogram)
            actors[place].append(
                Sample(
                    commandsPerSecond: Int(Int64(commands) * 1_000_000_000 / (now - beforeNanos)),
                    slowNanos: since.nanos(percent: 99) ?? 0))
            if actors[place].count > StatusHistory.samplesMax { actors[place].removeFirst() }
        }
    }
}
