// A blocking RESP client that sees the bytes as they are. One thread per object.

import KVBase
import KVTestTraits
import RESP

final class Client {
    private let socket: TestSocket
    private var buffer: [UInt8] = []

    init(port: Int, host: UInt8 = 1, receiveBufferBytes: Int32? = nil) throws {
        socket = try TestSocket(
            port: UInt16(port), host: host, timeoutSeconds: 20, receiveBufferBytes: receiveBufferBytes)
    }

    static func encode(_ arguments: [Bytes]) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments)
        return Array(bytes.bytes)
    }

    func send(_ bytes: [UInt8]) throws { try socket.send(bytes) }

    func send(_ text: String) throws { try socket.send(text) }

    /// It sends no more, and still reads.
    func endSending() { socket.endSending() }

    /// False at the end of the stream.
    private func fill() throws -> Bool {
        let chunk = try socket.receiveSome()
        buffer += chunk
        return !chunk.isEmpty
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
