// What serves the clients of one query actor: a full replica, the sessions, the turn's budget. Its loop's thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// One for each core: it owns one Store on one loop. Receivers hand it what they received by direct call. Siblings and
/// other servers reach its replica through a `ReplicaActor`.
package final class Shard {
    /// From 1; the client port is the server's port plus this.
    package let index: Int
    package let context: ServerContext
    package let statistics: ShardStatistics
    package let state: UnsafeMutablePointer<ShardState>
    /// What the connections sent in this turn.
    let batch = Batch()
    /// Keys of the command under way that are not stored as the client names them.
    let storedKeys = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    static let storedKeysKeptBytes = 64 * 1024
    /// One that a command moved to another database.
    let movedKey = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    /// Where keys have their home; nil where this is the only actor.
    @exclusivity(unchecked) package var homes: Homes?
    // One thread; what runs between reading and writing one of these does not lead back to it.
    /// What clients asked of this actor as a home and it has not run yet.
    @exclusivity(unchecked) var homeQueue: [any HomeJob] = []
    /// Commands of this actor's clients that are on their way.
    @exclusivity(unchecked) var trips: [HomeTrip] = []
    /// Done, and to be used again.
    @exclusivity(unchecked) var spareTrips: [HomeTrip] = []
    /// Commands of a trip that is run here.
    @exclusivity(unchecked) var homeBatch = CommandBatch()
    /// Stands for the clients of siblings, and of transactions.
    var guest: Session {
        if let guestSession { return guestSession }
        let guest = Session(guestOf: self)
        guestSession = guest
        return guest
    }
    @exclusivity(unchecked) private var guestSession: Session?
    /// Nil when the shard stands alone (in-process tests).
    @exclusivity(unchecked) var replicator: Replicator?
    /// Nil where nothing is kept on disk. It outlives the shard's last turn.
    @exclusivity(unchecked) unowned(unsafe) var log: ActorLog?

    /// The last turn that added keys.
    private var grewAtMillis: Millis = .min / 2
    /// Fresh memory is used faster than it is made ready (`Loop.isMemoryShort`).
    var isMemoryShort: () -> Bool = { false }

    /// Sessions whose output must drain.
    var blockedSessions = 0

    /// The last turn, by its beginning, in which the waiting sessions have had theirs.
    var endedNanos: Nanos = .min

    /// Turns in which memory has waited to be tended; 0 when that is not due.
    var tendTurns = 0

    /// Nil when the shard stands alone; otherwise it outlives the shard's last turn.
    @exclusivity(unchecked) unowned(unsafe) var loop: Loop?

    /// One for each client, in no order; a session knows its place.
    private(set) var sessions: [Session] = []
    var stalledLook = StalledLook()
    /// Sessions with more to do in the next turn, oldest first.
    private var waiting: [Session] = []
    private var waitingNow: [Session] = []

    package init(index: Int, context: ServerContext, journalCapacity: Int = Limits.journalEntriesMax) {
        (self.index, self.context) = (index, context)
        statistics = context.statistics[index - 1]
        let store = Shard.makeStore(index, context, journalCapacity: journalCapacity)
        state = .allocate(capacity: 1)
        state.initialize(
            to: ShardState(
                store: store, accessChanges: context.access.changeCounter, memory: context.memory,
                times: CommandTimes(statistics.byCommand)))
        state.pointee.clockShift = context.config.clockOffsetMillis
        storedKeys.initialize(to: OutputBuffer())
        movedKey.initialize(to: OutputBuffer())
        takeSettings()
    }

    /// An empty one. Any thread.
    static func makeStore(
        _ index: Int, _ context: ServerContext, journalCapacity: Int = Limits.journalEntriesMax
    ) -> Store {
        Store(
            StoreConfig(
                hashSeed: context.hashSeed, digestKey: context.digestKey, own: context.uid(index),
                origins: context.origins, journalCapacity: journalCapacity))
    }

    /// It takes the place of the one that the shard has, which is empty. Before there is a replicator.
    func take(_ store: Store) {
        check(replicator == nil && log == nil)
        state.pointee.store.destroy()
        state.pointee.store = store
    }

    /// Frees the replica. Its sessions must have been closed.
    package func close() {
        for session in sessions { session.close() }
        guestSession?.close()
        guestSession = nil
        homes = nil
        // Who waits holds the shard.
        (waiting, waitingNow) = ([], [])
        (homeQueue, trips, spareTrips) = ([], [], [])
        homeBatch.deallocate()
        state.pointee.store.destroy()
        batch.deallocate()
        storedKeys.pointee.deallocate()
        storedKeys.deallocate()
        movedKey.pointee.deallocate()
        movedKey.deallocate()
        state.pointee.monitorLines.text.deallocate()
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
        // The end of this turn may be over: bytes held back, and output that has drained, come behind it.
        if let loop, loop.nowNanos == endedNanos { loop.requestTurn() }
    }

    package var hasWork: Bool { !waiting.isEmpty }

    /// Answers what the connections sent, in order of arrival. To be called before a session does anything else:
    /// nothing overtakes.
    @inline(__always)
    func answerReceived() {
        if !batch.isEmpty { answerBatch() }
    }

    private func answerBatch() {
        let added = batch.answerSegments(on: state)
        if added > 0 {
            state.pointee.budget.spend(added &* TurnBudget.unitsPerNewKey)
            noteGrowth()
        }
        noteTime(isAdding: added > 0)
        batch.reset()
    }

    /// Looks at the clock: whether the turn has done enough, whatever its units say.
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
        (0..<Shard.heldBackMillisMax).contains(state.pointee.nowMillis - grewAtMillis) && isMemoryShort()
    }

    /// Nobody waits for memory longer than this, which a page may take on a host that has to find it first.
    static let heldBackMillisMax: Millis = 100

    /// Gives each waiting session one turn; those that still have more to do queue up again. The receiver is asked to
    /// run it, because only it knows where the output goes. In how many milliseconds to call it again, if ever.
    package func serveWaiting() -> Int64? {
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
            state.pointee.counters = RequestCounters()
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
