// What a shard touches for every command, behind a pointer: no reference counts, no exclusivity checks. Its thread.

package import KVBase
package import KVCore

package struct ShardState {
    package var store: Store
    /// Wall clock of the turn, corrected when this machine's is far from the other servers'.
    package var nowMillis: Millis = 0
    /// Of the turn under way.
    package var budget = TurnBudget()
    /// The server is leaving: what it took is being handed over.
    var refusesWrites = false
    /// What is added to the loop's wall clock: the correction, and an offset in tests.
    var clockShift: Millis = 0

    /// Keys of one many-key command that are looked up together.
    static let keysTogether = 64
    /// They, apart from those of the batch, which are still in use.
    var keysAhead = LookAhead(capacity: ShardState.keysTogether)

    /// Listings up to this many entries and bytes are answered in one go, without holding references, while the turn's
    /// budget allows.
    static let pageEntries = 256
    static let pageBytesMax = 128 * 1024
    /// Entries that listings in progress hold references to.
    var listedEntries = 0

    /// Bytes of requests that the sessions have received and not run.
    var heldInput = 0

    var counters = RequestCounters()

    /// No storable version is left: the clock, or a version that reached us, is beyond the year 2527.
    static let clockError: StaticString = "ERR no version above the key's current one can be stored; check the clocks"

    init(store: Store) { self.store = store }

    func deallocate() { keysAhead.deallocate() }
}

/// What INFO counts of a shard's requests, from the start or the last CONFIG RESETSTAT.
struct RequestCounters {
    var commands = 0
    /// Those run without the table's handlers.
    var hotGets = 0
    var hotSets = 0
    var hits = 0
    var misses = 0
    var bytesReceived = 0
    var bytesSent = 0
}
