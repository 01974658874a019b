// What waits for its turn on one link. Small messages go first; large ones go in parts and take turns. Owned by the
// link; the transport's loop only.

import KVBase

/// Messages of one sender to one receiver keep their order; so do those of a replica within a lane.
struct LinkStream: Hashable {
    var sender: UInt64
    var target: UInt64
    var lane: UInt8 = 0
}

/// A message on its way to a connection.
struct QueuedFrame {
    let stream: LinkStream
    private var frame: [UInt8]
    private let tail: WireTail?
    /// Its teller wants to know how far it got.
    let isTracked: Bool
    private(set) var isBegun = false
    private var number: UInt16 = 0
    private var tailSent = 0
    /// Loop time at which its first byte was taken.
    private(set) var begunAt: Nanos = 0

    init(stream: LinkStream, frame: [UInt8], tail: WireTail?, isTracked: Bool = false) {
        (self.stream, self.frame, self.tail, self.isTracked) = (stream, frame, tail, isTracked)
    }

    /// The same message, of which nobody is told.
    var untracked: QueuedFrame { QueuedFrame(stream: stream, frame: frame, tail: tail) }

    var bytesLeft: Int { (isBegun ? 0 : frame.count) + (tail?.bytes.count ?? 0) - tailSent }
    var hasTail: Bool { tail != nil }

    /// Appends the frame itself, or the next part of its tail.
    fileprivate mutating func appendNext(_ next: UInt16, partBytes: Int, _ now: Nanos, to output: inout OutputBuffer) {
        if !isBegun {
            isBegun = true
            begunAt = now
            if tail != nil {
                number = next
                LinkFrame.setNumber(number, in: &frame)
            }
            frame.withUnsafeBytes { output.append($0) }
            frame = []
        } else if let tail {
            tailSent = LinkFrame.appendPart(of: tail.bytes, number, from: tailSent, bytes: partBytes, to: &output)
        }
    }
}

struct LinkOutbox {
    /// Up to here a message overtakes the parts of larger ones.
    static let smallBytes = 16 * 1024
    /// Messages in parts under way at once: what their receiver must hold is bounded by it.
    static let begunMax = 4
    /// So many small messages in a row at most, while a large one waits.
    private static let smallInRowMax = 16

    private struct Stream {
        var frames: [QueuedFrame] = []
        var head = 0

        var first: QueuedFrame? { head < frames.count ? frames[head] : nil }

        mutating func popFirst() {
            head += 1
            if head == frames.count {
                frames.removeAll(keepingCapacity: frames.count < 64)
                head = 0
            } else if head > 64, head * 2 > frames.count {
                frames.removeFirst(head)
                head = 0
            }
        }
    }

    private var streams: [LinkStream: Stream] = [:]
    /// Streams whose first message is small, and the others, each in turn. A stream with messages is in one of them.
    private var small = TurnList()
    private var large = TurnList()
    private var smallInRow = 0
    private var begun = 0
    private var nextNumber: UInt16 = 0
    private(set) var byteCount = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    /// One waits that overtakes the large ones.
    var hasSmall: Bool { !small.isEmpty }

    mutating func append(_ frame: QueuedFrame) {
        count += 1
        byteCount += frame.bytesLeft
        let isFirst = streams[frame.stream]?.first == nil
        streams[frame.stream, default: Stream()].frames.append(frame)
        if isFirst { line(up: frame) }
    }

    private mutating func line(up frame: QueuedFrame) {
        if !frame.isBegun, frame.bytesLeft <= LinkOutbox.smallBytes {
            small.append(frame.stream)
        } else {
            large.append(frame.stream)
        }
    }

    /// The next message or part goes to `output`. Returns the message if that was the last of it.
    mutating func writeNext(partBytes: Int, _ now: Nanos, to output: inout OutputBuffer) -> QueuedFrame? {
        guard let key = next(), var frame = streams[key]?.first else { return nil }
        let before = frame.bytesLeft
        if !frame.isBegun, frame.hasTail {
            begun += 1
            nextNumber &+= 1
        }
        frame.appendNext(nextNumber, partBytes: partBytes, now, to: &output)
        byteCount -= before - frame.bytesLeft
        guard frame.bytesLeft == 0 else {
            streams[key]!.frames[streams[key]!.head] = frame
            large.append(key)
            return nil
        }
        if frame.hasTail { begun -= 1 }
        count -= 1
        streams[key]!.popFirst()
        if let following = streams[key]!.first { line(up: following) } else { streams[key] = nil }
        return frame
    }

    private mutating func next() -> LinkStream? {
        if smallInRow < LinkOutbox.smallInRowMax || large.isEmpty, let key = small.popFirst() {
            smallInRow += 1
            return key
        }
        smallInRow = 0
        // Those that are not begun wait while enough are.
        for _ in 0..<large.count {
            guard let key = large.popFirst() else { break }
            if begun < LinkOutbox.begunMax || streams[key]?.first?.isBegun ?? false || !(streams[key]?.first?.hasTail ?? false) {
                return key
            }
            large.append(key)
        }
        return small.popFirst()
    }

    /// Takes out what is not begun, in order for each stream.
    mutating func takeUnbegun() -> [QueuedFrame] {
        var taken: [QueuedFrame] = []
        for key in small.all + large.all {
            guard let stream = streams[key] else { continue }
            let first = stream.head + (stream.first?.isBegun ?? false ? 1 : 0)
            let rest = Array(stream.frames[first...])
            guard !rest.isEmpty else { continue }
            taken += rest
            count -= rest.count
            for frame in rest { byteCount -= frame.bytesLeft }
            streams[key]!.frames.removeLast(rest.count)
            if streams[key]!.first == nil {
                streams[key] = nil
                small.remove(key)
                large.remove(key)
            }
        }
        return taken
    }

    /// Forgets everything; returns how many messages that were.
    mutating func removeAll() -> Int {
        defer { self = LinkOutbox() }
        return count
    }
}

/// Streams in the order of their turns.
private struct TurnList {
    private var keys: [LinkStream] = []
    private var head = 0

    var isEmpty: Bool { head == keys.count }
    var count: Int { keys.count - head }
    var all: ArraySlice<LinkStream> { keys[head...] }

    mutating func append(_ key: LinkStream) { keys.append(key) }

    mutating func remove(_ key: LinkStream) {
        keys.removeFirst(head)
        head = 0
        keys.removeAll { $0 == key }
    }

    mutating func popFirst() -> LinkStream? {
        guard head < keys.count else { return nil }
        defer {
            head += 1
            if head == keys.count {
                keys.removeAll(keepingCapacity: true)
                head = 0
            } else if head > 64, head * 2 > keys.count {
                keys.removeFirst(head)
                head = 0
            }
        }
        return keys[head]
    }
}
