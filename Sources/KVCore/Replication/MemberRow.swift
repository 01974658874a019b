// One row of the member table, as it travels in frames and as KVD PEERS shows it. Plain values, any thread.

package import KVBase

/// Life of a server id; a higher rank wins when rows meet, so the order of cases is part of the protocol.
package enum MemberStatus: UInt8, Sendable, Comparable {
    /// Known, takes part in sync, still catching up.
    case joining = 0
    case up = 1
    /// Shut down in an orderly way; the id never comes back.
    case left = 2
    /// Removed, by hand or because another process now serves its address; the id never comes back.
    case forgotten = 3
    /// All members hold the same of it: its entries left the version vectors.
    case retired = 4

    package static func < (a: MemberStatus, b: MemberStatus) -> Bool { a.rawValue < b.rawValue }

    /// Counts for tombstone collection and receives frames.
    package var isMember: Bool { self <= .up }
}

/// What everybody knows about a server. Rows merge by (incarnation, status): see `merged`.
package struct MemberRow: Sendable, Hashable {
    package var server: UInt64
    /// Raised by the server itself when its address changes.
    package var incarnation: UInt32
    package var status: MemberStatus
    package var actorCount: Int
    /// Empty as long as the server does not know where others reach it.
    package var address: Bytes
    /// The same over restarts and addresses.
    package var name: Bytes
    /// The name was given by the server's user, who says that no other server has it.
    package var isNamed: Bool

    package init(
        server: UInt64, incarnation: UInt32 = 0, status: MemberStatus, actorCount: Int, address: Bytes,
        name: Bytes = "", isNamed: Bool = false
    ) {
        self.server = server
        self.incarnation = incarnation
        self.status = status
        self.actorCount = actorCount
        self.address = address
        (self.name, self.isNamed) = (name, isNamed)
    }

    /// The greater incarnation decides about address and name, the greater status always survives. Commutative,
    /// idempotent; equal incarnations with different ones (only a fault can cause that) are decided by byte order.
    package func merged(with other: MemberRow) -> MemberRow {
        var row = self
        if other.incarnation > incarnation || (other.incarnation == incarnation && other.isBehind(self)) {
            row = other
        }
        row.status = max(status, other.status)
        return row
    }

    private func isBehind(_ other: MemberRow) -> Bool {
        if address != other.address { return address > other.address }
        return name != other.name ? name > other.name : isNamed && !other.isNamed
    }

    /// Both are said to be reached at one address: at most one of them is there.
    func isAtAddress(of other: MemberRow) -> Bool { address.count > 0 && address == other.address }

    /// Both have one name, by their users' will: at most one of them lives.
    func isNamed(as other: MemberRow) -> Bool { isNamed && other.isNamed && name == other.name }
}

/// State of a server as this actor sees it.
package enum PeerState: String, Sendable {
    case up
    /// Silent for a while.
    case suspect
    /// No connection, or silent for long.
    case down
    /// One of the two is catching up.
    case syncing
}

/// One line of KVD PEERS and of INFO's Replication section.
package struct PeerSummary: Sendable {
    package var server: UInt64
    package var address: Bytes
    package var name: Bytes
    package var status: MemberStatus
    package var state: PeerState
    /// How far one of the two has caught up with the other; nil where nobody is catching up.
    package var caughtUpPercent: Int?
    /// Own writes of this actor that the server has not acknowledged.
    package var pendingDeltas: UInt64
    /// Milliseconds since this process last heard from it; nil if never.
    package var silentMillis: Millis?
    package var roundTripMillis: Millis?
    /// How long the oldest own write has waited that it has not acknowledged.
    package var lagMillis: Millis = 0
    /// About what is still to be sent to it, and what the connection carries; 0 if that is not known.
    package var backlogBytes = 0
    package var bytesPerSecond = 0
    /// Its clock minus ours.
    package var clockOffsetMillis: Millis?
}
