// A blocking client with TLS for the runtime's tests, and certificates for it. One thread per object.

import Foundation
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

final class SecureSocket {
    let socket: TestSocket
    let dialer: SecureDialer
    private var plain: [UInt8] = []
    /// Bytes in one piece of what is sent.
    private let pieceBytes: Int

    /// Shakes hands. `flushes`: the last flight too.
    init(
        port: UInt16, _ files: SecureFiles = SecureFiles(certificate: [], key: []), version: Int32 = 0,
        pieceBytes: Int = .max, flushes: Bool = true
    ) throws {
        socket = try TestSocket(port: port)
        dialer = try SecureDialer(files, version: version)
        self.pieceBytes = pieceBytes
        while !dialer.isDone {
            try flush()
            guard try fill() else { throw TestSocket.Failure("ended within the handshake") }
        }
        if flushes { try flush() }
    }

    func send(_ bytes: [UInt8]) throws {
        try bytes.withUnsafeBytes { try dialer.seal($0) }
        try flush()
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func flush() throws {
        let bytes = dialer.takeOutput()
        var at = 0
        while at < bytes.count {
            let end = min(bytes.count, pieceBytes == .max ? bytes.count : at + pieceBytes)
            try socket.send(Array(bytes[at..<end]))
            at = end
        }
    }

    /// As much as the sockets between take at once.
    func flushAtOnce() {
        while dialer.output.count > 0 {
            let sent = Glibc.send(
                socket.fd, dialer.output.base, dialer.output.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            guard sent > 0 else { return }
            dialer.output.removeFirst(sent)
        }
    }

    /// False at the end of the stream.
    @discardableResult
    func fill() throws -> Bool {
        let bytes = try socket.receiveSome()
        if bytes.isEmpty { return false }
        try bytes.withUnsafeBytes { try dialer.receive($0) { plain += $0 } }
        return true
    }

    func receive(_ count: Int) throws -> [UInt8] {
        while plain.count < count {
            guard try fill() else { throw TestSocket.Failure("ended after \(plain.count) of \(count) bytes") }
        }
        defer { plain.removeFirst(count) }
        return Array(plain[..<count])
    }

    func receiveText(_ count: Int) throws -> String { String(decoding: try receive(count), as: UTF8.self) }

    /// Up to the end of the stream.
    func receiveAll() throws -> String {
        while try fill() {}
        return String(decoding: plain, as: UTF8.self)
    }
}

/// An authority with a server's certificate and a client's, in a folder that goes away with it.
final class TestCertificates {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-tls-\(UUID().uuidString)")

    init(days: Int = 1) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try LinkCertificate(role: .authority, cluster: "test", name: "ca", days: 1).make(in: folder.path)
        try LinkCertificate(role: .server, cluster: "test", name: "server", days: days).make(in: folder.path)
        try LinkCertificate(role: .client, cluster: "test", name: "alice", days: days).make(in: folder.path)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func bytes(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: folder.appendingPathComponent(name))) }

    func files(_ name: String, asks: SecureFiles.Asks = .no) throws -> SecureFiles {
        SecureFiles(
            certificate: try bytes("\(name).pem"), key: try bytes("\(name).key"), authority: try bytes("ca.pem"),
            asks: asks)
    }

    /// Of a client without a certificate that believes nobody but this authority.
    var trusting: SecureFiles {
        get throws { SecureFiles(certificate: [], key: [], authority: try bytes("ca.pem"), asks: .yes) }
    }
}
