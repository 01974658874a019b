// The longest turn by the wall and by the processor, under clocks of the test.

import KVBase
import Testing

@testable import KVRuntime

/// Turns of a thread whose clocks the test moves.
private struct Clocks {
    var lengths = TurnLengths()
    var wall: Nanos = 5_000_000_000
    var processor: Nanos = 70_000_000
    var readings = 0

    /// A turn that takes `used` of the processor and `lost` to others, after waiting for `waited`.
    mutating func turn(used: Nanos, lost: Nanos = 0, waited: Nanos = 0, _ work: TurnWork = []) {
        wall += waited
        let start = wall
        var readings = 0
        lengths.begin(start) {
            readings += 1
            return processor
        }
        wall += used + lost
        processor += used
        lengths.end(start, wall, work) {
            readings += 1
            return processor
        }
        self.readings += readings
    }
}

@Suite struct TurnLengthsTests {
    private let first = TurnWork(rawValue: 1)
    private let second = TurnWork(rawValue: 2)

    @Test func theLongestTurnKeepsItsWork() {
        var clocks = Clocks()
        clocks.turn(used: 50_000, waited: 1_000_000, first)
        clocks.turn(used: 900_000, waited: 1_000_000, [first, second])
        clocks.turn(used: 60_000, waited: 1_000_000)
        #expect(clocks.lengths.longestNanos == 900_000)
        #expect(clocks.lengths.longestWork == [first, second])
        #expect(clocks.lengths.longestProcessorNanos == 900_000)
        #expect(clocks.lengths.longestProcessorWork == [first, second])
    }

    @Test func whatOthersTookOfTheProcessorCountsByTheWallOnly() {
        var clocks = Clocks()
        clocks.turn(used: 300_000, waited: 1_000_000, first)
        clocks.turn(used: 20_000, lost: 4_000_000, waited: 1_000_000, second)
        #expect(clocks.lengths.longestNanos == 4_020_000)
        #expect(clocks.lengths.longestWork == second)
        #expect(clocks.lengths.longestProcessorNanos == 300_000)
        #expect(clocks.lengths.longestProcessorWork == first)
    }

    @Test func forgettingBeginsAgain() {
        var clocks = Clocks()
        clocks.turn(used: 2_000_000, first)
        clocks.lengths.forget()
        #expect(clocks.lengths.longestNanos == 0)
        #expect(clocks.lengths.longestProcessorWork == [])
        clocks.turn(used: 100_000, waited: 1_000_000, second)
        #expect(clocks.lengths.longestProcessorNanos == 100_000)
        #expect(clocks.lengths.longestProcessorWork == second)
    }

    @Test func turnsAboveAMillisecondOfTheProcessorAreCounted() {
        var clocks = Clocks()
        for _ in 0..<3 { clocks.turn(used: 1_300_000, waited: 1_000_000, first) }
        // Longer than each of them by the wall, and than the limit, but not by the processor.
        clocks.turn(used: 400_000, lost: 9_000_000, waited: 1_000_000, second)
        clocks.turn(used: 700_000, waited: 1_000_000, second)
        #expect(clocks.lengths.longCount == 3)
        clocks.lengths.forget()
        #expect(clocks.lengths.longCount == 0)
        clocks.turn(used: 5_000_000, waited: 1_000_000)
        clocks.turn(used: 1_500_000, waited: 1_000_000)
        #expect(clocks.lengths.longCount == 2)
    }

    /// Any mix of turns: the figure is the true longest, or above it by what was used since a reading at most.
    @Test(arguments: 0..<20) func theFigureIsAnUpperBoundAndATightOne(_ seed: Int) {
        var generator = PRNG(seed: UInt64(seed))
        var clocks = Clocks()
        var longest: Nanos = 0
        for _ in 0..<5_000 {
            let used = Nanos(generator.next() % (generator.next() % 50 == 0 ? 700_000 : 20_000))
            let lost = generator.next() % 40 == 0 ? Nanos(generator.next() % 5_000_000) : 0
            clocks.turn(used: used, lost: lost, waited: Nanos(generator.next() % 10_000))
            longest = max(longest, used)
        }
        #expect(clocks.lengths.longestProcessorNanos >= longest)
        #expect(clocks.lengths.longestProcessorNanos <= longest + TurnLengths.spacingNanos)
    }

    @Test func theProcessorTimeIsReadNowAndThenOnly() {
        var clocks = Clocks()
        clocks.turn(used: 500_000)
        let before = clocks.readings
        for _ in 0..<1_000 { clocks.turn(used: 4_000) }
        #expect(clocks.readings - before <= 25)
    }
}
