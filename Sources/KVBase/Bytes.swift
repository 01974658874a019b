// An owned, immutable byte string for places off the request path: keys in tests, frames, configuration. Any thread.

/// Bytes in memory order; comparison is unsigned and lexicographic, the order LIST replies in.
package struct Bytes: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
    package var array: [UInt8]

    package init(_ array: [UInt8]) { self.array = array }
    package init(_ bytes: UnsafeRawBufferPointer) { array = Array(bytes) }
    package init(_ text: String) { array = Array(text.utf8) }
    package init(stringLiteral text: String) { array = Array(text.utf8) }

    package var count: Int { array.count }

    package static func < (a: Bytes, b: Bytes) -> Bool { a.array.lexicographicallyPrecedes(b.array) }

    package func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try array.withUnsafeBytes(body)
    }

    package func hasPrefix(_ prefix: Bytes) -> Bool { array.starts(with: prefix.array) }

    package var description: String { String(decoding: array, as: UTF8.self) }
}
