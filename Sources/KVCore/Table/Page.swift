// Result of LIST and SCAN: records borrowed from the store. One thread.

import Glibc
import KVBase

/// Records in the order found; borrowed: valid until the store is next changed, listed or scanned.
@usableFromInline package struct RecordPage {
    @usableFromInline let base: UnsafeMutablePointer<Record>
    @usableFromInline package let count: Int
    /// No record follows. If not, go on with `position`, even where the page is empty.
    package let isLast: Bool
    /// The greatest key that was looked at; pass it as `after`. Borrowed as the records are.
    package let position: UnsafeRawBufferPointer?

    init(base: UnsafeMutablePointer<Record>, count: Int, isLast: Bool, position: UnsafeRawBufferPointer?) {
        (self.base, self.count, self.isLast, self.position) = (base, count, isLast, position)
    }

    @inlinable @inline(__always)
    package subscript(_ index: Int) -> Record {
        #if KV_CHECKS
            precondition(index >= 0 && index < count)
        #endif
        return base[index]
    }

    /// The first `n` of them.
    package func prefix(_ n: Int) -> RecordPage {
        RecordPage(base: base, count: min(n, count), isLast: isLast, position: position)
    }

    package var last: Record? { count > 0 ? base[count - 1] : nil }
}

/// The store's reused scratch array behind pages; grows to the largest page asked for.
struct PageBuffer {
    private(set) var base: UnsafeMutablePointer<Record>
    private(set) var count = 0
    private var capacity = 64

    init() { base = .allocate(capacity: 64) }

    func deallocate() { base.deallocate() }

    func page(isLast: Bool, position: UnsafeRawBufferPointer?) -> RecordPage {
        RecordPage(base: base, count: count, isLast: isLast, position: position)
    }

    /// Puts in the place of each record from `start` on what `shown` makes of it, or leaves it out.
    mutating func keep(from start: Int, _ shown: (Record) -> Record?) {
        var kept = start
        for at in start..<count {
            guard let record = shown(base[at]) else { continue }
            base[kept] = record
            kept &+= 1
        }
        count = kept
    }

    mutating func clear() { count = 0 }

    /// Scratch for twice `entries` words, the first half for the table's words of the next records: the place behind
    /// the page, so that appending one overwrites only words already read.
    mutating func room(for entries: Int) -> UnsafeMutablePointer<UInt64> {
        while count + entries * 2 > capacity { grow() }
        return UnsafeMutableRawPointer(base + count).assumingMemoryBound(to: UInt64.self)
    }

    @inline(__always)
    mutating func append(_ record: Record) {
        if count == capacity { grow() }
        (base + count).initialize(to: record)
        count &+= 1
    }

    private mutating func grow() {
        let wider = UnsafeMutablePointer<Record>.allocate(capacity: capacity * 2)
        wider.update(from: base, count: count)
        base.deallocate()
        base = wider
        capacity *= 2
    }
}
