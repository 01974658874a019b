// The processor's clock against the system's: found out once for the process. Any thread.

import CIntrinsics
import KVBase
import KVRuntime

/// How long a tick of `ci_ticks` is.
struct TickRate: Sendable {
    /// In 2^-20 nanoseconds.
    let scaled: UInt64
    /// Half an hour at 4 GHz: what is longer is shown as this.
    static let ticksMax: UInt64 = 1 << 43

    static let ofThisMachine = TickRate(scaled: measured())

    @inline(__always)
    func nanos(_ ticks: UInt64) -> UInt64 { (min(ticks, TickRate.ticksMax) &* scaled) &>> 20 }

    /// As few ticks as last `nanos` at least.
    func ticks(_ nanos: Int) -> UInt64 {
        let (high, low) = UInt64(max(0, nanos)).multipliedFullWidth(by: 1 << 20)
        guard high < scaled else { return .max }
        return scaled.dividingFullWidth((high, low)).quotient
    }

    private static let spanNanos: Nanos = 2_000_000
    private static let attempts = 3

    /// Some milliseconds of looking at both clocks; of some attempts the one in which least came between them.
    private static func measured() -> UInt64 {
        var best: (gap: Nanos, scaled: UInt64) = (.max, 1 << 20)
        for _ in 0..<attempts {
            let (start, startGap) = both()
            var (end, endGap) = both()
            while end.nanos - start.nanos < spanNanos { (end, endGap) = both() }
            let (ticks, nanos) = (end.ticks &- start.ticks, UInt64(end.nanos - start.nanos))
            guard ticks > 0, ticks < 1 << 40, startGap + endGap < best.gap else { continue }
            best = (startGap + endGap, max(1, (nanos << 20) / ticks))
        }
        return best.scaled
    }

    private static func both() -> ((nanos: Nanos, ticks: UInt64), gap: Nanos) {
        let before = Machine.monotonicNanos
        let ticks = ci_ticks()
        let after = Machine.monotonicNanos
        return ((before + (after - before) / 2, ticks), after - before)
    }
}
