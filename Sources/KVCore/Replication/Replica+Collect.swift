// Forgetting tombstones once nothing older can arrive any more. Part of `Replica`; on its actor's thread.

import KVBase

/// A tombstone T with write d, timestamp ts is collected at X when all of these hold (docs/replication.md 10.1):
///
/// 1. every actor of every member server, joining ones included, has reported that its vector covers d;
/// 2. X has everything those actors had written themselves when they reported so: an older write of the key that X has
///    not seen would have been made after its writer knew T, and then it would not be older;
/// 3. (at merge time) what a third party relays is only taken for an absent key if the relayer's vector covers every
///    tombstone collected here, and so is an own write of a server that was not known yet when they were collected;
/// 4. ts lies `tombstoneAgeMillis` back, so that a poisoned timestamp cannot lift `gcFloor` above real time.
///
/// No clock and no timeout decides: a member that is down for long keeps tombstones until it returns or is forgotten.
extension Replica {
    /// How long nothing is collected here after a replica with an equal vector had other content.
    static let differenceHoldMillis: Millis = 60_000

    func startCollecting(_ at: Moment) {
        guard !isCollecting, isCaughtUp, store.tombstoneCount > 0,
            lastCollect == .min || at.steady - lastCollect >= config.collectEveryMillis
        else { return }
        // The repair of a divergence ends because versions only rise. A tombstone collected meanwhile leaves nothing,
        // where the deleted write is taken again, until the next tombstone comes: while one replica may not collect
        // yet and another has the write, that goes round for ever.
        if let differedAt, at.steady - differedAt < Replica.differenceHoldMillis { return }
        // Whoever was greeted has own writes of this server, perhaps without the deletes that came later.
        if hasGreeted(at) || siblings.contains(where: \.hasGreeted) { return }
        lastCollect = at.steady
        guard let vector = stableVector() else { return }
        stable = vector
        stableRetired = zip(retiredHere, retiredMarks).filter { _, mark in
            siblings.allSatisfy { $0.retired.hasSorted(mark) }
                && servers.allSatisfy { $0.usableReport?.retired.hasSorted(mark) ?? false }
        }.map(\.0)
        isCollecting = true
        // The store's queue may hold about as many stale entries as tombstones.
        collectLeft = 2 * store.tombstoneCount + 64
    }

    /// What is known everywhere: clauses 1 and 2. Nil while a member has not reported.
    private func stableVector() -> VersionVector? {
        var stable = vector
        for i in 0..<stable.count where stable.seqs[i] == VersionVector.retired { stable.set(OriginIndex(i), 0) }
        for sibling in siblings {
            promoteVector(sibling)
            guard let usable = sibling.usable else {
                statistics.collectRefusedByHeads += 1
                return nil
            }
            if config.bugs.contains(.collectOnMaximum) { stable.join(usable) } else { stable.meet(usable) }
        }
        for server in servers {
            let isJoining = members.row(server.id)?.status == .joining
            if isJoining && config.bugs.contains(.joiningNotCounted) { continue }
            promoteReport(server)
            guard let report = server.usableReport else {
                if config.bugs.contains(.collectWithoutMembers) { continue }
                statistics.collectRefusedByMembers += 1
                return nil
            }
            if config.bugs.contains(.collectWithoutMembers) { continue }
            if config.bugs.contains(.collectOnMaximum) {
                stable.meet(server.reach)
            } else {
                stable.meet(report.least)
            }
        }
        return stable
    }

    /// Clause 2: a report counts only once this replica has all its actors had written by then.
    func promoteReport(_ server: RemoteServer) {
        guard let newest = server.report else { return }
        for candidate in [newest, server.waitingReport].compactMap({ $0 }) {
            guard candidate.stamp > server.usableReport?.stamp ?? .min else { continue }
            guard covers(candidate.heads, of: server.id) else {
                statistics.collectRefusedByHeads += 1
                if server.waitingReport == nil { server.waitingReport = candidate }
                continue
            }
            server.usableReport = candidate
            if let waiting = server.waitingReport, waiting.stamp <= candidate.stamp { server.waitingReport = nil }
        }
    }

    private func covers(_ heads: [UInt64], of server: UInt64) -> Bool {
        if config.bugs.contains(.collectWithoutHeads) { return true }
        for (index, head) in heads.enumerated() where head > 0 {
            guard let origin = origins.index(of: ActorUID(server: server, index: UInt16(index))),
                seen.covers(origin, head)
            else { return false }
        }
        return true
    }

    /// Clause 2 between siblings: a vector counts once what its actor had written by then has arrived here.
    private func promoteVector(_ sibling: Sibling) {
        guard sibling.isHeard else { return }
        let candidate = sibling.waiting ?? sibling.vector
        if config.bugs.contains(.collectWithoutHeads) || seen.covers(sibling.origin, candidate[sibling.origin]) {
            sibling.usable = candidate
            sibling.waiting = nil
        } else {
            sibling.waiting = candidate
        }
    }

    /// What goes into frames: the newest this process can say about itself.
    func report(to server: RemoteServer, _ at: Moment) -> StabilityReport? {
        var least = vector
        var heads = [UInt64](repeating: 0, count: config.actorCount)
        heads[config.actorIndex] = store.ownSeq
        for sibling in siblings {
            guard sibling.isHeard else { return nil }
            if config.bugs.contains(.collectOnMaximum) {
                least.join(sibling.vector)
            } else {
                least.meet(sibling.vector)
            }
            heads[sibling.index] = sibling.vector[sibling.origin]
        }
        if config.bugs.contains(.headsFromOtherVectors) { swap(&heads, &previousHeads) }
        return StabilityReport(
            stamp: at.steady, least: shown(least, to: server), heads: heads, level: levelEverywhereHere(),
            retired: marksOfAll())
    }

    /// One slice of the sweep.
    func collect(budget: Int, _ at: Moment) {
        let oldest = corrected(at) - config.tombstoneAgeMillis
        var tooYoung: UInt64 = 0
        let slice = min(budget, collectLeft)
        let dropped = store.sweepTombstones(budget: slice) { record in
            let origin = record.origin
            let isRetired = seen[origin] == VersionVector.retired
            // Of a retired server everybody holds everything once everybody has retired it: an adopted entry has no
            // other proof.
            guard isRetired ? stableRetired.contains(origins.uid(origin).server) : stable.covers(origin, record.seq)
            else {
                return false
            }
            guard record.ms <= oldest else {
                tooYoung += 1
                return false
            }
            if !isRetired { frontier.raise(origin, to: record.seq) }
            return true
        }
        statistics.tombstonesCollected &+= UInt64(dropped)
        statistics.collectRefusedByAge &+= tooYoung
        collectLeft -= slice
        if collectLeft <= 0 || store.tombstoneCount == 0 { isCollecting = false }
    }
}
