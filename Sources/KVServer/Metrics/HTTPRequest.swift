// Requests of HTTP/1.1 without a body, as they come in pieces: what a scraper, a prober and a browser send. A value of
// its connection.

/// What a connection has to answer.
struct HTTPRequest: Equatable {
    enum Method: Equatable { case get, head, other }

    var method: Method
    /// Without the query behind a question mark.
    var path: String
    /// The connection stays open for another one.
    var keepsAlive: Bool
}

/// Why a connection gets an error and its end.
enum HTTPFault: Error, Equatable {
    case malformed, tooLong, hasBody, version

    var status: HTTPStatus {
        switch self {
        case .malformed: .badRequest
        case .tooLong: .tooLong
        case .hasBody: .hasBody
        case .version: .version
        }
    }
}

enum HTTPStatus: String {
    case ok = "200 OK"
    case badRequest = "400 Bad Request"
    case notFound = "404 Not Found"
    case method = "405 Method Not Allowed"
    case timeout = "408 Request Timeout"
    case hasBody = "413 Content Too Large"
    case tooLong = "431 Request Header Fields Too Large"
    case unavailable = "503 Service Unavailable"
    case version = "505 HTTP Version Not Supported"
}

/// Collects what arrives, and hands out one request after the other.
struct HTTPParser {
    /// Of a request's line and headers together.
    static let headBytesMax = 8 * 1024
    static let headersMax = 100

    private var bytes: [UInt8] = []
    /// Up to where no end of a head was found.
    private var searched = 0

    /// Bytes that no request has used.
    var pending: Int { bytes.count }

    /// False if there is more than one head may have: then nothing is kept of it.
    mutating func append(_ new: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count + new.count <= HTTPParser.headBytesMax else { return false }
        bytes.append(contentsOf: new)
        return true
    }

    /// The next request; nil if it is not there yet. O(bytes) over all calls.
    mutating func next() throws(HTTPFault) -> HTTPRequest? {
        // Empty lines before a request are passed over, as the standard asks.
        while let first = bytes.first, first == 13 || first == 10 {
            bytes.removeFirst()
            searched = 0
        }
        guard let end = headEnd() else { return nil }
        let head = Array(bytes[..<end.head])
        bytes.removeFirst(end.all)
        searched = 0
        return try HTTPParser.parse(head)
    }

    /// Where the head ends, and where what follows begins: behind an empty line, with or without carriage returns.
    private mutating func headEnd() -> (head: Int, all: Int)? {
        var at = max(0, searched - 3)
        while at < bytes.count {
            if bytes[at] == 10 {
                if at + 1 < bytes.count, bytes[at + 1] == 10 { return (at, at + 2) }
                if at + 2 < bytes.count, bytes[at + 1] == 13, bytes[at + 2] == 10 { return (at, at + 3) }
            }
            at += 1
        }
        searched = bytes.count
        return nil
    }

    private static func parse(_ head: [UInt8]) throws(HTTPFault) -> HTTPRequest {
        let lines = head.split(separator: 10, omittingEmptySubsequences: false).map { line in
            line.last == 13 ? line.dropLast() : line
        }
        guard head.allSatisfy({ $0 >= 32 || $0 == 9 || $0 == 10 || $0 == 13 }) else { throw .malformed }
        let words = lines[0].split(separator: 32, omittingEmptySubsequences: false)
        guard words.count == 3, words.allSatisfy({ !$0.isEmpty }) else { throw .malformed }
        let version = String(decoding: words[2], as: UTF8.self)
        guard version.hasPrefix("HTTP/") else { throw .malformed }
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else { throw .version }
        guard words[1].first == UInt8(ascii: "/") || words[1].elementsEqual("*".utf8) else { throw .malformed }
        guard lines.count - 1 <= headersMax else { throw .tooLong }
        var keepsAlive = version == "HTTP/1.1"
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
                line.first != 32, line.first != 9
            else { throw .malformed }
            let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            let value = text(line[(colon + 1)...]).lowercased()
            switch name {
            case "content-length": if value != "0" { throw .hasBody }
            case "transfer-encoding": throw .hasBody
            case "connection":
                if value.contains("close") { keepsAlive = false }
                if value.contains("keep-alive") { keepsAlive = true }
            default: break
            }
        }
        let method: HTTPRequest.Method =
            words[0].elementsEqual("GET".utf8) ? .get : words[0].elementsEqual("HEAD".utf8) ? .head : .other
        let path = words[1].prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        return HTTPRequest(method: method, path: String(decoding: path, as: UTF8.self), keepsAlive: keepsAlive)
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> Substring {
        Substring(decoding: bytes, as: UTF8.self).drop { $0 == " " || $0 == "\t" }
    }
}

/// What is sent back.
struct HTTPResponse {
    var status: HTTPStatus
    var type = "text/plain; charset=utf-8"
    var body: String
    /// Lines of a header, each with its end.
    var extra = ""

    /// Bytes of the whole response; `withBody` is false for HEAD.
    func bytes(keepsAlive: Bool, withBody: Bool) -> [UInt8] {
        let text = Array(body.utf8)
        let head =
            "HTTP/1.1 \(status.rawValue)\r\nContent-Type: \(type)\r\nContent-Length: \(text.count)\r\n"
            + "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\(extra)"
            + "Connection: \(keepsAlive ? "keep-alive" : "close")\r\n\r\n"
        return Array(head.utf8) + (withBody ? text : [])
    }
}
