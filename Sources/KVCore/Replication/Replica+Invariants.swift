// What must hold of every part of a replica at the end of each of its turns. Part of `Replica`; on its actor's thread.

extension Replica {
    /// Traps where a part contradicts itself or another one. Called at the end of `tick` and `step`; does nothing in a
    /// build without `KV_CHECKS`. O(origins + peers + islands).
    func checkInvariants() {
        #if KV_CHECKS
            seen.checkInvariants()
            hearsay.checkInvariants(origins.count)
            held.checkInvariants()
            retired.checkInvariants()
            collector.checkInvariants(seen)
            members.checkInvariants()
            votes.checkInvariants()
            futureStamps.checkInvariants()
            links.checkInvariants()
            log.checkInvariants()
            outcasts.checkInvariants()
            departures.checkInvariants(retired)
            round.checkInvariants(ownSeq: store.ownSeq)
            bench.checkInvariants()
            recent.checkInvariants()
            discards.checkInvariants()
            inbox.checkInvariants()
            catchUp.checkInvariants()
            gaps.checkInvariants(origins.count)
            schedule.checkInvariants(ownSeq: store.ownSeq)
            leaving.checkInvariants()
            for sibling in siblings { sibling.checkInvariants() }
            for server in servers { server.checkInvariants(planted: planted) }
        #endif
    }
}
