// Whose turn it is in the frames to one server. A part of `RemoteServer`; on the replica's thread.

import KVBase

struct FrameTurns {
    private static let reportEveryMillis: Millis = 1_000

    private var isBulk = false
    private var reportAt: Millis?

    /// The next frame is a bulk one.
    var isBulkNext: Bool { isBulk }

    mutating func setBulkNext(_ isNext: Bool) { isBulk = isNext }

    func isReportDue(_ now: Millis) -> Bool { reportAt.map { now - $0 >= FrameTurns.reportEveryMillis } ?? true }

    mutating func noteReport(_ now: Millis) { reportAt = now }
}
