// What goes first on a link: small messages before the parts of large ones, and those of one pair each in its turn.

import KVBase
import Testing

@testable import KVRuntime

@Suite struct LinkOutboxTests {
    private static func frame(_ sender: UInt64, lane: UInt8 = 0, tail: Int = 0, isTracked: Bool = false) -> QueuedFrame
    {
        var writer = WireWriter()
        defer { writer.deallocate() }
        LinkFrame.beginData(&writer, target: 1, sender: sender)
        LinkFrame.finishData(&writer, tailBytes: tail > 0 ? tail : nil)
        return QueuedFrame(
            stream: LinkStream(sender: sender, target: 1, lane: lane), frame: Array(writer.buffer.bytes),
            tail: tail > 0 ? WireTail([UInt8](repeating: 1, count: tail)) : nil, isTracked: isTracked)
    }

    /// Types and numbers of the frames written until nothing may go, or `most` of them.
    private static func write(
        _ outbox: inout LinkOutbox, most: Int = .max, smallOnly: Bool = false,
        mayBegin: (LinkStream) -> Bool = { _ in true }
    ) throws -> [UInt8] {
        var output = OutputBuffer()
        defer { output.deallocate() }
        var steps = 0
        while steps < most {
            let step = outbox.writeNext(partBytes: 1000, smallOnly: smallOnly, 0, to: &output, mayBegin: mayBegin)
            if case .nothing = step { break }
            steps += 1
        }
        var parser = LinkParser()
        defer { parser.deallocate() }
        var kinds: [UInt8] = []
        try parser.feed(output.bytes, limit: { LinkFrame.bodyBytesMax }) { kind, _, _ in kinds.append(kind) }
        return kinds
    }

    private let data = LinkFrame.Kind.data
    private let large = LinkFrame.Kind.dataWithTail
    private let part = LinkFrame.Kind.part

    @Test func smallMessagesOvertakeThePartsOfLargeOnes() throws {
        var outbox = LinkOutbox()
        outbox.append(Self.frame(1, tail: 30_000))
        #expect(try Self.write(&outbox, most: 2) == [large, part])
        outbox.append(Self.frame(2))
        #expect(try Self.write(&outbox, most: 2) == [data, part])
        let rest = try Self.write(&outbox)
        #expect(rest.allSatisfy { $0 == part } && rest.count == 28)
        #expect(outbox.isEmpty && outbox.byteCount == 0)
    }

    @Test func messagesOfOneStreamKeepTheirOrder() throws {
        var outbox = LinkOutbox()
        outbox.append(Self.frame(1, tail: 20_000))
        outbox.append(Self.frame(1))
        let kinds = try Self.write(&outbox)
        #expect(kinds.first == large && kinds.last == data && kinds.count == 22)
    }

    /// One message of a pair may begin at a time. The small ones came later and would take every turn: a join over a
    /// thin line stood still beside live writes.
    @Test func aLargeMessageOfAPairIsNotOvertakenForEver() throws {
        var outbox = LinkOutbox()
        outbox.append(Self.frame(1, lane: 1, tail: 30_000, isTracked: true))
        outbox.append(Self.frame(1, lane: 0, isTracked: true))
        var turns = 1
        let begins: (LinkStream) -> Bool = { _ in
            defer { turns -= 1 }
            return turns > 0
        }
        #expect(try Self.write(&outbox, most: 3, mayBegin: begins) == [large, part, part])
        // Once it has begun the small one goes ahead of its parts.
        #expect(try Self.write(&outbox, most: 2) == [data, part])
    }

    /// A path that has enough takes only what overtakes; a small message that must wait is no reason for a large one.
    @Test func onlySmallMessagesPassWhereThePathIsFull() throws {
        var outbox = LinkOutbox()
        outbox.append(Self.frame(1, lane: 1, tail: 30_000))
        outbox.append(Self.frame(1, lane: 0, isTracked: true))
        #expect(try Self.write(&outbox, smallOnly: true, mayBegin: { _ in false }) == [])
        #expect(try Self.write(&outbox, smallOnly: true) == [data])
        #expect(try Self.write(&outbox, most: 2) == [large, part])
    }

    /// The distance between two messages of a pair is no time in which the line stands idle: the next chunk begins
    /// between the parts of the one before it, which still ends first.
    @Test func theNextChunkBeginsWhilePartsOfTheOneBeforeItAreToGo() throws {
        var outbox = LinkOutbox()
        for _ in 1...2 { outbox.append(Self.frame(1, lane: 1, tail: 5_000, isTracked: true)) }
        var (turns, steps) = (1, 0)
        let begins: (LinkStream) -> Bool = { _ in
            steps += 1
            if steps == 3 { turns += 1 }
            defer { turns = max(0, turns - 1) }
            return turns > 0
        }
        let kinds = try Self.write(&outbox, mayBegin: begins)
        #expect(kinds == [large, part, part, large] + [UInt8](repeating: part, count: 8))
        #expect(outbox.isEmpty && outbox.byteCount == 0)
    }

    @Test func notTooManyLargeMessagesAreBegunAtOnce() throws {
        var outbox = LinkOutbox()
        for sender in 1...UInt64(LinkOutbox.begunMax + 2) { outbox.append(Self.frame(sender, tail: 30_000)) }
        let kinds = try Self.write(&outbox, most: 3 * LinkOutbox.begunMax)
        #expect(kinds.count { $0 == large } == LinkOutbox.begunMax)
        // Nor does one that must wait hold up the small message of the same pair.
        outbox.append(Self.frame(99, lane: 1, tail: 30_000, isTracked: true))
        outbox.append(Self.frame(99, lane: 0, isTracked: true))
        #expect(try Self.write(&outbox, most: 1) == [data])
    }

    @Test func whatIsNotBegunCanBeTakenOut() throws {
        var outbox = LinkOutbox()
        outbox.append(Self.frame(1, tail: 20_000))
        outbox.append(Self.frame(1))
        outbox.append(Self.frame(2))
        #expect(try Self.write(&outbox, most: 1) == [data])
        #expect(try Self.write(&outbox, most: 2) == [large, part])
        #expect(outbox.takeUnbegun().count == 1)
        let rest = try Self.write(&outbox)
        #expect(rest.allSatisfy { $0 == part } && outbox.isEmpty)
    }
}
