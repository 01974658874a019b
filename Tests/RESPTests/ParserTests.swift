// Request parser by example: commands, inline lines, every protocol error, limits.

import KVBase
import KVTestSupport
import RESP
import KVTestTraits
import Testing

@Suite(.blocking) struct ParserTests {
    @Test func parsesArraysOfBulks() {
        #expect(parseRequests("*2\r\n$3\r\nGET\r\n$5\r\nhello\r\n").commands == [["GET", "hello"]])
        #expect(parseRequests("*1\r\n$0\r\n\r\n").commands == [[""]])
        let many = (0..<40).map { "argument\($0)" }
        #expect(parseRequests(requestText(many)).commands == [many])
        for length in [9, 10, 99, 100, 999, 1000, 12345] {
            let command = ["SET", "key", String(repeating: "v", count: length)]
            #expect(parseRequests(requestText(command) + requestText(["PING"])).commands == [command, ["PING"]])
        }
    }

    @Test func aCommandMayOutgrowTheBatch() {
        let many = (0..<5000).map { "argument\($0)" }
        #expect(parseRequests(requestText(["GET", "a"]) + requestText(many)).commands == [["GET", "a"], many])
    }

    @Test func parsesPipelinesAndKeepsTheRest() {
        let input = String(repeating: requestText(["GET", "key"]), count: 1000) + "*2\r\n$3\r\nGE"
        let parsed = parseRequests(input)
        #expect(parsed.commands.count == 1000)
        #expect(parsed.commands.allSatisfy { $0 == ["GET", "key"] })
        #expect(parsed.rest == 10)
    }

    @Test func stopsAtTheCommandLimitOfACallAndGoesOn() {
        let input = Array(String(repeating: requestText(["PING"]), count: 10).utf8)
        #expect(parseRequests(input, perCall: 3).commands.count == 10)
        var parser = RESPParser()
        var batch = CommandBatch()
        defer {
            parser.deallocate()
            batch.deallocate()
        }
        input.withUnsafeBytes {
            #expect(parser.parse($0, into: &batch, maxCommands: 3) == .batchFull)
            #expect(batch.count == 3 && parser.consumed == 3 * 14)
        }
    }

    @Test func skipsEmptyCommands() {
        #expect(parseRequests("*0\r\n*-1\r\n\r\n  \r\n\n" + requestText(["PING"])).commands == [["PING"]])
    }

    @Test func parsesInlineLines() {
        #expect(parseRequests("PING\r\n").commands == [["PING"]])
        #expect(parseRequests("  SET  k\tv \n").commands == [["SET", "k", "v"]])
        #expect(parseRequests("SET k \"a b\\r\\n\\t\\x41\\\"\\q\"\r\n").commands == [["SET", "k", "a b\r\n\tA\"q"]])
        #expect(parseRequests("SET k 'a \\n\\'b'\r\n").commands == [["SET", "k", "a \\n'b"]])
        #expect(parseRequests("SET \"\" ''\r\n").commands == [["SET", "", ""]])
        #expect(parseRequests("foo\"bar\" x\r\n").commands == [["foobar", "x"]])
        #expect(parseRequests("PUT k v\r\nGET /\r\n").commands == [["PUT", "k", "v"], ["GET", "/"]])
    }

    @Test(arguments: [
        ("*x\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*1x\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*-0\r\n", "invalid multibulk length"),
        ("*1\n$4\r\nPING\r\n", "invalid multibulk length"),
        ("*1\rx", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*99999999999\r\n", "invalid multibulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
        ("*1\r\n$4\r\nPINGxx", "invalid bulk length"),
        ("*3\r\n$3\r\nSET\r\n$1\r\nkk\r\n$1\r\n", "invalid bulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
        ("*2\r\n$3\r\nGET\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\n\r\n", "expected '$', got ' '"),
        ("SET k \"v\r\n", "unbalanced quotes in request"),
        ("SET k 'v\r\n", "unbalanced quotes in request"),
        ("SET k \"v\"w\r\n", "unbalanced quotes in request"),
        (String(repeating: "a", count: 65537), "too big inline request"),
        (String(repeating: "a", count: 65537) + "\r\n", "too big inline request"),
        ("POST / HTTP/1.1\r\n", "HTTP request on a RESP port"),
        ("GET / HTTP/1.1\r\nHost: x\r\n", "HTTP request on a RESP port"),
        ("get /x?y http/1.0\r\n", "HTTP request on a RESP port"),
        ("Host: example.org\r\n", "HTTP request on a RESP port"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP request on a RESP port"),
        ("CONNECT example.org:443 HTTP/1.1\r\n", "HTTP request on a RESP port"),
        ("OPTIONS * HTTP/1.1\r\n", "HTTP request on a RESP port"),
        ("PATCH /a HTTP/1.1\r\n", "HTTP request on a RESP port"),
        ("GET http://example.org/ HTTP/1.1\r\n", "HTTP request on a RESP port"),
        ("Content-Type: multipart/form-data; boundary=x\r\n", "HTTP request on a RESP port"),
        ("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nSET k v\r\n", "HTTP request on a RESP port"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}", "TLS on a port without TLS"),
        ("\u{16}", "TLS on a port without TLS"),
        ("Z\u{0}\u{0}\u{0}abcd\u{2}\u{1}\u{0}\u{0}", "a kvd server on a port for clients"),
        ("Z\u{1}\u{0}\u{0}\n", "a kvd server on a port for clients"),
    ])
    func refuses(input: String, message: String) {
        let parsed = parseRequests(requestText(["PING"]) + input + requestText(["PING"]))
        #expect(parsed.commands == [["PING"]])
        #expect(parsed.error == "Protocol error: " + message)
    }

    @Test func wordsThatOnlyLookLikeHTTPAreCommands() {
        let lines = ["SET k http/1.1", "PUT k HTTP/x", "SET a:b HTTP/1.1", "GET k HTTP/1.1", "ECHO --x", "-- a"]
        for line in lines {
            #expect(parseRequests(line + "\r\n").commands == [line.split(separator: " ").map(String.init)])
        }
    }

    @Test func passesOverACommandOfTooManyArgumentsAndKeepsTheConnection() {
        let input =
            "*51\r\n" + String(repeating: "$1\r\na\r\n", count: 51) + requestText(["PING"]) + "*51\r\n$1\r\na\r\n"
        let parsed = parseRequests(input, limits: Self.small)
        #expect(parsed.commands == [["<oversized>"], ["PING"]] && parsed.error == nil && parsed.rest == 0)
        #expect(parseRequests("*1048577\r\n").error == nil)
    }

    @Test func errorReplyIsOneLine() {
        var parser = RESPParser()
        var batch = CommandBatch()
        defer { batch.deallocate() }
        let input = Array("*1\r\n\nX".utf8)
        #expect(input.withUnsafeBytes { parser.parse($0, into: &batch, maxCommands: 9) } == .failed)
        #expect(written { parser.appendError(to: &$0) } == "-ERR Protocol error: expected '$', got ' '\r\n")
        // A failed parser stays failed.
        #expect(input.withUnsafeBytes { parser.parse($0, into: &batch, maxCommands: 9) } == .failed)
    }

    static let small = RESPLimits(
        valueBytesMax: 1000, bulkBytesMax: 5000, commandBytesMax: 16 * 1024, argumentsMax: 50, inlineBytesMax: 100)

    @Test func skipsAnOversizedBulkAndKeepsTheConnection() {
        let big = String(repeating: "x", count: 1001)
        let input =
            requestText(["GET", "a"]) + requestText(["SET", "k", big]) + requestText(["MSET", big, "v", big, "w"])
            + requestText(["PING"])
        let parsed = parseRequests(input, limits: Self.small)
        #expect(parsed.commands == [["GET", "a"], ["<oversized>"], ["<oversized>"], ["PING"]])
        #expect(parsed.error == nil && parsed.rest == 0)
        // Consumed while it arrives: nothing of it has to be buffered.
        let half = Array(requestText(["SET", "k", big]).utf8.prefix(500))
        #expect(parseRequests(half, limits: Self.small).rest == 0)
    }

    @Test func skipsACommandThatIsTooLongAltogether() {
        let value = String(repeating: "x", count: 900)
        let long = ["MSET"] + Array(repeating: value, count: 20)
        #expect(
            parseRequests(requestText(long) + requestText(["PING"]), limits: Self.small).commands == [
                ["<oversized>"], ["PING"],
            ])
    }

    @Test func refusesProtocolErrorsInsideASkippedCommand() {
        let big = String(repeating: "x", count: 1001)
        for (tail, message) in [
            ("$1\r\n", ""), (":1\r\n", "expected '$', got ':'"), ("$5001\r\n", "invalid bulk length"),
            ("$1\r\nab\r\n", "invalid bulk length"),
        ] {
            let parsed = parseRequests("*2\r\n$1001\r\n\(big)\r\n\(tail)", limits: Self.small)
            #expect(parsed.error == (message.isEmpty ? nil : "Protocol error: " + message))
        }
    }

    @Test func askedForMoreOnlyWhenMoreHelps() {
        var parser = RESPParser()
        var batch = CommandBatch()
        defer { batch.deallocate() }
        func wanted(_ input: String) -> Int {
            let bytes = Array(input.utf8)
            _ = bytes.withUnsafeBytes { parser.parse($0, into: &batch, maxCommands: 9) }
            return parser.wanted
        }
        #expect(wanted("") == 1)
        #expect(wanted("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nxx") == 20 + 10 + 1_000_002)
        #expect(wanted("*3\r\n$3\r\nSET") == 13)
        #expect(wanted("*3\r\n$3") == 7)
    }

    @Test func aCommandOfManyArgumentsIsReadOnce() {
        // A million tiny arguments in pieces of 1 KiB: quadratic rescanning would take minutes.
        let count = 200_000
        let input = Array(requestText((0..<count).map { String($0) }).utf8)
        var feeder = Feeder()
        var parser = RESPParser()
        defer { parser.deallocate() }
        var end = 0
        input.withUnsafeBytes { bytes in
            while end < bytes.count {
                end = min(end + 1024, bytes.count)
                let status = parser.parse(
                    UnsafeRawBufferPointer(rebasing: bytes[..<end]), into: &feeder.batch,
                    maxCommands: 10)
                #expect(status == .drained)
            }
        }
        #expect(feeder.batch.count == 1)
        #expect(feeder.batch[0].argumentCount == Int32(count))
        #expect(Bytes(feeder.batch.argument(count - 1).bytes) == Bytes(String(count - 1)))
        feeder.batch.reset()
        _ = feeder.finish()
    }
}
