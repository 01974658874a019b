// What becomes of a departed server's writes: adopting the loose ones, then taking its entries out of the vectors. Part
// of `Replica`; on its actor's thread.

import KVBase

/// A walk for a departed server's loose entries.
struct Adoption {
    var server: UInt64
    var origins: [OriginIndex]
    var cursor = WalkCursor()
}

extension Replica {
    /// Time for ordinary repair to close gaps in a departed server's writes.
    static let adoptAfterMillis: Millis = 3_000
    /// How long an actor waits for each sibling before it, of the first few.
    private static let adoptTurnMillis: Millis = 1_000
    private static let adoptTurnsMax = 4

    private func departedRows() -> [MemberRow] {
        members.rows.filter { !$0.status.isMember && $0.server != uid.server && !retiredHere.contains($0.server) }
    }

    func originsOf(_ row: MemberRow) -> [OriginIndex] {
        (0..<row.actorCount).compactMap { origins.index(of: ActorUID(server: row.server, index: UInt16($0))) }
    }

    func watchDeparted(_ at: Moment, into effects: inout ReplicaEffects) {
        guard isCaughtUp else { return }
        reopenRetired()
        for row in departedRows() {
            if !departedSince.contains(where: { $0.server == row.server }) {
                departedSince.append((row.server, at.steady))
            }
            guard let since = departedSince.first(where: { $0.server == row.server })?.at else { continue }
            adoptLoose(row, since: since, at)
            retireIfAgreed(row, at, into: &effects)
        }
        // A server that is silent for long may stay away for ever: those it cannot reach must agree without it.
        for server in servers {
            // Others may have passed on writes of one that this actor never heard itself.
            let since = server.heardAt ?? max(server.knownSince, startedAt ?? at.steady)
            guard at.steady - since > config.downMillis, let row = members.row(server.id) else { continue }
            adoptLoose(row, since: since, at)
        }
    }

    // MARK: Adopting

    /// A departed server's write beyond a gap that nobody can fill any more is held by some replicas and covered by no
    /// vector, so nothing would ever make the others fetch it. Whoever holds such an entry sends it on as part of its
    /// own stream: it notes an own write to the key without changing the record, and the closure rule does the rest.
    private func adoptLoose(_ row: MemberRow, since: Millis, _ at: Moment) {
        // One actor after the other: siblings mostly hold the same, and die together.
        let turn = Millis(min(config.actorIndex, Replica.adoptTurnsMax)) * Replica.adoptTurnMillis
        guard adoption == nil, at.steady - since >= Replica.adoptAfterMillis + turn else { return }
        // An interval beyond a gap may have brought nothing new and still stand in the way of retiring.
        let loose = originsOf(row).filter { origin in
            (newest[origin] > seen[origin] || islands.contains { $0.origin == origin }) && !isStillToCome(origin, at)
        }
        if !loose.isEmpty { adoption = Adoption(server: row.server, origins: loose) }
    }

    /// Somebody who can be heard has more of the writer without a gap: the ordinary repair brings that, over a line
    /// that may be slow. Only what it leaves is loose.
    private func isStillToCome(_ origin: OriginIndex, _ at: Moment) -> Bool {
        let mine = seen[origin]
        return siblings.contains { $0.vector[origin] > mine && $0.vector[origin] != VersionVector.retired }
            || servers.contains { $0.reach[origin] > mine && !$0.isSuspect(at.steady, config.suspectMillis) }
    }

    /// One slice of the walk; returns the entries looked at.
    func advanceAdoption(budget: Int, into effects: inout ReplicaEffects) -> Int {
        guard var current = adoption else { return 0 }
        var looked = 0
        var found: [UInt64] = []
        let hasher = store.hasher
        store.walk(&current.cursor, budget: min(budget, 512)) { record in
            looked += 1
            if current.origins.contains(record.origin), record.seq > seen[record.origin], isNewlyAdopted(record) {
                found.append(hasher.hash(record.keyView))
            }
        }
        for hash in found { store.noteOwnWrite(hash) }
        if !found.isEmpty {
            effects.events.append(.restamped((store.ownSeq - UInt64(found.count) + 1)...store.ownSeq))
            statistics.entriesAdopted += UInt64(found.count)
        }
        if current.cursor.isDone {
            for origin in current.origins {
                newest.set(origin, 0)
                islands.removeAll { $0.origin == origin }
            }
            adoption = nil
        } else {
            adoption = current
        }
        return max(looked, 64)
    }

    /// Each entry is adopted once, by this actor or a sibling: a walk finds again what the walks before it found, and
    /// loose entries come in many pieces over a thin line.
    @discardableResult
    func isNewlyAdopted(_ record: Record) -> Bool {
        if adoptedCount >= Replica.adoptedMax { (adopted, adoptedCount) = (HashSet64(), 0) }
        let isNew = adopted.insert(UInt64(record.origin) << 40 | record.seq)
        if isNew { adoptedCount += 1 }
        return isNew
    }

    /// Adopted entries that are remembered; beyond, all are forgotten, and perhaps adopted once more.
    private static let adoptedMax = 64 * 1024

    // MARK: Retiring

    /// This actor knows that the server departed, holds nothing loose of it, and so will never learn of a write of it
    /// that the others do not learn of too.
    func isLevel(_ row: MemberRow) -> Bool {
        guard !row.status.isMember, isCaughtUp, inboxHead == inbox.count else { return false }
        if retiredHere.contains(row.server) { return true }
        return adoption?.server != row.server && originsOf(row).allSatisfy { newest[$0] <= seen[$0] }
            && !islands.contains { origins.uid($0.origin).server == row.server }
    }

    /// Departed servers for which `isLevel` holds here.
    func levelHere() -> [UInt64] { members.rows.filter { isLevel($0) }.map(\.server) }

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
        if !config.bugs.contains(.retireEarly) {
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
            finals.set(origin, seen[origin])
            seen.set(origin, VersionVector.retired)
            frontier.set(origin, 0)
            newest.set(origin, 0)
            islands.removeAll { $0.origin == origin }
            dropRecent { $0.origin == origin }
        }
        retiredHere.append(row.server)
        retiredMarks.append(mark(row))
        if departedRows().isEmpty { (adopted, adoptedCount) = (HashSet64(), 0) }
        departedSince.removeAll { $0.server == row.server }
        statistics.serversRetired += 1
        if row.status != .retired {
            var retired = row
            retired.status = .retired
            learnTrusted(retired, at, into: &effects)
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
        for (id, mark) in zip(retiredHere, retiredMarks) where !marks.hasSorted(mark) {
            guard let row = members.row(id) else { continue }
            for origin in originsOf(row) where vector[origin] == VersionVector.retired {
                vector.set(origin, finals[origin])
            }
        }
        return vector
    }

    /// The same of a vector that a server has sent: what it left out because both retired it is put back, unless it is
    /// really missing there.
    func completed(_ vector: VersionVector, from server: RemoteServer) -> VersionVector {
        var vector = vector
        guard let marks = server.report?.retired else { return vector }
        for (id, mark) in zip(retiredHere, retiredMarks) where marks.hasSorted(mark) {
            guard let row = members.row(id) else { continue }
            for origin in originsOf(row) where seen[origin] == VersionVector.retired {
                vector.set(origin, VersionVector.retired)
            }
        }
        return vector
    }

    /// Names a retired server and how far its writes were seen: where marks are equal, nothing is left to compare.
    private func mark(_ row: MemberRow) -> UInt64 {
        var words = [row.server.littleEndian]
        for index in 0..<row.actorCount {
            let origin = origins.index(of: ActorUID(server: row.server, index: UInt16(index)))
            words.append((origin.map { finals[$0] } ?? 0).littleEndian)
        }
        return words.withUnsafeBytes { hashBytes($0.baseAddress!, $0.count, seed: 0x7265_7469_7265_6421) }
    }

    /// Marks of the servers that all actors of this process retired at the same writes, sorted.
    func marksOfAll() -> [UInt64] {
        retiredMarks.filter { mark in siblings.allSatisfy { $0.retired.hasSorted(mark) } }.sorted()
    }

    /// A member that was not known when a server was retired has more of it: the server's entries come back, the
    /// ordinary repair fills the gap, and all retire it again.
    private func reopenRetired() {
        for id in retiredHere {
            guard let row = members.row(id) else { continue }
            let isShort = originsOf(row).contains { origin in
                servers.contains { $0.reach[origin] > finals[origin] }
                    || siblings.contains {
                        $0.vector[origin] > finals[origin] && $0.vector[origin] != VersionVector.retired
                    }
            }
            guard isShort else { continue }
            for origin in originsOf(row) { seen.set(origin, finals[origin]) }
            let place = retiredHere.firstIndex(of: id)!
            retiredHere.remove(at: place)
            retiredMarks.remove(at: place)
            statistics.serversReopened += 1
        }
    }
}

extension [UInt64] {
    /// Whether a sorted array has the element.
    func hasSorted(_ element: UInt64) -> Bool {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < element { low = middle + 1 } else { high = middle }
        }
        return low < count && self[low] == element
    }
}

extension Store {
    /// Uses up an own sequence number for a key without changing its record: the next delta carries the key's winner.
    func noteOwnWrite(_ hash: UInt64) {
        state.pointee.ownSeq &+= 1
        state.pointee.journal.append(state.pointee.ownSeq, hash)
    }
}
