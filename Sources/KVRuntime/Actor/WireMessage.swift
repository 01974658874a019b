// The wire form of messages: written and read by hand, checked against truncation, no reflection. Values; any thread.

package import KVBase

/// A message an actor can be sent: a `Sendable` value with an explicit byte form. In checking builds (KV_CHECKS) every
/// local tell is encoded and decoded, so that a message which would not survive the network cannot hide.
public protocol WireMessage: Sendable {
    func encode(into writer: inout WireWriter)
    /// Reads what `encode` wrote. The bytes may come from a stranger: throw instead of trusting them, never allocate
    /// by a length that was not checked against `reader.remaining`.
    init(from reader: inout WireReader) throws

    /// True if a local tell hands over references to shared immutable data: then checking builds verify the wire form
    /// but deliver the original.
    static var travelsByReference: Bool { get }
    /// Bytes to account in the statistics for a local tell: what the wire form would measure. 0, the default, for
    /// messages whose bytes nobody counts. Remote tells are accounted as encoded.
    var accountedByteCount: Int { get }
}

extension WireMessage {
    public static var travelsByReference: Bool { false }
    public var accountedByteCount: Int { 0 }
}

/// Why bytes are not a message.
public enum WireError: Error, Equatable {
    case truncated
    case trailingBytes
    case invalid(String)
}

/// Appends little-endian numbers and length-prefixed strings to a growing buffer.
public struct WireWriter {
    package var buffer: OutputBuffer
    /// The end of the wire form, when it is a byte array that exists already.
    private(set) var tail: WireTail?

    package init(capacity: Int = 256) { buffer = OutputBuffer(capacity: capacity) }

    /// Frees the storage; the writer must not be used afterwards.
    package func deallocate() { buffer.deallocate() }

    public var count: Int { buffer.count }

    public mutating func write(_ value: UInt8) { buffer.append(value) }

    public mutating func write<N: FixedWidthInteger>(_ value: N) {
        withUnsafeBytes(of: value.littleEndian) { buffer.append($0) }
    }

    public mutating func write(_ value: Bool) { write(value ? 1 : 0 as UInt8) }

    public mutating func write(_ value: Double) { write(value.bitPattern) }

    /// Bytes without a length: the reader must know it.
    public mutating func write(raw bytes: UnsafeRawBufferPointer) { buffer.append(bytes) }

    /// Bytes without a length that end the message, by reference: a large message is neither copied nor checked in one
    /// go on its way out. Nothing may be written after it.
    package mutating func write(tail bytes: [UInt8]) {
        precondition(tail == nil, "one tail a message, at its end")
        if bytes.count > WireTail.bytesMin {
            tail = WireTail(bytes)
        } else {
            bytes.withUnsafeBytes { buffer.append($0) }
        }
    }

    /// For a reader that wants one run of bytes.
    mutating func flatten() {
        guard let bytes = tail?.bytes else { return }
        tail = nil
        bytes.withUnsafeBytes { buffer.append($0) }
    }

    /// A 4-byte length and the bytes.
    public mutating func write(bytes: UnsafeRawBufferPointer) {
        write(UInt32(bytes.count))
        buffer.append(bytes)
    }

    public mutating func write(_ text: String) {
        var text = text
        text.withUTF8 { write(bytes: UnsafeRawBufferPointer($0)) }
    }
}

/// The end of a large message, handed from thread to thread by reference. Immutable.
final class WireTail: Sendable {
    /// Up to here copying is cheaper than handing over.
    static let bytesMin = 16 * 1024

    let bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
}

/// Reads what a `WireWriter` wrote. Every read is checked; nothing is copied except strings.
public struct WireReader {
    private var bytes: UnsafeRawBufferPointer
    private var tail: WireTail?

    /// `bytes` must outlive the reader.
    public init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    init(_ bytes: UnsafeRawBufferPointer, tail: WireTail?) { (self.bytes, self.tail) = (bytes, tail) }

    public var remaining: Int { bytes.count }

    public mutating func readBytes(_ count: Int) throws -> UnsafeRawBufferPointer {
        guard count >= 0, count <= bytes.count else { throw WireError.truncated }
        let taken = UnsafeRawBufferPointer(rebasing: bytes[..<count])
        bytes = UnsafeRawBufferPointer(rebasing: bytes[count...])
        return taken
    }

    public mutating func read<N: FixedWidthInteger>(_ type: N.Type = N.self) throws -> N {
        N(littleEndian: try readBytes(MemoryLayout<N>.size).loadUnaligned(as: N.self))
    }

    public mutating func readBool() throws -> Bool {
        switch try read(UInt8.self) {
        case 0: false
        case 1: true
        default: throw WireError.invalid("not a truth value")
        }
    }

    public mutating func readDouble() throws -> Double { Double(bitPattern: try read()) }

    /// A 4-byte length and that many bytes, valid as long as the input.
    public mutating func readLengthPrefixedBytes() throws -> UnsafeRawBufferPointer {
        try readBytes(Int(try read(UInt32.self)))
    }

    public mutating func readString() throws -> String {
        guard let text = String(validating: try readLengthPrefixedBytes(), as: UTF8.self) else {
            throw WireError.invalid("not UTF-8")
        }
        return text
    }

    /// Everything that is left, as an array of its own: what `write(tail:)` wrote.
    package mutating func readTail() -> [UInt8] {
        let rest = readRest()
        guard let bytes = tail?.bytes else { return Array(rest) }
        tail = nil
        return rest.isEmpty ? bytes : Array(rest) + bytes
    }

    /// Whether everything was read.
    var isAtEnd: Bool { bytes.isEmpty && tail == nil }

    /// Everything that is left, except for a tail.
    public mutating func readRest() -> UnsafeRawBufferPointer {
        let rest = bytes
        bytes = UnsafeRawBufferPointer(rebasing: bytes[bytes.count...])
        return rest
    }
}

extension WireMessage {
    /// The message after a trip through its bytes. Throws if something is left over.
    package static func decode(_ bytes: UnsafeRawBufferPointer) throws -> Self { try decode(bytes, tail: nil) }

    static func decode(_ bytes: UnsafeRawBufferPointer, tail: WireTail?) throws -> Self {
        var reader = WireReader(bytes, tail: tail)
        let message = try Self(from: &reader)
        guard reader.isAtEnd else { throw WireError.trailingBytes }
        return message
    }

    /// What checking builds deliver instead of `self`.
    @usableFromInline func marshalled() -> Self {
        var writer = WireWriter()
        defer { writer.deallocate() }
        encode(into: &writer)
        writer.flatten()
        do {
            let copy = try Self.decode(writer.buffer.bytes)
            return Self.travelsByReference ? self : copy
        } catch {
            fatalError("\(Self.self) does not survive the network: \(error)")
        }
    }
}

extension Int: WireMessage {
    public func encode(into writer: inout WireWriter) { writer.write(Int64(self)) }
    public init(from reader: inout WireReader) throws { self = Int(try reader.read(Int64.self)) }
}

extension UInt64: WireMessage {
    public func encode(into writer: inout WireWriter) { writer.write(self) }
    public init(from reader: inout WireReader) throws { self = try reader.read() }
}

extension Bool: WireMessage {
    public func encode(into writer: inout WireWriter) { writer.write(self) }
    public init(from reader: inout WireReader) throws { self = try reader.readBool() }
}

extension String: WireMessage {
    public func encode(into writer: inout WireWriter) { writer.write(self) }
    public init(from reader: inout WireReader) throws { self = try reader.readString() }
}
