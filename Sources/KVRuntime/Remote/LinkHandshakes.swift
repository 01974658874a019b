// Whose handshake of a link goes on next: a step of one a turn. The transport's loop only.

import CSupport
import KVBase

/// A step takes some 200 µs, and no turn should take more than a millisecond. So a thousand strangers wait for each
/// other, and clients for none of them. All steps together take a quarter of the processor: a loop that takes all of it
/// waits behind other programs when a client has something to ask.
final class LinkHandshakes {
    /// A turn that has taken so long leaves its step to the next one, a few times in a row at most.
    private static let lateNanos: Nanos = 500_000
    private static let putOffMax = 3
    /// Some twenty handshakes at once wait for nothing.
    private static let atOnceNanos: Nanos = 10_000_000
    private static let part: Nanos = 4

    private unowned(unsafe) let loop: Loop
    // Looked at in every turn, and nothing calls back.
    @exclusivity(unchecked) private var waiting = HandshakeQueue<LinkConnection>()
    private var putOff = 0
    private var share = TimeShare(of: LinkHandshakes.part, atOnce: LinkHandshakes.atOnceNanos)

    /// Before the loop runs.
    init(loop: Loop) {
        self.loop = loop
        loop.onTurnEnd { [self] in endTurn() }
    }

    /// Once until its step. O(1). What this system has dialled waits for no stranger.
    func enqueue(_ link: LinkConnection) {
        waiting.append(link, hasBegun: link.isProving || link.isDialed)
        loop.requestTurn()
    }

    private func endTurn() {
        if waiting.isEmpty { return }
        let now = Machine.monotonicNanos
        if putOff < Self.putOffMax, now - loop.nowNanos > Self.lateNanos {
            putOff += 1
        } else if share.mayTake(at: now) {
            putOff = 0
            loop.note(.handshake)
            let before = cs_thread_nanos()
            next()?.takeStep()
            share.take(cs_thread_nanos() - before)
        }
        if waiting.isEmpty { return }
        if share.mayTake(at: now) { loop.requestTurn() } else { loop.requestTurn(afterMillis: 1) }
    }

    /// Who is gone is passed over.
    private func next() -> LinkConnection? {
        while let link = waiting.popBegun() ?? waiting.popOldest() { if link.isWaiting { return link } }
        return nil
    }
}
