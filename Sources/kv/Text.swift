// How bytes of the store are written for people and for programs. Pure, any thread.

import KVClient

enum Text {
    /// The bytes as text on one line: control characters, backslashes and what is not UTF-8 as escapes. What a stranger
    /// stored cannot move the cursor.
    static func escaped(_ bytes: KVBytes, keepingLines: Bool = false) -> String {
        var text = ""
        var rest = (keepingLines ? unixLines(bytes.array) : bytes.array)[...]
        while !rest.isEmpty {
            // Decode the longest valid run, then escape one byte of what is not valid.
            let repaired = String(decoding: rest, as: UTF8.self)
            let isValid = String(validating: rest, as: UTF8.self) != nil
            guard isValid else {
                let valid = validPrefix(rest)
                for scalar in String(decoding: valid, as: UTF8.self).unicodeScalars {
                    append(scalar, keepingLines, &text)
                }
                rest = rest[valid.endIndex...]
                if let bad = rest.popFirst() { text += hex(UInt32(bad)) }
                continue
            }
            for scalar in repaired.unicodeScalars { append(scalar, keepingLines, &text) }
            break
        }
        return text
    }

    /// CRLF line ends become LF.
    private static func unixLines(_ bytes: [UInt8]) -> [UInt8] {
        guard bytes.contains(13) else { return bytes }
        return bytes.indices.filter { bytes[$0] != 13 || $0 + 1 == bytes.count || bytes[$0 + 1] != 10 }.map {
            bytes[$0]
        }
    }

    private static func append(_ scalar: Unicode.Scalar, _ keepingLines: Bool, _ text: inout String) {
        switch scalar {
        case "\n": text += keepingLines ? "\n" : "\\n"
        case "\t": text += keepingLines ? "\t" : "\\t"
        case "\r": text += "\\r"
        case "\\": text += keepingLines ? "\\" : "\\\\"
        default:
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned:
                text += scalar.value < 256 ? hex(scalar.value) : "\\u{" + String(scalar.value, radix: 16) + "}"
            default: text.unicodeScalars.append(scalar)
            }
        }
    }

    private static func hex(_ value: UInt32) -> String {
        let digits = String(value, radix: 16, uppercase: true)
        return "\\x" + (digits.count < 2 ? "0" : "") + digits
    }

    /// The longest prefix that is valid UTF-8.
    private static func validPrefix(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var decoder = UTF8()
        var iterator = bytes.makeIterator()
        var end = bytes.startIndex
        while case .scalarValue(let scalar) = decoder.decode(&iterator) { end += UTF8.width(scalar) }
        return bytes[bytes.startIndex..<end]
    }

    /// A JSON member: `"name":"text"`, or `"name_base64":"…"` when the bytes are not UTF-8.
    static func member(_ name: String, _ bytes: KVBytes) -> String {
        if let text = bytes.text {
            "\"\(name)\":\(json(text))"
        } else {
            "\"\(name)_base64\":\"\(base64(bytes.array))\""
        }
    }

    static func json(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\r": quoted += "\\r"
            case "\t": quoted += "\\t"
            case _ where scalar.value < 32 || (127...159).contains(scalar.value):
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }

    static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let chunk = bytes[start..<min(start + 3, bytes.count)]
            var word: UInt32 = 0
            for (position, byte) in chunk.enumerated() { word |= UInt32(byte) << UInt32(16 - 8 * position) }
            for position in 0..<4 {
                let isPadding = position > chunk.count
                text.append(isPadding ? UInt8(ascii: "=") : alphabet[Int(word >> UInt32(18 - 6 * position) & 63)])
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
