// How many commands took how long: counts by nanoseconds, in buckets of an eighth of an octave. Values; any thread.

/// The layout of the buckets, and figures read from a copy of their counts. A bucket is an eighth of an octave wide;
/// what took less than 64 ns is in eight buckets of 8 ns, what took more than 68 s in the last.
struct LatencyHistogram: Sendable {
    static let bucketCount = 248
    private static let octaveOfFirst = 6

    private(set) var counts = [Int](repeating: 0, count: bucketCount)

    /// O(1), without a branch that depends on more than whether it is below 64 ns.
    @inline(__always)
    static func bucket(_ nanos: UInt64) -> Int {
        if nanos < 64 { return Int(nanos &>> 3) }
        let octave = 63 &- nanos.leadingZeroBitCount
        return min((octave &- 5) &* 8 &+ Int(nanos &>> UInt64(octave &- 3) & 7), bucketCount &- 1)
    }

    /// The first length that is beyond the bucket, in nanoseconds.
    static func end(of bucket: Int) -> Int {
        if bucket < 8 { return (bucket + 1) * 8 }
        return (bucket % 8 + 9) << (bucket / 8 + 2)
    }

    mutating func add(_ bucket: Int, _ count: Int) { counts[bucket] += count }

    mutating func add(_ other: LatencyHistogram) {
        for i in 0..<LatencyHistogram.bucketCount { counts[i] += other.counts[i] }
    }

    /// What came since `earlier`. A count that was set back in between counts from there.
    func since(_ earlier: LatencyHistogram) -> LatencyHistogram {
        var result = self
        for i in 0..<LatencyHistogram.bucketCount where counts[i] >= earlier.counts[i] {
            result.counts[i] -= earlier.counts[i]
        }
        return result
    }

    var total: Int { counts.reduce(0, +) }

    /// The end of the bucket in which the command is that `percent` of them were no slower than; nil without any.
    func nanos(percent: Double) -> Int? {
        let total = total
        guard total > 0 else { return nil }
        let wanted = max(1, Int((Double(total) * percent / 100).rounded(.up)))
        var sum = 0
        for (bucket, count) in counts.enumerated() {
            sum += count
            if sum >= wanted { return LatencyHistogram.end(of: bucket) }
        }
        return LatencyHistogram.end(of: LatencyHistogram.bucketCount - 1)
    }

    /// Commands that took less than 2^`exponent` nanoseconds, from 2^6 on.
    func count(below exponent: Int) -> Int {
        let end = min((exponent - LatencyHistogram.octaveOfFirst + 1) * 8, LatencyHistogram.bucketCount)
        return counts[..<max(0, end)].reduce(0, +)
    }
}
