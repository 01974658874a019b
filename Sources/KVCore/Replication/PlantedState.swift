// What planted mistakes remember between two steps. A part of `Replica`; on its actor's thread. Empty in a server.

import KVBase

struct PlantedState {
    private var drift: UInt64 = 0
    private var lastMillis: Millis = 0
    private var heads: [UInt64]

    init(actorCount: Int) { heads = [UInt64](repeating: 0, count: actorCount) }

    /// By how much the digest is wrong.
    var digestDrift: UInt64 { drift }

    mutating func addDrift(_ term: UInt64) { drift &+= term }

    /// Stamp of the last own write.
    var lastStamp: Millis { lastMillis }

    mutating func noteStamp(_ millis: Millis) { lastMillis = millis }

    /// Exchanges the heads of a report for those of the report before.
    mutating func swapHeads(_ others: inout [UInt64]) { swap(&heads, &others) }
}
