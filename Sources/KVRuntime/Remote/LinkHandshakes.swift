// Whose handshake of a link goes on next: a step of one a turn. The transport's loop only.

import KVBase

/// A step takes some 200 µs, and no turn should take more than a millisecond. So a thousand strangers wait for each
/// other, and clients for none of them.
final class LinkHandshakes {
    /// A turn that has taken so long leaves its step to the next one, a few times in a row at most.
    private static let lateNanos: Nanos = 500_000
    private static let putOffMax = 3

    private unowned(unsafe) let loop: Loop
    // Looked at in every turn, and nothing calls back.
    @exclusivity(unchecked) private var waiting = HandshakeQueue<LinkConnection>()
    private var putOff = 0

    /// Before the loop runs.
    init(loop: Loop) {
        self.loop = loop
        loop.onTurnEnd { [self] in endTurn() }
    }

    /// Once until its step. O(1).
    func enqueue(_ link: LinkConnection) {
        waiting.append(link, hasBegun: link.isProving)
        loop.requestTurn()
    }

    private func endTurn() {
        if waiting.isEmpty { return }
        if putOff < Self.putOffMax, Machine.monotonicNanos - loop.nowNanos > Self.lateNanos {
            putOff += 1
        } else {
            putOff = 0
            loop.note(.handshake)
            next()?.takeStep()
        }
        if !waiting.isEmpty { loop.requestTurn() }
    }

    /// Who is gone is passed over.
    private func next() -> LinkConnection? {
        while let link = waiting.popBegun() ?? waiting.popOldest() { if link.isWaiting { return link } }
        return nil
    }
}
