// Keys and values as users of the client library see them: byte strings pleasant with text. Values, any thread.

public import NIOCore

/// A key or a value: any bytes, compared as unsigned bytes from the left, which is the order `list` replies in.
///
/// Text goes in as it is (`"alice"`, any `String`) and comes out through ``text`` (nil when the bytes are not UTF-8) or
/// through `description` (which repairs what is not).
public struct KVBytes: Hashable, Comparable, Sendable {
    /// The bytes themselves.
    public var array: [UInt8]

    public init(_ array: [UInt8] = []) { self.array = array }

    /// The UTF-8 bytes of `text`. O(n).
    public init(_ text: some StringProtocol) { array = Array(text.utf8) }

    /// A copy of any other collection of bytes, as Foundation's `Data`. O(n).
    public init(copying bytes: some Collection<UInt8>) { array = Array(bytes) }

    public var count: Int { array.count }
    public var isEmpty: Bool { array.isEmpty }

    /// The bytes as text, or nil when they are not valid UTF-8. O(n).
    public var text: String? { String(validating: array, as: UTF8.self) }

    public func hasPrefix(_ prefix: KVBytes) -> Bool { array.starts(with: prefix.array) }

    public static func < (a: KVBytes, b: KVBytes) -> Bool { a.array.lexicographicallyPrecedes(b.array) }
}

extension KVBytes: ExpressibleByStringLiteral, ExpressibleByArrayLiteral, CustomStringConvertible {
    public init(stringLiteral text: String) { array = Array(text.utf8) }
    public init(arrayLiteral bytes: UInt8...) { array = bytes }

    /// The bytes as text; what is not UTF-8 shows as U+FFFD.
    public var description: String { String(decoding: array, as: UTF8.self) }
}

/// What may stand for a key or a value in a call: `KVBytes`, `[UInt8]`, `String`, `Substring`, SwiftNIO's `ByteBuffer`,
/// and Foundation's `Data` with `import KVClientExtras`.
public protocol KVBytesConvertible: Sendable {
    var kvBytes: KVBytes { get }
}

extension KVBytes: KVBytesConvertible {
    public var kvBytes: KVBytes { self }
}

extension String: KVBytesConvertible {
    public var kvBytes: KVBytes { KVBytes(self) }
}

extension Substring: KVBytesConvertible {
    public var kvBytes: KVBytes { KVBytes(self) }
}

extension [UInt8]: KVBytesConvertible {
    public var kvBytes: KVBytes { KVBytes(self) }
}

extension ByteBuffer: KVBytesConvertible {
    /// A copy of the readable bytes. O(n).
    public var kvBytes: KVBytes { KVBytes(Array(readableBytesView)) }
}

/// What a value may be read as, with ``KeyValueStore/get(_:as:)``.
public protocol KVBytesReadable: Sendable {
    /// Nil if the bytes are not such a thing.
    init?(kvBytes: KVBytes)
}

extension String: KVBytesReadable {
    /// Nil if the bytes are not UTF-8. O(n).
    public init?(kvBytes: KVBytes) {
        guard let text = kvBytes.text else { return nil }
        self = text
    }
}

extension [UInt8]: KVBytesReadable {
    public init(kvBytes: KVBytes) { self = kvBytes.array }
}

extension ByteBuffer: KVBytesReadable {
    /// A copy. O(n).
    public init(kvBytes: KVBytes) { self.init(bytes: kvBytes.array) }
}

/// One entry of a listing.
public struct KVPair: Hashable, Sendable {
    public var key: KVBytes
    public var value: KVBytes

    public init(key: KVBytes, value: KVBytes) { (self.key, self.value) = (key, value) }
}

/// The version a write got: milliseconds since 1970 on the clock of the server that took it, raised where that was
/// needed to make the write win over what it replaced. Of two writes to one key the one with the greater stamp stays,
/// on every server.
public struct KVStamp: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var millis: Int64

    public init(millis: Int64) { self.millis = millis }

    public static func < (a: KVStamp, b: KVStamp) -> Bool { a.millis < b.millis }
    public var description: String { "\(millis) ms" }
}
