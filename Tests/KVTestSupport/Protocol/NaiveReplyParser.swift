// A second reply parser, by plain recursion over a whole input: the oracle of the reply parser's tests and fuzzing.

import KVBase
package import RESP

/// Shares no code with RESPReplyParser; knows the same limits.
package struct NaiveReplyParser {
    private let input: [UInt8]
    private var at = 0
    private var nonsense = false

    private enum Stop: Error { case needMore, malformed }

    /// The values in order; `failed` if something that is no reply follows them.
    package static func parse(_ input: [UInt8]) -> (values: [RESPValue], failed: Bool) {
        var parser = NaiveReplyParser(input: input)
        var values: [RESPValue] = []
        while parser.at < input.count {
            do throws(Stop) {
                let value = try parser.value(depth: 0)
                // A value that makes no sense is only noticed when its reply is complete; a bad structure at once.
                if parser.nonsense { return (values, true) }
                values.append(value)
            } catch {
                return (values, error == .malformed)
            }
        }
        return (values, false)
    }

    private init(input: [UInt8]) { self.input = input }

    private mutating func next() throws(Stop) -> UInt8 {
        guard at < input.count else { throw .needMore }
        at += 1
        return input[at - 1]
    }

    private mutating func line() throws(Stop) -> String {
        var bytes: [UInt8] = []
        while true {
            let byte = try next()
            if byte == 13 { break }
            bytes.append(byte)
            if bytes.count > RESPReplyScanner.lineBytesMax { throw .malformed }
        }
        guard try next() == 10 else { throw .malformed }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A length: digits only, at most 10; "-" and digits are read too and judged by the caller.
    private mutating func length() throws(Stop) -> Int {
        var digits = ""
        var negative = false
        while true {
            let byte = try next()
            if byte == 13 { break }
            if byte == UInt8(ascii: "-"), digits.isEmpty, !negative {
                negative = true
                continue
            }
            guard byte >= 48, byte <= 57, digits.count < 10 else { throw .malformed }
            digits.unicodeScalars.append(Unicode.Scalar(byte))
        }
        guard let value = Int(digits) else { throw .malformed }
        guard try next() == 10 else { throw .malformed }
        if negative && value != 1 { throw .malformed }
        return negative ? -1 : value
    }

    private mutating func payload(_ length: Int) throws(Stop) -> [UInt8] {
        var bytes: [UInt8] = []
        guard input.count - at >= length else { throw .needMore }
        bytes.append(contentsOf: input[at..<at + length])
        at += length
        guard try next() == 13 else { throw .malformed }
        guard try next() == 10 else { throw .malformed }
        return bytes
    }

    private mutating func list(_ count: Int, depth: Int) throws(Stop) -> [RESPValue] {
        if count > 0 && depth >= RESPReplyScanner.depthMax { throw .malformed }
        var values: [RESPValue] = []
        for _ in 0..<count { values.append(try value(depth: depth + 1)) }
        return values
    }

    private mutating func value(depth: Int) throws(Stop) -> RESPValue {
        let type = try next()
        switch Character(Unicode.Scalar(type)) {
        case "+": return .simple(try line())
        case "-": return .error(try line())
        case ":":
            return .integer(sensible(Int(try line())) ?? 0)
        case ",":
            let text = try line()
            let special: [String: Double] = [
                "inf": .infinity, "+inf": .infinity, "-inf": -.infinity, "nan": .nan, "-nan": .nan,
            ]
            return .double(sensible(special[text] ?? Double(text)) ?? 0)
        case "(":
            let text = try line()
            var digits = Array(text.utf8)
            if digits.first == 43 || digits.first == 45 { digits.removeFirst() }
            if digits.isEmpty || !digits.allSatisfy({ (48...57).contains($0) }) { nonsense = true }
            return .bigNumber(text)
        case "#":
            let text = try line()
            if text != "t" && text != "f" { nonsense = true }
            return .boolean(text == "t")
        case "_":
            if try !line().isEmpty { nonsense = true }
            return .null
        case "$":
            let n = try length()
            return n < 0 ? .null : .bulk(Bytes(try payload(n)))
        case "!": return .error(String(decoding: try payload(try natural()), as: UTF8.self))
        case "=":
            let bytes = try payload(try natural())
            if bytes.count < 4 || bytes[3] != 58 { nonsense = true }
            return .verbatim(Bytes(Array(bytes.dropFirst(4))))
        case "*":
            let n = try length()
            return n < 0 ? .null : .array(try list(n, depth: depth))
        case "~": return .set(try list(try natural(), depth: depth))
        case ">": return .push(try list(try natural(), depth: depth))
        case "%": return .map(try list(try natural() * 2, depth: depth))
        case "|":
            _ = try list(try natural() * 2, depth: depth)
            return try value(depth: depth)
        default: throw .malformed
        }
    }

    private mutating func sensible<T>(_ value: T?) -> T? {
        if value == nil { nonsense = true }
        return value
    }

    private mutating func natural() throws(Stop) -> Int {
        let n = try length()
        if n < 0 { throw .malformed }
        return n
    }
}
