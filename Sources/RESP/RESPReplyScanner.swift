// Finds where replies end, in a stream cut anywhere, without keeping bytes. One per connection; its thread only.

import KVBase

/// Walks RESP2 and RESP3 replies byte by byte with a few words of state: it allocates nothing, whatever lengths the
/// other side announces, and nesting is bounded. RESP3's streamed strings and aggregates ("$?") are refused: no server
/// this project talks to sends them.
package struct RESPReplyScanner {
    package enum Result: Equatable, Sendable {
        /// A top-level reply ends before this offset.
        case complete(Int)
        case incomplete
        case failed
    }

    package static let depthMax = 32
    /// Longest simple string, error or number.
    package static let lineBytesMax = 1024 * 1024

    package private(set) var errorMessage: StaticString = ""
    /// First byte of the top-level reply last begun: '-' tells an error, '>' a push message.
    package private(set) var type: UInt8 = 0
    /// Whether the top-level reply last completed was a null of any form.
    package private(set) var isNull = false

    enum Phase: UInt8 { case type, number, numberLF, line, lineLF, payload, payloadCR, payloadLF, failed }
    var phase = Phase.type
    private var depth = 0
    private var elementType: UInt8 = 0
    private var value = 0
    private var digits = 0
    private var negative = false
    /// Payload or line bytes still to come, or seen so far.
    private var length = 0
    /// Elements still to come per open aggregate; storage is taken at the first aggregate.
    private var left: [Int] = []
    /// Bit d set: the aggregate at depth d is an attribute, which is not an element of anything.
    private var attributes: UInt64 = 0

    package init() {}

    /// Between two replies, nothing of the next one seen.
    @inline(__always)
    var isIdle: Bool { phase == .type && depth == 0 && attributes == 0 }

    /// Goes on from `offset` to the end of the top-level reply or of `bytes`. Every byte is looked at once; payloads
    /// are jumped over.
    package mutating func scan(_ bytes: UnsafeRawBufferPointer, from offset: Int) -> Result {
        var at = offset
        let end = bytes.count
        while at < end {
            switch phase {
            case .type:
                guard begin(bytes[at]) else { return .failed }
                at += 1
            case .number:
                guard number(bytes[at]) else { return fail("Protocol error: invalid length in reply") }
                at += 1
            case .numberLF:
                guard bytes[at] == 10 else { return fail("Protocol error: expected line feed in reply") }
                at += 1
                guard let done = announced() else { return .failed }
                if done && elementDone() { return .complete(at) }
            case .line:
                let step = indexOfByte(13, bytes.baseAddress.unsafelyUnwrapped + at, end - at)
                length += step
                guard length <= Self.lineBytesMax else { return fail("Protocol error: too long line in reply") }
                guard at + step < end else { return .incomplete }
                at += step + 1
                phase = .lineLF
            case .lineLF, .payloadLF:
                guard bytes[at] == 10 else { return fail("Protocol error: expected line feed in reply") }
                at += 1
                phase = .type
                if elementDone() { return .complete(at) }
            case .payload:
                let step = min(length, end - at)
                length -= step
                at += step
                if length == 0 { phase = .payloadCR }
            case .payloadCR:
                guard bytes[at] == 13 else { return fail("Protocol error: expected CRLF after bulk in reply") }
                at += 1
                phase = .payloadLF
            case .failed: return .failed
            }
        }
        return phase == .failed ? .failed : .incomplete
    }

    private mutating func fail(_ text: StaticString) -> Result {
        errorMessage = text
        phase = .failed
        return .failed
    }

    private mutating func begin(_ byte: UInt8) -> Bool {
        elementType = byte
        if depth == 0 && byte != UInt8(ascii: "|") {
            type = byte
            isNull = byte == UInt8(ascii: "_")
        }
        switch byte {
        case UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: ":"), UInt8(ascii: "_"), UInt8(ascii: "#"),
            UInt8(ascii: ","), UInt8(ascii: "("):
            length = 0
            phase = .line
        case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"), UInt8(ascii: "*"), UInt8(ascii: "~"),
            UInt8(ascii: ">"), UInt8(ascii: "%"), UInt8(ascii: "|"):
            (value, digits, negative) = (0, 0, false)
            phase = .number
        default:
            _ = fail("Protocol error: unknown reply type")
            return false
        }
        return true
    }

    private mutating func number(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57:
            guard digits < Limits.lengthDigitsMax else { return false }
            value = value * 10 + Int(byte - 48)
            digits += 1
        case UInt8(ascii: "-"):
            guard digits == 0, !negative else { return false }
            negative = true
        case 13:
            guard digits > 0 else { return false }
            phase = .numberLF
        default: return false
        }
        return true
    }

    /// A length was read: true if the element is complete, false if more follows, nil if it makes no sense.
    private mutating func announced() -> Bool? {
        phase = .type
        if negative {
            guard value == 1, elementType == UInt8(ascii: "$") || elementType == UInt8(ascii: "*") else {
                _ = fail("Protocol error: negative length in reply")
                return nil
            }
            if depth == 0 { isNull = true }
            return true
        }
        switch elementType {
        case UInt8(ascii: "$"), UInt8(ascii: "="), UInt8(ascii: "!"):
            length = value
            phase = length == 0 ? .payloadCR : .payload
            return false
        default:
            let paired = elementType == UInt8(ascii: "%") || elementType == UInt8(ascii: "|")
            return open(paired ? value * 2 : value)
        }
    }

    private mutating func open(_ elements: Int) -> Bool? {
        let isAttribute = elementType == UInt8(ascii: "|")
        if elements == 0 { return isAttribute ? false : true }
        guard depth < Self.depthMax else {
            _ = fail("Protocol error: reply nested too deeply")
            return nil
        }
        if left.isEmpty { left = [Int](repeating: 0, count: Self.depthMax) }
        left[depth] = elements
        if isAttribute { attributes |= 1 << UInt64(depth) }
        depth += 1
        return false
    }

    /// Counts a finished element towards the aggregates around it; true if the top-level reply is complete.
    private mutating func elementDone() -> Bool {
        while depth > 0 {
            left[depth - 1] -= 1
            if left[depth - 1] > 0 { return false }
            depth -= 1
            let bit: UInt64 = 1 << UInt64(depth)
            if attributes & bit != 0 {
                attributes &= ~bit
                return false
            }
        }
        return true
    }
}
