// Departed servers whose entries left the vector, and how far their writes go. A part of `Replica`; on its actor's
// thread.

import KVBase

/// "Retired" means only that this replica has all that those had which it knew then. A mark names a server and how far
/// its writes were seen when it was retired: where marks are equal, nothing is left to compare.
struct RetiredServers {
    private var ids: [UInt64] = []
    /// In the order of `ids`.
    private var marks: [UInt64] = []
    /// How far each origin's writes were seen when it was retired.
    private var finals = VersionVector()
    /// What this replica had seen when it last retired a server.
    private var seenThen = VersionVector()

    /// In the order in which they were retired.
    var servers: [UInt64] { ids }

    func contains(_ server: UInt64) -> Bool { ids.contains(server) }

    /// How far the origin's writes were seen when it was retired.
    func last(_ origin: OriginIndex) -> UInt64 { finals[origin] }

    /// Sorted.
    var sortedMarks: [UInt64] { marks.sorted() }

    /// Marks that are `shared`, sorted.
    func marks(where isShared: (UInt64) -> Bool) -> [UInt64] { marks.filter(isShared).sorted() }

    /// Servers whose mark is `shared`, in the order in which they were retired.
    func servers(where isShared: (UInt64) -> Bool) -> [UInt64] {
        zip(ids, marks).filter { isShared($0.1) }.map(\.0)
    }

    /// An origin of a server about to be added was seen up to `seq`.
    mutating func note(_ origin: OriginIndex, last seq: UInt64) { finals.set(origin, seq) }

    /// Servers whose mark is `shared`, if everybody has seen what this replica, now at `vector`, had when it last
    /// retired one: a mark does not say who has what came late of a server. O(origins).
    func knownEverywhere(
        _ stable: VersionVector, _ vector: VersionVector, _ origins: OriginTable, where isShared: (UInt64) -> Bool
    ) -> [UInt64] {
        let shared = servers(where: isShared)
        for i in 0..<seenThen.count where seenThen.seqs[i] != VersionVector.retired {
            let origin = OriginIndex(i)
            // What others told may have been refuted since.
            let isKnown =
                vector[origin] == VersionVector.retired
                ? shared.contains(origins.uid(origin).server)
                : stable.covers(origin, min(seenThen[origin], vector[origin]))
            if !isKnown { return [] }
        }
        return shared
    }

    /// All origins of the server were noted. `vector`: what has taken effect here.
    mutating func add(_ row: MemberRow, _ origins: OriginTable, at vector: VersionVector) {
        seenThen = vector
        ids.append(row.server)
        marks.append(mark(row, origins))
    }

    /// The server's entries come back.
    mutating func remove(_ server: UInt64) {
        guard let place = ids.firstIndex(of: server) else { return }
        ids.remove(at: place)
        marks.remove(at: place)
    }

    private func mark(_ row: MemberRow, _ origins: OriginTable) -> UInt64 {
        var words = [row.server.littleEndian]
        for index in 0..<row.actorCount {
            let origin = origins.index(of: ActorUID(server: row.server, index: UInt16(index)))
            words.append((origin.map { finals[$0] } ?? 0).littleEndian)
        }
        return words.withUnsafeBytes { hashBytes($0.baseAddress!, $0.count, seed: 0x7265_7469_7265_6421) }
    }

    func checkInvariants() { check(ids.count == marks.count && Set(ids).count == ids.count) }
}

extension [UInt64] {
    /// Whether a sorted array has the element. O(log count).
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
