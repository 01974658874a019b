// Replies as values: for the client and tests. One per connection; its thread only.

import KVBase

/// Incremental: the caller keeps the bytes of a partial reply contiguous and calls again with more. The end of a reply
/// is found first, each byte once; only then is the value built, so a length that was only announced takes no memory.
package struct RESPReplyParser {
    package enum Outcome: Equatable {
        /// A reply took the first `consumed` bytes.
        case reply(RESPValue, consumed: Int)
        case incomplete
        /// Not RESP: close the connection.
        case failed(String)
    }

    private var scanner = RESPReplyScanner()
    private var scanned = 0

    package init() {}

    /// The first reply in `bytes`, which start where the previous reply ended.
    package mutating func parse(_ bytes: UnsafeRawBufferPointer) -> Outcome {
        switch scanner.scan(bytes, from: scanned) {
        case .failed: return .failed("\(scanner.errorMessage)")
        case .incomplete:
            scanned = bytes.count
            return .incomplete
        case .complete(let end):
            scanned = 0
            var builder = ReplyBuilder(bytes: UnsafeRawBufferPointer(rebasing: bytes[..<end]))
            guard let value = builder.value() else { return .failed("Protocol error: malformed value in reply") }
            return .reply(value, consumed: end)
        }
    }
}

/// Builds the value of bytes that are known to hold one whole, well-nested reply.
private struct ReplyBuilder {
    let bytes: UnsafeRawBufferPointer
    var at = 0

    init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Recursion is bounded by the scanner's depth limit, which attributes before a value do not count for.
    mutating func value() -> RESPValue? {
        while bytes[at] == UInt8(ascii: "|") {
            at += 1
            guard elements(perEntry: 2) != nil else { return nil }
        }
        let type = bytes[at]
        at += 1
        switch type {
        case UInt8(ascii: "+"): return .simple(text(line()))
        case UInt8(ascii: "-"): return .error(text(line()))
        case UInt8(ascii: ":"): return Int(text(line())).map { .integer($0) }
        case UInt8(ascii: ","): return double(text(line())).map { .double($0) }
        case UInt8(ascii: "("): return bigNumber(text(line()))
        case UInt8(ascii: "#"):
            switch text(line()) {
            case "t": return .boolean(true)
            case "f": return .boolean(false)
            default: return nil
            }
        case UInt8(ascii: "_"): return line().isEmpty ? .null : nil
        case UInt8(ascii: "$"): return payload().map { .bulk(Bytes($0)) } ?? .null
        case UInt8(ascii: "!"): return payload().map { .error(text($0)) }
        case UInt8(ascii: "="): return payload().flatMap(verbatim)
        case UInt8(ascii: "*"): return elements(perEntry: 1).map { $0.map { .array($0) } ?? .null }
        case UInt8(ascii: "~"): return elements(perEntry: 1).flatMap { $0.map { .set($0) } }
        case UInt8(ascii: ">"): return elements(perEntry: 1).flatMap { $0.map { .push($0) } }
        case UInt8(ascii: "%"): return elements(perEntry: 2).flatMap { $0.map { .map($0) } }
        default: return nil
        }
    }

    private mutating func line() -> UnsafeRawBufferPointer {
        let start = at
        while bytes[at] != 13 { at += 1 }
        at += 2
        return UnsafeRawBufferPointer(rebasing: bytes[start..<at - 2])
    }

    private mutating func payload() -> UnsafeRawBufferPointer? {
        guard let length = Int(text(line())), length >= 0 else { return nil }
        let start = at
        at += length + 2
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + length])
    }

    /// nil: malformed element; .some(nil): null aggregate.
    private mutating func elements(perEntry: Int) -> [RESPValue]?? {
        guard let entries = Int(text(line())) else { return .none }
        if entries < 0 { return .some(nil) }
        var values: [RESPValue] = []
        // The elements are all present (an element takes at least three bytes), so this is no trusted length.
        values.reserveCapacity(min(entries * perEntry, (bytes.count - at) / 3))
        for _ in 0..<entries * perEntry {
            guard let element = value() else { return .none }
            values.append(element)
        }
        return .some(values)
    }

    private func text(_ bytes: UnsafeRawBufferPointer) -> String { String(decoding: bytes, as: UTF8.self) }

    private func verbatim(_ bytes: UnsafeRawBufferPointer) -> RESPValue? {
        guard bytes.count >= 4, bytes[3] == UInt8(ascii: ":") else { return nil }
        return .verbatim(Bytes(UnsafeRawBufferPointer(rebasing: bytes[4...])))
    }

    private func bigNumber(_ text: String) -> RESPValue? {
        let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
        return !digits.isEmpty && digits.utf8.allSatisfy { $0 >= 48 && $0 <= 57 } ? .bigNumber(text) : nil
    }

    private func double(_ text: String) -> Double? {
        switch text {
        case "inf", "+inf": .infinity
        case "-inf": -.infinity
        case "nan", "-nan": .nan
        default: Double(text)
        }
    }
}
