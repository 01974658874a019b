// Random replies, RESP2 and RESP3, from well-formed to damaged. Pure functions of a generator; any thread.

package import KVBase

package struct ReplyGrammar {
    package static func input(_ random: inout PRNG, corpus: [[UInt8]] = []) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<1 + random.below(8) {
            if !corpus.isEmpty && random.below(8) == 0 {
                bytes += corpus[random.below(corpus.count)]
            } else {
                value(&random, &bytes, depth: 0)
            }
        }
        if random.below(40) == 0 { deep(&random, &bytes) }
        if random.below(2) == 0 { Mutation.apply(&random, &bytes) }
        return bytes
    }

    private static func deep(_ random: inout PRNG, _ bytes: inout [UInt8]) {
        let types = ["*1\r\n", "~1\r\n", ">1\r\n", "%1\r\n+k\r\n", "|1\r\n+k\r\n"]
        for _ in 0..<28 + random.below(8) { bytes += Array(types[random.below(types.count)].utf8) }
        bytes += Array(":1\r\n".utf8)
    }

    private static let lines = [
        "+OK", "+", "-ERR unknown command 'x'", "-", ":0", ":-1", ":9223372036854775807", ":9223372036854775808", ":x",
        "_", "_x", "#t", "#f", "#x", ",1.5", ",inf", ",-inf", ",nan", ",1e", "(123456789012345678901234567890", "(-1",
        "(", "$-1", "*-1", "$-2", "%-1", "*0", "%0", "~0", ">0", "|0", "$0\r\n", "=7\r\ntxt:abc", "=3\r\nabc",
        "!5\r\nERR x",
        "$?", "*99999999999", "$4294967296", "*2147483647",
    ]

    private static func value(_ random: inout PRNG, _ bytes: inout [UInt8], depth: Int) {
        switch random.below(depth < 5 ? 12 : 8) {
        case 0..<3: bytes += Array((lines[random.below(lines.count)] + "\r\n").utf8)
        case 3: bytes += Array("+OK\r\n".utf8)
        case 4..<8:
            let length = random.below(3) > 0 ? random.below(24) : [99, 100, 999, 1000, 9999, 10000][random.below(6)]
            let fill = UInt8(truncatingIfNeeded: random.next())
            bytes += Array("$\(length)\r\n".utf8)
            bytes += [UInt8](repeating: fill, count: length)
            bytes += [13, 10]
        default:
            let type = "*~>%|*"[random.below(6)]
            let count = random.below(4)
            bytes += Array("\(type)\(count)\r\n".utf8)
            for _ in 0..<(type == "%" || type == "|" ? 2 * count : count) {
                value(&random, &bytes, depth: depth + 1)
            }
        }
    }
}

extension String {
    fileprivate subscript(_ i: Int) -> Character { self[index(startIndex, offsetBy: i)] }
}
