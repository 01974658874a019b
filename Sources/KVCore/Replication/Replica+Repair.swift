// Finding out that something is missing and asking for it. Part of `Replica`; on its actor's thread.

import KVBase

extension Replica {
    static let localPatienceMillis: Millis = 300

    // MARK: Gaps seen in a stream

    /// A server's own writes that it sent us and that did not arrive, or only behind a gap.
    func hasHole(_ server: RemoteServer) -> Bool {
        guard isCaughtUp, !catchUp.isAsking, inbox.isEmpty else { return false }
        return server.view.hasHole(seen)
    }

    /// Missing intervals to ask this server for: of its own actors, and of servers that are out of reach.
    func asks(for server: RemoteServer, _ at: Moment) -> [RepairAsk] {
        guard isCaughtUp, !catchUp.isAsking, inbox.isEmpty else { return [] }
        var asks: [RepairAsk] = []
        for (origin, to) in server.view.announcedTo where seen[origin] < to && !isAtSibling(origin) {
            asks.append(seen.hole(origin, upTo: to))
        }
        if config.actorIndex == 0 {
            for other in servers where other.id != server.id && other.isSuspect(at.steady, config.suspectMillis) {
                for index in 0..<other.actorCount {
                    guard let origin = origins.index(of: ActorUID(server: other.id, index: UInt16(index))),
                        server.seenGapless[origin] > seen[origin]
                    else { continue }
                    asks.append(seen.hole(origin, upTo: server.seenGapless[origin]))
                }
            }
        }
        statistics.repairsAsked &+= UInt64(asks.count)
        return asks
    }

    /// A sibling has more of the writer without a gap: that comes from there, as items or by a scan. The writer would
    /// send it to a gateway that has it, over a line that may be thin, and for each actor again.
    private func isAtSibling(_ origin: OriginIndex) -> Bool {
        if catchUp.wasLocalRefused || planted(.askBesideSibling) { return false }
        return siblings.contains { $0.sure[origin] > seen[origin] && $0.sure[origin] != VersionVector.retired }
    }

    /// A server misses an interval.
    func answer(_ ask: RepairAsk, to server: RemoteServer, _ at: Moment) {
        let writer = origins.uid(ask.origin)
        if ask.origin == own {
            guard ask.from < store.ownSeq else { return }
            if isAnswered(ask, to: server, at) { return }
            if planted(.gatewayChangeResets), ask.to <= server.seenAtMost[own] { return }
            if planted(.keepAliveWithoutHead), ask.from >= server.seenAtMost[own] { return }
            server.stream.noteLoss(at.steady)
        } else if writer.server == uid.server {
            // A sibling's write: it has the journal.
            guard let sibling = sibling(Int(writer.index)), sibling.add(ForwardedAsk(server: server.id, ask: ask))
            else { return }
            return sibling.wish.want(by: at.steady)
        } else if isAnswered(ask, to: server, at) || recent.segment(ask.origin, after: ask.from) == nil {
            return
        }
        server.repairs.add(ask)
    }

    /// Asked again before the answer can have arrived.
    func isAnswered(_ ask: RepairAsk, to server: RemoteServer, _ at: Moment) -> Bool {
        server.repairs.isOnItsWay(ask, at.steady, server.stream.answerMillis)
    }

    // MARK: Gaps seen in vectors

    /// Looks ten times a second for entries of the vector that do not move although a peer is ahead, and starts a scan.
    func lookForGaps(_ at: Moment) {
        guard gaps.look(at.steady) else { return }
        dropIdleScans(at)
        if !isCaughtUp {
            // Only a server that is `up` has an actor 0 to catch up with; one that leaves before it joined has none.
            let isUp = members.row(uid.server)?.status == .up
            if isUp, config.actorIndex != 0 { catchUpWithFirst(at) } else { startJoinScan(at) }
        }
        guard inbox.isEmpty else { return }
        var local: (sibling: Sibling, since: Millis)?
        var remote: (server: RemoteServer, since: Millis)?
        let donors = donors
        gaps.watch(origins.count, at.steady)
        for index in 0..<gaps.watched {
            let origin = OriginIndex(index)
            let value = seen[origin]
            guard origin != own, value != VersionVector.retired else { continue }
            gaps.note(origin, value, at.steady)
            // Of a writer that can be heard nobody has more than it says: who claims that has nothing to give. What a
            // sibling has of another one is never a claim.
            let most = sayOf(origin, at) ?? .max
            let isOfSibling = origins.uid(origin).server == uid.server
            let sibling = siblings.first {
                // It may have gone back behind what others had said.
                let its = isOfSibling || $0.vector[origin] <= most ? $0.vector[origin] : $0.sure[origin]
                return its > value && (isOfSibling || its <= most) && its != VersionVector.retired
            }
            // Joining may take for ever, if nobody can be reached: siblings stay equal meanwhile.
            let server = isCaughtUp && !isOnItsWay(origin, at) ? donor(of: origin, value, most, donors, at) : nil
            let since = gaps.stalledSince(origin, isPeerAhead: sibling != nil || server != nil, at.steady)
            if let sibling, since < local?.since ?? .max { local = (sibling, since) }
            if let server, since < remote?.since ?? .max { remote = (server, since) }
        }
        // A sibling may lack what this actor's frontier asks for, just as this actor does: another server has it then.
        let isStuck = catchUp.wasLocalRefused && remote != nil && config.actorIndex == 0
        if let local, !isStuck, !catchUp.isAskingSibling,
            at.steady - local.since > max(Replica.localPatienceMillis, 3 * spacing)
        {
            startLocalScan(local.sibling, everything: false, at)
        } else if let remote, local == nil || isStuck, config.actorIndex == 0, !catchUp.isAsking {
            let patience = config.patienceMillis + 2 * remote.server.usualRoundTrip
            if at.steady - remote.since > patience, catchUp.isRested(at.steady, config.patienceMillis) {
                catchUp.forgetRefusal()
                startScan(remote.server, everything: false, completesJoin: false, at)
            }
        }
        if let id = gaps.toScan, !catchUp.isAsking, let server = server(id) {
            gaps.noteScan()
            startScan(server, everything: true, completesJoin: false, at)
        }
    }

    /// Who has more of the writer than `least`, and no more than `most`. The writer itself before all others: the line
    /// from it carries its writes already, one between two others may be as slow as a new one.
    private func donor(
        of origin: OriginIndex, _ least: UInt64, _ most: UInt64, _ donors: [RemoteServer], _ at: Moment
    ) -> RemoteServer? {
        func has(_ server: RemoteServer) -> Bool {
            let its = server.seenGapless[origin]
            return its > least && its <= most && !server.isSuspect(at.steady, config.suspectMillis)
        }
        let writer = origins.uid(origin).server
        if let server = server(writer), writer != catchUp.lastSilent, has(server) { return server }
        return donors.first(where: has)
    }

    /// The writer can be heard and has sent nothing that is missing here: what peers have more of it has yet to come,
    /// over a line that may be slow. Nobody else need send it.
    private func isOnItsWay(_ origin: OriginIndex, _ at: Moment) -> Bool {
        guard isConnected, let writer = server(origins.uid(origin).server), writer.isContacted,
            !writer.isSuspect(at.steady, config.suspectMillis),
            let announced = writer.view.announcedTo.first(where: { $0.origin == origin })
        else { return false }
        return announced.to <= seen[origin]
    }

    /// The server's join is over, but its end, an item of actor 0's stream, was pushed out before it reached this
    /// actor: it takes what actor 0 has.
    private func catchUpWithFirst(_ at: Moment) {
        let since = catchUp.joinEnded(at.steady)
        guard !catchUp.isAskingSibling, inbox.isEmpty, let first = sibling(0), first.isHeard,
            at.steady - since > max(Replica.localPatienceMillis, 3 * spacing)
        else { return }
        startLocalScan(first, everything: false, completesJoin: true, at)
    }

    private func dropIdleScans(_ at: Moment) {
        if let asker = catchUp.asker, isGivenUp(asker, at) { catchUp.giveUp(at.steady) }
        catchUp.dropSilentLocal(at.steady)
        for server in servers {
            let idleMax = isConnected ? ScanDonor.idleMillisMaxConnected : ScanDonor.idleMillisMax
            if let donor = server.donor, at.steady - donor.lastAskAt > idleMax { server.donor = nil }
        }
        for sibling in siblings {
            if let donor = sibling.donor, at.steady - donor.lastAskAt > ScanDonor.idleMillisMax { sibling.donor = nil }
        }
    }

    private func isGivenUp(_ asker: ScanAsker, _ at: Moment) -> Bool {
        let isLate = at.steady - asker.lastProgress > CatchUp.silenceMillisMax
        // A greeting that nobody answered.
        if asker.source == 0 { return isLate && !servers.isEmpty || at.steady - asker.lastProgress > 60_000 }
        guard let source = server(asker.source) else { return true }
        guard isConnected else { return isLate || source.isSuspect(at.steady, config.suspectMillis) }
        if !source.isSuspect(at.steady, config.suspectMillis) { return isLate }
        // What it has given so far would be fetched again: it may come back, unless somebody else can give it now.
        let isOther = servers.contains {
            $0.id != source.id && $0.isContacted && !$0.isSuspect(at.steady, config.suspectMillis)
                && members.row($0.id)?.status == .up
        }
        return source.isSuspect(at.steady, isOther ? config.downMillis : ScanDonor.idleMillisMaxConnected)
    }

    // MARK: Equal vectors, different content

    /// That of what no replica drops by its clock: values without a deadline (docs/replication.md 15.4).
    var comparedDigest: UInt64 { store.steadyDigest &+ plantedState.digestDrift }

    /// Equal vectors mean equal content; if the digests say otherwise for long, something is broken: alarm, then
    /// repair.
    func compareDigests(
        with server: RemoteServer, _ head: FrameHead, _ at: Moment, into effects: inout ReplicaEffects
    ) {
        guard isSettled(at), head.isSettled else { return }
        guard shown(vector, to: server) == completed(head.vector, from: server) else { return }
        if comparedDigest == head.digest { return server.digests.noteEqual() }
        gaps.noteDifference(at.steady)
        guard server.digests.noteDifferent(at.steady, patience: config.divergenceMillis, timesMin: 3) else { return }
        statistics.divergences += 1
        effects.events.append(.divergence(server: server.id))
        gaps.mustScan(server.id)
    }

    /// The same between siblings; repaired by a local scan.
    func compareDigests(
        with sibling: Sibling, _ batch: LocalBatch, _ at: Moment, into effects: inout ReplicaEffects
    ) {
        guard isSettled(at), batch.isSettled, !catchUp.isAskingSibling, batch.vector == shown(vector, to: sibling)
        else {
            return
        }
        if comparedDigest == batch.digest { return sibling.digests.noteEqual() }
        gaps.noteDifference(at.steady)
        guard sibling.digests.noteDifferent(at.steady, patience: config.divergenceMillis) else { return }
        statistics.divergences += 1
        effects.events.append(.divergence(server: uid.server))
        startLocalScan(sibling, everything: true, at)
    }
}
