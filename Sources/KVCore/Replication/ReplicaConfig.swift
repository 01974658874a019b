// What one replica is told at its start: who it is and the figures that pace it. Plain value, any thread.

package import KVBase

/// Identity and tunables of one `Replica`. Times are milliseconds of the steady clock.
package struct ReplicaConfig: Sendable {
    /// Frames of another cluster are refused.
    package var clusterId: UInt64
    /// Random per process start, so a restarted server can never reuse a (uid, seq) pair. Never 0.
    package var server: UInt64
    package var actorIndex: Int
    package var actorCount: Int
    /// Where other servers reach this one ("host:port"); opaque here, it travels in the membership rows.
    package var address: Bytes
    /// What it is called over restarts, and whether that is by its user's will.
    package var name: Bytes = ""
    package var isNamed = false
    /// True when the server was told to join others: it then stays `joining` until it holds what a donor held.
    package var joining: Bool

    package var spacingMillis: Millis = Limits.pairSpacingMillis
    package var keepAliveMillis: Millis = Limits.keepAliveMillis
    package var frameBytesMax: Int = Limits.frameBytesMax
    package var chunkBytesMax: Int = 5 * 512 * 1024
    /// Chunks a donor may be ahead of what the asker acknowledged.
    package var chunkWindow: Int = 8
    /// Own writes looked at per turn while a delta is being put together, and entries merged per turn of `step`.
    package var entriesPerStep: Int = 512
    /// Own writes in one delta at most.
    package var dotsPerSegmentMax: Int = 1024 * 1024
    /// Record references kept for siblings that have not acknowledged them; beyond, the oldest go and the sibling
    /// catches up by a scan.
    package var localEntriesMax: Int = 512 * 1024
    package var localBytesMax: Int = 128 * 1024 * 1024
    /// Bytes on the way to one server without acknowledgement; beyond, only empty frames go.
    package var unackedBytesMax: Int = 32 * 1024 * 1024
    /// Frames received but not yet merged; beyond, frames are dropped (the sender repeats them).
    package var inboxBytesMax: Int = 64 * 1024 * 1024
    package var suspectMillis: Millis = 3_000
    package var downMillis: Millis = 10_000
    /// A vector entry that does not move for this long (plus two round trips) although a peer is ahead is repaired by
    /// scan.
    package var patienceMillis: Millis = 1_000
    package var tombstoneAgeMillis: Millis = 60_000
    package var collectEveryMillis: Millis = 5_000
    /// Loose entries adopted ahead of what was sent of them: half the journal.
    package var adoptedAheadMax: Int = Limits.journalEntriesMax / 2
    /// The same for values that have expired.
    package var forgetEveryMillis: Millis = 1_000
    /// What the clocks of members may differ by. A value is kept for so long after its deadline, or for as long as they
    /// are seen to differ, if that is less.
    package var clockSkewMaxMillis: Millis = 10_000
    /// Replicas with equal vectors but different digests for this long are a fault: counted, then repaired.
    package var divergenceMillis: Millis = 5_000
    package var transport = FrameTransport.datagrams
    /// Mistakes to be made, for the simulator. None in a server.
    package var planted: PlantedMistakes = []

    package init(
        clusterId: UInt64, server: UInt64, actorIndex: Int, actorCount: Int, address: Bytes, joining: Bool
    ) {
        self.clusterId = clusterId
        self.server = server
        self.actorIndex = actorIndex
        self.actorCount = actorCount
        self.address = address
        self.joining = joining
    }
}
