// The frames between two systems: layout, building, and a parser that trusts nothing. Values; one thread at a time.

import Glibc
import KVBase

/// Little endian: body length (4), CRC32C of the body (4), then the body: version (1), type (1), zero (2), contents by
/// type. Lengths are checked against a bound before anything is allocated, and memory grows with what has arrived only.
enum LinkFrame {
    static let version: UInt8 = 1
    static let headerBytes = 8
    static let bodyHeaderBytes = 4
    /// Body header, 4 bytes of padding, receiver's counter (8), sender's counter (8).
    static let dataOverheadBytes = bodyHeaderBytes + 4 + 16
    static let bodyBytesMax = Limits.messageBytesMax + dataOverheadBytes
    /// A large message crosses in parts of this size, so that neither side holds its loop for the whole of it.
    static let partBytes = 64 * 1024
    /// Before the handshake a stranger may make us hold this much.
    static let handshakeBytesMax = 2048

    enum Kind {
        /// Opener to acceptor, first: cluster, opener's address, address dialled, opener's incarnation.
        static let hello: UInt8 = 1
        /// The answer: acceptor's address, acceptor's incarnation.
        static let welcome: UInt8 = 2
        /// Or that: why not.
        static let reject: UInt8 = 3
        /// A message.
        static let data: UInt8 = 4
        static let ping: UInt8 = 5
        static let pong: UInt8 = 6
        /// As data, with the length of a tail where data has padding: the parts that follow are its end.
        static let dataWithTail: UInt8 = 7
        static let part: UInt8 = 8
    }

    /// Appends one frame whose contents `body` writes.
    static func append(_ kind: UInt8, to buffer: inout OutputBuffer, _ body: (inout WireWriter) -> Void) {
        var writer = WireWriter(capacity: 128)
        defer { writer.deallocate() }
        writer.write(version)
        writer.write(kind)
        writer.write(0 as UInt16)
        body(&writer)
        appendHeader(of: writer.buffer.bytes, to: &buffer)
        buffer.append(writer.buffer.bytes)
    }

    private static func appendHeader(of body: UnsafeRawBufferPointer, to buffer: inout OutputBuffer) {
        withUnsafeBytes(of: UInt32(body.count).littleEndian) { buffer.append($0) }
        withUnsafeBytes(of: crc32c(body).littleEndian) { buffer.append($0) }
    }

    /// Begins a data frame in an empty writer: the payload is appended behind, then `finishData` fills in length and
    /// checksum.
    static func beginData(_ writer: inout WireWriter, target: UInt64, sender: UInt64) {
        writer.write(0 as UInt64)
        writer.write(version)
        writer.write(Kind.data)
        writer.write(0 as UInt16)
        writer.write(0 as UInt32)
        writer.write(target)
        writer.write(sender)
    }

    static func finishData(_ writer: inout WireWriter, tailBytes: Int? = nil) {
        let whole = UnsafeMutableRawBufferPointer(mutating: writer.buffer.bytes)
        if let tailBytes {
            whole[headerBytes + 1] = Kind.dataWithTail
            whole.storeBytes(
                of: UInt32(tailBytes).littleEndian, toByteOffset: headerBytes + bodyHeaderBytes, as: UInt32.self)
        }
        let body = UnsafeRawBufferPointer(rebasing: whole[headerBytes...])
        whole.storeBytes(of: UInt32(body.count).littleEndian, as: UInt32.self)
        whole.storeBytes(of: crc32c(body).littleEndian, toByteOffset: 4, as: UInt32.self)
    }
}

extension LinkFrame {
    /// Appends the part of a tail that begins at `from`; returns where the next one begins.
    static func appendPart(of tail: [UInt8], from: Int, to buffer: inout OutputBuffer) -> Int {
        let end = min(tail.count, from + partBytes)
        let start = buffer.count
        buffer.reserve(headerBytes + bodyHeaderBytes + end - from)
        withUnsafeBytes(of: UInt32(bodyHeaderBytes + end - from).littleEndian) { buffer.append($0) }
        withUnsafeBytes(of: 0 as UInt32) { buffer.append($0) }
        buffer.append(version)
        buffer.append(Kind.part)
        withUnsafeBytes(of: 0 as UInt16) { buffer.append($0) }
        tail.withUnsafeBytes { buffer.append(UnsafeRawBufferPointer(rebasing: $0[from..<end])) }
        let body = UnsafeRawBufferPointer(rebasing: buffer.bytes[(start + headerBytes)...])
        let crc = crc32c(body)
        buffer.base.storeBytes(of: crc.littleEndian, toByteOffset: start + 4, as: UInt32.self)
        return end
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

/// Why a link was closed for what arrived on it.
enum LinkError: Error, Equatable, CustomStringConvertible {
    case length(Int)
    case checksum
    case version(UInt8)
    case unexpected(UInt8)
    case malformed
    case cluster(String)
    case rejected(String)
    case message(String)

    var description: String {
        switch self {
        case .length(let n): "a frame of \(n) bytes"
        case .checksum: "a wrong checksum"
        case .version(let v): "frame version \(v), not \(LinkFrame.version)"
        case .unexpected(let kind): "a frame of type \(kind) out of place"
        case .malformed: "a malformed frame"
        case .cluster(let name): "the cluster name '\(name)', not ours"
        case .rejected(let why): "a refusal: \(why)"
        case .message(let why): why
        }
    }
}

/// Cuts a stream into frames. Holds at most one incomplete frame.
struct LinkParser {
    private var pending = OutputBuffer()
    /// Raised after the handshake.
    var bodyBytesMax = LinkFrame.handshakeBytesMax

    func deallocate() { pending.deallocate() }

    /// Calls `visit` with type and contents of every complete frame; the contents are gone when it returns.
    mutating func feed(
        _ bytes: UnsafeRawBufferPointer, _ visit: (UInt8, UnsafeRawBufferPointer) throws -> Void
    ) throws {
        if pending.count == 0 {
            let consumed = try parse(bytes, visit)
            if consumed < bytes.count { pending.append(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
            return
        }
        pending.append(bytes)
        let consumed = try parse(pending.bytes, visit)
        guard consumed > 0 else { return }
        let left = pending.count - consumed
        memmove(pending.base, pending.base + consumed, left)
        pending.count = left
        pending.shrink(above: 1 << 20, to: 4096)
    }

    private func parse(
        _ bytes: UnsafeRawBufferPointer, _ visit: (UInt8, UnsafeRawBufferPointer) throws -> Void
    ) throws -> Int {
        var at = 0
        while bytes.count - at >= LinkFrame.headerBytes {
            let length = Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
            guard length >= LinkFrame.bodyHeaderBytes, length <= bodyBytesMax else { throw LinkError.length(length) }
            let start = at + LinkFrame.headerBytes
            guard bytes.count - start >= length else { break }
            let expected = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at + 4, as: UInt32.self))
            let body = UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
            guard crc32c(body) == expected else { throw LinkError.checksum }
            guard body[0] == LinkFrame.version else { throw LinkError.version(body[0]) }
            try visit(body[1], UnsafeRawBufferPointer(rebasing: body[LinkFrame.bodyHeaderBytes...]))
            at = start + length
        }
        return at
    }
}
