// A query actor as the home of keys: it runs what its siblings' clients ask of it. Its loop's thread.

import CIntrinsics
import KVBase
import KVCore
import KVRuntime
import RESP

extension Shard {
    /// A request of a sibling's client. What it brought is merged at once: it may be older than what this actor is told
    /// next. It runs in this turn, unless that has done enough. Of each client there is one at most.
    func take(_ request: HomeRequest) {
        HomeRequest.merge(&request.given, into: self)
        take(job: request)
    }

    func take(job: any HomeJob) {
        if homeQueue.isEmpty, !state.pointee.budget.isSpent, serve(job, until: 0) { return }
        job.putOff()
        check(homeQueue.count < Limits.clientsMax)
        homeQueue.append(job)
        loop?.requestTurn()
    }

    /// Runs requests that wait until `deadline`, one at least.
    func serveHome(until deadline: Nanos) {
        var served = 0
        repeat {
            if !serve(homeQueue[served], until: deadline) { break }
            served += 1
        } while served < homeQueue.count && Machine.monotonicNanos < deadline
        homeQueue.removeFirst(served)
        if !homeQueue.isEmpty { loop?.requestTurn() }
    }

    /// False if it has to go on in another turn.
    private func serve(_ job: any HomeJob, until deadline: Nanos) -> Bool {
        guard job.mayRun() else { return true }
        guard job.run(at: self, until: deadline) else { return false }
        // What it wrote must be in the log first.
        if let log, job.hasWritten {
            log.keepWaiting(job)
        } else {
            job.giveBack(from: self)
        }
        return true
    }

    /// A home has answered.
    func answered(_ request: HomeRequest) {
        HomeRequest.merge(&request.shown, into: self)
        request.ask.take(request)
    }

    // MARK: Trips

    /// A trip of another actor's client, or one of an own client that comes back.
    func take(_ trip: HomeTrip) {
        if trip.from == index { return trip.arrive(at: self) }
        trip.bring(to: self)
        take(job: trip)
    }

    /// Commands of a session set out.
    func newTrip(_ session: Session) -> HomeTrip {
        let trip = spareTrips.popLast() ?? HomeTrip()
        trip.begin(session)
        return trip
    }

    private static let spareTripsMax = 64

    func takeSpare(_ trip: HomeTrip) { if spareTrips.count < Shard.spareTripsMax { spareTrips.append(trip) } }

    /// It is away.
    func keep(_ trip: HomeTrip) {
        trip.place = trips.count
        trips.append(trip)
    }

    /// It is back, or nobody waits for it.
    func letGo(_ trip: HomeTrip) {
        let place = trip.place
        guard place >= 0 else { return }
        let last = trips.removeLast()
        if last !== trip {
            trips[place] = last
            last.place = place
        }
        trip.place = -1
    }

    /// Gives those up that no home has begun with for long. O(trips), ten times a second.
    func giveUpTrips() {
        guard !trips.isEmpty else { return }
        let now = Machine.monotonicNanos
        for trip in trips.filter({ $0.isLate(now) }) { trip.giveUp() }
    }

    /// Commands of a trip, valid until the next call.
    func fill(from queue: CommandQueue, _ range: Range<Int>) -> CommandBatch {
        homeBatch.reset()
        queue.fill(&homeBatch, range)
        return homeBatch
    }

    /// Records of a sibling; whether all of them were here, and no others of their keys.
    func merge(_ records: SharedRecordList) -> Bool {
        var isAlike = true
        let store = state.pointee.store
        for i in 0..<records.count where !store.hasAlone(records[i].record, records[i].hash) {
            isAlike = false
            merge(records[i])
        }
        return isAlike
    }

    /// A sibling's record, ahead of the sibling's stream.
    func merge(_ shared: SharedRecord) {
        if let replicator {
            replicator.replica.mergeShown(shared.record, shared.hash)
        } else {
            state.pointee.store.merge(shared.record, shared.hash)
        }
    }

    /// Runs a request's commands, here and now, for a client of whichever actor.
    func run(_ request: HomeRequest) {
        defer { request.shown = request.records(in: state.pointee.store) }
        guard let queue = request.queue else { return }
        let own = state.pointee.nowMillis
        state.pointee.nowMillis = max(own, request.now)
        defer { state.pointee.nowMillis = own }
        if let watched = request.watched, watched.contains(where: { $0.hasChanged(state) }) {
            return request.output.nullArray(resp3: request.client.resp3)
        }
        let guest = self.guest
        guest.traits = request.client
        let before = state.pointee.store.ownSeq
        var batch = CommandBatch()
        queue.fill(&batch)
        if request.watched != nil { request.output.arrayHeader(batch.count) }
        for i in 0..<batch.count {
            if request.watched == nil {
                request.ticks = guest.runAtHome(batch[i], of: batch, &request.output)
                if request.ticks >= state.pointee.times.noticed { guest.noteSlow(batch[i], of: batch, request.ticks) }
                request.rest = guest.continuation as? LargeReply
                if request.rest != nil { guest.continuation = nil }
            } else {
                guest.runInTransaction(batch[i], of: batch, &request.output)
            }
        }
        batch.deallocate()
        request.client = guest.traits
        let ownSeq = state.pointee.store.ownSeq
        if ownSeq > before { request.ranAt = (index, ownSeq) }
    }
}

extension Session {
    /// Runs a command whose keys are in the form in which they are stored. Returns how long that took.
    fileprivate func runAtHome(
        _ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>
    ) -> UInt64 {
        guard let index = CommandTable.standard.find(batch.argument(0, of: command)) else {
            execution(command, of: batch, output).unknownCommand()
            return 0
        }
        return runAtHome(index, command, of: batch, output)
    }

    /// The same of a command of that row.
    func runAtHome(
        _ index: Int, _ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>
    ) -> UInt64 {
        var x = execution(command, of: batch, output)
        let began = ci_ticks()
        if index == CommandTable.setRow, ShortSet.run(&x) { return ci_ticks() &- began }
        if index == CommandTable.incrRow, x.mayWriteAtOnce {
            Commands.reply(x.store.increment(x.store.key(x.argument(1)), by: 1, now: x.nowMillis), output)
            return ci_ticks() &- began
        }
        CommandTable.standard.withRow(index) { row in
            if x.isRefused(isWrite: row.flags.contains(.write), grows: row.flags.contains(.grows)) { return }
            row.handler(&x)
        }
        return ci_ticks() &- began
    }

    /// Runs a command as its client named it, to its end.
    fileprivate func runInTransaction(
        _ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        dispatch(command, of: batch, output)
        while let continuation {
            var x = execution(command, of: batch, output)
            if continuation.step(&x, outputMax: .max) { endContinuation() }
        }
    }
}
