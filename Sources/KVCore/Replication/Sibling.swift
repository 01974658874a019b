// A query actor of the same process as one replica knows it. Owned by the replica; on its thread.

import KVBase

/// What it said last, the streams of items in both directions, each a part that owns its state.
final class Sibling {
    let index: Int
    let origin: OriginIndex

    // Receiving.
    var view = SiblingView()
    var digests = DigestWatch()

    // Sending.
    var pacer = PairPacer()
    var wish = SendWish()
    var stream = SiblingStream()
    /// Other servers' requests for its writes, which it answers from its journal.
    private var asks: [ForwardedAsk] = []
    /// The scan that it asked for.
    var donor: ScanDonor?

    init(index: Int, origin: OriginIndex) {
        self.index = index
        self.origin = origin
    }

    var isHeard: Bool { view.isHeard }
    var isFlushed: Bool { view.isFlushed }
    var hasGreeted: Bool { view.hasGreeted }
    var isAdopting: Bool { view.isAdopting }
    var vector: VersionVector { view.vector }
    /// What of it does not rest on the word of others alone.
    var sure: VersionVector { view.sure }
    var level: [UInt64] { view.level }
    var retired: [UInt64] { view.retired }
    var floor: Millis { view.floor }
    var usable: SeenAt? { view.usable }
    var rowsHash: UInt64 { view.rowsHash }

    /// False if too many wait: it is asked again.
    func add(_ ask: ForwardedAsk) -> Bool {
        guard asks.count < RepairQueue.asksMax else { return false }
        asks.append(ask)
        return true
    }

    /// Those that go with the next batch.
    func takeAsks() -> [ForwardedAsk] {
        defer { asks.removeAll() }
        return asks
    }

    func checkInvariants() {
        check(asks.count <= RepairQueue.asksMax)
        view.checkInvariants()
        stream.checkInvariants()
        donor?.checkInvariants()
    }
}
