// The parser's general path: any array command, resumed and skipped commands. Called by RESPParser.parse only.

import KVBase

/// A long command cut by the end of the input: what was parsed so far, as offsets from the command's first byte, so
/// that the next call goes on where this one stopped. Below `RESPParser.rescannedArgumentsMax` arguments it is cheaper
/// to rescan.
struct PartialCommand {
    struct Slot {
        var offset: Int
        var count: Int
    }
    var slots: UnsafeMutablePointer<Slot>?
    var count = 0
    var capacity = 0
    var argumentsLeft = 0
    /// Offset of the next bulk's header.
    var offset = 0

    mutating func append(offset: Int, count n: Int) {
        if count == capacity {
            let grown = UnsafeMutablePointer<Slot>.allocate(capacity: max(256, capacity * 2))
            if let slots {
                grown.update(from: slots, count: count)
                slots.deallocate()
            }
            slots = grown
            capacity = max(256, capacity * 2)
        }
        slots.unsafelyUnwrapped[count] = Slot(offset: offset, count: n)
        count += 1
    }

    mutating func deallocate() {
        slots?.deallocate()
        self = PartialCommand()
    }
}

/// A command whose bytes are passed over without keeping them.
struct SkipState {
    var argumentsLeft = 0
    var payloadLeft = 0
    /// The payload was passed, its CRLF not yet.
    var inPayload = false
    var hasTooManyArguments = false
}

extension RESPParser {
    static let rescannedArgumentsMax = 32

    enum Step {
        /// `at` moved behind a command, an empty line or into a skipped one.
        case advanced
        case incomplete(wanted: Int)
        case failed
    }

    enum Length {
        case value(Int, next: UnsafeRawPointer)
        case incomplete
        case bad
    }

    enum Bulk {
        case payload(UnsafeRawPointer, count: Int)
        case oversized(UnsafeRawPointer, count: Int)
        /// `wanted` is counted from the bulk's header.
        case incomplete(wanted: Int)
        case failed
    }

    @inline(never)
    mutating func parseSlow(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ batch: inout CommandBatch
    ) -> Step {
        switch mode {
        case .resuming: return resume(&at, end, &batch)
        case .skipping: return passOver(&at, end, &batch)
        case .failed: return .failed
        case .ready: break
        }
        if at.load(as: UInt8.self) == UInt8(ascii: "*") { return parseArray(&at, end, &batch) }
        return parseInline(&at, end, &batch)
    }

    private mutating func parseArray(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ batch: inout CommandBatch
    ) -> Step {
        let start = at
        let count: Int
        var next: UnsafeRawPointer
        switch Self.parseLength(start + 1, end) {
        case .incomplete: return .incomplete(wanted: end - start + 1)
        case .bad: return fail(.multibulkLength)
        case .value(let value, let after): (count, next) = (value, after)
        }
        guard count <= limits.argumentsMax else {
            guard count <= limits.argumentsSkippedMax else { return fail(.multibulkLength) }
            skip = SkipState(argumentsLeft: count, hasTooManyArguments: true)
            mode = .skipping
            at = next
            return .advanced
        }
        // Redis skips an empty or null array without a reply.
        guard count > 0 else {
            at = next
            return .advanced
        }
        var stored = 0
        while stored < count {
            switch parseBulk(next, end, commandStart: start) {
            case .payload(let payload, let length):
                batch.reserve(stored + 1)
                batch.arguments[batch.argumentCount + stored] = ByteView(payload, length)
                stored += 1
                next = payload + length + 2
            case .oversized(let payload, let length):
                beginSkip(argumentsLeft: count - stored, payload: length)
                at = payload
                return .advanced
            case .incomplete(let bulkWanted):
                if stored >= Self.rescannedArgumentsMax {
                    keepPartial(batch.arguments + batch.argumentCount, stored, of: count, start, next)
                }
                return .incomplete(wanted: next - start + bulkWanted)
            case .failed: return .failed
            }
        }
        batch.commit(stored)
        at = next
        return .advanced
    }

    private mutating func keepPartial(
        _ arguments: UnsafeMutablePointer<ByteView>, _ stored: Int, of count: Int,
        _ start: UnsafeRawPointer, _ next: UnsafeRawPointer
    ) {
        for k in 0..<stored {
            partial.append(offset: arguments[k].start - start, count: arguments[k].count)
        }
        partial.argumentsLeft = count - stored
        partial.offset = next - start
        mode = .resuming
    }

    /// Goes on with a long command; `at` is its first byte again.
    private mutating func resume(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ batch: inout CommandBatch
    ) -> Step {
        let start = at
        while partial.argumentsLeft > 0 {
            let header = start + partial.offset
            guard header <= end else { return .incomplete(wanted: partial.offset + 1) }
            switch parseBulk(header, end, commandStart: start) {
            case .payload(let payload, let length):
                partial.append(offset: payload - start, count: length)
                partial.argumentsLeft -= 1
                partial.offset = payload - start + length + 2
            case .oversized(let payload, let length):
                beginSkip(argumentsLeft: partial.argumentsLeft, payload: length)
                partial.deallocate()
                at = payload
                return .advanced
            case .incomplete(let bulkWanted): return .incomplete(wanted: partial.offset + bulkWanted)
            case .failed: return .failed
            }
        }
        batch.reserve(partial.count)
        let first = batch.arguments + batch.argumentCount
        for k in 0..<partial.count {
            let slot = partial.slots.unsafelyUnwrapped[k]
            first[k] = ByteView(start + slot.offset, slot.count)
        }
        batch.commit(partial.count)
        at = start + partial.offset
        partial.deallocate()
        mode = .ready
        return .advanced
    }

    private mutating func beginSkip(argumentsLeft: Int, payload: Int) {
        skip = SkipState(argumentsLeft: argumentsLeft, payloadLeft: payload, inPayload: true)
        mode = .skipping
    }

    /// Passes over an oversized command; every byte seen counts as consumed, so the caller's buffer stays small.
    private mutating func passOver(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ batch: inout CommandBatch
    ) -> Step {
        while skip.argumentsLeft > 0 {
            if skip.inPayload {
                let step = min(end - at, skip.payloadLeft)
                at += step
                skip.payloadLeft -= step
                guard skip.payloadLeft == 0, end - at >= 2 else {
                    return .incomplete(wanted: skip.payloadLeft > 0 ? 1 : 2)
                }
                guard at.loadUnaligned(as: UInt16.self).littleEndian == 0x0A0D else { return fail(.bulkLength) }
                at += 2
                skip.inPayload = false
                skip.argumentsLeft -= 1
            } else {
                switch parseBulkHeader(at, end) {
                case .value(let length, let payload):
                    at = payload
                    skip.payloadLeft = length
                    skip.inPayload = true
                case .incomplete: return .incomplete(wanted: end - at + 1)
                case .bad: return .failed
                }
            }
        }
        batch.commitOversized(hasTooManyArguments: skip.hasTooManyArguments)
        mode = .ready
        return .advanced
    }

    /// One bulk: header, payload and CRLF all present, or why not.
    private mutating func parseBulk(
        _ header: UnsafeRawPointer, _ end: UnsafeRawPointer, commandStart: UnsafeRawPointer
    ) -> Bulk {
        switch parseBulkHeader(header, end) {
        case .incomplete: return .incomplete(wanted: end - header + 1)
        case .bad: return .failed
        case .value(let length, let payload):
            let total = (payload - commandStart) + length + 2
            if length > limits.valueBytesMax || total > limits.commandBytesMax {
                return .oversized(payload, count: length)
            }
            guard end - payload >= length + 2 else {
                return .incomplete(wanted: payload - header + length + 2)
            }
            guard (payload + length).loadUnaligned(as: UInt16.self).littleEndian == 0x0A0D else {
                _ = fail(.bulkLength)
                return .failed
            }
            return .payload(payload, count: length)
        }
    }

    /// "$n\r\n" with n within `bulkBytesMax`; records the failure when it is not.
    private mutating func parseBulkHeader(_ header: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Length {
        guard header < end else { return .incomplete }
        let mark = header.load(as: UInt8.self)
        guard mark == UInt8(ascii: "$") else {
            unexpected = mark
            _ = fail(.expectedDollar)
            return .bad
        }
        let length = Self.parseLength(header + 1, end)
        switch length {
        case .incomplete: return .incomplete
        case .value(let n, _) where n >= 0 && n <= limits.bulkBytesMax: return length
        default:
            _ = fail(.bulkLength)
            return .bad
        }
    }

    mutating func fail(_ reason: RESPFailure) -> Step {
        failure = reason
        return .failed
    }

    /// A decimal number as Redis's string2ll takes it (no sign but '-', no leading zero, no "-0") and its CRLF, at
    /// most 10 digits, so that no addition can overflow. Reports a bad byte as soon as it is seen, wherever the input
    /// is cut.
    static func parseLength(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Length {
        var p = start
        guard p < end else { return .incomplete }
        let negative = p.load(as: UInt8.self) == UInt8(ascii: "-")
        if negative { p += 1 }
        var value = 0
        var digits = 0
        while p < end {
            let byte = p.load(as: UInt8.self)
            if byte == 13 {
                guard digits > 0 else { return .bad }
                guard p + 1 < end else { return .incomplete }
                guard (p + 1).load(as: UInt8.self) == 10 else { return .bad }
                return .value(negative ? -value : value, next: p + 2)
            }
            let digit = Int(byte) - 48
            guard digit >= 0, digit <= 9, digits < lengthDigitsMax else { return .bad }
            if digits == 1 && value == 0 { return .bad }
            if negative && digits == 0 && digit == 0 { return .bad }
            value = value * 10 + digit
            digits += 1
            p += 1
        }
        return .incomplete
    }
}
