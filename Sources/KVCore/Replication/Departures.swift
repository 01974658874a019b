// Departed servers that are not retired yet, and the walk that adopts their loose entries. A part of `Replica`; on its
// actor's thread.

import KVBase

struct Departures {
    /// Time for ordinary repair to close gaps in a departed server's writes.
    private static let adoptAfterMillis: Millis = 3_000
    /// Entries looked at in one step of the walk.
    private static let entriesPerStep = 512

    private struct Adoption {
        var server: UInt64
        var origins: [OriginIndex]
        var cursor = WalkCursor()
    }

    private var since: [(server: UInt64, at: Millis)] = []
    /// One at a time.
    private var adoption: Adoption?

    /// Since when the server is known to have departed: now, if it was not known.
    mutating func note(_ server: UInt64, _ now: Millis) -> Millis {
        if let known = since.first(where: { $0.server == server }) { return known.at }
        since.append((server, now))
        return now
    }

    /// The server is retired.
    mutating func forget(_ server: UInt64) { since.removeAll { $0.server == server } }

    var isAdopting: Bool { adoption != nil }

    func isAdopting(_ server: UInt64) -> Bool { adoption?.server == server }

    /// Whether a walk may begin for a server that departed, or fell silent, at `since`.
    func mayAdopt(since: Millis, _ now: Millis) -> Bool {
        adoption == nil && now - since >= Departures.adoptAfterMillis
    }

    /// Begins the walk for entries of these origins that no vector covers.
    mutating func adopt(_ server: UInt64, _ origins: [OriginIndex]) {
        adoption = Adoption(server: server, origins: origins)
    }

    /// One slice of the walk. Returns the hashes of loose entries, the entries looked at, and at the end of the walk
    /// the origins it was for. O(budget).
    mutating func walk(
        _ store: Store, budget: Int, _ seen: Seen
    ) -> (found: [UInt64], looked: Int, ended: [OriginIndex]) {
        guard var current = adoption else { return ([], 0, []) }
        var looked = 0
        var found: [UInt64] = []
        let hasher = store.hasher
        store.walk(&current.cursor, budget: min(budget, Departures.entriesPerStep)) { record in
            looked += 1
            if current.origins.contains(record.origin), record.seq > seen[record.origin] {
                found.append(hasher.hash(record.keyPointer, record.keyCount))
            }
        }
        guard current.cursor.isDone else {
            adoption = current
            return (found, looked, [])
        }
        adoption = nil
        return (found, looked, current.origins)
    }

    func checkInvariants(_ retired: RetiredServers) {
        check(since.allSatisfy { !retired.contains($0.server) })
        check(adoption.map { !$0.origins.isEmpty } ?? true)
    }
}
