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

    private func departedRows() -> [MemberRow] {
        members.rows.filter { !$0.status.isMember && $0.server != uid.server && !retiredHere.contains($0.server) }
    }

    private func originsOf(_ row: MemberRow) -> [OriginIndex] {
        (0..<row.actorCount).compactMap { origins.index(of: ActorUID(server: row.server, index: UInt16($0))) }
    }

    func watchDeparted(_ at: Moment, into effects: inout ReplicaEffects) {
        guard isCaughtUp else { return }
        for row in departedRows() {
            if !departedSince.contains(where: { $0.server == row.server }) {
                departedSince.append((row.server, at.steady))
            }
            guard let since = departedSince.first(where: { $0.server == row.server })?.at else { continue }
            adoptLoose(row, since: since, at)
            retireIfAgreed(row, at, into: &effects)
        }
        // A server that is silent for long may stay away for ever: those it cannot reach must agree without it.
        for server in servers where server.isSuspect(at.steady, config.downMillis) {
            if let heardAt = server.heardAt, let row = members.row(server.id) { adoptLoose(row, since: heardAt, at) }
        }
    }

    // MARK: Adopting

    /// A departed server's write beyond a gap that nobody can fill any more is held by some replicas and covered by no
    /// vector, so nothing would ever make the others fetch it. Whoever holds such an entry sends it on as part of its
    /// own stream: it notes an own write to the key without changing the record, and the closure rule does the rest.
    private func adoptLoose(_ row: MemberRow, since: Millis, _ at: Moment) {
        guard adoption == nil, at.steady - since >= Replica.adoptAfterMillis else { return }
        // An interval beyond a gap may have brought nothing new and still stand in the way of retiring.
        let loose = originsOf(row).filter { origin in
            newest[origin] > seen[origin] || islands.contains { $0.origin == origin }
        }
        if !loose.isEmpty { adoption = Adoption(server: row.server, origins: loose) }
    }

    /// One slice of the walk; returns the entries looked at.
    func advanceAdoption(budget: Int, into effects: inout ReplicaEffects) -> Int {
        guard var current = adoption else { return 0 }
        var looked = 0
        var found: [UInt64] = []
        let hasher = store.hasher
        store.walk(&current.cursor, budget: min(budget, 512)) { record in
            looked += 1
            if current.origins.contains(record.origin), record.seq > seen[record.origin] {
                found.append(hasher.hash(record.keyPointer, record.keyCount))
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
    private func retireIfAgreed(_ row: MemberRow, _ at: Moment, into effects: inout ReplicaEffects) {
        if !config.bugs.contains(.retireEarly) {
            guard levelEverywhereHere().contains(row.server) else { return }
            guard siblings.allSatisfy({ seen.covers($0.origin, $0.vector[$0.origin]) }) else { return }
            for server in servers {
                promoteReport(server)
                guard let report = server.usableReport, report.level.contains(row.server) else { return }
                // A member that has retired it already has no entry left to compare.
                let isEqual = originsOf(row).allSatisfy { origin in
                    report.least[origin] == seen[origin] || (row.status == .retired && report.least[origin] == 0)
                }
                guard isEqual else { return }
            }
        }
        for origin in originsOf(row) {
            seen.set(origin, VersionVector.retired)
            frontier.set(origin, 0)
            newest.set(origin, 0)
            islands.removeAll { $0.origin == origin }
            dropRecent { $0.origin == origin }
        }
        retiredHere.append(row.server)
        departedSince.removeAll { $0.server == row.server }
        statistics.serversRetired += 1
        if row.status != .retired {
            var retired = row
            retired.status = .retired
            learnTrusted(retired, at, into: &effects)
        }
    }
}

extension Store {
    /// Uses up an own sequence number for a key without changing its record: the next delta carries the key's winner.
    func noteOwnWrite(_ hash: UInt64) {
        state.pointee.ownSeq &+= 1
        state.pointee.journal.append(state.pointee.ownSeq, hash)
    }
}
