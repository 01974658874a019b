// Buckets of times, percentiles of them, and the processor's clock.

import CIntrinsics
import KVRuntime
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct LatencyHistogramTests {
    @Test func aTimeIsInTheBucketThatEndsBehindIt() {
        var times: [UInt64] = Array(0..<5000)
        for exponent in 5..<40 as Range<UInt64> {
            times += [1 << exponent - 1, 1 << exponent, 1 << exponent + 1, 3 << (exponent - 1)]
        }
        for nanos in times.sorted() {
            let bucket = LatencyHistogram.bucket(nanos)
            let start = bucket == 0 ? 0 : LatencyHistogram.end(of: bucket - 1)
            #expect(Int(nanos) >= start, "\(nanos)")
            if bucket < LatencyHistogram.bucketCount - 1 {
                #expect(Int(nanos) < LatencyHistogram.end(of: bucket), "\(nanos)")
            }
        }
        #expect(LatencyHistogram.bucket(.max) == LatencyHistogram.bucketCount - 1)
        #expect(LatencyHistogram.end(of: LatencyHistogram.bucketCount - 1) == 1 << 36)
        // An eighth of an octave.
        for bucket in 8..<LatencyHistogram.bucketCount {
            let (start, end) = (LatencyHistogram.end(of: bucket - 1), LatencyHistogram.end(of: bucket))
            #expect(end > start && (end - start) * 8 <= start)
        }
    }

    @Test func percentilesAreEndsOfBuckets() {
        var histogram = LatencyHistogram()
        #expect(histogram.nanos(percent: 50) == nil)
        histogram.add(LatencyHistogram.bucket(1000), 990)
        histogram.add(LatencyHistogram.bucket(1_000_000), 9)
        histogram.add(LatencyHistogram.bucket(50_000_000), 1)
        func end(_ nanos: UInt64) -> Int { LatencyHistogram.end(of: LatencyHistogram.bucket(nanos)) }
        #expect(histogram.nanos(percent: 50) == end(1000))
        #expect(histogram.nanos(percent: 99) == end(1000))
        #expect(histogram.nanos(percent: 99.9) == end(1_000_000))
        #expect(histogram.nanos(percent: 100) == end(50_000_000))
        #expect(histogram.count(below: 10) == 990 && histogram.count(below: 9) == 0)
        #expect(histogram.count(below: 20) == 999 && histogram.count(below: 26) == 1000)
        #expect(histogram.count(below: 64) == 1000)
        var later = histogram
        later.add(LatencyHistogram.bucket(10), 5)
        #expect(later.since(histogram).total == 5)
        #expect(LatencyHistogram().since(later).total == 0)
    }

    @Test func aCommandsTimeIsInItsRowOnly() {
        let statistics = CommandStatistics()
        let (get, set) = (CommandTable.getRow, CommandTable.setRow)
        statistics.noteTime(get, calls: 3, nanos: 500)
        statistics.noteTime(set, calls: 1, nanos: 70_000)
        statistics.note(set, isRejected: false, isFailed: true)
        statistics.note(set, isRejected: true, isFailed: false)
        #expect(statistics.of(get).nanos == 1500 && statistics.histogram(of: get).total == 3)
        let figures = statistics.of(set)
        #expect(figures.nanos == 70_000 && figures.calls == 1 && figures.failed == 1 && figures.rejected == 1)
        for row in 0..<statistics.count where row != get && row != set {
            #expect(statistics.histogram(of: row).total == 0 && statistics.of(row).nanos == 0)
        }
        statistics.reset()
        #expect(statistics.histogram(of: get).total == 0 && statistics.of(set).calls == 0)
    }

    @Test func histogramsOfAnActorTakeLessThanAMebibyte() {
        let statistics = CommandStatistics()
        #expect(statistics.bytesMax <= 1 << 20 && statistics.bytesMax > statistics.count * 1024)
        print("histograms of an actor: \(statistics.count) commands, \(statistics.bytesMax) bytes at most")
    }

    /// Both clocks over the same time, of some tries the one with the least between their readings.
    @Test func aTickIsAsLongAsMeasured() {
        let rate = TickRate.ofThisMachine
        var best = Double.infinity
        for _ in 0..<20 where best > 0.02 {
            let (ticks, nanos) = (ci_ticks(), Machine.monotonicNanos)
            while Machine.monotonicNanos - nanos < 5_000_000 {}
            let (took, passed) = (rate.nanos(ci_ticks() &- ticks), Machine.monotonicNanos - nanos)
            best = min(best, abs(Double(took) / Double(passed) - 1))
        }
        #expect(best < 0.02, "off by \(best)")
        for nanos in [1000, 10_000_000, 1_000_000_000_000] {
            let back = Double(rate.nanos(rate.ticks(nanos)))
            #expect(abs(back / Double(nanos) - 1) < 0.01, "\(nanos): \(back)")
        }
        #expect(rate.ticks(.max) > rate.ticks(1 << 50))
    }
}
