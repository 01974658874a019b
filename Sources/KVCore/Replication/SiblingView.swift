// What a sibling said last about itself. A part of `Sibling`; on the replica's thread.

import KVBase

/// A vector, and the corrected clock of its actor when it was that.
struct SeenAt {
    var vector: VersionVector
    var clock: Millis
}

struct SiblingView {
    private var wasHeard = false
    private var flushed = false
    private var greeted = false
    private var adopting = false
    private var seen = VersionVector()
    private var kept: VersionVector?
    /// What of that did not rest on the word of others alone when it was said.
    private var sureSeen = VersionVector()
    private var levels: [UInt64] = []
    private var marks: [UInt64] = []
    private var gcFloor: Millis = 0
    private var rows: UInt64 = 0
    /// Its newest vector that may be used for collection, and one that waits for its actor's own writes to arrive.
    private var usableVector: SeenAt?
    private var waiting: SeenAt?
    private var clockMillis: Millis = 0

    var isHeard: Bool { wasHeard }
    var isFlushed: Bool { flushed }
    /// Own writes of it went to somebody who has not said who it is.
    var hasGreeted: Bool { greeted }
    /// It adopts what a departed server left, or has not told all of that yet.
    var isAdopting: Bool { adopting }
    var vector: VersionVector { seen }
    var sure: VersionVector { sureSeen }
    /// How much of it a power cut leaves; nil: there is no disk.
    var durable: VersionVector? { kept }
    /// Departed servers of which it holds nothing loose.
    var level: [UInt64] { levels }
    /// Marks of the servers that it retired, sorted.
    var retired: [UInt64] { marks }
    var floor: Millis { gcFloor }
    var rowsHash: UInt64 { rows }
    var usable: SeenAt? { usableVector }
    /// Its corrected clock when it last said something.
    var clock: Millis { clockMillis }

    /// Takes over what a batch says. True if its table of members changed. O(origins).
    mutating func take(_ batch: LocalBatch) -> Bool {
        wasHeard = true
        flushed = batch.isFlushed
        greeted = batch.hasGreeted
        adopting = batch.isAdopting
        levels = batch.level
        marks = batch.retired
        gcFloor = max(gcFloor, batch.floor)
        clockMillis = batch.clock
        kept = batch.durable
        // Batches come in order. An entry may go back: it has taken a retired server up again, or somebody lied (5.7).
        (seen, sureSeen) = (batch.vector, batch.sure)
        defer { rows = batch.rowsHash }
        return rows != batch.rowsHash
    }

    /// A vector counts for collection once what its actor had written by then has arrived here (`isCovered`).
    mutating func promote(_ isCovered: (VersionVector) -> Bool) {
        guard wasHeard else { return }
        let candidate = waiting ?? SeenAt(vector: sureSeen, clock: clockMillis)
        if isCovered(candidate.vector) {
            usableVector = candidate
            waiting = nil
        } else {
            waiting = candidate
        }
    }

    func checkInvariants() { check(wasHeard || seen.count == 0 && usableVector == nil && waiting == nil) }
}
