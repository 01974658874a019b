// Tombstones waiting to be collected, oldest first, and what else is to be forgotten. One thread.

import Glibc
import KVBase

/// First in, first out, in 4 KiB chunks, so that no push copies what is there. An entry names one exact record by
/// key hash and version; it is stale once the key was written again.
struct TombstoneQueue {
    struct Entry {
        var hash: UInt64
        private var stamp: UInt64

        init(_ record: Record, hash: UInt64) {
            self.hash = hash
            stamp = Entry.stamp(record)
        }

        /// Whether a record with the entry's hash is the one meant.
        func names(_ record: Record) -> Bool { stamp == Entry.stamp(record) }

        /// All of the version in one word; two versions sharing it would only have a record looked at twice.
        private static func stamp(_ record: Record) -> UInt64 { record.stampWord ^ record.seq &* 0x9E37_79B9_7F4A_7C15 }
    }

    private struct Chunk {
        var next: UnsafeMutablePointer<Chunk>?
        var head: Int32
        var tail: Int32
        /// No record that an entry names was written before.
        var oldest: Millis
    }
    private static let entriesPerChunk = (4096 - MemoryLayout<Chunk>.stride) / MemoryLayout<Entry>.stride

    private var front: UnsafeMutablePointer<Chunk>?
    private var back: UnsafeMutablePointer<Chunk>?
    private(set) var count = 0

    mutating func deallocate() {
        while let chunk = front {
            front = chunk.pointee.next
            free(chunk)
        }
        back = nil
    }

    private static func entries(_ chunk: UnsafeMutablePointer<Chunk>) -> UnsafeMutablePointer<Entry> {
        UnsafeMutableRawPointer(chunk + 1).assumingMemoryBound(to: Entry.self)
    }

    /// `ms`: the stamp of the record that the entry names.
    mutating func push(_ entry: Entry, ms: Millis) {
        if back == nil || Int(back!.pointee.tail) == TombstoneQueue.entriesPerChunk {
            let chunk = (malloc(4096) ?? outOfMemory(4096)).bindMemory(to: Chunk.self, capacity: 1)
            chunk.initialize(to: Chunk(next: nil, head: 0, tail: 0, oldest: ms))
            if let back { back.pointee.next = chunk } else { front = chunk }
            back = chunk
        }
        TombstoneQueue.entries(back!)[Int(back!.pointee.tail)] = entry
        back!.pointee.tail += 1
        back!.pointee.oldest = min(back!.pointee.oldest, ms)
        count += 1
    }

    /// Entries at the front that all name records younger than `oldest` go behind the others, up to `chunksMax` chunks
    /// of some 250. Returns how many entries. Looks at no record. O(chunks).
    mutating func passOverYoung(than oldest: Millis, chunksMax: Int) -> Int {
        var passed = 0
        for _ in 0..<chunksMax {
            guard let chunk = front, chunk.pointee.oldest > oldest else { break }
            passed += Int(chunk.pointee.tail - chunk.pointee.head)
            guard let next = chunk.pointee.next else { break }
            (front, chunk.pointee.next) = (next, nil)
            back!.pointee.next = chunk
            back = chunk
        }
        return passed
    }

    mutating func pop() -> Entry? {
        guard let chunk = front, count > 0 else { return nil }
        let entry = TombstoneQueue.entries(chunk)[Int(chunk.pointee.head)]
        chunk.pointee.head += 1
        count -= 1
        if chunk.pointee.head == chunk.pointee.tail {
            front = chunk.pointee.next
            if front == nil { back = nil }
            free(chunk)
        }
        return entry
    }
}
