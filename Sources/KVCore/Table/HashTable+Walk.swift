// Visiting the whole table in bounded steps, for SCAN, bootstrap and filtered scans. One thread.

/// A position in a walk over the table. Positions are ordered by (segment, bucket) in terms of hash bits, not of
/// addresses, so they stay good while the table changes and grows: an entry present from the beginning to the end of
/// a walk is visited at least once, an entry whose segment was split on the way perhaps twice.
///
/// `position` = hash prefix (16 bits) of the segment, then the hash part (16 bits) that the next bucket starts at.
/// Segments never merge, so a prefix always begins a segment or lies inside one that has not split yet.
package struct WalkCursor: Equatable, Sendable {
    package var position: UInt64
    /// Where the walk ends; 2^32 is the end of the table.
    package let end: UInt64

    package static let positions: UInt64 = 1 << 32

    /// The whole table, or one of `slices` parts of about equal size that together cover it.
    package init(slice: Int = 0, of slices: Int = 1) {
        precondition(slices >= 1 && slices <= 1 << 16 && slice >= 0 && slice < slices)
        position = UInt64(slice * 65_536 / slices) << 16
        end = UInt64((slice + 1) * 65_536 / slices) << 16
    }

    package init(position: UInt64, end: UInt64 = WalkCursor.positions) {
        self.position = position
        self.end = end
    }

    package var isDone: Bool { position >= end }
}

extension HashTable {
    /// Buckets looked at in one step beyond which it returns even if it found little.
    static let emptyBucketsMax = 512

    /// Visits entries from the cursor on until at least `budget` were visited (at most one bucket's entries more),
    /// the end is reached or too many empty buckets were passed; moves the cursor behind them. `body` must not change
    /// the table.
    func walk(_ cursor: inout WalkCursor, budget: Int, _ body: (Record) -> Void) {
        var visited = 0
        var looked = 0
        while visited < budget, !cursor.isDone, looked < HashTable.emptyBucketsMax + budget {
            let prefix = cursor.position &>> 16
            let segment = segment(prefix &<< 48)
            let from = cursor.position & 0xFFFF
            var index = segment.home(from)
            while index < segment.buckets, visited < budget, looked < HashTable.emptyBucketsMax + budget {
                if index &+ 2 < segment.buckets { HashTable.prefetchKeys(segment.bucket(index &+ 2)) }
                visited &+= visit(segment, home: index, from: from) { body(HashTable.record($0)) }
                looked &+= 1
                index &+= 1
            }
            cursor.position = position(ofBucket: index, segment, prefix)
        }
    }

    /// Visits every slot. `body` must not change the table.
    func forEachSlot(_ body: (Slot) -> Void) {
        var previous: UInt64 = 0
        for i in 0..<(1 << Int(depth)) where directory[i] != previous {
            previous = directory[i]
            let segment = Segment(word: previous)
            for index in 0..<segment.buckets {
                let ahead = index &+ 4
                if ahead < segment.buckets { HashTable.prefetchKeys(segment.bucket(ahead)) }
                let bucket = segment.bucket(index)
                var used = HashTable.tags(bucket) & HashTable.tagBits
                while used != 0 {
                    body(Slot(bucket: bucket, index: HashTable.first(used)))
                    used &= used &- 1
                }
            }
        }
    }

    /// As `walk`, by the smallest step there is: visits the entries with the next hash part in the cursor's bucket,
    /// nearly always one, or none if that has no more. For whoever must be able to stop between two entries.
    func walkNarrowly(_ cursor: inout WalkCursor, _ body: (Record) -> Void) {
        guard !cursor.isDone else { return }
        let prefix = cursor.position &>> 16
        let segment = segment(prefix &<< 48)
        let from = cursor.position & 0xFFFF
        let home = segment.home(from)
        var part = UInt64.max
        _ = visit(segment, home: home, from: from) { part = min(part, HashTable.part(slot: $0)) }
        guard part != .max else { return cursor.position = position(ofBucket: home &+ 1, segment, prefix) }
        _ = visit(segment, home: home, from: part) {
            if HashTable.part(slot: $0) == part { body(HashTable.record($0)) }
        }
        cursor.position = part < 65_535 ? prefix &<< 16 | (part &+ 1) : position(ofBucket: home &+ 1, segment, prefix)
    }

    /// Where bucket `index` of a segment begins, or, behind its last one, the next segment.
    @inline(__always)
    private func position(ofBucket index: Int, _ segment: Segment, _ prefix: UInt64) -> UInt64 {
        guard index < segment.buckets else {
            let span: UInt64 = 1 &<< (16 &- segment.depth)
            return ((prefix & ~(span &- 1)) &+ span) &<< 16
        }
        // The least hash part whose home is `index`.
        return prefix &<< 16 | (UInt64(index) &* 65_536 &+ UInt64(segment.buckets) &- 1) / UInt64(segment.buckets)
    }

    /// Visits the slots of entries whose home is bucket `home`, wherever they overflowed to; returns how many.
    @inline(__always)
    private func visit(_ segment: Segment, home: Int, from: UInt64, _ body: (UInt64) -> Void) -> Int {
        var index = home
        var visited = 0
        for _ in 0..<segment.buckets {
            let bucket = segment.bucket(index)
            let tags = HashTable.tags(bucket)
            var used = tags & HashTable.tagBits
            while used != 0 {
                let slot = Slot(bucket: bucket, index: HashTable.first(used)).pointer.pointee
                let part = HashTable.part(slot: slot)
                if segment.home(part) == home, part >= from {
                    body(slot)
                    visited &+= 1
                }
                used &= used &- 1
            }
            if HashTable.overflow(tags) == 0 { break }
            index &+= 1
            if index == segment.buckets { index = 0 }
        }
        return visited
    }
}
