// Large frames between two turns: those to be checked before they are taken, those to be put together before they are
// sent, and what came after them. Loop thread of its actor.

import KVCore

/// Two queues. Whatever comes while one is not empty goes to its end, so that no frame overtakes another.
struct FramesInProgress {
    struct Checked {
        let bytes: [UInt8]
        let crc: UInt32
        /// Whom to refuse if it is faulty, and whose it is.
        let link: UInt64
        let peer: UInt64
    }

    /// Received bytes that may wait, or one frame if that is larger. What does not fit is dropped as a network may, and
    /// sent again by its writer.
    static let bytesMax = 64 * 1024 * 1024

    private var incoming: [(check: FrameCheck, link: UInt64, peer: UInt64)] = []
    private var incomingBytes = 0
    /// Bounded by their writer, which waits until the few it has given a connection have left. None is dropped: it has
    /// its number there, and is not made again as long as the connection stands.
    private var outgoing: [OutgoingFrame] = []

    var isEmpty: Bool { incoming.isEmpty && outgoing.isEmpty }

    func mustWait(_ received: [UInt8]) -> Bool { !incoming.isEmpty || received.count >= FrameSlice.bytes }
    func mustWait(_ frame: OutgoingFrame) -> Bool { !outgoing.isEmpty || frame.seal != nil }

    mutating func append(_ received: [UInt8], _ link: UInt64, from peer: UInt64 = 0) {
        guard incoming.isEmpty || incomingBytes + received.count <= FramesInProgress.bytesMax else { return }
        incoming.append((FrameCheck(received), link, peer))
        incomingBytes += received.count
    }

    mutating func append(_ frame: OutgoingFrame) { outgoing.append(frame) }

    /// Checks a slice of the first frame that arrived; returns it when that was the last.
    mutating func checked() -> Checked? {
        guard !incoming.isEmpty, incoming[0].check.advance(budget: FrameSlice.bytes) else { return nil }
        let (check, link, peer) = incoming.removeFirst()
        incomingBytes -= check.bytes.count
        return Checked(bytes: check.bytes, crc: check.crc, link: link, peer: peer)
    }

    /// Puts a slice of the first frame that is to be sent together; returns it when that was the last.
    mutating func sealed() -> OutgoingFrame? {
        guard let first = outgoing.first, first.seal?.advance(budget: FrameSlice.bytes) ?? true else { return nil }
        outgoing.removeFirst()
        return first
    }
}
