// Catch-up scans, both sides: newcomers, long cuts, anything the journals no longer hold. Part of `Replica`; on its
// actor's thread.

import KVBase

extension Replica {
    /// Scans served at the same time; further askers wait.
    static let donorsMax = 4
    /// Entries looked at in one step. Few: after a quiet time each may take ten microseconds, where memory that was not
    /// used for seconds is slow to come back.
    static let donorEntriesPerStep = 32
    /// An only-joining donor is used after this long without a better one.
    static let joinPatienceMillis: Millis = 1_000

    // MARK: Asking

    /// What every actor of this server has seen: the scan must fill the gaps of the one furthest behind. What it has
    /// seen on the word of others alone may be missing: who filters by that leaves out what beat other writes.
    private func leastVector() -> VersionVector {
        var least = sureVector
        for sibling in siblings {
            if planted(.askWithMaximum) {
                least.join(sibling.vector)
            } else if sibling.isHeard {
                least.meet(sibling.sure)
            } else {
                return VersionVector()
            }
        }
        return least
    }

    /// Servers in the order in which they are asked for a scan: who did not help the last time comes last.
    var donors: [RemoteServer] {
        servers.filter { $0.id != catchUp.lastSilent } + servers.filter { $0.id == catchUp.lastSilent }
    }

    /// The newcomer's first scan, from the best server that can be heard. One actor asks for all siblings.
    func startJoinScan(_ at: Moment) {
        guard !catchUp.isAsking, config.actorIndex == 0, siblings.allSatisfy(\.isHeard) else { return }
        let heard = donors.filter { $0.isContacted && !$0.isSuspect(at.steady, config.suspectMillis) }
        let best =
            heard.first { members.row($0.id)?.status == .up }
            ?? (census.age(at.steady) > Replica.joinPatienceMillis ? heard.first : nil)
        guard let best else { return }
        startScan(best, everything: false, completesJoin: true, at)
    }

    func startScan(_ server: RemoteServer, everything: Bool, completesJoin: Bool, _ at: Moment) {
        let reconciles = completesJoin && catchUp.isStale
        // What came since may be in a sibling's log only, and not yet.
        let isReturning = completesJoin && catchUp.isReturning
        catchUp.begin(
            server.id, donorIndex: server.gateway.usual(config.actorIndex, of: server.actorCount),
            asked: everything || reconciles ? VersionVector() : isReturning ? catchUp.known : leastVector(),
            everything: everything, completesJoin: completesJoin,
            isOfNewcomer: members.row(server.id)?.status == .joining,
            firstItem: log.last + 1, donorKeys: reconciles ? DonorKeys() : nil, at.steady)
        statistics.scansAsked += 1
        if everything { statistics.digestRepairs += 1 }
        server.wish.want(at: at.steady)
    }

    func startLocalScan(_ sibling: Sibling, everything: Bool, completesJoin: Bool = false, _ at: Moment) {
        // Whether the disk is stale was in the end that did not get here.
        let reconciles = completesJoin && catchUp.isReturning
        catchUp.beginLocal(
            sibling.index, asked: everything || reconciles ? VersionVector() : sureVector,
            everything: everything,
            completesJoin: completesJoin, donorKeys: reconciles ? DonorKeys() : nil, at.steady)
        statistics.scansAsked += 1
        sibling.wish.want(at: at.steady)
    }

    /// The request as it goes into every message to the source while the scan runs; it is also the acknowledgement.
    func scanAsk(_ asker: ScanAsker?, of source: UInt64) -> ScanAsk? {
        guard let asker, asker.source == source else { return nil }
        // Siblings that are slow to take the pages slow the donor down.
        let isPaused = log.byteCount > config.localBytesMax / 4 || inbox.isHalfFull
        // Of a retired server all is here that was agreed on. What it wrote later, or had told nobody, may have beaten
        // a write that is missing here.
        var filter = asker.asked
        for i in 0..<filter.count where filter.seqs[i] == VersionVector.retired {
            filter.set(OriginIndex(i), retired.last(OriginIndex(i)))
        }
        return ScanAsk(
            session: asker.session, next: asker.next, credit: isPaused ? 0 : UInt64(config.chunkWindow),
            vector: filter, everything: asker.everything)
    }

    /// A page from another server is merged.
    func finishChunk(
        _ chunk: ChunkHead, _ work: inout BlockWork, _ at: Moment, into effects: inout ReplicaEffects
    ) {
        let entries = work.entries.take()
        let page = DeltaSegment(origin: own, from: 0, to: 0, isPage: true, cut: work.cut, taking: entries)
        if let asker = catchUp.asker, asker.session == chunk.session { asker.donorKeys?.note(page) }
        if page.count > 0 {
            onLearned?(.segment(page, proves: true))
            offerToSiblings(.delta(page))
        }
        let any = planted(.stalePageAccepted)
        guard
            let current = catchUp.merged(
                chunk.session, percent: Int(chunk.percent), any: any, isRefused: work.isRefused, at.steady)
        else { return }
        if let server = server(work.sender.server) { server.wish.want(at: at.steady) }
        guard chunk.isLast else { return }
        catchUp.end(at.steady)
        guard !current.isRefused else { return }
        let end = current.end(chunk.start, chunk.frontier, floor: store.gcFloor)
        statistics.scansFinished += 1
        if let keys = end.donorKeys {
            offerToSiblings(.scanEnd(end))
            return beginReconciling(end, keys, isWhole: true)
        }
        if end.completesJoin, isStale(end) {
            catchUp.noteStale()
            effects.events.append(.staleDisk)
            if let server = server(work.sender.server) {
                startScan(server, everything: false, completesJoin: true, at)
            }
            return
        }
        // What came before the end of the first scan is in the log as well, but said nothing there until now.
        let asked = end.completesJoin && catchUp.isReturning ? catchUp.known : end.asked
        onLearned?(.proof(asked: asked, start: end.start, frontier: end.frontier, floor: end.floor))
        conclude(end, at)
        offerToSiblings(.scanEnd(end))
        finishJoin(end, at, into: &effects)
    }

    /// The scan that this actor asked for made its server catch up.
    func finishJoin(_ end: ScanEnd, _ at: Moment, into effects: inout ReplicaEffects) {
        if config.actorIndex == 0, end.completesJoin, var row = members.row(uid.server), row.status == .joining {
            row.status = .up
            learnTrusted(row, at, into: &effects)
            effects.events.append(.joined)
        }
    }

    /// A page from a sibling is merged.
    func finishLocalChunk(_ chunk: LocalChunk, from index: Int, _ isRefused: Bool, _ at: Moment) {
        guard let current = catchUp.mergedLocal(chunk, from: index, isRefused: isRefused, at.steady) else { return }
        sibling(index)?.wish.want(at: at.steady)
        current.donorKeys?.note(chunk.page)
        guard chunk.isLast else { return }
        catchUp.endLocal()
        guard !current.isRefused else { return }
        statistics.localScansFinished += 1
        let end = current.end(chunk.start, chunk.frontier, floor: store.gcFloor)
        if let keys = end.donorKeys { return beginReconciling(end, keys, isWhole: true) }
        conclude(end, at)
    }

    /// Every page of a scan is merged here: what the donor held when it began is held here too.
    func conclude(_ end: ScanEnd, _ at: Moment) {
        guard sureVector.dominates(end.asked) || planted(.askWithMaximum) else { return }
        seen.prove(credited(end.start, at))
        let frontier = credited(end.frontier, at)
        for i in 0..<frontier.count where !seen.isRetired(OriginIndex(i)) {
            collector.noteCollected(OriginIndex(i), frontier.seqs[i])
        }
        guard end.completesJoin else { return }
        let merged = catchUp.takeWithheld()
        if end.donorKeys == nil {
            for interval in merged { prove(interval) }
        }
        catchUp.complete(fromNewcomer: end.isOfNewcomer)
        // Of whom the donor knew when it collected nothing is known here.
        for server in servers where members.row(server.id)?.status == .joining {
            noteUnasked(server, end.frontier, at)
        }
    }

    /// A newcomer is handed the level below which it must not stamp writes, because others hold or have collected
    /// tombstones up to there that it does not know yet; and so is who joined another newcomer when it meets a server
    /// for the first time, which collected without it until then. What it wrote before it heard of that, from `first`
    /// on, is written again just above it, so that whoever replaced it elsewhere since still wins, unless it leaves and
    /// has handed that over: the new write would be lost, after it had beaten here what others wrote over the old one.
    /// `isOfSibling`: it has found the floor credible.
    func adoptFloor(
        _ floor: Millis, from first: UInt64, isOfSibling: Bool = false, _ at: Moment,
        into effects: inout ReplicaEffects
    ) {
        guard floor > store.gcFloor, !planted(.floorMissingFromBootstrap) else { return }
        // That would be the clock of a machine whose date is wrong, and this one's writes would be stamped by it.
        guard isOfSibling || isCredible(floor: floor, at) else { return }
        store.raiseGCFloor(to: floor)
        if isCaughtUp, !planted(.zeroOfNewcomers) { store.reopenProvisionalZeros(from: first) }
        let last = store.ownSeq
        restamp(at, into: &effects) { visit in
            var seq = max(first, store.journalFirstSeq)
            while seq <= last {
                if !store.isProvisionalZero(seq) { store.raise(own: seq, visit) }
                seq += 1
            }
        }
    }

    /// Once this actor has caught up, what it began to count meanwhile is either beaten by what others hold, or written
    /// again above the floor.
    func settleZeros(_ at: Moment, into effects: inout ReplicaEffects) {
        guard store.hasProvisionalZeros, isCaughtUp, holdsWhatIsBelowFloor() else { return }
        catchUp.forgetOwed()
        let isLast = !catchUp.joinedNewcomer || planted(.zeroOfNewcomers)
        restamp(at, into: &effects) { store.settleZeros(isLast: isLast, $0) }
    }

    /// Who joined by way of a newcomer has taken a floor over of servers that it may not have heard, and not what lies
    /// below. That is here once everything is that each server that is up had seen when it was met.
    private func holdsWhatIsBelowFloor() -> Bool {
        guard catchUp.joinedNewcomer, !planted(.zeroOfNewcomers) else { return true }
        let held = sureVector
        return members.rows.allSatisfy { row in
            guard row.server != uid.server, row.status == .up else { return true }
            guard let server = server(row.server), server.isContacted else { return false }
            return held.dominates(catchUp.owed(of: row.server, now: server.seenGapless))
        }
    }

    /// Tells of own writes that `body` writes again above the floor. Nothing is, once this server leaves and has handed
    /// over what it wrote.
    private func restamp(
        _ at: Moment, into effects: inout ReplicaEffects, _ body: ((Record, Record) -> Void) -> Void
    ) {
        guard !hasHandedOver(at) else { return }
        let before = store.ownSeq
        body { onRestamp?($0, $1) }
        if store.ownSeq > before { effects.events.append(.restamped(before + 1...store.ownSeq)) }
    }

    /// A server met a short while ago, whose actors perhaps have not all heard of this one yet. A newcomer has its
    /// floor from others.
    func isNewlyMet(_ server: RemoteServer, _ at: Moment) -> Bool {
        guard catchUp.joinedNewcomer, let since = server.hearing.contactedAt, members.row(server.id)?.status == .up
        else {
            return false
        }
        return at.steady - since < config.suspectMillis
    }

    // MARK: Giving

    func serve(_ ask: ScanAsk, to server: RemoteServer, from index: Int, _ at: Moment) {
        if server.donor?.session != ask.session || server.donor?.askerIndex != index {
            // After a divergence each of its actors asks for itself, perhaps all of them here: one at a time, or none
            // gets to its end.
            if let donor = server.donor, donor.askerIndex != index,
                at.steady - donor.lastAskAt < config.suspectMillis
            {
                return
            }
            // One that gave everything waits only to repeat its last chunks, which costs nothing meanwhile.
            let active = servers.count { !($0.donor?.isDone ?? true) }
            guard ask.next == 0, server.donor != nil || active < Replica.donorsMax else { return }
            // What it was given is in what it has now, unless it gave that up.
            if let donor = server.donor, ask.vector[own] < donor.start[own], !server.scanRestarts.mayBegin(at.steady) {
                statistics.asksRefused += 1
                return
            }
            server.donor = ScanDonor(
                session: ask.session, askerIndex: index, filter: ask.vector, everything: ask.everything,
                start: shown(vector, to: server), isLocal: false, at: at.steady)
            statistics.scansServed += 1
        }
        var patience = max(1_000, 2 * server.stream.expectedAckMillis)
        if isConnected, !planted(.resendOnLivingLink) {
            patience = server.link.isAllDelivered(.bulk) ? ScanDonor.patienceConnected : .max
        }
        let credit = min(ask.credit, UInt64(config.chunkWindow))
        if server.donor!.asked(next: ask.next, credit: credit, at: at.steady, patience: patience) {
            statistics.chunksResent += 1
        }
    }

    func serve(_ ask: ScanAsk, to sibling: Sibling, _ at: Moment) {
        if sibling.donor?.session != ask.session {
            guard ask.next == 0 else { return }
            sibling.donor = ScanDonor(
                session: ask.session, askerIndex: sibling.index, filter: ask.vector, everything: ask.everything,
                start: shown(vector, to: sibling), isLocal: true, at: at.steady)
            statistics.scansServed += 1
        }
        let credit = min(ask.credit, UInt64(config.chunkWindow))
        if sibling.donor!.asked(next: ask.next, credit: credit, at: at.steady, patience: 5 * spacing) {
            statistics.chunksResent += 1
        }
    }

    /// Walks for the scans being served; returns the entries looked at.
    func advanceDonors(budget: Int, _ at: Moment) -> Int {
        var left = budget
        for server in servers {
            guard let donor = server.donor else { continue }
            let bytesMax = limits(of: server).chunkBytes
            while left > 0, donor.wantsWork { left -= advance(donor, bytesMax, budget: min(left, 512)) }
        }
        for sibling in siblings {
            guard let donor = sibling.donor else { continue }
            while left > 0, donor.wantsWork {
                left -= advance(donor, config.chunkBytesMax, budget: min(left, 512))
            }
        }
        return budget - left
    }

    private func advance(_ donor: ScanDonor, _ bytesMax: Int, budget: Int) -> Int {
        let looked = donor.advance(store, budget: budget, bytesMax: bytesMax, planted: planted)
        if donor.isOutgrown { statistics.scansOutgrown += 1 }
        return looked
    }
}
