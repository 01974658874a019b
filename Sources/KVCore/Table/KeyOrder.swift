// Puts many records into the order of their keys at once. Pure, one thread.

import CIntrinsics
import Glibc
import KVBase

/// Eight bytes of each key, behind what all keys begin with, are sorted byte by byte from the last to the first, which
/// takes as long for a million keys as for a thousand times a thousand. Where these are equal whole keys are compared.
struct KeyOrder {
    /// A record and the eight bytes of its key.
    private struct Entry {
        var digit: UInt64
        var record: Record
    }

    /// How many records before its turn one is asked for.
    static let distance = 24
    /// A run of equal digits that is longer is sorted by the eight bytes behind them.
    private static let compareMax = 256

    /// Sorts records of different keys, which stay where they are meanwhile. 32 bytes a record for as long as it takes.
    /// O(records), as long as keys tell themselves apart early.
    static func sort(_ records: UnsafeMutableBufferPointer<Record>) {
        guard records.count > 1 else { return }
        let entries = UnsafeMutableBufferPointer<Entry>.allocate(capacity: records.count)
        let other = UnsafeMutableBufferPointer<Entry>.allocate(capacity: records.count)
        defer {
            entries.deallocate()
            other.deallocate()
        }
        for i in 0..<records.count { entries.initializeElement(at: i, to: Entry(digit: 0, record: records[i])) }
        other.initialize(repeating: entries[0])
        sort(entries, other)
        for i in 0..<records.count { records[i] = entries[i].record }
    }

    private static func sort(
        _ entries: UnsafeMutableBufferPointer<Entry>, _ other: UnsafeMutableBufferPointer<Entry>
    ) {
        let shared = takeDigits(entries)
        sortDigits(entries, other)
        var start = 0
        while start < entries.count {
            var end = start + 1
            while end < entries.count, entries[end].digit == entries[start].digit { end += 1 }
            if end - start > 1 {
                var run = UnsafeMutableBufferPointer(rebasing: entries[start..<end])
                // Keys with the same digits share more than these did; if not, they end there, but for zeros.
                if run.count > compareMax, sharedCount(run) >= shared + 8 {
                    sort(run, UnsafeMutableBufferPointer(rebasing: other[start..<end]))
                } else {
                    run.sort { compareBytes($0.record.key, $1.record.key) < 0 }
                }
            }
            start = end
        }
    }

    @inline(__always)
    private static func prefetch(_ entries: UnsafeMutableBufferPointer<Entry>, _ i: Int) {
        if i < entries.count { ci_prefetch(entries[i].record.raw) }
    }

    /// How many first bytes all keys have in common.
    private static func sharedCount(_ entries: UnsafeMutableBufferPointer<Entry>) -> Int {
        let first = entries[0].record.key
        var shared = first.count
        for i in 1..<entries.count {
            prefetch(entries, i &+ distance)
            shared = min(shared, commonCount(first, entries[i].record.key))
        }
        return shared
    }

    /// Reads the eight bytes behind what all keys have in common; returns how much that is.
    private static func takeDigits(_ entries: UnsafeMutableBufferPointer<Entry>) -> Int {
        let first = entries[0].record.key
        // A few keys tell; if they are wrong, all are looked at again.
        var shared = first.count
        let step = max(1, entries.count / 64)
        for i in stride(from: 0, to: entries.count, by: step) {
            shared = min(shared, commonCount(first, entries[i].record.key))
        }
        while true {
            var common = shared
            for i in 0..<entries.count {
                prefetch(entries, i &+ distance)
                let key = entries[i].record.key
                common = min(common, commonCount(first, key))
                if common < shared { break }
                entries[i].digit = digit64(key, shared)
            }
            if common == shared { return shared }
            shared = min(common, sharedCount(entries))
        }
    }

    /// By the eight bytes, those that are the same everywhere left out; the sorted entries end up in `entries`.
    private static func sortDigits(
        _ entries: UnsafeMutableBufferPointer<Entry>, _ other: UnsafeMutableBufferPointer<Entry>
    ) {
        // Not `withUnsafeTemporaryAllocation`: what its body ends with, a call of memcpy, spoils the register of errors
        // (Swift 6 with -O), and an error is thrown that nobody catches.
        let counts = UnsafeMutableBufferPointer<Int>.allocate(capacity: 8 * 256)
        defer { counts.deallocate() }
        counts.initialize(repeating: 0)
        for entry in entries {
            for byte in 0..<8 { counts[byte &* 256 &+ Int(entry.digit &>> (UInt64(byte) &* 8) & 0xFF)] &+= 1 }
        }
        var (from, to) = (entries, other)
        for byte in 0..<8 {
            let places = UnsafeMutableBufferPointer(rebasing: counts[(byte * 256)..<(byte * 256 + 256)])
            let shift = UInt64(byte) &* 8
            if places[Int(entries[0].digit &>> shift & 0xFF)] == entries.count { continue }
            var place = 0
            for value in 0..<256 { (places[value], place) = (place, place &+ places[value]) }
            for entry in from {
                let value = Int(entry.digit &>> shift & 0xFF)
                to[places[value]] = entry
                places[value] &+= 1
            }
            swap(&from, &to)
        }
        if from.baseAddress != entries.baseAddress {
            memcpy(entries.baseAddress!, from.baseAddress!, from.count * MemoryLayout<Entry>.stride)
        }
    }
}
