// Request parser by property: cuts change nothing, a naive parser agrees, the fuzz harness notices. Seeds are fixed.

import KVBase
import KVTestSupport
import RESP
import KVTestTraits
import Testing

@Suite(.blocking) struct ParserPropertyTests {
    /// Inputs that visit every path: arrays of all header widths, inline, quotes, skipped commands, each error.
    static let inputs: [[UInt8]] = {
        let big = String(repeating: "b", count: 1001)
        let texts = [
            requestText(["GET", "key"]) + requestText(["SET", "key", String(repeating: "v", count: 120)])
                + requestText(["", "a"]),
            requestText((0..<40).map { "a\($0)" }) + requestText(["PING"]),
            requestText(["SET", "k", big]) + requestText(["MSET", "a", big, "b", "c"]) + requestText(["PING"]),
            "PING\r\nSET a \"b c\\x41\"  'd\\'e'\n\r\n*0\r\n*-1\r\n" + requestText(["PING"]),
            "*2\r\n$3\r\nGET\r\n$-1\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "*x\r\n", "*1\r\n$3\r\nabcd\r\n", "a \"b\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/9.1\r\nSET k http/1.1\r\n",
            requestText(["PING"]) + "*1\r\n$3001\r\n", "*1401\r\n",
            "*1401\r\n" + String(repeating: "$1\r\na\r\n", count: 1401) + requestText(["PING"]),
            "PRI * HTTP/2.0\r\n", "--x\r\n", "a: b\r\n", "CONNECT a:1 HTTP/1.1\r\n", "GET a://b HTTP/1\r\n",
            "PING\r\n\u{16}\u{3}\u{1}", "PING\r\nZ\u{1}\u{0}\u{0}ab\ncd\n", "a\n\u{0}\u{0}b\n", "\u{0}\u{0}\n\u{0}c\n",
            String(repeating: "i", count: 121) + "\r\n", "*2\r\n$1001\r\n\(big)\r\n$1\r\nxx\r\n",
        ]
        return texts.map { Array($0.utf8) }
    }()

    @Test func cutAtEveryByteChangesNothing() {
        for input in Self.inputs {
            let whole = parseRequests(input, limits: RequestGrammar.limits)
            // Long payloads are cut at every byte of their ends, now and then in between.
            for cut in 0...input.count where cut < 200 || input.count - cut < 200 || cut % 13 == 0 {
                for obeys in [false, true] {
                    let cutOnce = parseRequests(input, cutAt: [cut], limits: RequestGrammar.limits, obeysWanted: obeys)
                    #expect(cutOnce == whole, "\(escapedText(input)) cut at \(cut)")
                }
            }
            let bytewise = parseRequests(input, cutAt: Array(0..<input.count), limits: RequestGrammar.limits)
            #expect(bytewise == whole, "\(escapedText(input)) byte by byte")
        }
    }

    @Test func everyPrefixAgreesWithTheNaiveParser() {
        for input in Self.inputs {
            for end in stride(from: 0, through: input.count, by: input.count > 600 ? 13 : 1) {
                let prefix = Array(input[..<end])
                let expected = NaiveParser.parse(prefix, limits: RequestGrammar.limits)
                var actual = parseRequests(prefix, limits: RequestGrammar.limits)
                if expected.rest < 0 { actual.rest = expected.rest }
                #expect(actual == expected, "\(escapedText(prefix))")
            }
        }
    }

    @Test(arguments: [FuzzTarget.parser, FuzzTarget.replies])
    func smoke(_ target: FuzzTarget) {
        let failure = target.run(seed: 1, inputs: 1000)
        #expect(
            failure == nil,
            "kv-fuzz \(target.name) --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test func canaryIsCaught() {
        #expect(FuzzTarget.canary.run(seed: 1, inputs: 10_000) != nil, "the harness does not notice a dropped command")
    }
}
