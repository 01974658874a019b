// How a query actor hangs on its loop: turns, timers, going down. Loop thread, except `attach` (before the loop runs).

package import KVRuntime
import KVBase
import KVCore
import Synchronization

extension Shard {
    private static let sampleMillis: Int64 = 100
    /// Tending memory waits for a turn that leaves time for it, but for no more than so many turns.
    private static let tendTurnsMax = 20
    private static let stalledCheckMillis: Int64 = 1000
    private static let stalledPauseMillis: Int64 = 5

    /// Registers the end-of-turn work and the timers. Before the loop runs.
    package func attach(to loop: Loop) {
        self.loop = loop
        isMemoryShort = { [unowned(unsafe) loop] in loop.isMemoryShort }
        beginTurn(loop)
        // Borrowed: the server keeps both until the loop has ended, and counting them would be a part of every turn.
        let (this, owner) = (Unmanaged.passUnretained(self), Unmanaged.passUnretained(loop))
        loop.onReceived { this._withUnsafeGuaranteedRef { $0.answerReceived() } }
        loop.onTurnEnd {
            this._withUnsafeGuaranteedRef { shard in owner._withUnsafeGuaranteedRef { shard.endTurn($0) } }
        }
        var meters = [RateMeter](repeating: RateMeter(now: loop.nowNanos), count: 3)
        loop.schedule(everyMillis: Shard.sampleMillis) { [unowned self, unowned loop] in
            let (counters, now) = (state.pointee.counters, loop.nowNanos)
            statistics.setRates(
                commands: meters[0].sample(count: counters.commands, now: now),
                received: meters[1].sample(count: counters.bytesReceived, now: now),
                sent: meters[2].sample(count: counters.bytesSent, now: now))
            publishStore()
            statistics.setFreshPages(Loop.freshPages)
            replicator?.replica.trimJournal(logged: log?.logged ?? .max)
            tendTurns = 1
            takeSettings()
            statistics.setHeldInput(state.pointee.heldInput)
            readOn()
            giveUpTrips()
        }
        loop.schedule(everyMillis: Shard.stalledCheckMillis) { [unowned self, unowned loop] in closeStalled(loop) }
    }

    private func closeStalled(_ loop: Loop) {
        beginTurn(loop)
        guard !closeStalled() else { return }
        loop.schedule(afterMillis: Shard.stalledPauseMillis) { [unowned self, unowned loop] in closeStalled(loop) }
    }

    /// All that was received is answered, messages and timers are done: those who wait, replication, memory.
    private func endTurn(_ loop: Loop) {
        beginTurn(loop)
        if !homeQueue.isEmpty {
            let now = Machine.monotonicNanos
            serveHome(until: state.pointee.budget.deadline(for: .waiting, now: now))
        }
        if hasWork, let millis = serveWaiting() { loop.requestTurn(afterMillis: millis) }
        endedNanos = loop.nowNanos
        replicator?.turnEnded()
        if !state.pointee.monitorLines.isEmpty { tellMonitors() }
        publish()
        if tendTurns > 0 { tend(loop) }
    }

    private func tend(_ loop: Loop) {
        let now = Machine.monotonicNanos
        guard now < state.pointee.budget.deadline(for: .tending, now: now) || tendTurns > Shard.tendTurnsMax else {
            tendTurns += 1
            return loop.requestTurn()
        }
        tendTurns = 0
        loop.note(.tend)
        loop.tendMemory()
    }

    /// To be called before anything is done in a turn; again in the same turn it changes nothing. Commands are stamped
    /// with the loop's clock.
    @inline(__always)
    func beginTurn(_ loop: Loop) {
        state.pointee.nowMillis = loop.nowMillis &+ state.pointee.clockShift
        state.pointee.budget.begin(at: loop.nowNanos)
        if state.pointee.accessGeneration != state.pointee.accessChanges.pointee.load(ordering: .acquiring) {
            refreshLogins()
        }
    }

    /// A user has changed: from the next command on every client has what rights it has now.
    @inline(never)
    func refreshLogins() {
        state.pointee.accessGeneration = context.access.generation
        for session in sessions where !session.refreshLogin() { session.owner?.sessionRefused(reply: nil) }
    }

    /// What INFO of another actor tells of this one's store.
    func publishStore() {
        let store = state.pointee.store
        statistics.setKeys(store.count, expired: Int(clamping: store.expiredTotal))
    }

    /// From now on a write is answered with an error; reads go on.
    func refuseWrites() { state.pointee.writeRefusal = .leaving }

    /// The disk takes nothing, or takes it again. Whoever leaves refuses writes anyway.
    func refuseWrites(byDisk isRefusing: Bool) {
        if isRefusing, state.pointee.writeRefusal != .leaving { state.pointee.writeRefusal = .disk }
        if !isRefusing, state.pointee.writeRefusal == .disk { state.pointee.writeRefusal = .none }
    }

    /// What was answered in this turn may be lost.
    func closeAnswered() { for session in sessions { (session.owner as? QueryReceiver)?.closeIfAnswered() } }

    /// What was answered in this turn waits for the log.
    func holdAnswered(for log: ActorLog) {
        for session in sessions { (session.owner as? QueryReceiver)?.holdIfAnswered(for: log) }
    }

    /// Every client gets its replies and the end of the stream.
    func finishClients() {
        for session in sessions { (session.owner as? QueryReceiver)?.finish() }
    }
}
