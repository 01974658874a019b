// How servers are reached that ask who comes: certificates, a user and a password. Main thread; `connect`: any.

import Foundation
import KVBase
import KVRuntime
import RESP

/// Blocking: before the load begins.
struct ServerAccess: Sendable {
    var files = SecureFiles(certificate: [], key: [])
    var user = "default"
    /// Of KV_PASSWORD, never of the command line.
    var password: String?

    private static let answerBytesMax = 64 * 1024

    func shakeHands(_ fd: Int32) throws -> SecureDialer {
        let dialer = try SecureDialer(files)
        while !dialer.isDone {
            try flush(dialer, fd)
            try receive(fd, dialer) { _ in }
        }
        try flush(dialer, fd)
        return dialer
    }

    func login(_ password: String, _ fd: Int32, _ dialer: SecureDialer?) throws {
        var request = OutputBuffer()
        defer { request.deallocate() }
        request.request([Bytes("AUTH"), Bytes(user), Bytes(password)])
        if let dialer {
            try dialer.seal(request.bytes)
            try flush(dialer, fd)
        } else {
            try send(request.bytes, fd)
        }
        var answer: [UInt8] = []
        while !answer.contains(10), answer.count < ServerAccess.answerBytesMax {
            try receive(fd, dialer) { answer += $0 }
        }
        let line = String(decoding: answer.prefix { $0 != 13 }, as: UTF8.self)
        guard line == "+OK" else { throw DriverError("the server does not accept user \(user): \(line)") }
    }

    private func flush(_ dialer: SecureDialer, _ fd: Int32) throws {
        try send(dialer.output.bytes, fd)
        dialer.output.count = 0
    }

    private func send(_ bytes: UnsafeRawBufferPointer, _ fd: Int32) throws {
        var sent = 0
        while sent < bytes.count {
            let n = Glibc.send(fd, bytes.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { throw DriverError("send: \(errorText(errno))") }
            sent += n
        }
    }

    private func receive(_ fd: Int32, _ dialer: SecureDialer?, _ body: (UnsafeRawBufferPointer) -> Void) throws {
        var bytes = [UInt8](repeating: 0, count: 16 * 1024)
        var n = recv(fd, &bytes, bytes.count, 0)
        while n < 0, errno == EINTR { n = recv(fd, &bytes, bytes.count, 0) }
        guard n > 0 else { throw DriverError(n == 0 ? "closed by the server" : "recv: \(errorText(errno))") }
        try bytes.withUnsafeBytes {
            let received = UnsafeRawBufferPointer(rebasing: $0[..<n])
            if let dialer { try dialer.receive(received, body) } else { body(received) }
        }
    }
}
