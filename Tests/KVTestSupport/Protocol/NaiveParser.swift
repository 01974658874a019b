// A second request parser, written for clarity from the protocol's description only: the oracle of the parser's tests.

import KVBase
package import RESP

/// Reads a whole input at once, one byte at a time, copying everything. Deliberately shares no code with the parser.
package struct NaiveParser {
    let input: [UInt8]
    let limits: RESPLimits
    var at = 0
    var result = Parsed()

    private enum Stop: Error {
        case needMore
        case protocolError(String)
    }

    package static func parse(_ input: [UInt8], limits: RESPLimits = RESPLimits()) -> Parsed {
        var parser = NaiveParser(input: input, limits: limits)
        while parser.at < input.count {
            let start = parser.at
            parser.inSkippedCommand = false
            do throws(Stop) {
                try parser.command()
            } catch {
                guard case .needMore = error else {
                    if case .protocolError(let text) = error { parser.result.error = "Protocol error: " + text }
                    return parser.result
                }
                // A skipped command's bytes are dropped as they come; how many remain is not compared.
                parser.result.rest = parser.inSkippedCommand ? -1 : input.count - start
                return parser.result
            }
        }
        return parser.result
    }

    private var inSkippedCommand = false

    private mutating func command() throws(Stop) {
        if input[at] == UInt8(ascii: "*") { try array() } else { try inline() }
    }

    private mutating func next() throws(Stop) -> UInt8 {
        guard at < input.count else { throw .needMore }
        at += 1
        return input[at - 1]
    }

    private mutating func number(_ kind: String) throws(Stop) -> Int {
        var text = ""
        while true {
            let byte = try next()
            if byte == 13 { break }
            text.unicodeScalars.append(Unicode.Scalar(byte))
            let digits = text.hasPrefix("-") ? String(text.dropFirst()) : text
            let wellFormed = digits.unicodeScalars.allSatisfy { ("0"..."9").contains($0) } && digits.count <= 10
            let leadingZero = digits.hasPrefix("0") && (digits.count > 1 || text.hasPrefix("-"))
            if !wellFormed || leadingZero { throw .protocolError("invalid \(kind) length") }
        }
        guard let value = Int(text) else { throw .protocolError("invalid \(kind) length") }
        if try next() != 10 { throw .protocolError("invalid \(kind) length") }
        return value
    }

    private mutating func array() throws(Stop) {
        let start = at
        at += 1
        let count = try number("multibulk")
        if count > limits.argumentsSkippedMax { throw .protocolError("invalid multibulk length") }
        if count <= 0 { return }
        inSkippedCommand = count > limits.argumentsMax
        var arguments: [Bytes] = []
        for _ in 0..<count {
            let mark = try next()
            if mark != UInt8(ascii: "$") {
                let shown = mark == 10 || mark == 13 ? 32 : mark
                throw .protocolError("expected '$', got '\(String(decoding: [shown], as: UTF8.self))'")
            }
            let length = try number("bulk")
            if length < 0 || length > limits.bulkBytesMax { throw .protocolError("invalid bulk length") }
            if length > limits.valueBytesMax || at - start + length + 2 > limits.commandBytesMax {
                inSkippedCommand = true
            }
            guard input.count - at >= length + 2 else { throw .needMore }
            if !inSkippedCommand { arguments.append(Bytes(Array(input[at..<at + length]))) }
            at += length
            if input[at] != 13 || input[at + 1] != 10 { throw .protocolError("invalid bulk length") }
            at += 2
        }
        result.items.append(inSkippedCommand ? .oversized : .command(arguments))
    }

    private mutating func inline() throws(Stop) {
        if input[at] == 0x16 { throw .protocolError("TLS on a port without TLS") }
        let beginning = input[at...].prefix(4)
        if beginning.count == 4, !beginning.prefix(2).contains(10), beginning.suffix(2) == [0, 0] {
            throw .protocolError("a kvd server on a port for clients")
        }
        guard let newline = input[at...].firstIndex(of: 10) else {
            if input.count - at > limits.inlineBytesMax { throw .protocolError("too big inline request") }
            throw .needMore
        }
        if newline - at > limits.inlineBytesMax { throw .protocolError("too big inline request") }
        let line = Array(input[at..<newline])
        guard let words = Self.split(line) else { throw .protocolError("unbalanced quotes in request") }
        if words.count > limits.argumentsMax { throw .protocolError("too big inline request") }
        at = newline + 1
        if words.isEmpty { return }
        if Self.isHTTP(words.map { String(decoding: $0.array, as: Unicode.ASCII.self).lowercased() }) {
            throw .protocolError("HTTP request on a RESP port")
        }
        result.items.append(.command(words))
    }

    private static func isHTTP(_ words: [String]) -> Bool {
        if words[0] == "post" || words[0].hasSuffix(":") || words[0].hasPrefix("--") && words[0] != "--" { return true }
        guard words.count == 3, words[2].hasPrefix("http/"), words[2] != "http/" else { return false }
        guard words[2].dropFirst(5).allSatisfy({ "0123456789.".contains($0) }) else { return false }
        if ["connect", "head", "options", "patch", "pri", "trace"].contains(words[0]) { return true }
        if words[1] == "*" || words[1].hasPrefix("/") { return true }
        // A scheme: the first colon is followed by two slashes.
        return words[1].drop { $0 != ":" }.hasPrefix("://")
    }

    private static let spaces: Set<UInt8> = [32, 9, 10, 11, 12, 13]

    /// sdssplitargs as a state machine over a list of bytes.
    private static func split(_ line: [UInt8]) -> [Bytes]? {
        var words: [Bytes] = []
        var rest = line[...]
        while true {
            rest = rest.drop { spaces.contains($0) }
            if rest.isEmpty { return words }
            var word: [UInt8] = []
            var quote: UInt8?
            loop: while true {
                guard let byte = rest.first else {
                    if quote != nil { return nil }
                    break loop
                }
                rest = rest.dropFirst()
                switch (quote, byte) {
                case (nil, let b) where spaces.contains(b): break loop
                case (nil, 34), (nil, 39): quote = byte
                case (34, 92) where !rest.isEmpty:
                    let code = rest.first!
                    rest = rest.dropFirst()
                    let hex = rest.prefix(2)
                    if code == UInt8(ascii: "x"), hex.count == 2,
                        hex.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit && $0 < 128 })
                    {
                        word.append(UInt8(String(decoding: hex, as: UTF8.self), radix: 16)!)
                        rest = rest.dropFirst(2)
                    } else {
                        let named: [UInt8: UInt8] = [110: 10, 114: 13, 116: 9, 98: 8, 97: 7]
                        word.append(named[code] ?? code)
                    }
                case (39, 92) where rest.first == 39:
                    word.append(39)
                    rest = rest.dropFirst()
                case (let q?, let b) where q == b:
                    if let after = rest.first, !spaces.contains(after) { return nil }
                    break loop
                default: word.append(byte)
                }
            }
            words.append(Bytes(word))
        }
    }
}
