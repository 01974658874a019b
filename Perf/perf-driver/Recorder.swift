// Latency counts in the layout of HdrHistogram, recorded in a few nanoseconds. One engine's thread; merged afterwards.

import Histogram

/// Values in nanoseconds up to 2^40 (18 minutes) with 1/1024 resolution, as HdrHistogram with three significant digits
/// (G. Tene, "How NOT to Measure Latency"). Plain pointers: recording is an increment.
struct Recorder {
    static let slots = 31 * 1024 + 1024
    private let counts: UnsafeMutablePointer<UInt64>
    private(set) var total: UInt64 = 0

    init() {
        counts = .allocate(capacity: Self.slots)
        counts.initialize(repeating: 0, count: Self.slots)
    }

    func deallocate() { counts.deallocate() }

    @inline(__always)
    static func slot(_ nanos: Int) -> Int {
        let value = min(max(nanos, 0), (1 << 40) - 1)
        if value < 2048 { return value }
        let shift = 63 &- value.leadingZeroBitCount &- 10
        return shift &* 1024 &+ (value &>> shift)
    }

    /// The largest value counted in `slot`.
    static func value(_ slot: Int) -> Int {
        if slot < 2048 { return slot }
        let shift = slot >> 10 - 1
        return ((slot - shift * 1024 + 1) << shift) - 1
    }

    @inline(__always)
    mutating func record(_ nanos: Int, count: UInt64 = 1) {
        counts[Self.slot(nanos)] &+= count
        total &+= count
    }

    mutating func reset() {
        counts.update(repeating: 0, count: Self.slots)
        total = 0
    }

    mutating func add(_ other: Recorder) {
        for i in 0..<Self.slots { counts[i] += other.counts[i] }
        total += other.total
    }

    func histogram() -> Histogram<UInt64> {
        var histogram = Histogram<UInt64>(
            highestTrackableValue: 1 << 40, numberOfSignificantValueDigits: .three)
        for i in 0..<Self.slots where counts[i] > 0 { histogram.record(UInt64(Self.value(i)), count: counts[i]) }
        return histogram
    }
}
