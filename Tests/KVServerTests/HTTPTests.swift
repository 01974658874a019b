// Requests of the metrics port: in pieces, wrong, too long. Pure.

import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct HTTPTests {
    private func parse(_ text: String) throws -> [HTTPRequest] {
        var parser = HTTPParser()
        var requests: [HTTPRequest] = []
        #expect(Array(text.utf8).withUnsafeBytes { parser.append($0) })
        while let request = try parser.next() { requests.append(request) }
        return requests
    }

    @Test func requestsAreReadAtEveryCut() throws {
        let text =
            "\r\nGET /metrics?x=1 HTTP/1.1\r\nHost: a:1\r\nAccept: */*\r\n\r\nHEAD / HTTP/1.0\n\n"
            + "POST /x HTTP/1.1\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"
        let wanted = [
            HTTPRequest(method: .get, path: "/metrics", keepsAlive: true),
            HTTPRequest(method: .head, path: "/", keepsAlive: false),
            HTTPRequest(method: .other, path: "/x", keepsAlive: false),
        ]
        #expect(try parse(text) == wanted)
        let bytes = Array(text.utf8)
        for cut in 0...bytes.count {
            var parser = HTTPParser()
            var found: [HTTPRequest] = []
            for piece in [bytes[..<cut], bytes[cut...]] {
                #expect(Array(piece).withUnsafeBytes { parser.append($0) })
                while let request = try parser.next() { found.append(request) }
            }
            #expect(found == wanted && parser.pending == 0, "cut at \(cut)")
        }
        var parser = HTTPParser()
        var found: [HTTPRequest] = []
        for byte in bytes {
            #expect([byte].withUnsafeBytes { parser.append($0) })
            while let request = try parser.next() { found.append(request) }
        }
        #expect(found == wanted)
    }

    @Test(arguments: [
        ("GET /\r\n\r\n", HTTPFault.malformed), ("GET  / HTTP/1.1\r\n\r\n", .malformed),
        ("GET / HTTP/1.1 x\r\n\r\n", .malformed), ("GET http://x/ HTTP/1.1\r\n\r\n", .malformed),
        ("GET / FTP/1.1\r\n\r\n", .malformed), ("GET / HTTP/1.1\r\n: x\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", .malformed), ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", .malformed),
        ("GET /\u{1} HTTP/1.1\r\n\r\n", .malformed), ("PRI * HTTP/2.0\r\n\r\n", .version),
        ("GET / HTTP/1.2\r\n\r\n", .version), ("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", .hasBody),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", .hasBody),
        ("*1\r\n$4\r\nPING\r\n\r\n", .malformed),
    ]) func whatIsNoRequestIsAFault(text: String, fault: HTTPFault) {
        #expect(throws: fault) { _ = try parse(text) }
    }

    @Test func aHeadHasABound() throws {
        var parser = HTTPParser()
        let line = Array("GET / HTTP/1.1\r\n".utf8)
        #expect(line.withUnsafeBytes { parser.append($0) })
        let piece = Array("Name: \(String(repeating: "x", count: 90))\r\n".utf8)
        var bytes = line.count
        while piece.withUnsafeBytes({ parser.append($0) }) {
            bytes += piece.count
            #expect(try parser.next() == nil)
        }
        #expect(bytes <= HTTPParser.headBytesMax && bytes > HTTPParser.headBytesMax - 100)
        let many = (0...HTTPParser.headersMax).map { "a: \($0)\r\n" }.joined()
        #expect(throws: HTTPFault.tooLong) { _ = try parse("GET / HTTP/1.1\r\n\(many)\r\n") }
        #expect(try parse("GET / HTTP/1.1\r\n\(many.dropFirst(5))\r\n").count == 1)
    }

    @Test func aResponseSaysHowLongItIs() {
        let response = HTTPResponse(status: .notFound, body: "näh\n", extra: "X: y\r\n")
        let text = String(decoding: response.bytes(keepsAlive: true, withBody: true), as: UTF8.self)
        #expect(text.hasPrefix("HTTP/1.1 404 Not Found\r\n") && text.hasSuffix("\r\n\r\nnäh\n"))
        #expect(text.contains("Content-Length: 5\r\n") && text.contains("X: y\r\nConnection: keep-alive\r\n"))
        let head = String(decoding: response.bytes(keepsAlive: false, withBody: false), as: UTF8.self)
        #expect(head.hasSuffix("Connection: close\r\n\r\n") && head.contains("Content-Length: 5\r\n"))
    }
}
