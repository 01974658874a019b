// Intervals that another server misses, to be sent with the next frame. A part of `RemoteServer`; on the replica's
// thread.

import KVBase

struct RepairQueue {
    static let asksMax = 16

    private var asks: [RepairAsk] = []
    private var last: (ask: RepairAsk, at: Millis)?

    var isEmpty: Bool { asks.isEmpty }
    var count: Int { asks.count }

    /// What does not fit is asked for again.
    mutating func add(_ ask: RepairAsk) {
        guard asks.count < RepairQueue.asksMax, !asks.contains(ask) else { return }
        asks.append(ask)
    }

    mutating func next() -> RepairAsk? { asks.isEmpty ? nil : asks.removeFirst() }

    /// Asked again before the answer, which takes `millis`, can have arrived.
    func isOnItsWay(_ ask: RepairAsk, _ now: Millis, _ millis: Millis) -> Bool {
        last.map { $0.ask.from == ask.from && now - $0.at < millis } ?? false
    }

    mutating func noteAnswer(_ ask: RepairAsk, _ now: Millis) { last = (ask, now) }

    func checkInvariants() { check(asks.count <= RepairQueue.asksMax) }
}
