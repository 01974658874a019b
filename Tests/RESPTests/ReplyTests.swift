// Reply parser, counter and writer by example and by property.

import KVBase
import KVTestSupport
import RESP
import KVTestTraits
import Testing

@Suite(.blocking) struct ReplyTests {
    static let sample = """
        +OK\r\n-ERR no\r\n:-42\r\n$5\r\nhello\r\n$0\r\n\r\n$-1\r\n*-1\r\n_\r\n\
        *2\r\n:1\r\n*1\r\n+a\r\n%1\r\n+k\r\n+v\r\n\
        ~1\r\n#t\r\n>2\r\n+message\r\n+x\r\n,1.5\r\n(12345678901234567890\r\n=7\r\ntxt:abc\r\n!6\r\nERR xy\r\n\
        |1\r\n+ttl\r\n:3\r\n:7\r\n*1\r\n|1\r\n+a\r\n+b\r\n$1\r\nz\r\n*0\r\n
        """

    static let values: [RESPValue] = [
        .simple("OK"), .error("ERR no"), .integer(-42), .bulk("hello"), .bulk(""), .null, .null, .null,
        .array([.integer(1), .array([.simple("a")])]), .map([.simple("k"), .simple("v")]), .set([.boolean(true)]),
        .push([.simple("message"), .simple("x")]), .double(1.5), .bigNumber("12345678901234567890"),
        .verbatim("abc"), .error("ERR xy"), .integer(7), .array([.bulk("z")]), .array([]),
    ]

    @Test func readsEveryType() {
        let parsed = parseReplies(Array(Self.sample.utf8))
        #expect(parsed.values == Self.values)
        #expect(!parsed.failed)
    }

    /// Attributes before a value do not nest.
    @Test func anyNumberOfAttributesComesBeforeAValue() {
        for attribute in ["|0\r\n", "|1\r\n+a\r\n:1\r\n"] {
            let parsed = parseReplies(Array((String(repeating: attribute, count: 300_000) + "+OK\r\n").utf8))
            #expect(parsed.values == [.simple("OK")] && !parsed.failed)
        }
    }

    @Test func cutAtEveryByteChangesNothing() {
        let input = Array(Self.sample.utf8)
        for cut in 0...input.count { #expect(parseReplies(input, cutAt: [cut]).values == Self.values, "cut at \(cut)") }
        #expect(parseReplies(input, cutAt: Array(0..<input.count)).values == Self.values)
    }

    @Test func counterNeedsNoBytesKept() {
        let input = Array(
            (Self.sample + String(repeating: "$64\r\n\(String(repeating: "v", count: 64))\r\n", count: 50)).utf8)
        for step in [1, 2, 3, 7, 64, 100, input.count] {
            var counter = RESPReplyCounter()
            for start in stride(from: 0, to: input.count, by: step) {
                let ok = input[start..<min(start + step, input.count)].withUnsafeBytes { counter.count($0) }
                #expect(ok)
            }
            #expect(counter.replies == Self.values.count - 1 + 50, "pieces of \(step)")
            #expect(counter.errors == 1 && counter.nulls == 3)
        }
    }

    @Test(arguments: [
        "x\r\n", "$-2\r\n", "%-1\r\n", "$1x\r\n", "$\r\n", "$99999999999\r\n", "$1\r\nab\r\n", "+OK\rx", ":1x\r\n",
        "#y\r\n",
        "_x\r\n", "=2\r\nab\r\n", ",1,5\r\n", "$?\r\n",
    ])
    func refuses(input: String) {
        let parsed = parseReplies(Array(("+OK\r\n" + input).utf8))
        #expect(parsed.values == [.simple("OK")])
        #expect(parsed.failed)
    }

    @Test func nestingIsBounded() {
        let deepest = String(repeating: "*1\r\n", count: RESPReplyScanner.depthMax)
        #expect(parseReplies(Array((deepest + ":1\r\n").utf8)).values.count == 1)
        #expect(parseReplies(Array((deepest + "*1\r\n:1\r\n").utf8)).failed)
    }

    @Test func announcedLengthsTakeNoMemory() {
        for input in ["*2147483647\r\n:1\r\n", "$4294967295\r\nabc", "%2000000000\r\n"] {
            let parsed = parseReplies(Array(input.utf8))
            #expect(parsed.values.isEmpty && !parsed.failed)
        }
    }

    @Test func writesRepliesAsRedisDoes() {
        #expect(written { $0.ok() } == "+OK\r\n")
        #expect(written { $0.simple("PONG") } == "+PONG\r\n")
        #expect(written { $0.error("ERR a\r\nb" as String) } == "-ERR a  b\r\n")
        #expect(written { $0.integer(-1_234_567) } == ":-1234567\r\n")
        #expect(written { $0.null(resp3: false) } == "$-1\r\n")
        #expect(written { $0.null(resp3: true) } == "_\r\n")
        #expect(written { $0.nullArray(resp3: false) } == "*-1\r\n")
        #expect(written { $0.arrayHeader(12) } == "*12\r\n")
        #expect(written { $0.mapHeader(3, resp3: true) } == "%3\r\n")
        #expect(written { $0.mapHeader(3, resp3: false) } == "*6\r\n")
        #expect(written { $0.double(0.5, resp3: true) } == ",0.5\r\n")
        #expect(written { $0.double(10, resp3: false) } == "$2\r\n10\r\n")
        #expect(written { $0.double(-.infinity, resp3: true) } == ",-inf\r\n")
        #expect(written { $0.boolean(true, resp3: true) } == "#t\r\n")
        #expect(written { $0.verbatim("ab" as String, resp3: true) } == "=6\r\ntxt:ab\r\n")
        #expect(written { $0.request("SET", "k", "") } == "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n")
        for length in [0, 1, 9, 10, 11, 99, 100, 999, 1000, 70000] {
            let value = String(repeating: "v", count: length)
            #expect(written { $0.bulk(value) } == "$\(length)\r\n\(value)\r\n")
            #expect(parseReplies(Array(written { $0.bulk(value) }.utf8)).values == [.bulk(Bytes(value))])
        }
    }
}
