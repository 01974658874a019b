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
    /// Of the turn under way.
    var budget = TurnBudget()
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
            state.pointee.budget.spend(added &* TurnBudget.unitsPerNewKey)
            noteGrowth()
        }
        noteTime(isAdding: added > 0)
        state.pointee.resetBatch()
    }

    /// Looks at the clock: whether the turn has done enough.
    @inline(__always)
    func noteTime(isAdding: Bool) {
        let now = Machine.monotonicNanos
        if now > state.pointee.budget.deadline(for: .received, adding: isAdding, now: now) {
            state.pointee.budget.stop(.time)
        }
    }

    /// Keys were added in this turn. A new key takes fresh memory, of which there may be none at the moment: then what
    /// else was received waits, so that readers need not wait for the kernel.
    private func noteGrowth() {
        note(.grow)
        grewAtMillis = state.pointee.nowMillis
        if isMemoryShort() { state.pointee.budget.stop(.memory) }
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
        // A busy turn gives waiting sessions less time, but always runs one.
        let now = Machine.monotonicNanos
        let deadline = state.pointee.budget.deadline(for: .waiting, now: now)
        let deadlineAdding = state.pointee.budget.deadline(for: .waiting, adding: true, now: now)
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
            isOver = Machine.monotonicNanos > (session.state.pointee.isAdding ? deadlineAdding : deadline)
        }
        if keys > keysBefore { noteGrowth() }
        let areAllHeldBack = waiting.isEmpty && !isOver
        waiting.insert(contentsOf: waitingNow[..<kept], at: 0)
        waitingNow.removeAll(keepingCapacity: true)
        return waiting.isEmpty ? nil : areAllHeldBack ? 1 : 0
    }

    /// Notes whether the session added keys since `keys` was taken, and updates it.
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
