// The one message of an ordered pair of actors on different servers, decoded. Plain values.

import KVBase

/// Everything in a frame except the entries, which stay bytes until they are merged.
struct FrameHead: Sendable {
    var sender = ActorUID(server: 0, index: 0)
    /// The server the frame is meant for: after a restart its address may belong to another id.
    var toServer: UInt64 = 0
    var steady: Millis = 0
    var wall: Millis = 0
    /// The steady time of the last frame that arrived from there, and how long ago that was; 0 if there was none.
    var echo: Millis = 0
    var echoHold: Millis = 0
    var vector = VersionVector()
    var digest: UInt64 = 0
    var floor: Millis = 0
    /// Own writes of the sender that went to this server so far, this frame included: what is missing is a gap.
    var sentTo: UInt64 = 0
    var islands: [Island] = []
    var rowsHash: UInt64 = 0
    var rows: [MemberRow] = []
    var report: StabilityReport?
    var asks: [RepairAsk] = []
    var scanAsk: ScanAsk?
    /// The receiver's scan that the sender is giving chunks for; 0 if there is none.
    var serving: UInt32 = 0
    /// Nothing merged beyond the vector: the digest belongs to it.
    var isSettled = false
}

/// Which part of the frame an encoded run of entries is.
enum BlockKind: Sendable {
    case section(origin: OriginIndex, from: UInt64, to: UInt64)
    case chunk(ChunkHead)
}

struct ChunkHead: Sendable {
    var session: UInt32
    var number: UInt64
    var isLast: Bool
    var everything: Bool
    /// How much of the donor's table lies behind its end.
    var percent: UInt8 = 0
    /// The donor's vector when the scan began.
    var start: VersionVector
    var frontier: VersionVector
}

/// A run of encoded entries.
struct Block: Sendable {
    var kind: BlockKind
    var count: Int
    var millisMax: Millis
    /// Place of the entries in the frame.
    var from = 0
    var to = 0
}
