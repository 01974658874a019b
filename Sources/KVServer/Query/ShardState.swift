// What a shard touches for every command, behind a pointer: no reference counts, no exclusivity checks. Its thread.

package import KVBase
package import KVCore
import Synchronization

/// Why no write is executed; a client may go elsewhere with it.
enum WriteRefusal: UInt8 {
    case none
    /// What this server took is being handed over.
    case leaving
    /// A write has waited too long for another server.
    case lag

    /// What INFO says of data commands.
    var info: String {
        switch self {
        case .none: "served"
        case .leaving: "read-only (leaving)"
        case .lag: "read-only (max-lag)"
        }
    }

    var reply: StaticString {
        switch self {
        case .none, .leaving: "LEAVING this server is shutting down and takes no writes; use another server"
        case .lag:
            "LAG a write has waited longer than --max-lag for another server that is up; write later or elsewhere"
        }
    }
}

package struct ShardState {
    package var store: Store
    /// Wall clock of the turn, corrected when this machine's is far from the other servers'.
    package var nowMillis: Millis = 0
    /// Of the turn under way.
    package var budget = TurnBudget()
    /// Why writes are refused, if they are.
    var writeRefusal = WriteRefusal.none
    var headroom: MemoryHeadroom
    /// The server fetches what others have, and answers no data command before it has it.
    var isLoading = false {
        didSet { recognisedArgumentsMax = isLoading ? 0 : 3 }
    }
    /// Commands of more arguments, or all, go through the table.
    private(set) var recognisedArgumentsMax: Int32 = 3
    /// Changes of users that the sessions have been told of, and where they are counted.
    var accessGeneration = 0
    let accessChanges: UnsafePointer<Atomic<Int>>
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

    init(store: Store, accessChanges: UnsafePointer<Atomic<Int>>, memory: MemoryLimit) {
        (self.store, self.accessChanges) = (store, accessChanges)
        headroom = MemoryHeadroom(memory)
        accessGeneration = accessChanges.pointee.load(ordering: .acquiring)
    }

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
