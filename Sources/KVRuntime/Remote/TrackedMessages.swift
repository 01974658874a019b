// How far the messages got that somebody wants to hear of. A value, owned by the connection.

import KVBase

/// How far one sender's tracked messages got on one connection.
struct SenderProgress {
    var sender: UInt64
    /// By lane: nothing of so many waits here any more; so many arrived.
    var left: [UInt64] = [0, 0]
    var delivered: [UInt64] = [0, 0]
    /// When the last one that left began to leave.
    var begunAt: Nanos = 0
}

/// The messages whose last byte was given to a connection, until it is known that they arrived.
struct TrackedMessages {
    static let lanes: UInt8 = 2
    static func lanesOther(than lane: UInt8) -> [UInt8] { (0..<lanes).filter { $0 != lane } }

    private struct Entry {
        var end: Int
        var sender: UInt64
        var lane: Int
        var isTracked: Bool
        var isSmall: Bool
        var begunAt: Nanos
    }

    /// Bytes ever given to the connection.
    var written = 0
    private var entries: [Entry] = []
    /// Entries that have left.
    private var leftCount = 0
    private var trackedWaiting = 0
    private var progress: [UInt64: SenderProgress] = [:]
    /// Length at which untracked ones that have left are taken off: doubles, so that appending stays O(1).
    private var entriesMax = 256

    /// Somebody waits to hear that a message left.
    var isWaiting: Bool { trackedWaiting > 0 }

    mutating func finished(_ frame: QueuedFrame) {
        if frame.isTracked { trackedWaiting += 1 }
        entries.append(
            Entry(
                end: written, sender: frame.stream.sender, lane: Int(frame.stream.lane), isTracked: frame.isTracked,
                isSmall: !frame.hasTail, begunAt: frame.begunAt))
    }

    /// The same of an untracked message that was not queued. `sent` is what has left this process.
    mutating func finishedUntracked(sent: Int) {
        entries.append(Entry(end: written, sender: 0, lane: 0, isTracked: false, isSmall: true, begunAt: 0))
        guard entries.count >= entriesMax else { return }
        if trackedWaiting == 0 { leftCount = entries.firstIndex { $0.end > sent } ?? entries.count }
        entries.removeAll { !$0.isTracked && $0.end <= sent }
        leftCount = min(leftCount, entries.count)
        entriesMax = max(256, 2 * entries.count)
    }

    /// Messages that end beyond what has left this process.
    func heldBack(sent: Int) -> Int { entries.reduce(0) { $0 + ($1.end > sent ? 1 : 0) } }

    /// The stream has left up to `sent` and arrived up to `acknowledged`: whose messages moved.
    mutating func advance(given: Int, sent: Int, acknowledged: Int, _ now: Nanos) -> [SenderProgress] {
        var moved: Set<UInt64> = []
        while leftCount < entries.count {
            let entry = entries[leftCount]
            // The next large one shall follow before the kernel runs dry.
            guard entry.end <= (entry.isSmall ? sent : given) else { break }
            leftCount += 1
            guard entry.isTracked else { continue }
            trackedWaiting -= 1
            moved.insert(entry.sender)
            progress[entry.sender, default: SenderProgress(sender: entry.sender)].left[entry.lane] += 1
            // A small one may have waited in the kernel; when it left is known now.
            progress[entry.sender]!.begunAt = entry.isSmall ? now : entry.begunAt
        }
        var arrived = 0
        while arrived < leftCount, entries[arrived].end <= acknowledged {
            let entry = entries[arrived]
            arrived += 1
            guard entry.isTracked else { continue }
            moved.insert(entry.sender)
            progress[entry.sender]!.delivered[entry.lane] += 1
        }
        entries.removeFirst(arrived)
        leftCount -= arrived
        return moved.sorted().map { progress[$0]! }
    }
}
