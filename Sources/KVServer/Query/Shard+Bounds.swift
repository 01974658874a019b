// Clients that hold memory and do not go on: who is read although it does not read, and who is closed. Loop thread.

import KVBase
import KVRuntime
import Logging

extension Shard {
    /// A client that reads nothing of a reply that waits for it, or sends nothing more of a request it has begun, for
    /// this long is closed: both hold memory.
    static let stalledMillisMax: Millis = 60_000
    /// For a client to say who it is, where it must.
    static let loginMillisMax: Millis = 30_000
    /// Sessions that hold less input than this are not looked at when there is too much of it: as many as there may be
    /// hold little together.
    static let heldInputWatchedBytes = 16 * 1024

    /// Closing one takes 20 µs, with TLS: more wait for another turn.
    private static let closedAtOnceMax = 16

    /// How far a look at all clients has come. It goes from the last to the first, as the last takes the place of one
    /// that is gone.
    struct StalledLook {
        /// So many are left to look at; nil: all.
        fileprivate var left: Int?
        fileprivate var heldOutput = 0
    }

    /// Closes who stands still. O(clients), once a second. False: it goes on in another turn.
    @discardableResult
    package func closeStalled() -> Bool {
        var (place, mayClose) = (min(stalledLook.left ?? .max, sessions.count), Shard.closedAtOnceMax)
        while place > 0 {
            place -= 1
            let session = sessions[place]
            stalledLook.heldOutput += session.owner?.sessionOutputBytes ?? 0
            guard let reason = whyStalled(session) else { continue }
            close(session, reason)
            mayClose -= 1
            guard mayClose > 0 else {
                stalledLook.left = place
                return false
            }
        }
        statistics.setHeldOutput(stalledLook.heldOutput)
        stalledLook = StalledLook()
        boundAll()
        if index == 1 {
            context.closedClients.report(to: context.log)
            if let line = context.memory.news() { context.log.warning("\(line)") }
            if let line = context.secureStatistics.news() { context.log.notice("\(line)") }
            context.memoryPeak.note(Memory.allocatedBytes())
        }
        return true
    }

    private func whyStalled(_ session: Session) -> ClosedClients.Reason? {
        let (s, now) = (session.state, state.pointee.nowMillis)
        if !session.isAuthenticated, now - s.pointee.askedMillis > Shard.loginMillisMax { return .saysNotWho }
        if session.isSuspended { return nil }
        // Who waits for the disk has nothing to read.
        if s.pointee[.unsaved] {
            s.pointee.activeMillis = now
            return nil
        }
        if session.continuation != nil || s.pointee.isBlocked {
            let unsent = session.owner?.sessionUnsentBytes ?? 0
            if unsent < s.pointee.unsentBytes { s.pointee.activeMillis = now }
            s.pointee.unsentBytes = unsent
            if leavesOutput(session, unsent) { return .leavesOutput }
            return now - s.pointee.activeMillis > Shard.stalledMillisMax ? .readsNothing : nil
        }
        return now - s.pointee.activeMillis > Shard.stalledMillisMax && session.isWithinRequest ? .standsStill : nil
    }

    /// Whether a client has left much of its replies for long.
    private func leavesOutput(_ session: Session, _ unsent: Int) -> Bool {
        let (s, now) = (session.state, state.pointee.nowMillis)
        guard unsent > Limits.outputBytesLong else {
            s.pointee.muchUnsentSince = nil
            return false
        }
        let since = s.pointee.muchUnsentSince ?? now
        s.pointee.muchUnsentSince = since
        return now - since >= Limits.outputMillisLong
    }

    /// When what all clients' requests and replies hold is more than a quarter of the memory, who holds most of this
    /// shard's is closed, one a second.
    private func boundAll() {
        guard context.heldInput + context.heldOutput > context.heldMax else { return }
        func held(_ session: Session) -> Int { session.pendingInput + (session.owner?.sessionOutputBytes ?? 0) }
        guard let session = sessions.max(by: { held($0) < held($1) }), held(session) >= Shard.heldInputWatchedBytes
        else { return }
        close(session, .holdsMost)
    }

    /// A client that writes its whole pipeline before it reads waits for the server to read, while the server waits for
    /// it to read: where nothing of the output was taken since the last look, the server gives way. O(clients) every
    /// tenth of a second while any is blocked.
    package func readOn() {
        guard blockedSessions > 0 else { return }
        for session in sessions where session.state.pointee.isBlocked {
            let (s, unsent) = (session.state, session.owner?.sessionUnsentBytes ?? 0)
            if unsent >= s.pointee.unsentBytesBefore, !s.pointee.readsOn { session.owner?.sessionReadsOn() }
            s.pointee.unsentBytesBefore = unsent
        }
    }

    /// When the unfinished requests of all clients hold more than `heldInputMax`, the largest of this shard's is
    /// given up, as Redis gives up the largest client. To be called where one has grown.
    func boundInput() {
        statistics.setHeldInput(state.pointee.heldInput)
        while context.heldInput > context.heldInputMax {
            guard let session = sessions.max(by: { $0.pendingInput < $1.pendingInput }),
                session.pendingInput >= Shard.heldInputWatchedBytes
            else { return }
            close(session, .holdsTooMuch)
            statistics.setHeldInput(state.pointee.heldInput)
            // One whose input a command still reads keeps it until it is closed.
            if session.pendingInput > 0 { return }
        }
    }

    func close(_ session: Session, _ reason: ClosedClients.Reason) {
        context.closedClients.note(reason, peer: session.state.pointee.peer)
        session.owner?.sessionRefused(reply: reason.reply)
    }
}
