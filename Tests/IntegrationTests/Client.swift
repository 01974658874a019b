// A blocking RESP client that sees the bytes as they are. One thread per object.

import Foundation
import KVBase
import RESP

final class Client {
    let fd: Int32
    private var buffer: [UInt8] = []

    init(port: Int, receiveBufferBytes: Int32? = nil) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var size = receiveBufferBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, 4) }
        guard withLoopback(port, { Foundation.connect(fd, $0, $1) }) == 0 else {
            let reason = String(cString: strerror(errno))
            close(fd)
            throw ProcessError(description: "connect to \(port): \(reason)")
        }
        var one: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var timeout = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(fd) }

    static func encode(_ arguments: [Bytes]) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments)
        return Array(bytes.bytes)
    }

    func send(_ bytes: [UInt8]) throws {
        var at = 0
        while at < bytes.count {
            let n = bytes.withUnsafeBytes {
                Foundation.send(fd, $0.baseAddress! + at, bytes.count - at, Int32(MSG_NOSIGNAL))
            }
            guard n > 0 else { throw ProcessError(description: "send: \(String(cString: strerror(errno)))") }
            at += n
        }
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// False at the end of the stream.
    private func fill() throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65536)
        let n = recv(fd, &chunk, chunk.count, 0)
        guard n >= 0 else { throw ProcessError(description: "recv: \(String(cString: strerror(errno)))") }
        buffer += chunk[..<n]
        return n > 0
    }

    /// Exactly the bytes of the next reply.
    func reply() throws -> [UInt8] {
        while true {
            var scanner = RESPReplyScanner()
            let result = buffer.withUnsafeBytes { scanner.scan($0, from: 0) }
            if case .complete(let length) = result {
                let bytes = Array(buffer[..<length])
                buffer.removeFirst(length)
                return bytes
            }
            guard try fill() else { throw ProcessError(description: "the connection ended within a reply") }
        }
    }

    func bytes(_ count: Int) throws -> [UInt8] {
        while buffer.count < count {
            guard try fill() else { throw ProcessError(description: "the connection ended early") }
        }
        let bytes = Array(buffer[..<count])
        buffer.removeFirst(count)
        return bytes
    }

    /// Everything up to the end of the stream.
    func rest() throws -> String {
        while try fill() {}
        defer { buffer = [] }
        return String(decoding: buffer, as: UTF8.self)
    }

    func call(_ arguments: [Bytes]) throws -> [UInt8] {
        try send(Client.encode(arguments))
        return try reply()
    }

    func command(_ arguments: String...) throws -> String {
        String(decoding: try call(arguments.map { Bytes($0) }), as: UTF8.self)
    }
}
