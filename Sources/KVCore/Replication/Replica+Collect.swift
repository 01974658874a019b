// Forgetting tombstones once nothing older can arrive any more. Part of `Replica`; on its actor's thread.

import KVBase

/// A tombstone T with write d, timestamp ts is collected at X when all of these hold (docs/replication.md 10.1):
///
/// 1. every actor of every member server, joining ones included, has reported that its vector covers d;
/// 2. X has everything those actors had written themselves when they reported so: an older write of the key that X has
///    not seen would have been made after its writer knew T, and then it would not be older;
/// 3. (at merge time) what a third party relays is only taken for an absent key if the relayer's vector covers every
///    tombstone collected here, and so is a newcomer's own write if it was not known yet when they were collected;
/// 4. ts lies `tombstoneAgeMillis` back, so that a poisoned timestamp cannot lift `gcFloor` above real time.
///
/// A value whose deadline D has passed is forgotten by the same rule, and only if every actor's report was made when
/// its own clock had reached D, and D lies back as far as clocks may differ (15.3): an extension of it that anybody
/// wrote before is then here.
///
/// No clock and no timeout decides: a member that is down for long keeps tombstones until it returns or is forgotten.
extension Replica {
    func startCollecting(_ at: Moment) {
        guard !collector.isSweeping, isCaughtUp, !gaps.isCollectingHeld(at.steady) else { return }
        let deletes = store.tombstoneCount > 0 && collector.isDue(at.steady, every: config.collectEveryMillis)
        // What a departed server left may be an extension that somebody has not passed on yet.
        let leftovers =
            store.leftoverCount > 0 && collector.isForgettingDue(at.steady, every: config.forgetEveryMillis)
            && departedRows().isEmpty
        guard deletes || leftovers else { return }
        // Whoever was greeted has own writes of this server, perhaps without the deletes that came later.
        guard !links.isHoldingCollection(at.steady), !siblings.contains(where: \.hasGreeted) else { return }
        if deletes { collector.noteLook(at.steady) }
        if leftovers { collector.noteForgetting(at.steady) }
        guard let (stable, clock) = stableVector(at) else { return }
        let everywhere = retired.knownEverywhere(stable, vector, origins) { mark in
            siblings.allSatisfy { $0.retired.hasSorted(mark) }
                && servers.allSatisfy { $0.usableReport?.retired.hasSorted(mark) ?? false }
        }
        collector.begin(
            stable: stable, retiredEverywhere: everywhere, tombstones: deletes ? store.tombstoneCount : nil,
            leftovers: leftovers ? store.leftoverCount : 0,
            deadlinesTo: planted(.forgetWithoutReports) ? corrected(at) : min(clock, corrected(at) - skew(at)))
    }

    /// By how much clocks of members may differ: as far as is seen, if all are.
    private func skew(_ at: Moment) -> Millis {
        var most: Millis = 0
        for server in servers {
            guard let offset = server.hearing.offset(at), let roundTrip = server.hearing.roundTrip else {
                return config.clockSkewMaxMillis
            }
            most = max(most, abs(offset) + roundTrip + ClockSample.slackMillis)
        }
        return min(most, config.clockSkewMaxMillis)
    }

    /// What is known everywhere: clauses 1 and 2; and what everybody's clock had reached when it said so. Nil while a
    /// member has not reported.
    private func stableVector(_ at: Moment) -> (VersionVector, clock: Millis)? {
        var stable = sureVector
        var clock = corrected(at)
        for i in 0..<stable.count where stable.seqs[i] == VersionVector.retired { stable.set(OriginIndex(i), 0) }
        for sibling in siblings {
            promoteVector(sibling)
            guard let usable = sibling.usable else {
                statistics.collectRefusedByHeads += 1
                return nil
            }
            if planted(.collectOnMaximum) { stable.join(usable.vector) } else { stable.meet(usable.vector) }
            clock = min(clock, usable.clock)
            if let durable = sibling.view.durable, !planted(.collectOnUndurable) { stable.keep(durable) }
        }
        // What is collected is not in the next snapshot: before that it is in a log.
        if let durableSource, !planted(.collectOnUndurable) { stable.keep(durableSource()) }
        for server in servers {
            let isJoining = members.row(server.id)?.status == .joining
            if isJoining && planted(.joiningNotCounted) { continue }
            promoteReport(server)
            guard let report = server.usableReport else {
                if planted(.collectWithoutMembers) { continue }
                statistics.collectRefusedByMembers += 1
                return nil
            }
            if planted(.collectWithoutMembers) { continue }
            if !planted(.reportWithoutClock) { clock = min(clock, report.clock) }
            if planted(.collectOnMaximum) {
                stable.meet(server.seenGapless)
            } else {
                stable.meet(report.least)
            }
        }
        return (stable, clock)
    }

    /// Clause 2: a report counts only once this replica has all its actors had written by then, and not on the word of
    /// others alone: what is covered by that is merged when it comes from its writer.
    func promoteReport(_ server: RemoteServer) {
        let refused = server.view.promote { covers($0, of: server.id) }
        statistics.collectRefusedByHeads &+= UInt64(refused)
    }

    private func covers(_ heads: [UInt64], of server: UInt64) -> Bool {
        if planted(.collectWithoutHeads) { return true }
        for (index, head) in heads.enumerated() where head > 0 {
            guard let origin = origins.index(of: ActorUID(server: server, index: UInt16(index))),
                seen.covers(origin, head), !hearsay.isDoubtful(origin, head)
            else { return false }
        }
        return true
    }

    /// Clause 2 between siblings: a vector counts once what its actor had written by then has arrived here.
    private func promoteVector(_ sibling: Sibling) {
        sibling.view.promote {
            planted(.collectWithoutHeads) || seen.covers(sibling.origin, $0[sibling.origin])
        }
    }

    /// What goes into frames: the newest this process can say about itself.
    func report(to server: RemoteServer, _ at: Moment) -> StabilityReport? {
        var least = sureVector
        var heads = [UInt64](repeating: 0, count: config.actorCount)
        heads[config.actorIndex] = store.ownSeq
        var clock = corrected(at)
        for sibling in siblings {
            guard sibling.isHeard else { return nil }
            if planted(.collectOnMaximum) {
                least.join(sibling.sure)
            } else {
                least.meet(sibling.sure)
            }
            heads[sibling.index] = sibling.sure[sibling.origin]
            clock = min(clock, sibling.view.clock)
            if !planted(.collectOnUndurable), let durable = sibling.view.durable { least.keep(durable) }
        }
        if let durableSource, !planted(.collectOnUndurable) { least.keep(durableSource()) }
        if planted(.headsFromOtherVectors) { plantedState.swapHeads(&heads) }
        least = shown(least, to: server)
        return StabilityReport(
            stamp: at.steady, least: least, heads: heads, level: level(said: least), retired: marksOfAll(),
            clock: clock, isOnDisk: isSynced)
    }

    /// One slice of the sweep.
    func collect(budget: Int, _ at: Moment, into effects: inout ReplicaEffects) {
        let oldest = corrected(at) - config.tombstoneAgeMillis
        let (dropped, tooYoung) = collector.sweep(store, budget: budget, oldest: oldest, seen, origins)
        statistics.tombstonesCollected &+= UInt64(dropped)
        statistics.collectRefusedByAge &+= tooYoung
        guard !collector.isSweepingTombstones else { return }
        let slice = min(budget, Replica.forgottenPerStep)
        let before = store.ownSeq
        let (forgotten, tooSoon) = collector.forget(
            store, budget: slice, oldest: oldest, mayWrite: !leaving.hasBegun, seen, origins)
        if store.ownSeq > before { effects.events.append(.buried((before + 1)...store.ownSeq)) }
        statistics.leftoversCollected &+= UInt64(forgotten)
        statistics.forgetRefusedByClock &+= tooSoon
    }
}
