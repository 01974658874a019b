// Turns received bytes into replies: short common ones on the spot, the rest through RESP's parser. Event loop only.

import KVBase
import RESP

struct ReplyDecoder {
    enum Step {
        case reply(KVReply)
        case incomplete
        case malformed(String)
    }

    private let replyBytesMax: Int
    private var parser = RESPReplyParser()
    /// Whether the parser has seen a part of the current reply and must be given the rest.
    private var isPartial = false

    init(replyBytesMax: Int) { self.replyBytesMax = replyBytesMax }

    /// The reply that starts at `at`, which is moved behind it. After `incomplete` the next call must have the same
    /// reply start at its `at`, with more bytes behind it.
    mutating func next(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> Step {
        if !isPartial, let reply = quick(bytes, &at) { return .reply(reply) }
        switch parser.parse(UnsafeRawBufferPointer(rebasing: bytes[at...])) {
        case .reply(let value, let consumed):
            isPartial = false
            at += consumed
            return .reply(KVReply(value))
        case .incomplete:
            isPartial = true
            guard bytes.count - at <= replyBytesMax else {
                return .malformed("a reply of more than \(replyBytesMax) bytes")
            }
            return .incomplete
        case .failed(let message):
            return .malformed(message)
        }
    }

    /// A whole bulk string, null, integer or `+OK`, the answers to nearly all calls. Nil for anything else: the parser
    /// judges it.
    private func quick(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> KVReply? {
        let end = bytes.count
        guard end - at >= 4 else { return nil }
        switch bytes[at] {
        case UInt8(ascii: "$"):
            if bytes[at + 1] == UInt8(ascii: "-") {
                guard end - at >= 5, bytes[at + 2] == 49, bytes[at + 3] == 13, bytes[at + 4] == 10 else { return nil }
                at += 5
                return .null
            }
            guard let (length, start) = number(bytes, at + 1, digitsMax: 9) else { return nil }
            guard length <= end - start - 2, bytes[start + length] == 13, bytes[start + length + 1] == 10 else {
                return nil
            }
            at = start + length + 2
            return .bytes(KVBytes([UInt8](UnsafeRawBufferPointer(rebasing: bytes[start..<start + length]))))
        case UInt8(ascii: ":"):
            guard let (value, start) = number(bytes, at + 1, digitsMax: 18) else { return nil }
            at = start
            return .integer(Int64(value))
        case UInt8(ascii: "+"):
            guard end - at >= 5, bytes[at + 1] == UInt8(ascii: "O"), bytes[at + 2] == UInt8(ascii: "K"),
                bytes[at + 3] == 13, bytes[at + 4] == 10
            else { return nil }
            at += 5
            return .status("OK")
        default: return nil
        }
    }

    /// Digits up to CRLF, and where the line ends; nil unless that is exactly what is there.
    private func number(_ bytes: UnsafeRawBufferPointer, _ start: Int, digitsMax: Int) -> (Int, Int)? {
        var at = start
        var value = 0
        while at < bytes.count, at - start < digitsMax {
            let digit = bytes[at] &- 48
            guard digit < 10 else { break }
            value = value &* 10 &+ Int(digit)
            at += 1
        }
        guard at > start, at + 1 < bytes.count, bytes[at] == 13, bytes[at + 1] == 10 else { return nil }
        return (value, at + 2)
    }
}

extension KVReply {
    init(_ value: RESPValue) {
        switch value {
        case .simple(let text), .bigNumber(let text): self = .status(text)
        case .error(let text): self = .error(text)
        case .integer(let value): self = .integer(Int64(value))
        case .bulk(let bytes), .verbatim(let bytes): self = .bytes(KVBytes(bytes.array))
        case .null: self = .null
        case .array(let values), .set(let values), .push(let values): self = .array(values.map(KVReply.init))
        case .map(let values): self = .map(values.map(KVReply.init))
        case .double(let value): self = .double(value)
        case .boolean(let value): self = .boolean(value)
        }
    }
}
