// How a query actor hangs on its loop: turns, timers, going down. Loop thread, except `attach` (before the loop runs).

package import KVRuntime
import KVBase
import KVCore

extension QueryActor {
    private static let sampleMillis: Int64 = 100
    private static let stalledCheckMillis: Int64 = 1000

    /// Registers the end-of-turn work and the timers. Before the loop runs.
    package func attach(to loop: Loop) {
        self.loop = loop
        beginTurn(loop)
        loop.onReceived { [unowned(unsafe) self] in executeReceived() }
        loop.onTurnEnd { [unowned self, unowned loop] in
            if hasWork {
                beginTurn(loop)
                runWaiting()
                if hasWork { loop.requestTurn() }
            }
            state.pointee.work = 0
            replicator?.turnEnded()
            publish()
        }
        var meter = RateMeter(now: loop.nowNanos)
        loop.schedule(everyMillis: QueryActor.sampleMillis) { [unowned self, unowned loop] in
            statistics.setRate(meter.sample(count: state.pointee.commands, now: loop.nowNanos))
            replicator?.replica.trimJournal()
            loop.note(.tend)
            loop.tendMemory()
        }
        loop.schedule(everyMillis: QueryActor.stalledCheckMillis) { [unowned self, unowned loop] in
            beginTurn(loop)
            closeStalled()
        }
    }

    /// Commands of this turn are stamped with the loop's clock.
    @inline(__always)
    func beginTurn(_ loop: Loop) { state.pointee.nowMillis = loop.nowMillis &+ state.pointee.clockShift }

    /// Every client gets its replies and the end of the stream.
    func finishClients() {
        for session in sessions { (session.owner as? QueryReceiver)?.finish() }
    }
}
