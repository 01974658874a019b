// Departed servers that are not retired yet, and the walk that adopts their loose entries. A part of `Replica`; on its
// actor's thread.

import KVBase

struct Departures {
    /// Time for ordinary repair to close gaps in a departed server's writes.
    static let adoptAfterMillis: Millis = 3_000
    /// How long an actor waits for each sibling before it, of the first few: siblings mostly hold the same, and die
    /// together.
    private static let adoptTurnMillis: Millis = 1_000
    private static let adoptTurnsMax = 4
    /// Adopted entries that are remembered; beyond, all are forgotten, and perhaps adopted once more.
    private static let adoptedMax = 64 * 1024
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
    /// Entries that were adopted, by writer and number.
    private var adopted = HashSet64()
    private var adoptedCount = 0

    /// Since when the server is known to have departed: now, if it was not known.
    mutating func note(_ server: UInt64, _ now: Millis) -> Millis {
        if let known = since.first(where: { $0.server == server }) { return known.at }
        since.append((server, now))
        return now
    }

    /// The server is retired.
    mutating func forget(_ server: UInt64) { since.removeAll { $0.server == server } }

    /// Every departed server is retired.
    mutating func forgetAdopted() { (adopted, adoptedCount) = (HashSet64(), 0) }

    /// Each entry is adopted once, by this actor or a sibling: a walk finds again what the walks before it found, and
    /// loose entries come in many pieces over a thin line. False if it was.
    @discardableResult
    mutating func noteAdopted(_ record: Record) -> Bool {
        if adoptedCount >= Departures.adoptedMax { forgetAdopted() }
        let isNew = adopted.insert(UInt64(record.origin) << 40 | record.seq)
        if isNew { adoptedCount += 1 }
        return isNew
    }

    var isAdopting: Bool { adoption != nil }

    func isAdopting(_ server: UInt64) -> Bool { adoption?.server == server }

    /// Whether a walk may begin for a server that departed, or fell silent, at `since`.
    func mayAdopt(since: Millis, actorIndex: Int, _ now: Millis) -> Bool {
        let turn = Millis(min(actorIndex, Departures.adoptTurnsMax)) * Departures.adoptTurnMillis
        return adoption == nil && now - since >= Departures.adoptAfterMillis + turn
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
            if current.origins.contains(record.origin), record.seq > seen[record.origin], noteAdopted(record) {
                found.append(hasher.hash(record.keyView))
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
        check(adoptedCount <= Departures.adoptedMax)
        check(adoption.map { !$0.origins.isEmpty } ?? true)
    }
}
