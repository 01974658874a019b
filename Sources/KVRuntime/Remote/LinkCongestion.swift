// Which of the kernel's congestion controls suits the path of a connection. A value, owned by the connection.

import CSupport
import KVBase

/// A link bounds by itself what waits on the way (`LinkFlow`), so what it asks of the kernel is little. Controls that
/// go by loss never halt a stream, but are slow where packets are lost for another reason than a full queue. BBR does
/// not mind that, but halts a saturated stream for a round trip and 200 ms each 10 s, to measure the round trip
/// (Cardwell et al. 2016, PROBE_RTT): over 250 ms a fresh write is then a second late. So a link begins with what the
/// system has, gives BBR up before its first halt where the path loses nothing, and takes it where the path does.
struct LinkCongestion {
    enum Choice { case system, byLoss, byRate }

    private static let periodNanos: Nanos = 1_000_000_000
    private static let segmentsMin: UInt32 = 4
    /// Periods with a loss among the last ones that make a path lossy.
    private static let lossyMin = 3
    private static let periodsKept = 10
    /// Periods in a row without a loss after which a path counts as one that loses nothing, and as one again.
    private static let calmMin = 8
    private static let calmAgainMin = 60

    private(set) var choice = Choice.system
    private var since: Nanos = 0
    private var segments: UInt32 = 0
    private var repeated: UInt32 = 0
    private var periods: [Bool] = []
    private var calmPeriods = 0

    /// True if the choice has changed. `isKnownLossy`: an earlier connection has found that out.
    mutating func note(_ read: cs_conn_flow, isKnownLossy: Bool, _ now: Nanos) -> Bool {
        let before = choice
        if choice == .system, isKnownLossy { choice = .byRate }
        let (sent, again) = (read.segments &- segments, read.repeated &- repeated)
        if now - since >= LinkCongestion.periodNanos, sent >= LinkCongestion.segmentsMin {
            (since, segments, repeated) = (now, read.segments, read.repeated)
            note(isLossy: again > 0)
        }
        return choice != before
    }

    private mutating func note(isLossy: Bool) {
        calmPeriods = isLossy ? 0 : calmPeriods + 1
        periods.append(isLossy)
        if periods.count > LinkCongestion.periodsKept { periods.removeFirst() }
        if periods.count(where: { $0 }) >= LinkCongestion.lossyMin {
            choice = .byRate
        } else if calmPeriods >= (choice == .byRate ? LinkCongestion.calmAgainMin : LinkCongestion.calmMin) {
            choice = .byLoss
        }
    }

    /// What to ask the kernel for, first choice first, where it uses `current`; empty if that may stay.
    func wanted(_ current: String) -> [String] {
        let isByRate = current.hasPrefix("bbr")
        return switch choice {
        case .system: []
        case .byLoss: isByRate ? ["cubic", "reno"] : []
        case .byRate: isByRate ? [] : ["bbr"]
        }
    }
}
