// Inline commands: a line of words, as typed into telnet, with Redis's quoting. Called by RESPParser only.

import KVBase

extension RESPParser {
    /// The first byte of what a TLS client sends; no command begins with it.
    private static let tlsHandshake: UInt8 = 0x16

    static var lengthDigitsMax: Int { Limits.lengthDigitsMax }

    /// Parses one line into a command; an empty line is passed over. A word without quotes stays in the input, a
    /// quoted one is unescaped into the batch's scratch.
    mutating func parseInline(
        _ at: inout UnsafeRawPointer, _ end: UnsafeRawPointer, _ batch: inout CommandBatch
    ) -> Step {
        let start = at
        if start.load(as: UInt8.self) == Self.tlsHandshake { return fail(.tls) }
        if Self.isServer(start, end) { return fail(.server) }
        // One byte beyond the limit tells that the line is too long; no need to look further.
        let length = indexOfByte(10, start, min(end - start, limits.inlineBytesMax + 1))
        guard length <= limits.inlineBytesMax else { return fail(.inlineTooBig) }
        guard length < end - start else { return .incomplete(wanted: length + 1) }
        let line = UnsafeRawBufferPointer(start: start, count: length)
        var position = 0
        var words = 0
        while true {
            while position < line.count && Self.isSpace(line[position]) { position += 1 }
            if position == line.count { break }
            guard words < limits.argumentsMax else { return fail(.inlineTooBig) }
            batch.reserve(words + 1)
            guard let word = Self.parseWord(line, &position, &batch) else { return fail(.unbalancedQuotes) }
            batch.arguments[batch.argumentCount + words] = word
            words += 1
        }
        if words > 0 {
            if Self.isHTTP(batch.arguments + batch.argumentCount, words) { return fail(.http) }
            batch.commit(words)
        }
        at = start + length + 1
        return .advanced
    }

    /// What servers say to each other begins with a short length of four bytes, little endian; no line has two zeros
    /// there.
    private static func isServer(_ start: UnsafeRawPointer, _ end: UnsafeRawPointer) -> Bool {
        guard end - start >= 4 else { return false }
        let word = start.loadUnaligned(as: UInt32.self).littleEndian
        return word &>> 16 == 0 && word & 0xFF != 10 && word &>> 8 != 10
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (byte >= 9 && byte <= 13) }

    /// One word from `position` on, or nil if a quote is not closed or is followed by anything but a space.
    private static func parseWord(
        _ line: UnsafeRawBufferPointer, _ position: inout Int, _ batch: inout CommandBatch
    ) -> ByteView? {
        let first = position
        while position < line.count {
            let byte = line[position]
            if isSpace(byte) { break }
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                position = first
                return unescape(line, &position, &batch)
            }
            position += 1
        }
        return ByteView(line.baseAddress! + first, position - first)
    }

    /// A word with quotes, after sds.c's sdssplitargs: "\n \r \t \b \a \xHH" inside double quotes, "\'" inside single
    /// ones.
    private static func unescape(
        _ line: UnsafeRawBufferPointer, _ position: inout Int, _ batch: inout CommandBatch
    ) -> ByteView? {
        let out = batch.scratch(line.count - position)
        var n = 0
        var quote: UInt8 = 0
        while true {
            guard position < line.count else {
                if quote != 0 { return nil }
                break
            }
            let byte = line[position]
            let next = position + 1 < line.count ? line[position + 1] : nil
            if quote == 0 {
                if isSpace(byte) { break }
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                    quote = byte
                } else {
                    out[n] = byte
                    n += 1
                }
                position += 1
                continue
            }
            if byte == quote {
                if let next, !isSpace(next) { return nil }
                position += 1
                break
            }
            if byte == UInt8(ascii: "\\"), let next {
                let (value, length) = escape(line, position, next, quote)
                out[n] = value
                position += length
            } else {
                out[n] = byte
                position += 1
            }
            n += 1
        }
        return ByteView(UnsafeRawPointer(out), n)
    }

    /// The byte that the backslash at `position` stands for and how many bytes of the line it takes.
    private static func escape(
        _ line: UnsafeRawBufferPointer, _ position: Int, _ next: UInt8, _ quote: UInt8
    ) -> (UInt8, Int) {
        if quote == UInt8(ascii: "'") {
            return next == quote ? (quote, 2) : (UInt8(ascii: "\\"), 1)
        }
        switch next {
        case UInt8(ascii: "x"):
            if position + 3 < line.count, let high = hex(line[position + 2]), let low = hex(line[position + 3]) {
                return (high << 4 | low, 4)
            }
            return (next, 2)
        case UInt8(ascii: "n"): return (10, 2)
        case UInt8(ascii: "r"): return (13, 2)
        case UInt8(ascii: "t"): return (9, 2)
        case UInt8(ascii: "b"): return (8, 2)
        case UInt8(ascii: "a"): return (7, 2)
        default: return (next, 2)
        }
    }

    private static func hex(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }

    /// A browser made to talk to this port (cross-protocol request forgery) sends a request line, headers (`Host:`) or
    /// the boundary of a multipart body. GET, PUT and DELETE are commands too, hence the look at the target and the
    /// protocol version.
    private static func isHTTP(_ words: UnsafeMutablePointer<ByteView>, _ count: Int) -> Bool {
        let name = words[0].bytes
        if name.last == UInt8(ascii: ":") || matches(words[0], "post") { return true }
        if name.count > 2, name[0] == UInt8(ascii: "-"), name[1] == UInt8(ascii: "-") { return true }
        guard count == 3, isHTTPVersion(words[2]) else { return false }
        let target = words[1].bytes
        return target.first == UInt8(ascii: "/") || matches(words[1], "*") || hasScheme(target)
            || methodsOnlyOfHTTP.contains { matches(words[0], $0) }
    }

    /// Of those that may come with a target of another form.
    private static let methodsOnlyOfHTTP: [StaticString] = ["connect", "head", "options", "patch", "pri", "trace"]

    /// `HTTP/1.1`, `HTTP/2`.
    private static func isHTTPVersion(_ word: ByteView) -> Bool {
        word.count >= 6 && matches(ByteView(word.start, 5), "http/")
            && word.bytes[5...].allSatisfy { $0 >= 48 && $0 <= 57 || $0 == UInt8(ascii: ".") }
    }

    private static func hasScheme(_ target: UnsafeRawBufferPointer) -> Bool {
        guard let colon = target.firstIndex(of: UInt8(ascii: ":")), colon + 2 < target.count else { return false }
        return target[colon + 1] == UInt8(ascii: "/") && target[colon + 2] == UInt8(ascii: "/")
    }

    private static func matches(_ word: ByteView, _ lowercase: StaticString) -> Bool {
        guard word.count == lowercase.utf8CodeUnitCount else { return false }
        return (0..<word.count).allSatisfy { k in
            let byte = word.bytes[k]
            return (byte >= 65 && byte <= 90 ? byte | 32 : byte) == lowercase.utf8Start[k]
        }
    }
}
