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
    /// Its place in the order in which messages came to the outbox.
    fileprivate var order: UInt64 = 0
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
    /// A tracked message begins when the one before it has so many parts left.
    private static let partsAhead = 4
    /// So many small messages in a row at most, while a large one waits.
    private static let smallInRowMax = 16

    private var streams: [LinkStream: Line<QueuedFrame>] = [:]
    /// Streams whose first message is small, and the others, each in turn. A stream with messages is in one of them.
    private var small = Line<LinkStream>()
    private var large = Line<LinkStream>()
    private var smallInRow = 0
    private var begun = 0
    private var nextNumber: UInt16 = 0
    private var nextOrder: UInt64 = 0
    private(set) var byteCount = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    /// A message waits that overtakes the large ones.
    var hasSmall: Bool { !small.isEmpty }

    mutating func append(_ frame: QueuedFrame) {
        var frame = frame
        frame.order = nextOrder
        nextOrder += 1
        count += 1
        byteCount += frame.bytesLeft
        let isFirst = streams[frame.stream]?.first == nil
        streams[frame.stream, default: Line()].append(frame)
        if isFirst { line(up: frame) }
    }

    private mutating func line(up frame: QueuedFrame) {
        if !frame.isBegun, frame.bytesLeft <= LinkOutbox.smallBytes {
            small.append(frame.stream)
        } else {
            large.append(frame.stream)
        }
    }

    /// What `writeNext` did.
    enum Step {
        /// No message may go now.
        case nothing
        /// A piece of one went.
        case piece
        /// All of it has.
        case finished(QueuedFrame)
    }

    /// The next message or part goes to `output`. `mayBegin` is asked before a message's first byte. `smallOnly`: what
    /// is outside already is enough, and only what overtakes may follow.
    mutating func writeNext(
        partBytes: Int, smallOnly: Bool, _ now: Nanos, to output: inout OutputBuffer, mayBegin: (LinkStream) -> Bool
    ) -> Step {
        guard let key = smallOnly ? take(small: true, mayBegin) : next(mayBegin), var frame = streams[key]?.first else {
            return .nothing
        }
        if frame.isBegun, frame.bytesLeft <= LinkOutbox.partsAhead * partBytes,
            beginFollowing(key, now, to: &output, mayBegin)
        {
            large.append(key)
            return .piece
        }
        write(&frame, partBytes: partBytes, now, to: &output)
        guard frame.bytesLeft == 0 else {
            streams[key]!.replace(0, by: frame)
            large.append(key)
            return .piece
        }
        if frame.hasTail { begun -= 1 }
        count -= 1
        _ = streams[key]!.popFirst()
        if let following = streams[key]!.first { line(up: following) } else { streams[key] = nil }
        return .finished(frame)
    }

    private mutating func write(_ frame: inout QueuedFrame, partBytes: Int, _ now: Nanos, to output: inout OutputBuffer)
    {
        let before = frame.bytesLeft
        if !frame.isBegun, frame.hasTail {
            begun += 1
            nextNumber &+= 1
        }
        frame.appendNext(nextNumber, partBytes: partBytes, now, to: &output)
        byteCount -= before - frame.bytesLeft
    }

    /// A tracked message must keep its distance to others of the pair. So that the line does not stand idle for that,
    /// the next one begins as soon as it may, while the last parts of the one before it are still to go.
    private mutating func beginFollowing(
        _ key: LinkStream, _ now: Nanos, to output: inout OutputBuffer, _ mayBegin: (LinkStream) -> Bool
    ) -> Bool {
        guard begun < LinkOutbox.begunMax, var frame = streams[key]?.second, frame.isTracked, frame.hasTail,
            !frame.isBegun, isItsTurn(frame), mayBegin(key)
        else { return false }
        write(&frame, partBytes: 0, now, to: &output)
        streams[key]!.replace(1, by: frame)
        return true
    }

    /// Tracked messages of a pair begin one after the other, with a distance: in the order in which they came, or those
    /// of one lane would take every turn. One that cannot begin for another reason is not waited for.
    private func isItsTurn(_ frame: QueuedFrame) -> Bool {
        guard begun < LinkOutbox.begunMax else { return true }
        return !TrackedMessages.lanesOther(than: frame.stream.lane).contains { lane in
            var other = frame.stream
            other.lane = lane
            guard let first = streams[other]?.first else { return false }
            return first.isTracked && !first.isBegun && first.order < frame.order
        }
    }

    private mutating func next(_ mayBegin: (LinkStream) -> Bool) -> LinkStream? {
        if smallInRow < LinkOutbox.smallInRowMax || large.isEmpty, let key = take(small: true, mayBegin) {
            smallInRow += 1
            return key
        }
        smallInRow = 0
        return take(small: false, mayBegin) ?? take(small: true, mayBegin)
    }

    /// The first stream in turn whose message may go.
    private mutating func take(small isSmall: Bool, _ mayBegin: (LinkStream) -> Bool) -> LinkStream? {
        for _ in 0..<(isSmall ? small.count : large.count) {
            guard let key = isSmall ? small.popFirst() : large.popFirst() else { break }
            if let frame = streams[key]?.first, mayGo(frame, mayBegin) { return key }
            if isSmall { small.append(key) } else { large.append(key) }
        }
        return nil
    }

    private func mayGo(_ frame: QueuedFrame, _ mayBegin: (LinkStream) -> Bool) -> Bool {
        if frame.isBegun { return true }
        // Those that are not begun wait while enough are.
        if frame.hasTail, begun >= LinkOutbox.begunMax { return false }
        return !frame.isTracked || isItsTurn(frame) && mayBegin(frame.stream)
    }

    /// Takes out what is not begun, in order for each stream.
    mutating func takeUnbegun() -> [QueuedFrame] {
        var taken: [QueuedFrame] = []
        for key in small.all + large.all {
            guard let stream = streams[key] else { continue }
            let rest = Array(stream.all.drop { $0.isBegun })
            guard !rest.isEmpty else { continue }
            taken += rest
            count -= rest.count
            for frame in rest { byteCount -= frame.bytesLeft }
            streams[key]!.removeLast(rest.count)
            if streams[key]!.first == nil {
                streams[key] = nil
                small.removeAll { $0 == key }
                large.removeAll { $0 == key }
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

/// First in, first out; both ends in O(1), amortised.
private struct Line<Element> {
    private var elements: [Element] = []
    private var head = 0

    var isEmpty: Bool { head == elements.count }
    var count: Int { elements.count - head }
    var first: Element? { isEmpty ? nil : elements[head] }
    var second: Element? { count < 2 ? nil : elements[head + 1] }
    var all: ArraySlice<Element> { elements[head...] }

    mutating func append(_ element: Element) { elements.append(element) }
    mutating func replace(_ place: Int, by element: Element) { elements[head + place] = element }
    mutating func removeLast(_ count: Int) { elements.removeLast(count) }

    mutating func removeAll(where isGone: (Element) -> Bool) {
        elements = all.filter { !isGone($0) }
        head = 0
    }

    mutating func popFirst() -> Element? {
        guard let element = first else { return nil }
        head += 1
        if head == elements.count {
            elements.removeAll(keepingCapacity: elements.count < 64)
            head = 0
        } else if head > 64, head * 2 > elements.count {
            elements.removeFirst(head)
            head = 0
        }
        return element
    }
}
