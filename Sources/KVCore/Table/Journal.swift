// What an actor wrote, in order: a ring of key hashes indexed by its own write counter. One thread.

import Glibc
import KVBase

/// Eight bytes per own write. A delta frame looks the keys up again when it is built, so a key overwritten many times goes out
/// once, with its current winner (replication.md b3). Held in chunks that come and go, so neither growth nor trimming copies.
struct Journal {
    static let chunkEntries = 4096

    /// Ring of chunk pointers; nil where no chunk is needed now.
    private let chunks: UnsafeMutablePointer<UnsafeMutablePointer<UInt64>?>
    private let chunkCount: Int
    /// Greatest number of entries kept: the oldest are forgotten first.
    let capacity: Int
    /// The entries are `first ... last`; empty when first > last.
    private(set) var first: UInt64 = 1
    private(set) var last: UInt64 = 0

    init(capacity wanted: Int) {
        chunkCount = max(2, (wanted + Journal.chunkEntries - 1) / Journal.chunkEntries + 1)
        capacity = (chunkCount - 1) * Journal.chunkEntries
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
    private func place(_ seq: UInt64) -> (chunk: Int, index: Int) {
        let entry = Int(seq)
        return (entry / Journal.chunkEntries % chunkCount, entry % Journal.chunkEntries)
    }

    /// Notes that own write `seq`, the successor of the last, was to the key of this hash. O(1).
    mutating func append(_ seq: UInt64, _ hash: UInt64) {
        check(seq == last + 1)
        if Int(seq &- first) >= capacity { trim(through: seq &- UInt64(capacity)) }
        let (chunk, index) = place(seq)
        if chunks[chunk] == nil {
            chunks[chunk] = malloc(Journal.chunkEntries * 8)!.bindMemory(to: UInt64.self, capacity: Journal.chunkEntries)
        }
        chunks[chunk].unsafelyUnwrapped[index] = hash
        last = seq
    }

    /// The key hash of own write `seq`, which must be in `first ... last`.
    func hash(_ seq: UInt64) -> UInt64 {
        precondition(seq >= first && seq <= last, "outside the journal")
        let (chunk, index) = place(seq)
        return chunks[chunk].unsafelyUnwrapped[index]
    }

    /// Forgets everything up to `seq`; gives whole chunks back. O(chunks given back).
    mutating func trim(through seq: UInt64) {
        let newFirst = min(seq, last) + 1
        guard newFirst > first else { return }
        var chunk = first / UInt64(Journal.chunkEntries)
        // An empty journal keeps no chunk; otherwise the chunk of the new first entry stays.
        let stop = newFirst > last ? last / UInt64(Journal.chunkEntries) + 1 : newFirst / UInt64(Journal.chunkEntries)
        while chunk < stop {
            let at = Int(chunk) % chunkCount
            free(chunks[at])
            chunks[at] = nil
            chunk += 1
        }
        first = newFirst
    }
}
