// An orderly end: own writes are handed over, then the others are told. Part of `Replica`; on its actor's thread.

package import KVBase

extension Replica {
    /// The process shuts down: keep calling `tick` and `step` until `hasLeft` or until patience ends.
    package func beginLeave(_ at: Moment, into effects: inout ReplicaEffects) {
        leaving.begin(seen: seen.vector)
        for server in servers { server.wish.want(at: at.steady) }
        for sibling in siblings { sibling.wish.want(at: at.steady) }
        takeCensus(at, into: &effects)
    }

    /// Every server that can be heard has all own writes of this actor and all it had seen when it began to leave, or
    /// none can be heard any more. Others' writes matter because what departed servers left may be nowhere else: a
    /// newcomer has it when its scan is through. A newcomer that wrote and has not reached anybody yet waits for its
    /// first contact.
    func isFlushed(_ at: Moment) -> Bool {
        if planted(.leaveWithoutFlush) { return true }
        if isJoining, store.ownSeq > 0, !servers.contains(where: \.isContacted) { return false }
        // With nobody in reach, what no other server has stays owed: somebody may come back.
        if owedWrites > 0,
            !servers.contains(where: { $0.isContacted && !$0.isSuspect(at.steady, config.suspectMillis) }),
            isConnected
        {
            return false
        }
        for server in servers where server.isContacted && !server.isSuspect(at.steady, config.suspectMillis) {
            // Not `seenAtMost`: this process could fill the gap before what lies beyond one, and is gone then.
            if server.seenGapless[own] < store.ownSeq || !hasOwed(server) { return false }
        }
        return true
    }

    /// Own writes that no other server is known to have. None where there is no other, unless this one was told of
    /// some.
    package var owedWrites: UInt64 {
        if servers.isEmpty { return isJoining ? store.ownSeq : 0 }
        let held = servers.reduce(UInt64(0)) { max($0, $1.seenGapless[own]) }
        return store.ownSeq - min(held, store.ownSeq)
    }

    /// The good-bye is with the other machines.
    package var hasDelivered: Bool { servers.allSatisfy { !$0.link.isUp || $0.link.isAllDelivered(.live) } }

    /// A newcomer has everything once it is up; but one that joined another newcomer may lack writes of servers that
    /// were retired before it came.
    private func hasOwed(_ server: RemoteServer) -> Bool {
        if !isJoining, members.row(server.id)?.status == .joining { return false }
        return leaving.isCovered(by: completed(server.seenGapless, from: server)) { retired.last($0) }
    }

    /// Nobody waits any more for a write that this actor makes by itself: a sibling that was told that all are handed
    /// over may say good-bye at any time, and what comes after that is taken from no one.
    func hasHandedOver(_ at: Moment) -> Bool {
        !members.isMember(uid.server) || leaving.hasSaidFlushed && isFlushed(at)
    }

    /// The others were told that this server left.
    package var hasLeft: Bool { leaving.hasLeft }

    /// The good-bye, once it may be said. Called with each census.
    func leave(_ at: Moment, into effects: inout ReplicaEffects) {
        guard leaving.hasBegun, var row = members.row(uid.server) else { return }
        guard row.status < .left else {
            if !servers.contains(where: { isLinked($0) }) { leaving.noteLeft() }
            return
        }
        guard isFlushed(at), siblings.allSatisfy(\.isFlushed) else { return }
        row.status = .left
        learnTrusted(row, at, into: &effects)
        for sibling in siblings { sibling.wish.want(at: at.steady) }
        if !servers.contains(where: { isLinked($0) }) { leaving.noteLeft() }
    }
}
