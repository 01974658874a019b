// Decoded deltas: records by reference, shared between sibling actors. Built by one actor, then immutable, freed by any
// thread.

import CIntrinsics
import Glibc
import KVBase

/// A record and its key's hash in this process, so that no sibling has to hash the key again.
package struct DeltaEntry {
    package var hash: UInt64
    package var record: Record
}

/// A growing list of entries, each holding one reference. Owned by one actor until a segment takes it over.
struct DeltaEntries {
    private(set) var base: UnsafeMutablePointer<DeltaEntry>?
    private(set) var count = 0
    private var capacity = 0
    /// Key and value bytes of all entries.
    private(set) var payloadBytes = 0
    private(set) var largestBytes = 0

    /// Takes over one reference of `record`.
    mutating func append(_ hash: UInt64, _ record: Record) {
        if count == capacity {
            capacity = max(16, capacity * 2)
            let bytes = capacity * MemoryLayout<DeltaEntry>.stride
            base = (realloc(base, bytes) ?? outOfMemory(bytes))
                .bindMemory(to: DeltaEntry.self, capacity: capacity)
        }
        base.unsafelyUnwrapped[count] = DeltaEntry(hash: hash, record: record)
        count &+= 1
        let bytes = record.keyCount &+ record.contentCount
        payloadBytes &+= bytes
        if bytes > largestBytes { largestBytes = bytes }
    }

    /// Releases everything.
    mutating func clear() {
        for i in 0..<count { base![i].record.release() }
        free(base)
        self = DeltaEntries()
    }

    mutating func take() -> DeltaEntries {
        let taken = self
        self = DeltaEntries()
        return taken
    }
}

/// One interval of one origin's writes with everything they left behind, or one page of a scan.
///
/// Closure rule (docs/replication.md 4.2): for every write of `origin` in `from + 1 ... to` the entries hold what was
/// the current winner of that write's key when the segment was made, whoever wrote it.
package final class DeltaSegment: @unchecked Sendable {
    /// Whose writes the interval counts; meaningless for a page.
    package let origin: OriginIndex
    package let from: UInt64
    package let to: UInt64
    package let isPage: Bool
    /// What the maker had seen when it read the winners.
    package let cut: VersionVector
    package let count: Int
    /// Key and value bytes; what a marshalled form would mostly consist of.
    package let payloadBytes: Int
    /// Of one entry.
    let largestBytes: Int
    private let base: UnsafeMutablePointer<DeltaEntry>?

    init(origin: OriginIndex, from: UInt64, to: UInt64, isPage: Bool, cut: VersionVector, taking entries: DeltaEntries)
    {
        self.origin = origin
        self.from = from
        self.to = to
        self.isPage = isPage
        self.cut = cut
        count = entries.count
        payloadBytes = entries.payloadBytes
        largestBytes = entries.largestBytes
        base = entries.base
    }

    /// Entries given up already by `release`.
    private var released = 0

    deinit {
        for i in released..<count { base![i].record.release() }
        free(base)
    }

    /// Gives up some of the references, so that a long segment does not go in one piece. Only for who holds the only
    /// reference to the segment. False when all are given up.
    func release(upTo budget: Int) -> Bool {
        let end = min(count, released + budget)
        while released < end {
            if released &+ 8 < count { ci_prefetch(base.unsafelyUnwrapped[released &+ 8].record.raw) }
            base.unsafelyUnwrapped[released].record.release()
            released &+= 1
        }
        return released < count
    }

    /// Entries in the order they were written; valid while the segment is referenced.
    package var entries: UnsafeBufferPointer<DeltaEntry> { UnsafeBufferPointer(start: base, count: count) }

    /// What this would take on the wire, for the byte counters of batches that are handed over by reference.
    package var wireBytes: Int { payloadBytes + 6 * count + 24 }
}
