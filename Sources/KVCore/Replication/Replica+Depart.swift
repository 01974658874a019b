// What becomes of a departed server's writes: adopting the loose ones, then taking its entries out of the vectors. Part
// of `Replica`; on its actor's thread.

import KVBase

extension Replica {
    func departedRows() -> [MemberRow] {
        members.rows.filter { !$0.status.isMember && $0.server != uid.server && !retired.contains($0.server) }
    }

    func originsOf(_ row: MemberRow) -> [OriginIndex] {
        (0..<row.actorCount).compactMap { origins.index(of: ActorUID(server: row.server, index: UInt16($0))) }
    }

    func watchDeparted(_ at: Moment, into effects: inout ReplicaEffects) {
        guard isCaughtUp else { return }
        forgetUnknown(at, into: &effects)
        reopenRetired()
        for row in departedRows() {
            adoptLoose(row, since: departures.note(row.server, at.steady), at)
            retireIfAgreed(row, at, into: &effects)
        }
        // A server that is silent for long may stay away for ever: those it cannot reach must agree without it.
        for server in servers {
            // Others may have passed on writes of one that this actor never heard itself.
            let since = server.heardAt ?? max(server.knownSince, census.start ?? at.steady)
            guard at.steady - since > config.downMillis, let row = members.row(server.id) else { continue }
            // The actors' turns begin now, not when it was heard last: by then all of them would be over.
            adoptLoose(row, since: since + config.downMillis - Departures.adoptAfterMillis, at)
        }
    }

    /// Of a writer in the directory nobody has a row: where the power was cut, one may be lost and the writes be there.
    /// Whoever lives has been heard of meanwhile, so that server is gone, and what it wrote is to be adopted.
    private func forgetUnknown(_ at: Moment, into effects: inout ReplicaEffects) {
        guard departures.hasWritersOnDisk, census.age(at.steady) > config.downMillis else { return }
        for origin in departures.takeWritersOnDisk() {
            let writer = origins.uid(origin)
            guard members.row(writer.server) == nil else { continue }
            let row = MemberRow(
                server: writer.server, status: .forgotten, actorCount: Int(writer.index) + 1, address: "")
            learn(row, at, into: &effects)
        }
    }

    // MARK: Adopting

    /// A departed server's write beyond a gap that nobody can fill any more is held by some replicas and covered by no
    /// vector, so nothing would ever make the others fetch it. Whoever holds such an entry sends it on as part of its
    /// own stream: it notes an own write to the key without changing the record, and the closure rule does the rest.
    private func adoptLoose(_ row: MemberRow, since: Millis, _ at: Moment) {
        // An interval beyond a gap may have brought nothing new and still stand in the way of retiring.
        let loose = originsOf(row).filter { origin in
            (seen.isLoose(origin) || seen.hasIsland { $0 == origin }) && !isStillToCome(origin, at)
        }
        guard !loose.isEmpty else { return departures.noteLevel(row.server) }
        // A sibling before this one is at it.
        guard !siblings.contains(where: { $0.index < config.actorIndex && $0.isAdopting }),
            departures.mayAdopt(row.server, since: since, actorIndex: config.actorIndex, at.steady)
        else { return }
        departures.adopt(row.server, loose, at.steady)
    }

    /// Somebody who can be heard has more of the writer without a gap: the ordinary repair brings that, over a line
    /// that may be slow. Only what it leaves is loose.
    private func isStillToCome(_ origin: OriginIndex, _ at: Moment) -> Bool {
        let mine = seen[origin]
        return siblings.contains { $0.vector[origin] > mine && $0.vector[origin] != VersionVector.retired }
            || servers.contains { $0.seenGapless[origin] > mine && !$0.isSuspect(at.steady, config.suspectMillis) }
    }

    /// How many more entries may be adopted now. What the journal forgets before it was sent everybody must fetch by a
    /// scan: so the walk waits for whoever gets the writes, servers that can be heard for a minute at most.
    private func adoptionRoom(_ at: Moment) -> Int {
        var reached = siblings.isEmpty ? store.ownSeq : round.logged
        if !departures.isPressed(at.steady) {
            for server in servers where server.isContacted && !server.isSuspect(at.steady, config.suspectMillis) {
                // One that the journal no longer serves takes a scan anyway.
                guard server.stream.sent + 1 >= store.journalFirstSeq else { continue }
                reached = min(reached, server.stream.sent)
            }
        }
        return config.adoptedAheadMax - Int(clamping: store.ownSeq - min(reached, store.ownSeq))
    }

    func mayAdoptMore(_ at: Moment) -> Bool { departures.isAdopting && adoptionRoom(at) > 0 }

    /// One slice of the walk; returns the entries looked at.
    func advanceAdoption(budget: Int, _ at: Moment, into effects: inout ReplicaEffects) -> Int {
        let (found, looked, ended) = departures.walk(store, budget: min(budget, adoptionRoom(at)), seen)
        for hash in found { store.noteOwnWrite(hash) }
        if !found.isEmpty {
            effects.events.append(.restamped((store.ownSeq - UInt64(found.count) + 1)...store.ownSeq))
            statistics.entriesAdopted += UInt64(found.count)
            departures.noteOwn(through: store.ownSeq)
        }
        for origin in ended { seen.forgetLoose(origin) }
        return max(looked, 64)
    }

    // MARK: Retiring

    /// This actor knows that the server departed, holds nothing loose of it, and so will never learn of a write of it
    /// that the others do not learn of too.
    func isLevel(_ row: MemberRow) -> Bool {
        guard !row.status.isMember, isCaughtUp, inbox.isEmpty else { return false }
        if retired.contains(row.server) { return true }
        return !departures.isAdopting(row.server) && originsOf(row).allSatisfy { !seen.isLoose($0) }
            && !seen.hasIsland { origins.uid($0).server == row.server }
    }

    /// Departed servers for which `isLevel` holds here.
    func levelHere() -> [UInt64] { members.rows.filter { isLevel($0) }.map(\.server) }

    /// What a report names as level: its `least` must say of that server exactly what is here. A vector may stand lower
    /// for a while, where the rest was told by others or is not on the disk yet. Who has just as much would take that
    /// for agreement, and retire the server without the rest.
    func level(said least: VersionVector) -> [UInt64] {
        let level = levelEverywhereHere()
        if planted(.levelUnsaid) { return level }
        return level.filter { id in
            members.row(id).map { row in
                originsOf(row).allSatisfy { origin in
                    let here = seen.isRetired(origin) ? retired.last(origin) : seen[origin]
                    return least[origin] == here || least[origin] == VersionVector.retired
                }
            } ?? false
        }
    }

    /// The same for all actors of this process, with equal vectors.
    func levelEverywhereHere() -> [UInt64] {
        members.rows.filter { row in
            isLevel(row)
                && siblings.allSatisfy { sibling in
                    sibling.isHeard && sibling.level.contains(row.server)
                        && originsOf(row).allSatisfy { isSame(sibling.vector[$0], seen[$0]) }
                }
        }.map(\.server)
    }

    private func isSame(_ a: UInt64, _ b: UInt64) -> Bool {
        a == b || a == VersionVector.retired || b == VersionVector.retired
    }

    /// Once every actor of every member is level with equal vectors, and what they had written by then has arrived here
    /// (their adopted entries among it), all of the server's writes count as covered: its entries leave the vector.
    ///
    /// A report counts only if it names every server that is known here to have departed: one of them may have handed
    /// the retiring server's writes to the reporter after an older report, and can no longer say so itself.
    private func retireIfAgreed(_ row: MemberRow, _ at: Moment, into effects: inout ReplicaEffects) {
        if !planted(.retireEarly) {
            let departed = members.rows.filter { !$0.status.isMember && $0.server != uid.server }.map(\.server)
            let level = levelEverywhereHere()
            guard departed.allSatisfy(level.hasSorted) else { return }
            guard siblings.allSatisfy({ seen.covers($0.origin, $0.vector[$0.origin]) }) else { return }
            for server in servers {
                promoteReport(server)
                guard let report = server.usableReport, departed.allSatisfy(report.level.hasSorted) else {
                    return
                }
                // One that has retired it already still shows how far it got: see `shown`.
                guard originsOf(row).allSatisfy({ report.least[$0] == seen[$0] }) else { return }
            }
        }
        for origin in originsOf(row) {
            retired.note(origin, last: seen.retire(origin))
            collector.forget(origin)
            hearsay.forget(origin)
            recent.drop(origin)
        }
        retired.add(row, origins, at: vector)
        if departedRows().isEmpty { departures.forgetAdopted() }
        departures.forget(row.server)
        statistics.serversRetired += 1
        if row.status != .retired {
            var row = row
            row.status = .retired
            learnTrusted(row, at, into: &effects)
        }
    }
}

// MARK: - What a peer is told of retired servers

extension Replica {
    /// A vector as a peer may see it. "Retired" means only that this replica has all that those had which it knew then:
    /// a peer that did not retire the same server at the same writes is shown how far they go here, and finds and fills
    /// its gaps, or shows ours, as with any writer. Whoever agreed needs no entry.
    func shown(_ vector: VersionVector, to server: RemoteServer) -> VersionVector {
        shown(vector, to: server.report?.retired ?? [])
    }

    func shown(_ vector: VersionVector, to sibling: Sibling) -> VersionVector { shown(vector, to: sibling.retired) }

    private func shown(_ vector: VersionVector, to marks: [UInt64]) -> VersionVector {
        var vector = vector
        for id in retired.servers(where: { !marks.hasSorted($0) }) {
            guard let row = members.row(id) else { continue }
            for origin in originsOf(row) where vector[origin] == VersionVector.retired {
                vector.set(origin, retired.last(origin))
            }
        }
        return vector
    }

    /// The same of a vector that a server has sent: what it left out because both retired it is put back, unless it is
    /// really missing there.
    func completed(_ vector: VersionVector, from server: RemoteServer) -> VersionVector {
        var vector = vector
        guard let marks = server.report?.retired else { return vector }
        for id in retired.servers(where: { marks.hasSorted($0) }) {
            guard let row = members.row(id) else { continue }
            for origin in originsOf(row) where seen.isRetired(origin) {
                vector.set(origin, VersionVector.retired)
            }
        }
        return vector
    }

    /// Marks of the servers that all actors of this process retired at the same writes, sorted.
    func marksOfAll() -> [UInt64] {
        retired.marks { mark in siblings.allSatisfy { $0.retired.hasSorted(mark) } }
    }

    /// A member that was not known when a server was retired has more of it: the server's entries come back, the
    /// ordinary repair fills the gap, and all retire it again.
    private func reopenRetired() {
        for id in retired.servers {
            guard let row = members.row(id) else { continue }
            let isShort = originsOf(row).contains { origin in
                servers.contains { $0.seenGapless[origin] > retired.last(origin) }
                    || siblings.contains {
                        $0.vector[origin] > retired.last(origin) && $0.vector[origin] != VersionVector.retired
                    }
            }
            if isShort { takeUpAgain(id) }
        }
    }

    /// What is known of the server is no longer known everywhere, so a sweep under way must not go by that.
    func takeUpAgain(_ id: UInt64) {
        guard let row = members.row(id), retired.contains(id) else { return }
        for origin in originsOf(row) { seen.reopen(origin, at: retired.last(origin)) }
        retired.remove(id)
        collector.abandon()
        statistics.serversReopened += 1
    }
}

extension Store {
    /// Uses up an own sequence number for a key without changing its record: the next delta carries the key's winner.
    func noteOwnWrite(_ hash: UInt64) {
        state.pointee.ownSeq &+= 1
        state.pointee.journal.append(state.pointee.ownSeq, hash)
    }
}
