// What was collected without asking another server. A part of `RemoteServer`; on the replica's thread.

import KVBase

/// Nobody here knew the server then, or a donor collected it: up to which writes, and up to which stamp.
struct UnaskedCollection {
    private var frontier = VersionVector()
    private var floor: Millis = .min

    /// Tombstones of writes up to `frontier` with stamps up to `floor` were collected without asking it. O(origins).
    mutating func note(_ frontier: VersionVector, floor: Millis) {
        self.frontier.join(frontier)
        self.floor = max(self.floor, floor)
    }

    /// The server's own writes stamped up to here are no better than relayed ones, unless it knew at `cut` what was
    /// collected: that may have deleted them. O(origins).
    func doubtfulTo(_ cut: VersionVector) -> Millis { cut.dominates(frontier) ? .min : floor }
}
