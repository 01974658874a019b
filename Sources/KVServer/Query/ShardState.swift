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
    /// Others would not take what this server's clock stamps.
    case clock
    /// The directory takes nothing: its disk is full or broken.
    case disk

    /// What INFO says of data commands.
    var info: String {
        switch self {
        case .none: "served"
        case .leaving: "read-only (leaving)"
        case .lag: "read-only (max-lag)"
        case .clock: "read-only (clock)"
        case .disk: "read-only (disk)"
        }
    }

    var reply: StaticString {
        switch self {
        case .none, .leaving: "LEAVING this server is shutting down and takes no writes; use another server"
        case .lag:
            "LAG a write has waited longer than --max-lag for another server that is up; write later or elsewhere"
        case .clock:
            "CLOCK this server's clock is about a year ahead of the other servers', which would take none of its writes"
        case .disk:
            "MISCONF Errors writing to the log: the disk of --dir is full or broken; reads go on, and writes when it is not"
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
        didSet { chooseWay() }
    }
    /// The server reads its directory, and answers no command that needs what is in it.
    var isReading = false {
        didSet { chooseWay() }
    }
    /// Somebody wants to see each command by itself: MONITOR, a pause, a slow log of nearly everything.
    var wantsEach = false {
        didSet { chooseWay() }
    }
    var monitorsEverywhere = 0
    /// Commands of this turn for those that watch.
    var monitorLines = MonitorLines()
    /// CLIENT PAUSE.
    var pause: Pause?
    var times: CommandTimes
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
    /// How long commands of the table have run, by the processor's clock: only differences mean anything.
    var ticksOfTable: UInt64 = 0

    /// A version that reached us, or a FLOOR, is so far ahead that others would refuse one above it.
    static let clockError: StaticString =
        "CLOCK a version above the key's would be about a year ahead, and refused by other servers"

    static let readingError: StaticString = "LOADING kvd is loading the dataset from disk"

    init(store: Store, accessChanges: UnsafePointer<Atomic<Int>>, memory: MemoryLimit, times: CommandTimes) {
        (self.store, self.accessChanges, self.times) = (store, accessChanges, times)
        headroom = MemoryHeadroom(memory)
        accessGeneration = accessChanges.pointee.load(ordering: .acquiring)
    }

    private mutating func chooseWay() { recognisedArgumentsMax = isLoading || isReading || wantsEach ? 0 : 3 }

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
