// What the bytes of somebody who is no system of ours show of it. Pure; any thread.

import KVBase

/// Told apart by the first bytes. The first frame of a system begins with a short length, so that its third and fourth
/// byte are 0, as no text's are.
enum Stranger: Equatable {
    case resp
    case http
    case tls
    /// Neither one of these nor a frame.
    case unknown

    /// nil: a system's first frame as far as can be seen, or too few bytes to tell.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 4, bytes[2] != 0 || bytes[3] != 0 else { return nil }
        if bytes[0] == 0x16, bytes[1] == 3 {
            self = .tls
        } else if Stranger.isHTTP(bytes) {
            self = .http
        } else if bytes.prefix(Stranger.textBytes).allSatisfy({ (32..<127).contains($0) || (9...13).contains($0) }) {
            self = .resp
        } else {
            self = .unknown
        }
    }

    /// A request or an answer names the version in its first line.
    private static func isHTTP(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let line = String(decoding: bytes.prefix(lineBytesMax).prefix { $0 != 13 && $0 != 10 }, as: UTF8.self)
        return line.hasPrefix("HTTP/") || line.contains(" HTTP/")
    }

    private static let lineBytesMax = 2048
    /// So much of it must be text: as much as there is for certain.
    private static let textBytes = 4

    /// Who connects like that, for a log line.
    var client: String {
        switch self {
        case .resp: "a client that speaks the Redis protocol"
        case .http: "a client that speaks HTTP"
        case .tls: "a client that speaks TLS"
        case .unknown: "somebody who is no server"
        }
    }

    /// The same of one that was dialled.
    var peer: String {
        switch self {
        case .resp: "an answer in the Redis protocol: it is a port for clients, not the servers' port below those"
        case .http: "an answer in HTTP: it is no server's port"
        case .tls: "an answer in TLS: it is no server's port"
        case .unknown: "an answer that is no server's"
        }
    }

    /// The line as it is understood there. To a TLS client it is no alert, but readable.
    func reply(_ line: String) -> String {
        switch self {
        case .resp, .tls, .unknown: "-ERR \(line)\r\n"
        case .http:
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: \(line.utf8.count + 2)\r\n"
                + "Connection: close\r\n\r\n\(line)\r\n"
        }
    }
}
