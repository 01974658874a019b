// How long a loop's turns take, by the wall and by the processor, and what they did. Loop's thread.

import CSupport
package import KVBase

/// Kinds of work that one turn may do. The loop's owner says which; what nobody names is reading, overwriting and
/// answering single keys, timers and connections.
package struct TurnWork: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// The longest turn by each of two clocks. The wall's says for how long every client of the loop had to wait; the
/// processor's how much of that the loop itself is to blame for, since the thread's processor time goes on neither
/// while another program has the processor nor while the hypervisor has taken it away.
///
/// Reading the processor time is a system call, so it is not read at both ends of each turn. A turn that took less by
/// the wall than the longest so far by the processor need not be looked at, and for the others the time used since an
/// earlier reading, of `spacingNanos` ago at most if turns follow each other, is an upper bound. So the figure may be
/// too high by that much, never too low; the same holds for the turns counted as long.
package struct TurnLengths: Sendable {
    /// A reading is 0.5 us on a virtual machine: a quarter of a percent of a busy loop.
    package static let spacingNanos: Nanos = 200_000

    package private(set) var longestNanos: Nanos = 0
    package private(set) var longestWork: TurnWork = []
    package private(set) var longestProcessorNanos: Nanos = 0
    package private(set) var longestProcessorWork: TurnWork = []
    /// Turns that took more than `longNanos` of the processor.
    package private(set) var longCount = 0
    package static let longNanos: Nanos = 1_000_000

    /// When the processor time was read last, and what it was.
    private var readAtNanos: Nanos = .min / 2
    private var processorNanos: Nanos = 0

    package init() {}

    /// The next turns are compared with nothing before.
    package mutating func forget() {
        (longestNanos, longestWork, longestProcessorNanos, longestProcessorWork, longCount) = (0, [], 0, [], 0)
    }

    /// The wait is over. `processor`: the thread's processor time.
    @inline(__always)
    mutating func begin(_ now: Nanos, processor: () -> Nanos) {
        if now &- readAtNanos >= TurnLengths.spacingNanos { (readAtNanos, processorNanos) = (now, processor()) }
    }

    /// All of a turn that began at `start` is done.
    @inline(__always)
    mutating func end(_ start: Nanos, _ now: Nanos, _ work: TurnWork, processor: () -> Nanos) {
        let taken = now &- start
        if taken > longestNanos { (longestNanos, longestWork) = (taken, work) }
        guard taken > min(longestProcessorNanos, TurnLengths.longNanos) else { return }
        let before = processorNanos
        (readAtNanos, processorNanos) = (now, processor())
        let used = min(taken, processorNanos &- before)
        if used > TurnLengths.longNanos { longCount += 1 }
        if used > longestProcessorNanos { (longestProcessorNanos, longestProcessorWork) = (used, work) }
    }
}
