// How many records a store has, of which kinds. A value; one thread.

import KVBase

struct StoreFigures: Equatable {
    /// Records that are no tombstones.
    var stored = 0
    /// Keys that are neither deleted nor expired.
    var shown = 0
    /// Those of them with a deadline, and the sum of their deadlines.
    var volatile = 0
    var deadlines: Int128 = 0
    /// Expired keys that are still here.
    var expiredKept = 0
    /// Records of deadlines set apart from their values, and parts of counters, deleted ones too.
    var companions = 0
    /// Deleted keys that are shown, as something was added to them since.
    var revived = 0
    /// Keys that have expired since the start.
    var expiredTotal: UInt64 = 0

    /// Every shown record is one, and no record is hidden: pages need not be looked through.
    var isSimple: Bool { stored == shown && volatile == 0 && companions == 0 }

    func averageTimeToLive(_ now: Millis) -> Millis {
        volatile == 0 ? 0 : max(0, Millis(clamping: deadlines / Int128(volatile)) - now)
    }
}
