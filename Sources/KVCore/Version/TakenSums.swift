// What a write of a value had seen of a counter's parts, and so has taken away. Values, any thread.

package import KVBase

/// Beside a value, in its record: of each part (`CounterPart`) how far the write had seen it. What is beyond counts on
/// top of the value (docs/replication.md 16).
///
///     8 bytes   2 bytes number of entries, 6 bytes milliseconds
///     each      8 bytes server, 2 bytes index, 6 bytes seq, 16 bytes sum; in the order of actors
package struct TakenSums: Equatable, Sendable {
    package struct Entry: Equatable, Sendable {
        package var uid: ActorUID
        /// The seq of the last addition that was seen, and the part's sum then.
        package var seq: UInt64
        package var sum: Int128
    }

    /// As many as there can be actors.
    static let entriesMax = Int(UInt16.max)
    static let headBytes = 8
    static let entryBytes = 32
    static let bytesMax = headBytes + entriesMax * entryBytes

    /// A part that was last added to before this millisecond is taken whole: an earlier value of the key had expired.
    package private(set) var before: Millis
    /// Sorted.
    package private(set) var entries: [Entry]

    package init() { (before, entries) = (0, []) }

    init(_ view: TakenView) {
        before = view.before
        entries = (0..<view.count).map { view.entry($0) }
    }

    var isEmpty: Bool { before == 0 && entries.isEmpty }
    var byteCount: Int { TakenSums.headBytes &+ entries.count &* TakenSums.entryBytes }

    mutating func raise(before millis: Millis) { before = max(before, millis) }

    /// The part was seen up to there; less than before changes nothing. Where there are entries for 65,535 actors no
    /// more are taken.
    mutating func raise(_ uid: ActorUID, seq: UInt64, sum: Int128) {
        let at = entries.firstIndex { !($0.uid < uid) } ?? entries.count
        if at < entries.count, entries[at].uid == uid {
            if entries[at].seq < seq { (entries[at].seq, entries[at].sum) = (seq, sum) }
        } else if entries.count < TakenSums.entriesMax {
            entries.insert(Entry(uid: uid, seq: seq, sum: sum), at: at)
        }
    }

    func write(to place: UnsafeMutableRawPointer) {
        place.storeBytes(of: UInt64(before) &<< 16 | UInt64(entries.count), as: UInt64.self)
        for (i, entry) in entries.enumerated() {
            let at = place + TakenSums.headBytes + i * TakenSums.entryBytes
            at.storeBytes(of: entry.uid.server, as: UInt64.self)
            at.storeBytes(of: entry.seq &<< 16 | UInt64(entry.uid.index), toByteOffset: 8, as: UInt64.self)
            at.storeBytes(of: entry.sum, toByteOffset: 16, as: Int128.self)
        }
    }
}

/// The same where it lies in a record; valid as long as that is held.
struct TakenView {
    let base: UnsafeRawPointer

    private var head: UInt64 { base.loadUnaligned(as: UInt64.self) }
    var before: Millis { Millis(head &>> 16) }
    var count: Int { Int(head & 0xFFFF) }
    var byteCount: Int { TakenSums.headBytes &+ count &* TakenSums.entryBytes }

    func entry(_ i: Int) -> TakenSums.Entry {
        let at = base + TakenSums.headBytes + i * TakenSums.entryBytes
        let word = at.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        return TakenSums.Entry(
            uid: ActorUID(server: at.loadUnaligned(as: UInt64.self), index: UInt16(truncatingIfNeeded: word)),
            seq: word &>> 16, sum: at.loadUnaligned(fromByteOffset: 16, as: Int128.self))
    }

    /// That of an actor, or nil. O(log entries).
    func entry(of uid: ActorUID) -> TakenSums.Entry? {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            let entry = entry(middle)
            if entry.uid == uid { return entry }
            if entry.uid < uid { low = middle + 1 } else { high = middle }
        }
        return nil
    }

    /// Whether it may come from an honest peer: storable, and sorted.
    var isValid: Bool {
        guard before <= RecordExtension.deadlineMax else { return false }
        return (0..<count).allSatisfy { i in
            let entry = entry(i)
            return entry.seq <= Version.seqMax && entry.sum.magnitude <= CounterPart.magnitudeMax
                && (i == 0 || self.entry(i - 1).uid < entry.uid)
        }
    }
}

extension Record {
    /// What the write of this value has taken of a counter, or nil.
    var taken: TakenView? { isExtended ? RecordExtension.taken(at: keyPointer + keyCount) : nil }
}
