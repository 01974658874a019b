// Whose handshake of a link goes on next: a step of one a turn. The transport's loop only.

import KVBase

/// A step takes some 200 µs, and no turn should take more than a millisecond. So a thousand strangers wait for each
/// other, and clients for none of them.
final class LinkHandshakes {
    /// A turn that has taken so long leaves its step to the next one, a few times in a row at most.
    private static let lateNanos: Nanos = 500_000
    private static let putOffMax = 3

    private unowned(unsafe) let loop: Loop
    /// Those that have been answered before go first: in what they did most of the work is done.
    private var answered: [LinkConnection] = []
    /// Those that begin, in the order in which they came; those before `head` are gone.
    private var beginning: [LinkConnection] = []
    private var head = 0
    private var putOff = 0

    /// Before the loop runs.
    init(loop: Loop) {
        self.loop = loop
        loop.onTurnEnd { [self] in endTurn() }
    }

    /// Once until its step. O(1).
    func enqueue(_ link: LinkConnection) {
        if link.isProving { answered.append(link) } else { beginning.append(link) }
        loop.requestTurn()
    }

    private func endTurn() {
        if isEmpty { return }
        if putOff < Self.putOffMax, Machine.monotonicNanos - loop.nowNanos > Self.lateNanos {
            putOff += 1
        } else {
            putOff = 0
            loop.note(.handshake)
            next()?.takeStep()
        }
        if !isEmpty { loop.requestTurn() }
    }

    private var isEmpty: Bool { answered.isEmpty && head == beginning.count }

    /// Who is gone is passed over.
    private func next() -> LinkConnection? {
        while let link = answered.popLast() { if link.isWaiting { return link } }
        defer {
            if head == beginning.count {
                beginning.removeAll(keepingCapacity: true)
                head = 0
            }
        }
        while head < beginning.count {
            let link = beginning[head]
            head += 1
            if link.isWaiting { return link }
        }
        return nil
    }
}
