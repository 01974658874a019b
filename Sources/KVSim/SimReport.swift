// What a run reports: outcome, "sometimes" points, latencies; and the one-line form workers hand to the fleet. Any
// thread.
package import KVBase

/// Counts of named moments that a good set of seeds must reach at least sometimes: an invariant proves little about a
/// path that no seed takes.
package struct SimPoints: Sendable {
    package private(set) var counts: [String: Int] = [:]

    package init() {}

    package mutating func hit(_ name: String, _ times: Int = 1) {
        if times > 0 { counts[name, default: 0] += times }
    }

    /// Makes sure that a point shows in the summary even if nothing ever reached it.
    package mutating func expect(_ names: [String]) {
        for name in names { counts[name, default: 0] += 0 }
    }

    package func count(_ name: String) -> Int { counts[name] ?? 0 }

    package mutating func merge(_ other: SimPoints) {
        for (name, count) in other.counts { counts[name, default: 0] += count }
    }

    package var sorted: [(name: String, count: Int)] {
        counts.sorted { $0.key < $1.key }.map { (name: $0.key, count: $0.value) }
    }
}

/// Times until a write was visible on another actor, in buckets of 10 ms; the last bucket takes the rest.
package struct SimLatency: Sendable {
    package private(set) var buckets = Array(repeating: 0, count: 512)
    package private(set) var maxMillis: Millis = 0
    package private(set) var count = 0

    package init() {}

    package mutating func add(_ millis: Millis) {
        buckets[min(buckets.count - 1, max(0, Int(millis / 10)))] += 1
        maxMillis = max(maxMillis, millis)
        count += 1
    }

    /// Upper edge of the bucket that holds the given share of the samples.
    package func percentile(_ share: Double) -> Millis {
        var left = Int(Double(count) * share)
        for (index, bucket) in buckets.enumerated() {
            left -= bucket
            if left < 0 { return min(maxMillis, Millis(index + 1) * 10) }
        }
        return maxMillis
    }
}

package struct SimOutcome: Sendable {
    package var seed: UInt64
    package var violation: SimViolation?
    /// True time of the violation, or of the end.
    package var simulatedMillis: Millis = 0
    package var traceHash: UInt64 = 0
    package var events = 0
    package var operations = 0
    package var frames = 0
    package var points = SimPoints()
    package var local = SimLatency()
    package var remote = SimLatency()
    package var lateWrites = 0
    package var countedWrites = 0

    package init(seed: UInt64) { self.seed = seed }

    /// One line of words, as a worker prints it. Text of a violation comes last because it contains spaces.
    package var line: String {
        let head = [
            "D", "\(seed)", String(traceHash, radix: 16), "\(events)", "\(operations)", "\(frames)",
            "\(simulatedMillis)",
            "\(lateWrites)", "\(countedWrites)",
        ]
        let counts = points.sorted.map { "\($0.name.replacing(" ", with: "_"))=\($0.count)" }
            .joined(separator: ";")
        let tail = violation.map { " \($0.invariant) \($0.detail.replacing("\n", with: " "))" } ?? ""
        return head.joined(separator: " ") + " \(counts.isEmpty ? "-" : counts)" + tail
    }

    /// Reads `line` back; nil for anything else.
    package init?(line: Substring) {
        let words = line.split(separator: " ", maxSplits: 11)
        guard words.count >= 10, words[0] == "D", let seed = UInt64(words[1]), let hash = UInt64(words[2], radix: 16)
        else { return nil }
        self.seed = seed
        traceHash = hash
        let numbers = words[3...8].map { Int($0) ?? 0 }
        (events, operations, frames) = (numbers[0], numbers[1], numbers[2])
        simulatedMillis = Millis(numbers[3])
        (lateWrites, countedWrites) = (numbers[4], numbers[5])
        if words[9] != "-" {
            for pair in words[9].split(separator: ";") {
                let parts = pair.split(separator: "=")
                guard parts.count == 2, let count = Int(parts[1]) else { return nil }
                let name = parts[0].replacing("_", with: " ")
                points.expect([String(name)])
                points.hit(String(name), count)
            }
        }
        if words.count > 10 {
            violation = SimViolation(String(words[10]), words.count > 11 ? String(words[11]) : "")
        }
    }
}
