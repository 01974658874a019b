// What carries frames to another server, as far as the replication machine has to know it. Plain values; any thread.

package import KVBase

/// What the machine may expect of the way its frames go.
package enum FrameTransport: Sendable {
    /// Each frame may be lost, repeated or reordered. What is not acknowledged in time is sent again.
    case datagrams
    /// One connection per pair of servers. While it lives, frames of one lane arrive in order and none is lost, so
    /// nothing is ever sent twice; when it ends, what was not acknowledged may be lost.
    case connections
}

/// Frames of one actor to one server keep their order within a lane; small ones of the live lane overtake the parts of
/// a bulk frame.
package enum FrameLane: UInt8, Sendable, CaseIterable {
    /// Fresh writes, acknowledgements, requests.
    case live
    /// A scan's chunks and large values.
    case bulk
}

/// How far the frames got that one actor handed to a connection, counted from its beginning.
package struct LaneProgress: Sendable, Equatable {
    /// Frames of which nothing waits on this machine any more.
    package var left: UInt64
    /// Frames that the other machine's kernel has acknowledged.
    package var delivered: UInt64

    package init(left: UInt64 = 0, delivered: UInt64 = 0) { (self.left, self.delivered) = (left, delivered) }
}

/// What a connection tells the actor that uses it, whenever a frame of its left or arrived.
package struct LinkProgress: Sendable, Equatable {
    /// Differs between two connections of a pair.
    package var session: UInt64
    package var live = LaneProgress()
    package var bulk = LaneProgress()
    /// Steady time at which the last of the actor's frames began to leave.
    package var begunAt: Millis = .min
    /// What the connection carries, as far as it is known; 0 before that.
    package var bytesPerSecond = 0
    package var roundTripMillis: Millis?

    package init(session: UInt64) { self.session = session }
}
