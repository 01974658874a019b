// A query actor: one full replica and the clients connected to its port. Everything here runs on its loop's thread.

import Glibc
package import KVBase
package import KVCore
import KVRuntime
import RESP

/// What the query actor touches for every command, kept behind a pointer: no reference counts, no exclusivity checks.
package struct QueryState {
    package var store: Store
    var batch = CommandBatch()
    /// Wall clock of the turn, corrected when this machine's is far from the other servers'.
    package var nowMillis: Millis = 0
    /// The server is leaving: what it took is being handed over.
    var refusesWrites = false
    /// What is added to the loop's wall clock: the correction, and an offset in tests.
    var clockShift: Millis = 0

    /// Commands parsed at once from one connection.
    static let commandsPerParse = 64
    /// Commands of several connections that are run together: the batch never holds more than these and one parse.
    static let commandsTogether = 64
    static let batchMax = commandsPerParse + commandsTogether
    /// Connections whose commands are run together.
    static let segmentsMax = 64

    /// By place in the batch.
    let kinds = UnsafeMutablePointer<HotCommand>.allocate(capacity: QueryState.batchMax)
    /// The first key of each, and how far its memory is on its way.
    var ahead = LookAhead(capacity: QueryState.batchMax)
    let segments = UnsafeMutablePointer<ReceivedSegment>.allocate(capacity: QueryState.segmentsMax)
    var segmentCount = 0

    /// Keys of one many-key command that are looked up together.
    static let keysTogether = 64
    /// They, apart from those of the batch, which are still in use.
    var keysAhead = LookAhead(capacity: QueryState.keysTogether)

    /// Listings up to this many entries and bytes are answered in one go, without holding references, while the turn's
    /// work allows.
    static let pageEntries = 256
    static let pageBytesMax = 128 * 1024
    /// Done in this turn (QueryActor+Batch.swift).
    package var work = 0
    /// Entries that listings in progress hold references to.
    var listedEntries = 0

    /// Bytes of requests that the sessions have received and not run.
    var heldInput = 0

    var commands = 0
    /// Those run without the table's handlers.
    var hotGets = 0
    var hotSets = 0
    var hits = 0
    var misses = 0
    var bytesReceived = 0
    var bytesSent = 0

    init(store: Store) { self.store = store }

    /// CONFIG RESETSTAT.
    mutating func resetCounters() {
        (commands, hotGets, hotSets) = (0, 0, 0)
        (hits, misses, bytesReceived, bytesSent) = (0, 0, 0, 0)
    }

    func deallocate() {
        batch.deallocate()
        kinds.deallocate()
        ahead.deallocate()
        keysAhead.deallocate()
        segments.deallocate()
    }
}

/// Owns one Store on one loop. Receivers hand it parsed batches by direct call, in the order the bytes arrived.
package final class QueryActor {
    /// From 1; the client port is the server's port plus this.
    package let index: Int
    package let context: ServerContext
    package let statistics: ActorStatistics
    package let state: UnsafeMutablePointer<QueryState>
    /// Nil when the actor stands alone (in-process tests).
    var replicator: Replicator?

    /// The last turn that added keys.
    private var grewAtMillis: Millis = .min / 2
    /// Fresh memory is used faster than it is made ready (`Loop.isMemoryShort`).
    var isMemoryShort: () -> Bool = { false }

    /// Sessions whose output must drain.
    var blockedSessions = 0

    /// Turns in which memory has waited to be tended; 0 when that is not due.
    var tendTurns = 0

    /// Nil when the actor stands alone; otherwise it outlives the actor's last turn.
    unowned(unsafe) var loop: Loop?

    /// Clients of this actor, in no order; a session knows its place.
    private(set) var sessions: [Session] = []
    /// Sessions with more to do in the next turn, oldest first.
    private var waiting: [Session] = []
    private var waitingNow: [Session] = []

    package init(index: Int, context: ServerContext, journalCapacity: Int = Limits.journalEntriesMax) {
        (self.index, self.context) = (index, context)
        statistics = context.statistics[index - 1]
        let store = Store(
            StoreConfig(
                hashSeed: context.hashSeed, digestKey: context.digestKey, own: context.uid(index),
                origins: context.origins, journalCapacity: journalCapacity))
        state = .allocate(capacity: 1)
        state.initialize(to: QueryState(store: store))
        state.pointee.clockShift = context.config.clockOffsetMillis
    }

    /// Frees the replica. Its sessions must have been closed.
    package func close() {
        for session in sessions { session.close() }
        state.pointee.store.destroy()
        state.pointee.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    // Sessions.

    func add(_ session: Session) {
        session.state.pointee.place = sessions.count
        sessions.append(session)
        statistics.connected(sessions.count)
    }

    func remove(_ session: Session) {
        let place = session.state.pointee.place
        guard place >= 0 else { return }
        let last = sessions.removeLast()
        if last !== session {
            sessions[place] = last
            last.state.pointee.place = place
        }
        session.state.pointee.place = -1
        statistics.disconnected(sessions.count)
    }

    /// The session wants another turn; it gets one after every other that waits.
    func enqueue(_ session: Session) {
        guard !session.state.pointee.isWaiting else { return }
        session.state.pointee.isWaiting = true
        waiting.append(session)
    }

    /// Time for all waiting sessions of one turn: one more slice may begin just before it is over.
    private static let waitingNanosMax: Nanos = 300_000

    private static let waitingNanosLate: Nanos = 100_000
    /// No more than one begins in a turn that has taken this long, or this long with keys being added.
    private static let waitingTurnNanos: Nanos = 600_000
    private static let waitingTurnNanosAdding: Nanos = 350_000

    /// A turn that has taken this long has done enough: what else was received waits for the next. Less where keys were
    /// added, since replication's share and that of waiting sessions are larger then.
    private static let turnNanosEnough: Nanos = 600_000
    private static let turnNanosEnoughAdding: Nanos = 250_000

    package var hasWork: Bool { !waiting.isEmpty }

    /// Runs what the connections received, in order of arrival. To be called before a session does anything else:
    /// nothing overtakes.
    @inline(__always)
    func executeReceived() {
        if state.pointee.segmentCount > 0 { executeSegments() }
    }

    private func executeSegments() {
        let count = state.pointee.segmentCount
        // At once: a command run from here that leads back here finds nothing to do.
        state.pointee.segmentCount = 0
        let keysBefore = state.pointee.store.count
        var keys = keysBefore
        for i in 0..<count {
            let segment = state.pointee.segments[i]
            segment.receiver._withUnsafeGuaranteedRef { $0.execute(segment, keys: &keys) }
        }
        let added = keys &- keysBefore
        if added > 0 {
            state.pointee.work &+= added &* QueryState.workPerNewKey
            noteGrowth()
        }
        noteTime(isAdding: added > 0)
        state.pointee.resetBatch()
    }

    /// The counts are guesses at what memory takes, which may be far slower than here: the clock decides too whether
    /// the turn has done enough.
    @inline(__always)
    func noteTime(isAdding: Bool) {
        guard let loop else { return }
        let enough = isAdding ? QueryActor.turnNanosEnoughAdding : QueryActor.turnNanosEnough
        if monotonicNanos() &- loop.nowNanos > enough { state.pointee.work = QueryState.workMax + 1 }
    }

    /// Keys were added in this turn. A new key takes fresh memory, of which there may be none at the moment: then what
    /// else was received waits, so that readers need not wait for the kernel.
    private func noteGrowth() {
        note(.grow)
        grewAtMillis = state.pointee.nowMillis
        if isMemoryShort() { state.pointee.work = QueryState.workMax + 1 }
    }

    /// The session adds keys, for which there is no memory at the moment: it waits, those that add none do not.
    @inline(__always)
    func mustWaitForMemory(_ session: Session) -> Bool { session.state.pointee.isAdding && isHeldBack }

    private var isHeldBack: Bool {
        (0..<QueryActor.heldBackMillisMax).contains(state.pointee.nowMillis - grewAtMillis) && isMemoryShort()
    }

    /// Nobody waits for memory longer than this, which a page may take on a host that has to find it first.
    static let heldBackMillisMax: Millis = 100

    /// Gives each waiting session one turn; those that still have more to do queue up again. The receiver is asked to
    /// run it, because only it knows where the output goes. In how many milliseconds to call it again, if ever.
    package func runWaiting() -> Int64? {
        swap(&waiting, &waitingNow)
        // In a turn with much work the waiting sessions have a smaller share, but one.
        let isLate = state.pointee.work > QueryState.workMax
        let now = monotonicNanos()
        let turnBegan = loop?.nowNanos ?? now
        let deadline = min(
            now + (isLate ? QueryActor.waitingNanosLate : QueryActor.waitingNanosMax),
            turnBegan + QueryActor.waitingTurnNanos)
        let deadlineAdding = min(deadline, turnBegan + QueryActor.waitingTurnNanosAdding)
        let keysBefore = state.pointee.store.count
        var (keys, kept, isOver) = (keysBefore, 0, false)
        for i in 0..<waitingNow.count {
            let session = waitingNow[i]
            if isOver || mustWaitForMemory(session) {
                // First in the next turn, in this order.
                waitingNow[kept] = session
                kept += 1
                continue
            }
            session.state.pointee.isWaiting = false
            session.owner?.sessionShouldRun()
            noteAdding(session, keys: &keys)
            isOver = monotonicNanos() > (session.state.pointee.isAdding ? deadlineAdding : deadline)
        }
        if keys > keysBefore { noteGrowth() }
        let areAllHeldBack = waiting.isEmpty && !isOver
        waiting.insert(contentsOf: waitingNow[..<kept], at: 0)
        waitingNow.removeAll(keepingCapacity: true)
        return waiting.isEmpty ? nil : areAllHeldBack ? 1 : 0
    }

    /// What the session has just run made `keys`, as many as there were before, so many.
    @inline(__always)
    func noteAdding(_ session: Session, keys: inout Int) {
        let now = state.pointee.store.count
        session.state.pointee.isAdding = now > keys
        keys = now
    }

    /// Publishes the turn's counters for other threads (INFO); called once per turn.
    package func publish() {
        if statistics.takeReset() {
            state.pointee.resetCounters()
            loop?.forgetLongestTurn()
        }
        statistics.publish(state)
        if let loop { statistics.setLongestTurns(loop.turnLengths) }
    }

    /// What this turn does, for whoever finds it long.
    @inline(__always)
    func note(_ work: TurnWork) { loop?.note(work) }

    func peers() -> [PeerRow] { replicator?.peers() ?? [] }
}
