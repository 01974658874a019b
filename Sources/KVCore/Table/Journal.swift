// What an actor wrote, in order: a ring of key hashes indexed by its own write counter. One thread.

import Glibc
import KVBase

/// Eight bytes per own write. A delta frame looks the keys up again when it is built, so a key overwritten many times
/// goes out once, with its current winner (docs/replication.md 4.1). Held in chunks that come and go, so neither
/// growth nor trimming copies.
struct Journal {
    static let chunkEntries = 1024

    /// Ring of chunk pointers, a power of two of them; nil where no chunk is needed now.
    private let chunks: UnsafeMutablePointer<UnsafeMutablePointer<UInt64>?>
    private let chunkCount: Int
    /// Entries kept at least, a chunk more at most: the oldest are forgotten first.
    let capacity: Int
    /// The entries are `first ... last`; empty when first > last.
    private(set) var first: UInt64 = 1
    private(set) var last: UInt64 = 0
    /// The chunk of the last entry; nil if that is not held.
    private var writing: UnsafeMutablePointer<UInt64>?

    init(capacity wanted: Int) {
        let held = max(1, (wanted + Journal.chunkEntries - 1) / Journal.chunkEntries)
        capacity = held * Journal.chunkEntries
        chunkCount = 1 << (Int.bitWidth - held.leadingZeroBitCount)
        chunks = .allocate(capacity: chunkCount)
        chunks.initialize(repeating: nil, count: chunkCount)
    }

    func deallocate() {
        for i in 0..<chunkCount { free(chunks[i]) }
        chunks.deallocate()
    }

    var bytes: Int {
        var held = 0
        for i in 0..<chunkCount where chunks[i] != nil { held += 1 }
        return held * Journal.chunkEntries * 8 + chunkCount * 8
    }

    @inline(__always)
    private func chunk(of seq: UInt64) -> Int {
        Int(truncatingIfNeeded: seq / UInt64(Journal.chunkEntries)) & (chunkCount &- 1)
    }
    @inline(__always)
    private func index(of seq: UInt64) -> Int { Int(truncatingIfNeeded: seq) & (Journal.chunkEntries &- 1) }

    /// Notes that own write `seq`, the successor of the last, was to the key of this hash. O(1).
    @inline(__always)
    mutating func append(_ seq: UInt64, _ hash: UInt64) {
        check(seq == last + 1)
        if index(of: seq) == 0 || writing == nil { openChunk(seq) }
        writing.unsafelyUnwrapped[index(of: seq)] = hash
        last = seq
    }

    /// Makes the chunk of `seq` the one written to; forgets the oldest chunk if all are in use.
    private mutating func openChunk(_ seq: UInt64) {
        if Int(seq &- first) >= capacity { trim(through: seq &- UInt64(capacity)) }
        let chunk = chunk(of: seq)
        if chunks[chunk] == nil {
            chunks[chunk] = (malloc(Journal.chunkEntries * 8) ?? outOfMemory(Journal.chunkEntries * 8)).bindMemory(
                to: UInt64.self, capacity: Journal.chunkEntries)
        }
        writing = chunks[chunk]
    }

    /// The key hash of own write `seq`, which must be in `first ... last`. O(1).
    @inline(__always)
    func hash(_ seq: UInt64) -> UInt64 {
        precondition(seq >= first && seq <= last, "outside the journal")
        return chunks[chunk(of: seq)].unsafelyUnwrapped[index(of: seq)]
    }

    /// Forgets everything up to `seq`; gives whole chunks back. O(chunks given back).
    mutating func trim(through seq: UInt64) {
        let newFirst = min(seq, last) + 1
        guard newFirst > first else { return }
        var chunk = first / UInt64(Journal.chunkEntries)
        // An empty journal keeps no chunk; otherwise the chunk of the new first entry stays.
        let stop = newFirst > last ? last / UInt64(Journal.chunkEntries) + 1 : newFirst / UInt64(Journal.chunkEntries)
        while chunk < stop {
            let at = Int(chunk) & (chunkCount - 1)
            if chunks[at] == writing { writing = nil }
            free(chunks[at])
            chunks[at] = nil
            chunk += 1
        }
        first = newFirst
    }
}
