// What a replica wants done after an input; the shell (KVServer, the simulator) carries it out. Owned by one actor,
// reused.

package import KVBase

/// A frame for an actor of another server. Delivery may fail silently; the machine repeats what matters.
package struct OutgoingFrame: Sendable {
    /// Server 0 stands for whoever is at the address that is greeted.
    package let to: ActorUID
    package let lane: FrameLane
    /// The connection it was made for: over another one it would count wrongly. 0 where connections do not matter.
    package let session: UInt64
    private let whole: [UInt8]
    /// A large frame, to be put together in slices before it is sent. Frames of one actor and lane keep their order.
    package let seal: FrameSeal?

    package init(to: ActorUID, lane: FrameLane = .live, session: UInt64 = 0, bytes: [UInt8]) {
        (self.to, self.lane, self.session, whole, seal) = (to, lane, session, bytes, nil)
    }

    init(to: ActorUID, lane: FrameLane = .live, session: UInt64 = 0, seal: FrameSeal) {
        (self.to, self.lane, self.session, whole, self.seal) = (to, lane, session, [], seal)
    }

    package var byteCount: Int { seal?.byteCount ?? whole.count }
    /// Puts together what is not yet. O(bytes left).
    package var bytes: [UInt8] { seal?.finish() ?? whole }
}

/// A batch for a sibling actor of the same process, handed over by reference.
package struct OutgoingBatch: Sendable {
    package var toIndex: Int
    package var batch: LocalBatch
}

/// Things worth a log line or an action of the shell; never needed for correctness of data.
package enum ReplicaEvent: Sendable, Equatable {
    /// A row of the member table is new or changed (connect to it, log it).
    case member(MemberRow)
    case serverState(server: UInt64, PeerState)
    /// This server learned that others removed it from the cluster: the process must go on under a new id.
    case forgotten
    /// This server finished its catch-up: its row went from `joining` to `up`.
    case joined
    /// Others have collected deletes that this server's directory knows nothing of: everything is fetched and compared.
    case staleDisk
    /// That is done: so many records of this actor were deleted elsewhere.
    case reconciled(dropped: Int)
    /// Entries of an accepted frame turned out to be malformed; what lay before them was merged. Close the link.
    case malformed(server: UInt64)
    /// Replicas with equal vectors differ: a fault, repaired by scan.
    case divergence(server: UInt64)
    /// Own sequence numbers that no client used: early writes of a newcomer stamped again above what others had
    /// collected, or entries of a departed server sent on.
    case restamped(ClosedRange<UInt64>)
    /// The same: parts of counters that add nothing any more were deleted.
    case buried(ClosedRange<UInt64>)
    /// That server tells of servers that find no place any more; once in `Membership.refusedEveryMillis`.
    case rowsRefused(from: UInt64)
    /// This machine's clock is off from the majority by this many milliseconds.
    case clockSkewed(Millis)
}

/// Collects the effects of any number of inputs. Empty it with `removeAll()` and reuse it.
package struct ReplicaEffects: Sendable {
    package var frames: [OutgoingFrame] = []
    package var batches: [OutgoingBatch] = []
    package var events: [ReplicaEvent] = []

    package init() {}

    package var isEmpty: Bool { frames.isEmpty && batches.isEmpty && events.isEmpty }

    package mutating func removeAll() {
        frames.removeAll(keepingCapacity: true)
        batches.removeAll(keepingCapacity: true)
        events.removeAll(keepingCapacity: true)
    }
}

/// What became of a received frame. If it closes the link, the data is untouched.
package enum FrameVerdict: Sendable, Equatable {
    case accepted
    /// Too much is waiting to be merged: dropped and counted, the sender repeats it. Keep the link.
    case overloaded
    /// The sender was removed from the cluster; it learns so from the next frame sent to it.
    case forgotten
    case rejected(FrameFault)

    /// Why the link is to be closed; nil if it may stay. A frame for the id that this address had before a restart is
    /// ordinary: its sender learns of the new id without that.
    package var closesLink: FrameFault? {
        if case .rejected(let fault) = self, fault != .misaddressed { fault } else { nil }
    }
}

package enum FrameFault: Sendable, Equatable, CaseIterable, CustomStringConvertible {
    case magic, version, cluster, checksum, length, malformed, clock, floor, ownServer, borrowed, misaddressed

    /// Of its sender, and not of the way here: it would come again.
    package var isLasting: Bool {
        switch self {
        case .magic, .checksum, .length, .malformed: false
        case .version, .cluster, .clock, .floor, .ownServer, .borrowed, .misaddressed: true
        }
    }

    /// For a log line: "link closed because of …".
    package var description: String {
        switch self {
        case .magic: "a delta that does not begin as one"
        case .version: "a delta of another version"
        case .cluster: "a delta of another cluster"
        case .checksum: "a delta with a wrong checksum"
        case .length: "a delta that is too short"
        case .malformed: "a malformed delta"
        case .clock: "a write stamped more than a year ahead: one of the two clocks is wrong"
        case .floor: "a floor more than a day ahead: one of the two clocks is wrong"
        case .ownServer: "a delta under this server's own id"
        case .borrowed: "a delta under another server's id"
        case .misaddressed: "a delta for another server"
        }
    }
}
