// One direction of a TCP connection as its sender sees it: lanes in user space, the kernel's queue, a window that
// grows, a line that carries so many bytes a second. Bytes are moved in parts, never in packets. Used by SimWorld only,
// one thread.
package import KVBase
package import KVCore

/// What a connection and the layers below add to each frame.
private let frameOverhead = 60
/// A fresh frame up to here overtakes the parts of large ones.
private let smallBytesMax = 16 * 1024
private let partBytes = 4 * 1024...64 * 1024
/// The sender gives the kernel, and the kernel takes, unsent bytes for about 50 ms each, as far as the sender knows the
/// line; so many where it knows nothing yet.
private let kernelShare = 10
private let kernelBytes = 12 * 1024...512 * 1024
private let kernelBytesUnknown = 128 * 1024
/// What leaves in one go: about 20 ms of the line.
private let segmentShare = 50
private let segmentBytes = 4 * 1024...64 * 1024
/// Ten packets, and what a receiver with ordinary buffers lets be under way.
private let windowBytes = 14_000...6_000_000
/// Less than a packet is not worth sending while an answer is due that makes more room.
private let packetBytes = 1_448
/// What stands for a line without a limit.
package let simUnlimitedBandwidth = 100_000_000

/// A queue. Both ends O(1), amortised.
package struct SimFIFO<Element> {
    private var items: [Element] = []
    private var head = 0

    package init() {}

    package var isEmpty: Bool { head == items.count }
    package var count: Int { items.count - head }
    package var first: Element? { isEmpty ? nil : items[head] }

    package mutating func append(_ element: Element) { items.append(element) }

    package mutating func replaceFirst(_ element: Element) { items[head] = element }

    @discardableResult
    package mutating func popFirst() -> Element? {
        guard !isEmpty else { return nil }
        defer {
            head += 1
            if head > 32, head * 2 > items.count {
                items.removeFirst(head)
                head = 0
            }
        }
        return items[head]
    }
}

/// A frame on its way through a connection.
package final class SimWireFrame {
    package let message: SimMessage
    package let lane: FrameLane
    /// Index of the sending actor.
    package let actor: Int
    package let size: Int
    fileprivate let order: UInt64
    package fileprivate(set) var fed = 0
    fileprivate var hasBegun = false

    fileprivate init(_ message: SimMessage, _ lane: FrameLane, order: UInt64) {
        self.message = message
        self.lane = lane
        actor = Int(message.from.index)
        size = message.bytes.count + frameOverhead
        self.order = order
    }

    fileprivate var isSmall: Bool { lane == .live && size <= smallBytesMax + frameOverhead }
}

/// Bytes that leave, arrive and are acknowledged together.
package struct SimSegment {
    package var bytes = 0
    /// Frames whose first byte is in it, and whose last is.
    package var begun: [SimWireFrame] = []
    package var ended: [SimWireFrame] = []
    package var sentAt: SimTime = 0
    /// What had been delivered when it left, and since when, to tell the rate.
    fileprivate var deliveredThen = 0
    fileprivate var deliveredAtThen: SimTime = 0
    /// There was nothing left to send behind it: it says little of what the line carries.
    fileprivate var isLast = false
}

/// How far one actor's frames got.
package struct SimPipeProgress {
    package var left: [UInt64] = [0, 0]
    package var delivered: [UInt64] = [0, 0]
    package var begunAt: SimTime?
    /// Something changed that the actor was not told, and when it was told last.
    package var isScheduled = false
    package var toldAt: SimTime = .min
}

private struct KernelPart {
    var frame: SimWireFrame
    var bytes: Int
    var ends: Bool
}

package final class SimPipe {
    package let from: Int
    package let to: Int
    package let roundTrip: SimTime
    /// Bytes a second; may change at any time.
    package var bandwidth: Int
    package private(set) var progress: [SimPipeProgress]

    // In user space: one queue for each actor and lane.
    private var streams: [SimFIFO<SimWireFrame>]
    private var handed: UInt64 = 0
    private var turn = 0
    package private(set) var waitingBytes = 0
    /// A frame's first byte was taken.
    package var onBegin: ((SimWireFrame) -> Void)?
    // In the kernel, unsent.
    private var kernel = SimFIFO<KernelPart>()
    private var unsent = 0
    // Under way.
    package var busyUntil: SimTime = 0
    package var lastArrival: SimTime = 0
    package var wakeAt: SimTime = .max
    private var window = windowBytes.lowerBound
    private var unacked = 0
    private var arriving = SimFIFO<SimSegment>()
    private var acking = SimFIFO<SimSegment>()
    /// Segments and acknowledgements that a cut holds back; the kernel repeats them when it ends.
    package var heldSegments = 0
    package var heldAcks = 0
    // What the sender knows of the line.
    private var delivered = 0
    private var deliveredAt: SimTime = 0
    private var rates: [(at: SimTime, rate: Int)] = []

    package init(from: Int, to: Int, actors: Int, roundTrip: SimTime, bandwidth: Int) {
        self.from = from
        self.to = to
        self.roundTrip = roundTrip
        self.bandwidth = bandwidth
        progress = Array(repeating: SimPipeProgress(), count: actors)
        streams = Array(repeating: SimFIFO(), count: actors * FrameLane.allCases.count)
    }

    // MARK: User space

    package func hand(_ message: SimMessage, _ lane: FrameLane) {
        handed += 1
        let frame = SimWireFrame(message, lane, order: handed)
        streams[frame.actor * 2 + Int(lane.rawValue)].append(frame)
        waitingBytes += frame.size
    }

    /// Gives the kernel what it takes. Small fresh frames first, then all queues in turn, a part each.
    /// `mayBegin` is asked before a frame's first byte is taken.
    package func feed(_ mayBegin: (SimWireFrame) -> Bool) {
        let known = bytesPerSecond
        let limit = known == 0 ? kernelBytesUnknown : clamp(known / kernelShare, kernelBytes)
        while unsent < limit, waitingBytes > 0 {
            if let stream = smallStream(mayBegin) {
                give(stream, smallBytesMax + frameOverhead)
            } else if let stream = nextStream(mayBegin) {
                give(stream, clamp(limit / 2, partBytes))
            } else {
                return
            }
        }
    }

    /// Frames of one actor begin in the order in which they were handed over, or those of one lane would take every
    /// turn.
    private func isItsTurn(_ frame: SimWireFrame, _ stream: Int) -> Bool {
        guard frame.fed == 0, let other = streams[stream ^ 1].first else { return true }
        return other.fed > 0 || other.order > frame.order
    }

    private func nextStream(_ mayBegin: (SimWireFrame) -> Bool) -> Int? {
        for _ in streams {
            turn = (turn + 1) % streams.count
            if let frame = streams[turn].first, frame.fed > 0 || isItsTurn(frame, turn) && mayBegin(frame) {
                return turn
            }
        }
        return nil
    }

    /// The queue whose next frame is small, fresh and has waited longest.
    private func smallStream(_ mayBegin: (SimWireFrame) -> Bool) -> Int? {
        var best: Int?
        for index in streams.indices {
            guard let frame = streams[index].first, isItsTurn(frame, index), frame.isSmall,
                frame.fed > 0 || mayBegin(frame)
            else { continue }
            if best.map({ frame.order < streams[$0].first!.order }) ?? true { best = index }
        }
        return best
    }

    private func give(_ stream: Int, _ most: Int) {
        guard let frame = streams[stream].first else { return }
        let bytes = min(most, frame.size - frame.fed)
        frame.fed += bytes
        waitingBytes -= bytes
        unsent += bytes
        let ends = frame.fed == frame.size
        if frame.fed == bytes { onBegin?(frame) }
        kernel.append(KernelPart(frame: frame, bytes: bytes, ends: ends))
        if ends { streams[stream].popFirst() }
    }

    package var hasUnsent: Bool { unsent > 0 }
    package var unsentBytes: Int { waitingBytes + unsent }

    // MARK: The line

    /// What leaves now, if the window is open; the line is then busy until `busyUntil`.
    package func leave(_ now: SimTime) -> SimSegment? {
        let wanted = min(unsent, clamp(bandwidth / segmentShare, segmentBytes))
        let room = window - unacked
        guard wanted > 0, room >= min(wanted, packetBytes) || unacked == 0 else { return nil }
        var segment = SimSegment()
        segment.bytes = min(wanted, room)
        var left = segment.bytes
        while left > 0, var part = kernel.first {
            if !part.frame.hasBegun {
                part.frame.hasBegun = true
                segment.begun.append(part.frame)
                progress[part.frame.actor].begunAt = now
            }
            let taken = min(left, part.bytes)
            part.bytes -= taken
            left -= taken
            guard part.bytes == 0 else {
                kernel.replaceFirst(part)
                break
            }
            kernel.popFirst()
            if part.ends {
                segment.ended.append(part.frame)
                progress[part.frame.actor].left[Int(part.frame.lane.rawValue)] += 1
            }
        }
        unsent -= segment.bytes
        if unacked == 0 { deliveredAt = now }
        unacked += segment.bytes
        segment.sentAt = now
        (segment.deliveredThen, segment.deliveredAtThen) = (delivered, deliveredAt)
        segment.isLast = unsent == 0 && waitingBytes == 0
        arriving.append(segment)
        busyUntil = now + duration(segment.bytes)
        return segment
    }

    package func duration(_ bytes: Int) -> SimTime { SimTime(bytes) * simSecond / SimTime(bandwidth) }

    /// The oldest segment under way reaches the other machine's kernel.
    package func arrive() -> SimSegment? {
        guard let segment = arriving.popFirst() else { return nil }
        acking.append(segment)
        return segment
    }

    /// Its acknowledgement is back.
    package func acknowledged(_ now: SimTime) -> SimSegment? {
        guard let segment = acking.popFirst() else { return nil }
        // The window grows only where it was what held the sender back.
        if unacked * 2 >= window { window = min(window + segment.bytes, windowBytes.upperBound) }
        unacked -= segment.bytes
        delivered += segment.bytes
        deliveredAt = now
        for frame in segment.ended { progress[frame.actor].delivered[Int(frame.lane.rawValue)] += 1 }
        let took = max(1, now - segment.deliveredAtThen)
        noteRate(Int(SimTime(delivered - segment.deliveredThen) * simSecond / took), now, isLast: segment.isLast)
        return segment
    }

    /// The cut ended: what was under way goes again, at the line's speed, and the window opens anew. Returns when each
    /// of the segments held back arrives.
    package func resume(_ now: SimTime, latency: SimTime) -> [SimTime] {
        var at = max(now, lastArrival)
        var times: [SimTime] = []
        for _ in 0..<heldSegments {
            at += 1 + duration(min(unacked, segmentBytes.upperBound) / max(1, heldSegments))
            times.append(at)
        }
        heldSegments = 0
        lastArrival = at
        busyUntil = max(busyUntil, at - latency)
        window = windowBytes.lowerBound
        return times
    }

    // MARK: What the sender knows

    private func noteRate(_ rate: Int, _ now: SimTime, isLast: Bool) {
        if isLast, rate <= bytesPerSecond { return }
        rates.removeAll { $0.at < now - max(4 * roundTrip, simSecond) || $0.rate <= rate }
        rates.append((now, rate))
    }

    /// The most that was delivered over the last round trips in which there was enough to send.
    package var bytesPerSecond: Int { rates.reduce(0) { max($0, $1.rate) } }

    package func noteScheduled(_ actor: Int) { progress[actor].isScheduled = true }

    /// What the actor is told at `now`; `steady` turns true time into its server's.
    package func tell(_ actor: Int, _ session: UInt64, _ now: SimTime, steady: (SimTime) -> Millis) -> LinkProgress {
        progress[actor].isScheduled = false
        progress[actor].toldAt = now
        let mine = progress[actor]
        var told = LinkProgress(session: session)
        told.live = LaneProgress(left: mine.left[0], delivered: mine.delivered[0])
        told.bulk = LaneProgress(left: mine.left[1], delivered: mine.delivered[1])
        told.begunAt = mine.begunAt.map(steady) ?? .min
        told.bytesPerSecond = bytesPerSecond
        told.roundTripMillis = roundTrip / simMillisecond
        return told
    }
}

private func clamp(_ value: Int, _ range: ClosedRange<Int>) -> Int {
    min(max(value, range.lowerBound), range.upperBound)
}
