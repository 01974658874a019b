// Servers that come, go, fall silent and are forgotten. Part of `Replica`; on its actor's thread.

package import KVBase

extension Replica {
    /// A member row arrived from whom it is about, or from an operator.
    package func learn(_ row: MemberRow, _ at: Moment, into effects: inout ReplicaEffects) {
        var row = row
        if row.server == uid.server, var mine = members.row(uid.server) {
            // Nobody else decides about our own address or actors; they may only declare us gone.
            mine.status = max(mine.status, row.status)
            row = mine
        }
        learnTrusted(row, at, into: &effects)
    }

    /// A row in a frame of `sender`, which may be about anybody.
    func learn(_ row: MemberRow, from sender: UInt64, _ at: Moment, into effects: inout ReplicaEffects) {
        if row.server == sender { return learnTrusted(row, at, into: &effects) }
        guard let row = admitted(row, from: sender, at) else { return }
        let before = statistics.rowsRefused
        learnTrusted(row, at, from: row.server == uid.server ? .itself : .hearsay(by: sender), into: &effects)
        guard statistics.rowsRefused > before, members.maySayRefused(at.steady) else { return }
        effects.events.append(.rowsRefused(from: sender))
    }

    /// What of a row is believed that another server tells, nil if nothing is.
    ///
    /// Where a server is, and whether it caught up, only it says itself, as long as it can be heard. That it is gone is
    /// believed of one that is silent, or if more than half of those that can be heard say so, for three seconds.
    private func admitted(_ row: MemberRow, from sender: UInt64, _ at: Moment) -> MemberRow? {
        if row.server == uid.server { return outvoted(row, by: sender, at) }
        guard let known = members.row(row.server) else { return unheardOf(row, by: sender, at) }
        var row = row
        guard isPresent(row.server, at) else { return row }
        // Its own word may have come to a sibling.
        if members.hasOwnWord(row.server) || server(row.server)?.isContacted ?? false {
            let status = row.status.isMember ? known.status : row.status
            row = known
            row.status = status
        }
        // A newcomer sees with the eyes of those it joins: whom it knows may be gone before it heard of it.
        if !row.status.isMember, known.status.isMember, isCaughtUp {
            votes.note(row.server, by: sender, at: at.steady)
            if !isOutvoted(row.server, at) { row.status = known.status }
        }
        return row
    }

    /// A server that is not known here is said to be gone. It may be about to come, so it is taken for one that comes,
    /// and is gone when it has been silent for as long as any other, or if more than half say so. If there is no room
    /// for one more that nobody has heard, nothing is believed for as long, and then that it is gone: else writes of it
    /// could not be taken.
    private func unheardOf(_ row: MemberRow, by sender: UInt64, _ at: Moment) -> MemberRow? {
        guard !row.status.isMember, isCaughtUp, !planted(.goneBeforeItCame) else { return row }
        votes.note(row.server, by: sender, at: at.steady)
        if isOutvoted(row.server, at) { return row }
        var coming = row
        coming.status = .joining
        if members.hasRoom(forHearsay: coming, by: sender) { return coming }
        let isOld = votes.stands(row.server, by: sender, forMillis: config.downMillis, at.steady)
        return isOld || planted(.goneWithoutRoom) ? row : nil
    }

    /// Others say that this very server is gone.
    private func outvoted(_ row: MemberRow, by sender: UInt64, _ at: Moment) -> MemberRow? {
        guard row.status >= .forgotten, var mine = members.row(uid.server), mine.status < .forgotten else { return nil }
        votes.note(uid.server, by: sender, at: at.steady)
        guard isOutvoted(uid.server, at) || planted(.forgottenAtAWord) else { return nil }
        mine.status = row.status
        return mine
    }

    /// More than half of those that can be heard have said for a while that a server is gone. This one has a vote, too,
    /// and hears the other.
    private func isOutvoted(_ subject: UInt64, _ at: Moment) -> Bool {
        let voters = servers.filter { $0.id != subject && isPresent($0.id, at) }.map(\.id)
        return votes.isAgreed(
            subject, voters: voters, electorate: voters.count + (subject == uid.server ? 0 : 1), at.steady)
    }

    /// A member that was heard a short while ago, or of which it is not known long enough that it cannot be.
    private func isPresent(_ id: UInt64, _ at: Moment) -> Bool {
        guard let server = server(id) else { return false }
        let since = server.heardAt ?? max(server.knownSince, census.start ?? at.steady)
        return at.steady - since <= config.downMillis
    }

    /// A row from this process itself: its own row is believed too.
    func learnTrusted(
        _ row: MemberRow, _ at: Moment, from source: RowSource = .itself, into effects: inout ReplicaEffects
    ) {
        guard row.server != 0 else { return }
        let isNew = members.row(row.server) == nil
        guard let merged = members.merge(row, from: source, at.steady) else {
            if isNew { statistics.rowsRefused += 1 }
            return
        }
        effects.events.append(.member(merged))
        if merged.server == uid.server {
            if merged.status >= .forgotten { effects.events.append(.forgotten) }
            // From a sibling, perhaps: every actor says good-bye for itself.
            if leaving.hasBegun { for server in servers { server.wish.want(at: at.steady) } }
            return
        }
        apply(merged, at)
    }

    /// A sibling's row: its status was decided there. Where it only tells what others told it, who can be heard here is
    /// the better witness.
    func learn(_ row: MemberRow, toldBy teller: UInt64, _ at: Moment, into effects: inout ReplicaEffects) {
        var row = row
        if teller != 0, row.server != uid.server, members.hasOwnWord(row.server), isPresent(row.server, at),
            var known = members.row(row.server)
        {
            known.status = max(known.status, row.status)
            row = known
        }
        learnTrusted(row, at, from: .sibling(teller: teller), into: &effects)
    }

    /// What was collected up to `frontier` was collected without asking that server.
    func noteUnasked(_ server: RemoteServer, _ frontier: VersionVector, _ at: Moment) {
        server.unasked.note(frontier, floor: store.gcFloor, until: at.steady + config.downMillis)
    }

    private func apply(_ row: MemberRow, _ at: Moment) {
        if row.status.isMember {
            if let server = server(row.server) {
                server.noteActors(row.actorCount)
            } else {
                let place = servers.firstIndex { $0.id > row.server } ?? servers.count
                let server = RemoteServer(id: row.server, actorCount: row.actorCount, knownSince: at.steady)
                server.wish.want(at: at.steady)
                collector.abandon()
                noteUnasked(server, collector.frontier, at)
                keepPace(of: server, at: row)
                servers.insert(server, at: place)
                takeStanding(server, at)
            }
        } else {
            if let server = server(row.server) {
                // Whatever it is told later keeps its distance from what it was sent last.
                outcasts.note(server.id, at: server.pacer.lastSent ?? at.steady)
            }
            servers.removeAll { $0.id == row.server }
            if catchUp.asks(server: row.server) { catchUp.drop() }
            if row.status >= .forgotten { statistics.serversForgotten += 1 }
        }
        for sibling in siblings where sibling.rowsHash != members.hash {
            sibling.wish.want(by: at.steady)
        }
        for server in servers where server.isContacted { server.wish.want(by: at.steady) }
    }

    /// A new life at a known address goes on with the pace of the one before: the limit is the address's.
    private func keepPace(of server: RemoteServer, at row: MemberRow) {
        guard !planted(.paceById) else { return }
        for other in servers where members.row(other.id)?.isAtAddress(of: row) ?? false {
            if let last = other.pacer.lastSent, last > server.pacer.lastSent ?? .min { server.pacer.sent(last) }
        }
        let last = outcasts.lastTold { members.row($0)?.isAtAddress(of: row) ?? false }
        if let last, last > server.pacer.lastSent ?? .min { server.pacer.sent(last) }
    }

    /// Removes a server by hand: it must never come back under this id, and its writes that nobody received are lost.
    package func forget(_ server: UInt64, _ at: Moment, into effects: inout ReplicaEffects) {
        guard var row = members.row(server), row.status < .forgotten, server != uid.server else { return }
        row.status = .forgotten
        learn(row, at, into: &effects)
    }

    /// Tells everybody about a new address of this server.
    package func changeAddress(_ address: Bytes, _ at: Moment, into effects: inout ReplicaEffects) {
        guard var row = members.row(uid.server), row.address != address else { return }
        row.address = address
        row.incarnation += 1
        learnTrusted(row, at, into: &effects)
    }

    /// One line per other server, members first as they are sorted by id.
    package func peers(_ at: Moment) -> [PeerSummary] {
        members.rows.compactMap { row in
            guard row.server != uid.server, row.status.isMember, let server = server(row.server) else { return nil }
            return PeerSummary(
                server: row.server, address: row.address, name: row.name, status: row.status,
                state: state(of: server, at), caughtUpPercent: caughtUpPercent(server),
                pendingDeltas: store.ownSeq - min(store.ownSeq, server.seenGapless[own]),
                silentMillis: server.heardAt.map { at.steady - $0 },
                roundTripMillis: server.link.roundTripMillis ?? server.hearing.roundTrip,
                lagMillis: ages.age(after: server.seenGapless[own], at.steady), backlogBytes: backlogBytes(server),
                bytesPerSecond: server.link.bytesPerSecond, clockOffsetMillis: server.hearing.offset(at))
        }
    }

    private func caughtUpPercent(_ server: RemoteServer) -> Int? {
        if let asker = catchUp.asker, asker.source == server.id { return asker.percent }
        if let donor = server.donor, !donor.isDone { return donor.percent }
        return nil
    }

    /// How long the oldest own write has waited that a server has not acknowledged which is up, at the slowest of them.
    package func lagMillis(_ at: Moment) -> Millis {
        servers.reduce(0) { lag, server in
            state(of: server, at) == .up ? max(lag, ages.age(after: server.seenGapless[own], at.steady)) : lag
        }
    }

    /// Each key goes once, however often it was written.
    private func backlogBytes(_ server: RemoteServer) -> Int {
        let records = store.count + store.tombstoneCount
        guard records > 0 else { return 0 }
        let writes = store.ownSeq - min(store.ownSeq, server.seenGapless[own])
        return Int(clamping: min(writes, UInt64(records))) * (store.recordBytes / records)
    }

    func state(of server: RemoteServer, _ at: Moment) -> PeerState {
        if server.isSuspect(at.steady, config.downMillis) || isCutOff(server, at) { return .down }
        if server.isSuspect(at.steady, config.suspectMillis) { return .suspect }
        if members.row(server.id)?.status == .joining || catchUp.asks(server: server.id) {
            return .syncing
        }
        if let donor = server.donor, !donor.isDone { return .syncing }
        return .up
    }

    /// Its connection ended and is not back within a second, or its address or name belongs to another life now.
    private func isCutOff(_ server: RemoteServer, _ at: Moment) -> Bool {
        guard isConnected, !server.link.isUp else { return false }
        if let since = server.link.downSince, at.steady - since >= Replica.reconnectMillis { return true }
        guard let row = members.row(server.id) else { return false }
        return servers.contains { other in
            guard other.id != server.id, other.link.isUp, let its = members.row(other.id) else { return false }
            return its.isAtAddress(of: row) || row.name.count > 0 && its.name == row.name
        }
    }

    /// Another server has its address, or the name that its user gave it, and is connected while it is not: it need not
    /// be looked for.
    package func isReplaced(_ id: UInt64) -> Bool {
        guard let server = server(id), !server.link.isUp, let row = members.row(id) else { return false }
        if let own = members.row(uid.server), row.isNamed(as: own) { return true }
        return servers.contains { other in
            guard other.id != id, other.link.isUp, let its = members.row(other.id) else { return false }
            return its.isAtAddress(of: row) || its.isNamed(as: row)
        }
    }

    /// How long a lost connection may take to come back before it counts.
    static let reconnectMillis: Millis = 1_000

    /// Looks twice a second at who is silent, who was replaced, who can be retired, and at the clocks.
    func takeCensus(_ at: Moment, into effects: inout ReplicaEffects) {
        guard census.isDue(at.steady) || leaving.hasBegun else { return }
        forgive(census.take(at.steady), at)
        for server in servers {
            let state = state(of: server, at)
            if server.hearing.change(to: state) { effects.events.append(.serverState(server: server.id, state)) }
        }
        forgetReplaced(at, into: &effects)
        watchDeparted(at, into: &effects)
        watchClocks(at, &effects)
        watchHearsay(at)
        releaseHeld(at)
        ages.drop(through: servers.reduce(store.ownSeq) { min($0, $1.seenGapless[own]) })
        startCollecting(at)
        leave(at, into: &effects)
    }

    /// This process itself did not run for a while (stopped, starved): the others' silence is its own fault.
    private func forgive(_ pause: Millis, _ at: Moment) {
        guard pause > 0 else { return }
        for server in servers { server.hearing.forgive(pause, at.steady) }
    }

    /// A restarted process has a new id at the old address, or under the old name at another one: the old id can never
    /// come back, for its memory is gone. It is forgotten once this actor hears the new one and has not heard the old
    /// one for long, so a mistaken address alone never removes a living server; nor do two that were heard beside each
    /// other, or a name that no user gave.
    private func forgetReplaced(_ at: Moment, into effects: inout ReplicaEffects) {
        guard census.age(at.steady) > config.downMillis else { return }
        var gone: [UInt64] = []
        for server in servers where server.isSuspect(at.steady, config.downMillis) {
            guard let row = members.row(server.id) else { continue }
            let began = at.steady - census.age(at.steady)
            let replaced =
                members.row(uid.server).map { isSuccessor($0, since: began, of: row, server) } ?? false
                || servers.contains { other in
                    guard other.id != server.id, let its = members.row(other.id) else { return false }
                    return !other.isSuspect(at.steady, config.suspectMillis)
                        && isSuccessor(its, since: other.hearing.contactedAt ?? at.steady, of: row, server)
                }
            if planted(.forgetOnSilence) { gone.append(server.id) }
            // A frame of the old process may still arrive long after its end and make it look alive: once is not
            // enough.
            guard let since = server.hearing.replacedSince(replaced, at.steady) else { continue }
            if at.steady - since > 2 * config.suspectMillis { gone.append(server.id) }
        }
        for id in gone { forget(id, at, into: &effects) }
    }

    private func isSuccessor(
        _ successor: MemberRow, since: Millis, of row: MemberRow, _ server: RemoteServer
    ) -> Bool {
        // Over connections no frame arrives long after its sender's end.
        if isConnected, let heardAt = server.heardAt, heardAt - since > config.downMillis { return false }
        return successor.isAtAddress(of: row) || successor.isNamed(as: row)
    }

    /// Where this server's own clock is stepped, the others are that much further away at once.
    func followOwnClock(_ at: Moment, into effects: inout ReplicaEffects) {
        if clock.step(at) != 0 { watchClocks(at, &effects) }
    }

    private func watchClocks(_ at: Moment, _ effects: inout ReplicaEffects) {
        defer { boundStamps(at) }
        guard clock.follow(servers.compactMap { $0.hearing.offset(at) }, at) else { return }
        statistics.clockCorrections += 1
        effects.events.append(.clockSkewed(clock.millis(at)))
    }
}
