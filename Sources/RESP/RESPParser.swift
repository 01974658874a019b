// Turns received bytes into commands: RESP arrays of bulks and inline lines. One per connection; its thread only.

package import KVBase

package enum ParseStatus: Sendable {
    /// Every complete command was parsed; what is left, if anything, is the beginning of one.
    case drained
    /// The batch took its maximum; call again with the rest.
    case batchFull
    /// Protocol error; the batch holds the commands before it. Execute them, `appendError`, close.
    case failed
}

/// Request parser after RESP2/RESP3 as Redis 7 reads it (networking.c): zero copy, incremental, no memory taken on the
/// strength of an announced length. Differences, all on the strict side: a bulk must end with CRLF, a length has at
/// most 10 digits, arguments are never nested, and HTTP requests are refused.  The caller keeps the unconsumed rest
/// contiguous and calls again with rest + more. Cost is O(bytes) overall however the input is cut: a command of many
/// arguments is resumed, and `wanted` says when a long bulk is worth another call.
package struct RESPParser {
    package let limits: RESPLimits
    /// Bytes of the last `parse` the caller may forget once the batch is executed.
    package private(set) var consumed = 0
    /// Bytes, counted from the start of the unconsumed rest, below which another call cannot get further. A hint to
    /// wait, not a size to allocate: it is what the client announced.
    package private(set) var wanted = 1

    enum Mode { case ready, resuming, skipping, failed }
    var mode = Mode.ready
    var failure = RESPFailure.none
    /// The byte found in the place of '$', for the error text.
    var unexpected: UInt8 = 0
    var partial = PartialCommand()
    var skip = SkipState()

    /// A command has begun of which the caller keeps nothing, or which is to be resumed.
    package var isInside: Bool { mode == .resuming || mode == .skipping }

    package init(limits: RESPLimits = RESPLimits()) { self.limits = limits }

    /// Frees the state of a partial command; call it when the connection closes.
    package mutating func deallocate() { partial.deallocate() }

    /// Parses from the start of `bytes`, adding at most `maxCommands` commands to `batch`.
    package mutating func parse(
        _ bytes: UnsafeRawBufferPointer, into batch: inout CommandBatch, maxCommands: Int
    ) -> ParseStatus {
        consumed = 0
        wanted = 1
        guard mode != .failed else { return .failed }
        guard let base = bytes.baseAddress else { return .drained }
        let end = base + bytes.count
        var at = base
        var keyGuess = HeaderGuess()
        var valueGuess = HeaderGuess()
        let countMax = batch.count + maxCommands
        while at < end {
            if batch.count >= countMax {
                consumed = at - base
                return .batchFull
            }
            batch.reserve(Self.fastArgumentsMax)
            if mode == .ready {
                let n = Self.parseFast(
                    &at, end, batch.arguments + batch.argumentCount, &keyGuess, &valueGuess)
                if n > 0 {
                    batch.commit(n)
                    batch.markEnd(at - base)
                    continue
                }
            }
            let before = batch.count
            switch parseSlow(&at, end, &batch) {
            case .advanced:
                if batch.count > before { batch.markEnd(at - base) }
                continue
            case .incomplete(let bytesWanted):
                consumed = at - base
                wanted = bytesWanted
                return .drained
            case .failed:
                mode = .failed
                consumed = at - base
                return .failed
            }
        }
        consumed = bytes.count
        return .drained
    }

    /// Writes the error reply of a failed parser, worded as Redis words it.
    package func appendError(to output: inout OutputBuffer) {
        output.append("-ERR ")
        output.append(failure.text)
        if failure == .expectedDollar {
            output.append(unexpected == 13 || unexpected == 10 ? 32 : unexpected)
            output.append("'")
        }
        output.append("\r\n")
    }

    /// The text of `appendError` without `-ERR ` and line end; for logs and tests.
    package var errorMessage: String {
        var output = OutputBuffer()
        defer { output.deallocate() }
        appendError(to: &output)
        return String(decoding: output.bytes.dropFirst(5).dropLast(2), as: UTF8.self)
    }

    // The fast path: a complete command of up to 9 arguments of up to 999 bytes, headers compared 8 bytes at a time.

    static let fastArgumentsMax = 16

    /// The header that the previous command had in the same place. Comparing with it lets the processor go on with the
    /// remembered length at once (the branch is predicted) instead of waiting for the length it has just loaded;
    /// requests of one client are mostly of one shape.
    private struct HeaderGuess {
        var mask: UInt64 = 0
        var word: UInt64 = ~0
        var length = 0
        var headerBytes = 0
    }

    /// Stores the arguments and moves `at` behind the command, or returns 0 and leaves `at`: the general path decides.
    @inline(__always)
    private static func parseFast(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ arguments: UnsafeMutablePointer<ByteView>,
        _ keyGuess: inout HeaderGuess, _ valueGuess: inout HeaderGuess
    ) -> Int {
        let start = at
        guard end - start >= 10 else { return 0 }
        // "*N\r\n$L\r\n"; GET and SET first, as constants for the same reason.
        let head = word(start)
        var n = 2
        var length = 3
        if head != 0x0A0D_3324_0A0D_322A {
            if head == 0x0A0D_3324_0A0D_332A {
                n = 3
            } else {
                guard head & 0xFFFF_00FF_FFFF_00FF == 0x0A0D_0024_0A0D_002A else { return 0 }
                n = Int(truncatingIfNeeded: head &>> 8 & 0xFF) &- 48
                length = Int(truncatingIfNeeded: head &>> 40 & 0xFF) &- 48
                guard UInt(bitPattern: n &- 1) < 9, UInt(bitPattern: length) < 10 else { return 0 }
            }
        }
        var payload = start + 8
        var k = 0
        while true {
            let left = (end - payload) &- length
            guard left >= 2 else { return 0 }
            arguments[k] = ByteView(payload, length)
            k &+= 1
            let tail = payload + length
            if k == n {
                guard tail.loadUnaligned(as: UInt16.self).littleEndian == 0x0A0D else { return 0 }
                at = tail + 2
                return n
            }
            guard left >= 8 else { return 0 }
            let next = word(tail)
            if k == 1 {
                if next & keyGuess.mask != keyGuess.word, !readHeader(next, &keyGuess) { return 0 }
                length = keyGuess.length
                payload = tail + keyGuess.headerBytes
            } else {
                if next & valueGuess.mask != valueGuess.word, !readHeader(next, &valueGuess) { return 0 }
                length = valueGuess.length
                payload = tail + valueGuess.headerBytes
            }
        }
    }

    /// "\r\n$L\r\n", "\r\n$LL\r\n" or "\r\n$LLL\r\n"; false for anything else.
    @inline(__always)
    private static func readHeader(_ next: UInt64, _ guess: inout HeaderGuess) -> Bool {
        let first = Int(truncatingIfNeeded: next &>> 24 & 0xFF) &- 48
        let second = Int(truncatingIfNeeded: next &>> 32 & 0xFF) &- 48
        if next & 0x00FF_FF00_00FF_FFFF == 0x000A_0D00_0024_0A0D {
            guard UInt(bitPattern: first &- 1) < 9, UInt(bitPattern: second) < 10 else { return false }
            guess.mask = 0x00FF_FFFF_FFFF_FFFF
            guess.length = first &* 10 &+ second
            guess.headerBytes = 7
        } else if next & 0x0000_FFFF_00FF_FFFF == 0x0000_0A0D_0024_0A0D {
            guard UInt(bitPattern: first) < 10 else { return false }
            guess.mask = 0x0000_FFFF_FFFF_FFFF
            guess.length = first
            guess.headerBytes = 6
        } else {
            let third = Int(truncatingIfNeeded: next &>> 40 & 0xFF) &- 48
            guard next & 0xFFFF_0000_00FF_FFFF == 0x0A0D_0000_0024_0A0D, UInt(bitPattern: first &- 1) < 9,
                UInt(bitPattern: second) < 10, UInt(bitPattern: third) < 10
            else { return false }
            guess.mask = ~0
            guess.length = first &* 100 &+ second &* 10 &+ third
            guess.headerBytes = 8
        }
        guess.word = next & guess.mask
        return true
    }

    @inline(__always)
    private static func word(_ p: UnsafeRawPointer) -> UInt64 { p.loadUnaligned(as: UInt64.self).littleEndian }
}

/// Why a connection's requests cannot be read on; the texts are Redis 7's where Redis has the case.
enum RESPFailure {
    case none, multibulkLength, bulkLength, expectedDollar, inlineTooBig, unbalancedQuotes, http, tls, server

    var text: StaticString {
        switch self {
        case .none: ""
        case .multibulkLength: "Protocol error: invalid multibulk length"
        case .bulkLength: "Protocol error: invalid bulk length"
        case .expectedDollar: "Protocol error: expected '$', got '"
        case .inlineTooBig: "Protocol error: too big inline request"
        case .unbalancedQuotes: "Protocol error: unbalanced quotes in request"
        case .http: "Protocol error: HTTP request on a RESP port"
        case .tls: "Protocol error: TLS on a port without TLS"
        case .server: "Protocol error: a kvd server on a port for clients"
        }
    }
}
