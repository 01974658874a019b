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
        if homeQueue.isEmpty, !state.pointee.budget.isSpent { return serve(request) }
        check(homeQueue.count < Limits.clientsMax)
        homeQueue.append(request)
        loop?.requestTurn()
    }

    /// Runs requests that wait until `deadline`, one at least.
    func serveHome(until deadline: Nanos) {
        var served = 0
        repeat {
            serve(homeQueue[served])
            served += 1
        } while served < homeQueue.count && Machine.monotonicNanos < deadline
        homeQueue.removeFirst(served)
        if !homeQueue.isEmpty { loop?.requestTurn() }
    }

    private func serve(_ request: HomeRequest) {
        guard request.begin() else { return }
        run(request)
        state.pointee.budget.spend(4 + TurnBudget.units(bytes: request.queue?.byteCount ?? 0))
        // What it wrote must be in the log first.
        if let log, request.ranAt != nil { return log.keepWaiting(request) }
        giveBack(request)
    }

    /// The asking actor gets its answer.
    func giveBack(_ request: HomeRequest) { _ = homes?.tell(request.from) { $0.answered(request) } }

    /// A home has answered.
    func answered(_ request: HomeRequest) {
        HomeRequest.merge(&request.shown, into: self)
        request.ask.take(request)
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
                let began = ci_ticks()
                guest.runAtHome(batch[i], of: batch, &request.output)
                request.ticks = ci_ticks() &- began
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
    /// Runs a command whose keys are in the form in which they are stored.
    fileprivate func runAtHome(
        _ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        var x = execution(command, of: batch, output)
        guard let index = CommandTable.standard.find(x.argument(0)) else { return x.unknownCommand() }
        CommandTable.standard.withRow(index) { row in
            if x.isRefused(isWrite: row.flags.contains(.write), grows: row.flags.contains(.grows)) { return }
            row.handler(&x)
        }
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
