// Blocking loopback sockets for the test side: listeners for the proxy, a RESP connection for the checks. Any thread.

import Foundation
import KVTestTraits

struct SocketError: Error, CustomStringConvertible {
    let description: String
    init(_ what: String, _ code: Int32) { description = "\(what): \(String(cString: strerror(code)))" }
    init(_ what: String) { description = what }
}

enum Clock {
    /// Monotonic milliseconds.
    static func millis() -> Int64 {
        var t = timespec()
        clock_gettime(CLOCK_MONOTONIC, &t)
        return Int64(t.tv_sec) * 1000 + Int64(t.tv_nsec) / 1_000_000
    }

    static func micros() -> Int64 {
        var t = timespec()
        clock_gettime(CLOCK_MONOTONIC, &t)
        return Int64(t.tv_sec) * 1_000_000 + Int64(t.tv_nsec) / 1000
    }
}

enum Sockets {
    static func loopback(_ port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        return address
    }

    /// A non-blocking listener on a port the kernel chose.
    static func listen() throws -> (fd: Int32, port: UInt16) {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let size = length
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, size) == 0 && Glibc.listen(fd, 128) == 0 && getsockname(fd, $0, &length) == 0
            }
        }
        guard isBound else { throw SocketError("listen", errno) }
        makeNonBlocking(fd)
        return (fd, UInt16(bigEndian: address.sin_port))
    }

    static func connect(port: UInt16) throws -> Int32 {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let code = errno
            close(fd)
            throw SocketError("connect to port \(port)", code)
        }
        var one: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        return fd
    }

    static func makeNonBlocking(_ fd: Int32) { _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) }

    /// Closes with a reset, so that the other side notices at once.
    static func reset(_ fd: Int32) {
        var now = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
        close(fd)
    }
}

indirect enum Reply: Equatable, CustomStringConvertible {
    case simple(String)
    case error(String)
    case integer(Int)
    case bulk([UInt8]?)
    case array([Reply]?)

    var text: String? {
        switch self {
        case .simple(let text): text
        case .bulk(let bytes?): String(decoding: bytes, as: UTF8.self)
        case .integer(let n): String(n)
        case .error(let text): text
        default: nil
        }
    }

    var items: [Reply] {
        if case .array(let items?) = self { return items }
        return []
    }

    var description: String {
        if case .array(let items) = self { return items.map { "\($0)" } ?? "nil" }
        return text ?? "nil"
    }
}

/// One blocking RESP2 connection. Not thread-safe.
final class RESPConnection {
    private let socket: TestSocket
    private var buffer: [UInt8] = []
    private var at = 0

    init(port: UInt16, timeoutSeconds: Int = 20) throws {
        socket = try TestSocket(port: port, timeoutSeconds: timeoutSeconds)
    }

    func send(_ commands: [[String]]) throws {
        var out: [UInt8] = []
        for words in commands {
            out += Array("*\(words.count)\r\n".utf8)
            for word in words { out += Array("$\(word.utf8.count)\r\n\(word)\r\n".utf8) }
        }
        try socket.send(out)
    }

    @discardableResult
    func call(_ words: String...) throws -> Reply { try call(words) }

    @discardableResult
    func call(_ words: [String]) throws -> Reply {
        try send([words])
        return try receive()
    }

    func pipeline(_ commands: [[String]]) throws -> [Reply] {
        try send(commands)
        return try commands.map { _ in try receive() }
    }

    func receive() throws -> Reply {
        let line = try readLine()
        let rest = String(decoding: line.dropFirst(), as: UTF8.self)
        switch line.first {
        case UInt8(ascii: "+"): return .simple(rest)
        case UInt8(ascii: "-"): return .error(rest)
        case UInt8(ascii: ":"): return .integer(Int(rest) ?? 0)
        case UInt8(ascii: "_"): return .bulk(nil)
        case UInt8(ascii: "$"):
            guard let count = Int(rest), count >= 0 else { return .bulk(nil) }
            let bytes = try read(count + 2)
            return .bulk(Array(bytes.dropLast(2)))
        case UInt8(ascii: "*"), UInt8(ascii: "%"):
            guard let count = Int(rest), count >= 0 else { return .array(nil) }
            return .array(try (0..<count * (line.first == UInt8(ascii: "%") ? 2 : 1)).map { _ in try receive() })
        default: throw SocketError("unexpected reply \(String(decoding: line, as: UTF8.self))")
        }
    }

    private func readLine() throws -> [UInt8] {
        while true {
            if let end = buffer[at...].firstIndex(of: 10) {
                defer { at = end + 1 }
                return Array(buffer[at..<end - 1])
            }
            try fill()
        }
    }

    private func read(_ count: Int) throws -> [UInt8] {
        while buffer.count - at < count { try fill() }
        defer { at += count }
        return Array(buffer[at..<at + count])
    }

    private func fill() throws {
        if at > 0 {
            buffer.removeFirst(at)
            at = 0
        }
        let chunk = try socket.receiveSome(256 * 1024)
        guard !chunk.isEmpty else { throw SocketError("connection closed by the server") }
        buffer += chunk
    }
}
