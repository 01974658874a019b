// What was collected without asking a server that was met later. A part of `RemoteServer`; on the replica's thread.

import KVBase

/// Nobody here knew the server then, or a donor collected it: up to which writes, and up to which stamp.
///
/// It matters for a while only, in which that server hears of it: two that doubt each other, because each has collected
/// without the other, must come to an end.
struct UnaskedCollection {
    private var frontier = VersionVector()
    private var floor: Millis = .min
    private var until: Millis = .min

    /// Tombstones of writes up to `frontier` with stamps up to `floor` were collected without asking it; that matters
    /// before the steady time `until`. O(origins).
    mutating func note(_ frontier: VersionVector, floor: Millis, until: Millis) {
        self.frontier.join(frontier)
        self.floor = max(self.floor, floor)
        self.until = max(self.until, until)
    }

    /// The server's own writes stamped up to here are no better than relayed ones, unless it knew at `cut` what was
    /// collected: that may have deleted them. O(origins).
    func doubtfulTo(_ cut: VersionVector, _ now: Millis) -> Millis {
        now >= until || cut.dominates(frontier) ? .min : floor
    }
}
