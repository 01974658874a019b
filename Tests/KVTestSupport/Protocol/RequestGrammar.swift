// Random request bytes, from well-formed pipelines to damaged ones. Pure functions of a generator; any thread.

package import KVBase
package import RESP

package struct RequestGrammar {
    package static let limits = RESPLimits(
        valueBytesMax: 1000, bulkBytesMax: 3000, commandBytesMax: 16 * 1024, argumentsMax: 1400, inlineBytesMax: 120)

    /// One input: up to 8 commands, sometimes cut out of `corpus`, half of the time damaged afterwards.
    package static func input(_ random: inout PRNG, corpus: [[UInt8]] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<1 + random.below(8) {
            if !corpus.isEmpty && random.below(8) == 0 {
                bytes += corpus[random.below(corpus.count)]
            } else {
                piece(&random, &bytes)
            }
        }
        if random.below(2) == 0 { Mutation.apply(&random, &bytes) }
        return bytes
    }

    private static func piece(_ random: inout PRNG, _ bytes: inout [UInt8]) {
        switch random.below(20) {
        case 0..<12: array(&random, &bytes, count: 1 + random.below(5))
        case 12: array(&random, &bytes, count: 1 + random.below(64))
        case 13..<17: inline(&random, &bytes)
        case 17: bytes += Array(["*0\r\n", "*-1\r\n", "\r\n", " \r\n", "\n"][random.below(5)].utf8)
        case 18: bytes += Array(oddities[random.below(oddities.count)].utf8)
        default:
            // Now and then more arguments than a fresh batch holds.
            if random.below(200) == 0 {
                bytes += Array("*1300\r\n".utf8)
                for i in 0..<1300 { bytes += Array("$4\r\n\(1000 + i)\r\n".utf8) }
            } else {
                array(&random, &bytes, count: 1 + random.below(12))
            }
        }
    }

    private static let oddities = [
        "*99999999999\r\n", "*2\r\n*1\r\n", "*1\r\n$-1\r\n", "*1\r\n:5\r\n", "GET / HTTP/1.1\r\n", "Host: a\r\n",
        "*1\r\n$3001\r\n", "*1401\r\n",
        "*1\r\n$01\r\na\r\n", "*-2\r\n", "*1\r\n$4\r\nPINGx\n", "\"", "'a", "\"a\"b\r\n",
        "PRI * HTTP/2.0\r\n", "--x\r\n", "\u{16}\u{3}\u{1}", "SET a:// http/1\r\n", "CONNECT a HTTP/1.1\r\n",
        "*3\r\n$3\r\nSET\r\n", "*1\n", "*1\r", "$4\r\nPING\r\n", "+OK\r\n", "\u{0}\u{0}\r\n", "*1\r\n$1000\r\n",
    ]

    private static let lengths = [0, 1, 2, 3, 5, 9, 10, 11, 16, 64, 99, 100, 101, 998, 999, 1000, 1001, 2000, 3000]

    private static func array(_ random: inout PRNG, _ bytes: inout [UInt8], count: Int) {
        bytes += Array("*\(count)\r\n".utf8)
        for _ in 0..<count {
            let length = random.below(4) > 0 ? random.below(24) : lengths[random.below(lengths.count)]
            bytes += Array("$\(length)\r\n".utf8)
            let fill = UInt8(truncatingIfNeeded: random.next())
            let pattern: [UInt8] = [fill, 13, 10, 36, 42, 97]
            for _ in 0..<min(length, 8) { bytes.append(pattern[random.below(6)]) }
            if length > 8 { bytes += [UInt8](repeating: fill, count: length - 8) }
            bytes += [13, 10]
        }
    }

    private static func inline(_ random: inout PRNG, _ bytes: inout [UInt8]) {
        let alphabet = Array("abcXYZ019 \t  \"'\\xnrt\u{0}".utf8)
        for _ in 0..<random.below(30) { bytes.append(alphabet[random.below(alphabet.count)]) }
        if random.below(30) == 0 { bytes += [UInt8](repeating: 97, count: 100 + random.below(40)) }
        bytes += random.below(3) == 0 ? [10] : [13, 10]
    }
}

/// Damage that is likely to matter to a length-prefixed protocol.
package enum Mutation {
    package static func apply(_ random: inout PRNG, _ bytes: inout [UInt8]) {
        for _ in 0..<1 + random.below(4) where !bytes.isEmpty {
            let at = random.below(bytes.count)
            switch random.below(9) {
            case 0: bytes[at] ^= 1 << UInt8(random.below(8))
            case 1: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            case 2: bytes.remove(at: at)
            case 3: bytes.insert(telling[random.below(telling.count)], at: at)
            case 4: bytes[at] = telling[random.below(telling.count)]
            case 5: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(16)))
            case 6: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 1 + random.below(32))], at: at)
            case 7: bytes.removeLast(bytes.count - at)
            default:
                if let digit = bytes[at...].firstIndex(where: { $0 >= 48 && $0 <= 57 }) {
                    bytes[digit] = 48 + UInt8(random.below(10))
                }
            }
        }
    }

    private static let telling = Array("\r\n*$0123456789-+:_%~>|#,(!=\"'\\ x".utf8) + [0, 255]
}
