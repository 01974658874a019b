// How a query actor hangs on its loop: turns, timers, going down. Loop thread, except `attach` (before the loop runs).

package import KVRuntime
import KVBase
import KVCore

extension QueryActor {
    private static let sampleMillis: Int64 = 100
    /// Tending memory waits for a turn that has taken less than this, but for no more than so many turns.
    private static let tendNanosLate: Nanos = 300_000
    private static let tendTurnsMax = 20
    private static let stalledCheckMillis: Int64 = 1000

    /// Registers the end-of-turn work and the timers. Before the loop runs.
    package func attach(to loop: Loop) {
        self.loop = loop
        isMemoryShort = { [unowned(unsafe) loop] in loop.isMemoryShort }
        beginTurn(loop)
        loop.onReceived { [unowned(unsafe) self] in executeReceived() }
        loop.onTurnEnd { [unowned self, unowned loop] in
            if hasWork {
                beginTurn(loop)
                if let millis = runWaiting() { loop.requestTurn(afterMillis: millis) }
            }
            state.pointee.work = 0
            replicator?.turnEnded()
            publish()
            if tendTurns > 0 { tend(loop) }
        }
        var meter = RateMeter(now: loop.nowNanos)
        loop.schedule(everyMillis: QueryActor.sampleMillis) { [unowned self, unowned loop] in
            statistics.setRate(meter.sample(count: state.pointee.commands, now: loop.nowNanos))
            statistics.setFreshPages(Loop.freshPages)
            replicator?.replica.trimJournal()
            tendTurns = 1
            statistics.setHeldInput(state.pointee.heldInput)
            readOn()
        }
        loop.schedule(everyMillis: QueryActor.stalledCheckMillis) { [unowned self, unowned loop] in
            beginTurn(loop)
            closeStalled()
        }
    }

    private func tend(_ loop: Loop) {
        guard loop.turnNanos < QueryActor.tendNanosLate || tendTurns > QueryActor.tendTurnsMax else {
            tendTurns += 1
            return loop.requestTurn()
        }
        tendTurns = 0
        loop.note(.tend)
        loop.tendMemory()
    }

    /// Commands of this turn are stamped with the loop's clock.
    @inline(__always)
    func beginTurn(_ loop: Loop) { state.pointee.nowMillis = loop.nowMillis &+ state.pointee.clockShift }

    /// From now on a write is answered with an error; reads go on.
    func refuseWrites() { state.pointee.refusesWrites = true }

    /// Every client gets its replies and the end of the stream.
    func finishClients() {
        for session in sessions { (session.owner as? QueryReceiver)?.finish() }
    }
}
