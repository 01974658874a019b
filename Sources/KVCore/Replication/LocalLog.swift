// The numbered stream of deltas one actor offers its siblings. Owned by that actor.

import KVBase

/// Items stay until every sibling acknowledged them or the bounds of the configuration push them out; who is behind
/// then sees a hole and catches up by a local scan.
struct LocalLog {
    private var items: [LocalItem] = []
    private var head = 0
    private var firstNumber: UInt64 = 1
    private var entries = 0
    private var bytes = 0

    /// Number of the oldest item kept; numbers start at 1.
    var first: UInt64 { firstNumber }
    var entryCount: Int { entries }
    var byteCount: Int { bytes }

    /// Number of the last item ever appended.
    var last: UInt64 { first &+ UInt64(items.count - head) &- 1 }

    mutating func append(_ item: LocalItem) {
        items.append(item)
        entries += item.entryCount
        bytes += item.byteCount
    }

    /// Forgets items up to `number`; hands over their segments.
    mutating func drop(through number: UInt64, _ take: (DeltaSegment) -> Void) {
        while head < items.count, first <= number { dropFirst(take) }
        if head > 64, head * 2 > items.count {
            items.removeFirst(head)
            head = 0
        }
    }

    /// Forgets the oldest items until the bounds hold; returns how many went and hands over their segments.
    mutating func enforce(entriesMax: Int, bytesMax: Int, _ take: (DeltaSegment) -> Void) -> Int {
        var dropped = 0
        while head < items.count, entryCount > entriesMax || byteCount > bytesMax {
            dropFirst(take)
            dropped += 1
        }
        return dropped
    }

    private mutating func dropFirst(_ take: (DeltaSegment) -> Void) {
        entries -= items[head].entryCount
        bytes -= items[head].byteCount
        if case .delta(let segment) = items[head] { take(segment) }
        items[head] = .scanEnd(LocalLog.placeholder)
        head += 1
        firstNumber &+= 1
    }

    private static let placeholder = ScanEnd(
        firstItem: 0, asked: VersionVector(), start: VersionVector(), frontier: VersionVector(), floor: 0,
        completesJoin: false, isOfNewcomer: false)

    /// The items after `number`, as far as they are still kept.
    func items(after number: UInt64) -> (first: UInt64, items: [LocalItem]) {
        let from = max(first, number &+ 1)
        let skip = Int(from &- first)
        guard skip < items.count - head else { return (last &+ 1, []) }
        return (from, Array(items[(head + skip)...]))
    }

    func checkInvariants() {
        check(head <= items.count && entries >= 0 && bytes >= 0)
        check(head < items.count || entries == 0 && bytes == 0)
    }
}
