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
    /// How long a walk waits for servers to be sent what it adopted.
    private static let pacedMillisMax: Millis = 60_000
    /// Entries looked at in one step of the walk.
    private static let entriesPerStep = 512

    private struct Adoption {
        var server: UInt64
        var origins: [OriginIndex]
        var beganAt: Millis
        var cursor = WalkCursor()
    }

    private var since: [(server: UInt64, at: Millis)] = []
    /// Servers that left something loose here, and since when without a pause.
    private var loose: [(server: UInt64, at: Millis)] = []
    /// When a sibling before this actor was last seen to have passed on what this actor would adopt.
    private var passedOnAt: Millis = .min
    private var wasPassedOn = false
    /// One at a time.
    private var adoption: Adoption?
    /// Entries that were adopted, by writer and number.
    private var adopted = HashSet64()
    private var adoptedCount = 0
    /// Of whom the directory has writes, until it is known of each who that was.
    private var onDisk: [OriginIndex] = []
    /// The last own number that was used up for one.
    private var lastAdopted: UInt64 = 0

    /// The directory has writes of these.
    mutating func note(onDisk origins: [OriginIndex]) { onDisk = origins }

    var hasWritersOnDisk: Bool { !onDisk.isEmpty }

    /// Once.
    mutating func takeWritersOnDisk() -> [OriginIndex] {
        defer { onDisk = [] }
        return onDisk
    }

    /// Since when the server is known to have departed: now, if it was not known.
    mutating func note(_ server: UInt64, _ now: Millis) -> Millis {
        if let known = since.first(where: { $0.server == server }) { return known.at }
        since.append((server, now))
        return now
    }

    /// The server is retired.
    mutating func forget(_ server: UInt64) {
        since.removeAll { $0.server == server }
        noteLevel(server)
    }

    /// Every departed server is retired.
    mutating func forgetAdopted() { (adopted, adoptedCount) = (HashSet64(), 0) }

    /// Nothing of the server is loose here.
    mutating func noteLevel(_ server: UInt64) { loose.removeAll { $0.server == server } }

    /// A sibling before this actor passed on a loose entry: it need not go twice, and more may follow.
    mutating func notePassedOn(_ record: Record) { if noteAdopted(record) { wasPassedOn = true } }

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

    /// The walk has lasted so long that it waits for no server any more.
    func isPressed(_ now: Millis) -> Bool { adoption.map { now - $0.beganAt >= Departures.pacedMillisMax } ?? false }

    /// Own writes up to `seq` stand for adopted entries, among others.
    mutating func noteOwn(through seq: UInt64) { lastAdopted = seq }

    /// Adopts still, or has not told its siblings all of it, of own writes up to `logged`.
    func isAtIt(_ logged: UInt64) -> Bool { isAdopting || lastAdopted > logged }

    func isAdopting(_ server: UInt64) -> Bool { adoption?.server == server }

    /// Whether a walk may begin for a server that departed, or fell silent, at `since` and left something loose here.
    /// The actor's turn comes after it became loose here and after a sibling before it last passed on something:
    /// siblings catch up together, and get what comes late at the same time too.
    mutating func mayAdopt(_ server: UInt64, since: Millis, actorIndex: Int, _ now: Millis) -> Bool {
        if wasPassedOn { (passedOnAt, wasPassedOn) = (now, false) }
        if !loose.contains(where: { $0.server == server }) { loose.append((server, now)) }
        let looseAt = loose.first { $0.server == server }?.at ?? now
        let turn = Millis(min(actorIndex, Departures.adoptTurnsMax)) * Departures.adoptTurnMillis
        return adoption == nil && now - turn >= max(since + Departures.adoptAfterMillis, looseAt, passedOnAt)
    }

    /// Begins the walk for entries of these origins that no vector covers.
    mutating func adopt(_ server: UInt64, _ origins: [OriginIndex], _ now: Millis) {
        adoption = Adoption(server: server, origins: origins, beganAt: now)
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
        check(loose.allSatisfy { !retired.contains($0.server) })
        check(adoptedCount <= Departures.adoptedMax)
        check(adoption.map { !$0.origins.isEmpty } ?? true)
    }
}
