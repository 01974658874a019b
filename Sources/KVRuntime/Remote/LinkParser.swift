// Takes the stream of a link apart, and trusts nothing. Values; one thread at a time.

import Glibc
import KVBase

/// Cuts a stream into frames. Holds at most one incomplete frame.
struct LinkParser {
    private var pending = OutputBuffer()

    func deallocate() { pending.deallocate() }

    /// Of a frame that is not whole.
    var heldBytes: Int { pending.count }

    /// Calls `visit` with type, number and contents of every complete frame; the contents are gone when it returns.
    /// `limit` is asked before each frame how long its body may be.
    mutating func feed(
        _ bytes: UnsafeRawBufferPointer, limit: () -> Int = { LinkFrame.handshakeBytesMax },
        _ visit: (UInt8, UInt16, UnsafeRawBufferPointer) throws -> Void
    ) throws {
        if pending.count == 0 {
            let consumed = try parse(bytes, limit, visit)
            if consumed < bytes.count { pending.append(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
            return
        }
        pending.append(bytes)
        let consumed = try parse(pending.bytes, limit, visit)
        guard consumed > 0 else { return }
        let left = pending.count - consumed
        memmove(pending.base, pending.base + consumed, left)
        pending.count = left
        pending.shrink(above: 1 << 20, to: 4096)
    }

    private func parse(
        _ bytes: UnsafeRawBufferPointer, _ limit: () -> Int,
        _ visit: (UInt8, UInt16, UnsafeRawBufferPointer) throws -> Void
    ) throws -> Int {
        var at = 0
        while bytes.count - at >= LinkFrame.headerBytes + LinkFrame.bodyHeaderBytes {
            let length = try LinkFrame.length(in: UnsafeRawBufferPointer(rebasing: bytes[at...]), max: limit())
            let start = at + LinkFrame.headerBytes
            guard bytes.count - start >= length else { break }
            let expected = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))
            let body = UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
            guard crc32c(body) == expected else { throw LinkError.checksum }
            let number = UInt16(littleEndian: body.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
            try visit(body[1], number, UnsafeRawBufferPointer(rebasing: body[LinkFrame.bodyHeaderBytes...]))
            at = start + length
        }
        return at
    }
}

/// The messages of one link whose tails are still arriving, by number.
struct ArrivingMessages {
    private var messages: [(number: UInt16, message: ArrivingMessage)] = []

    /// What has arrived of them.
    var heldBytes: Int { messages.reduce(0) { $0 + $1.message.tail.count } }

    mutating func begin(_ number: UInt16, _ message: ArrivingMessage) throws(LinkError) {
        guard !messages.contains(where: { $0.number == number }) else { throw .malformed }
        guard messages.count < LinkOutbox.begunMax else { throw .tooMany(LinkOutbox.begunMax) }
        messages.append((number, message))
    }

    /// The message, when this was its last part.
    mutating func append(_ number: UInt16, _ bytes: UnsafeRawBufferPointer) throws(LinkError) -> ArrivingMessage? {
        guard let place = messages.firstIndex(where: { $0.number == number }) else {
            throw .unexpected(LinkFrame.Kind.part)
        }
        try messages[place].message.append(bytes)
        return messages[place].message.isComplete ? messages.remove(at: place).message : nil
    }
}

/// A message whose tail is still arriving.
struct ArrivingMessage {
    let target: UInt64
    let sender: UInt64
    let head: [UInt8]
    let tailBytes: Int
    private(set) var tail: [UInt8] = []

    /// Above this, memory grows with what has arrived.
    private static let reservedBytesMax = Limits.frameBytesMax

    init(target: UInt64, sender: UInt64, head: UnsafeRawBufferPointer, tailBytes: Int) {
        (self.target, self.sender, self.head, self.tailBytes) = (target, sender, Array(head), tailBytes)
        // Address space, not memory: pages are touched as bytes arrive.
        tail.reserveCapacity(min(tailBytes, ArrivingMessage.reservedBytesMax))
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(LinkError) {
        guard !bytes.isEmpty, bytes.count <= tailBytes - tail.count else { throw .malformed }
        tail.append(contentsOf: bytes.assumingMemoryBound(to: UInt8.self))
    }

    var isComplete: Bool { tail.count == tailBytes }
}
