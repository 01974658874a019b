// TLS with clients over real sockets, on every backend: bytes at every cut, refusals, times, keys, certificates.

import Foundation
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct SecureTests {
    /// A loop with a listener that speaks TLS.
    private struct Server {
        let loop: Loop
        let port: UInt16
        let secure: SecurePort
        let statistics: SecureStatistics
    }

    private func withSecureServer(
        _ backend: LoopBackend, _ mode: SecurePort.Mode = .required, files: SecureFiles? = nil,
        acceptor: Acceptor = ClosureAcceptor { _ in EchoHandler() }, refusesPlain: Bool = false,
        handshakeMillis: Int64 = SecurePort.handshakeMillisMax, _ body: (Server) throws -> Void
    ) throws {
        let loop = try Loop(backend: backend)
        let statistics = SecureStatistics()
        let context = try SecureContext.make(try files ?? TestCertificates().files("server"), count: 1)[0]
        let secure = SecurePort(
            loop: loop, mode: mode, context: context, statistics: statistics, refusesPlain: refusesPlain,
            handshakeMillis: handshakeMillis)
        let listener = try loop.listen(
            SocketAddress(host: "127.0.0.1", port: 0)!, acceptor: acceptor, secure: secure)
        let thread = LoopThread(loop: loop)
        let port = listener.localAddress!.port
        thread.start()
        do {
            try body(Server(loop: loop, port: port, secure: secure, statistics: statistics))
            try thread.stopAndJoin()
        } catch {
            try? thread.stopAndJoin()
            throw error
        }
    }

    @Test(arguments: backends, [12, 13] as [Int32])
    func echoesSmallAndLargePieces(_ backend: LoopBackend, version: Int32) throws {
        try withSecureServer(backend) { server in
            let client = try SecureSocket(port: server.port, version: version)
            try client.send("hello")
            #expect(try client.receiveText(5) == "hello")
            var generator = PRNG(seed: 1)
            for size in [1, 100, 16 * 1024, 16 * 1024 + 1, 300_000] {
                let bytes = (0..<size).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                try client.send(bytes)
                #expect(try client.receive(size) == bytes)
            }
            #expect(server.statistics.done == 1 && server.statistics.failed == 0 && server.statistics.open == 1)
        }
    }

    /// Sends many megabytes without being asked, more than a turn encrypts.
    final class TalkativeHandler: ConnectionHandler {
        static let bytes = 5_000_000
        override func secured(_ connection: Connection) {
            for i in 0..<TalkativeHandler.bytes { connection.output.pointee.append(UInt8(truncatingIfNeeded: i &* 7)) }
            connection.outputMayHaveGrown()
        }
    }

    @Test(arguments: backends) func aLongReplyGoesInPiecesAndAllOfItEncrypted(_ backend: LoopBackend) throws {
        try withSecureServer(backend, acceptor: ClosureAcceptor { _ in TalkativeHandler() }) { server in
            let client = try SecureSocket(port: server.port)
            let bytes = try client.receive(TalkativeHandler.bytes)
            #expect(bytes == (0..<TalkativeHandler.bytes).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        }
    }

    /// Records of the handshake and behind it come byte by byte; then all lengths of what is sent in one.
    @Test(arguments: backends, [12, 13] as [Int32])
    func bytesMayBeCutAnywhere(_ backend: LoopBackend, version: Int32) throws {
        try withSecureServer(backend) { server in
            let client = try SecureSocket(port: server.port, version: version, pieceBytes: 1)
            try client.send("one by one")
            #expect(try client.receiveText(10) == "one by one")
            for pieceBytes in [2, 3, 5, 7, 20, 21, 22, 23, 100] {
                let other = try SecureSocket(port: server.port, version: version, pieceBytes: pieceBytes)
                // Several records in one go, cut where the pieces end.
                for i in 0..<5 {
                    let bytes = [UInt8](repeating: UInt8(i), count: 10 * i + 1)
                    try bytes.withUnsafeBytes { try other.dialer.seal($0) }
                }
                try other.flush()
                let all = (0..<5).flatMap { [UInt8](repeating: UInt8($0), count: 10 * $0 + 1) }
                #expect(try other.receive(all.count) == all)
            }
        }
    }

    /// Nothing of OpenSSL stands behind a client before its first record is whole.
    @Test(arguments: backends) func whoOnlyBeginsTakesNoMoreThanItsBytes(_ backend: LoopBackend) throws {
        try withSecureServer(backend) { server in
            let half = try TestSocket(port: server.port)
            let dialer = try SecureDialer()
            let hello = dialer.takeOutput()
            let ends = [0, 1, 4, 5, hello.count - 1]
            for (from, end) in zip(ends, ends.dropFirst()) {
                try half.send(Array(hello[from..<end]))
                // Whatever was sent before it has been looked at when another client is answered.
                var other: SecureSocket? = try SecureSocket(port: server.port)
                try other?.send("x")
                #expect(try other?.receiveText(1) == "x")
                #expect(server.statistics.open == 1 && server.statistics.failed == 0, "\(end)")
                other = nil
                #expect(eventually { server.statistics.open == 0 })
            }
            try half.send([hello[hello.count - 1]])
            #expect(eventually { server.statistics.open == 1 })
            let answer = try half.receiveSome()
            #expect(answer.first == SecureLayer.firstByte)
        }
    }

    @Test(arguments: backends) func onePortServesBothWhereTLSIsOptional(_ backend: LoopBackend) throws {
        try withSecureServer(backend, .optional) { server in
            let (plain, secure) = (try TestSocket(port: server.port), try SecureSocket(port: server.port))
            try plain.send("in the open")
            #expect(try plain.receiveText(11) == "in the open")
            try secure.send("in private")
            #expect(try secure.receiveText(10) == "in private")
            try plain.send("again")
            #expect(try plain.receiveText(5) == "again")
            #expect(server.statistics.plainRefused == 0 && server.statistics.done == 1)
        }
    }

    @Test(arguments: backends, [SecurePort.Mode.required, .optional])
    func whoSpeaksNoTLSIsToldSoWhereItHasTo(_ backend: LoopBackend, mode: SecurePort.Mode) throws {
        try withSecureServer(backend, mode, refusesPlain: mode == .optional) { server in
            let client = try TestSocket(port: server.port)
            try client.send("PING\r\n")
            let reply = String(decoding: try client.receiveAll(), as: UTF8.self)
            #expect(reply == "-ERR this port takes connections with TLS only\r\n")
            #expect(server.statistics.plainRefused == 1)
        }
    }

    @Test(arguments: backends) func brokenRecordsEndTheConnectionWithAnAlert(_ backend: LoopBackend) throws {
        try withSecureServer(backend) { server in
            let client = try SecureSocket(port: server.port)
            try client.send("a")
            #expect(try client.receiveText(1) == "a")
            try client.dialer.seal(
                UnsafeRawBufferPointer(
                    rebasing: "bad".utf8.withContiguousStorageIfAvailable {
                        UnsafeRawBufferPointer($0)
                    }![...]))
            var record = client.dialer.takeOutput()
            record[record.count - 1] ^= 1
            try client.socket.send(record)
            #expect(throws: SecureFault.self) { while try client.fill() {} }
            #expect(eventually { server.statistics.failed == 1 && server.statistics.open == 0 })
            #expect(server.statistics.news()?.contains("a record could not be read") ?? false)
            #expect(server.statistics.news() == nil)
            // What is no handshake at all.
            for garbage in [[0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5], [UInt8](repeating: 0x16, count: 4000)] as [[UInt8]] {
                let other = try TestSocket(port: server.port)
                try other.send(garbage)
                _ = try other.receiveAll()
            }
            #expect(eventually { server.statistics.failed == 3 && server.statistics.open == 0 })
        }
    }

    /// The time is absolute: a byte now and then does not buy more. It does not begin before the client speaks TLS
    /// where it need not.
    @Test(arguments: backends) func aHandshakeHasItsTime(_ backend: LoopBackend) throws {
        try withSecureServer(backend, handshakeMillis: 100) { server in
            let silent = try TestSocket(port: server.port)
            #expect(try silent.receiveAll().isEmpty)
            let slow = try TestSocket(port: server.port)
            let hello = try SecureDialer().takeOutput()
            let ended = Locked(false)
            for byte in hello {
                if server.statistics.late == 2 { break }
                do { try slow.send([byte]) } catch { ended.withLock { $0 = true } }
                _ = poll(nil, 0, 2)
            }
            #expect(eventually { server.statistics.late == 2 && server.statistics.open == 0 })
        }
        try withSecureServer(backend, .optional, handshakeMillis: 100) { server in
            let (silent, begun) = (try TestSocket(port: server.port), try TestSocket(port: server.port))
            try begun.send([0x16, 3])
            #expect(try begun.receiveAll().isEmpty)
            try silent.send("later")
            #expect(try silent.receiveText(5) == "later")
            #expect(server.statistics.late == 1)
        }
    }

    /// Answers with what it has once the client says that it is done.
    final class LateHandler: ConnectionHandler {
        private var bytes: [UInt8] = []
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) { self.bytes += bytes }
        override func ended(_ connection: Connection) {
            bytes.withUnsafeBytes { connection.output.pointee.append($0) }
            connection.close(afterFlush: true)
        }
    }

    @Test(arguments: backends, [12, 13] as [Int32])
    func whatCameBeforeTheEndIsAnswered(_ backend: LoopBackend, version: Int32) throws {
        try withSecureServer(backend, acceptor: ClosureAcceptor { _ in LateHandler() }) { server in
            let client = try SecureSocket(port: server.port, version: version)
            try Array("last words".utf8).withUnsafeBytes { try client.dialer.seal($0) }
            client.dialer.end()
            try client.flush()
            #expect(try client.receiveAll() == "last words")
            #expect(client.dialer.hasEnded, "it says that no more follows")
            // A mere end of the stream is one, too.
            let other = try SecureSocket(port: server.port, version: version)
            try other.send("cut")
            other.socket.endSending()
            #expect(try other.receiveAll() == "cut")
            #expect(server.statistics.failed == 0)
        }
    }

    @Test(arguments: backends) func keysMayChangeButNotAllTheTime(_ backend: LoopBackend) throws {
        try withSecureServer(backend) { server in
            let client = try SecureSocket(port: server.port, version: 13)
            for i in 0..<SecureLayer.keyChangesMax {
                try client.dialer.changeKeys()
                try client.send("\(i % 10)")
                #expect(try client.receiveText(1) == "\(i % 10)")
            }
            #expect(server.statistics.failed == 0)
            let other = try SecureSocket(port: server.port, version: 13)
            #expect(throws: (any Error).self) {
                for _ in 0..<(2 * SecureLayer.keyChangesMax + 2) {
                    try other.dialer.changeKeys()
                    try other.send("x")
                    _ = try other.receive(1)
                }
            }
            #expect(eventually { server.statistics.failed == 1 })
        }
    }

    /// Takes one piece at a time: reading is off until a timer turns it on again.
    final class PausingHandler: ConnectionHandler {
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            connection.output.pointee.append(bytes)
            connection.pauseReading()
            connection.loop.schedule(afterMillis: 1) { [weak connection] in connection?.resumeReading() }
        }
    }

    @Test(arguments: backends) func pausesLoseAndReorderNothing(_ backend: LoopBackend) throws {
        try withSecureServer(backend, acceptor: ClosureAcceptor { _ in PausingHandler() }) { server in
            let client = try SecureSocket(port: server.port)
            let bytes = (0..<400_000).map { UInt8(truncatingIfNeeded: $0 / 3) }
            for at in stride(from: 0, to: bytes.count, by: 10_000) { try client.send(Array(bytes[at..<at + 10_000])) }
            client.dialer.end()
            try client.flush()
            #expect(try client.receive(bytes.count) == bytes)
        }
    }

    /// A client does not wait for the server's last step: what it sends meanwhile is more than is kept of a handshake.
    @Test(arguments: backends) func aLongRequestMayFollowTheLastFlightAtOnce(_ backend: LoopBackend) throws {
        try withSecureServer(backend) { server in
            let client = try SecureSocket(port: server.port, version: 13, flushes: false)
            let bytes = (0..<8 * SecureLayer.inputBytesMax).map { UInt8(truncatingIfNeeded: $0 / 3) }
            try bytes.withUnsafeBytes { try client.dialer.seal($0) }
            let goesOn = DispatchSemaphore(value: 0)
            #expect(server.loop.perform { goesOn.wait() })
            client.flushAtOnce()
            goesOn.signal()
            try client.flush()
            #expect(try client.receive(bytes.count) == bytes)
            #expect(server.statistics.done == 1 && server.statistics.failed == 0)
        }
    }

    // MARK: Refusals

    final class FullAcceptor: Acceptor {
        override func accepted(_ connection: Connection) -> ConnectionHandler? {
            connection.output.pointee.append("-ERR full\r\n" as StaticString)
            return nil
        }
    }

    @Test(arguments: backends) func aFullServerSaysSoInTheClientsOwnWay(_ backend: LoopBackend) throws {
        try withSecureServer(backend, .optional, acceptor: FullAcceptor()) { server in
            #expect(try SecureSocket(port: server.port).receiveAll() == "-ERR full\r\n")
            let plain = try TestSocket(port: server.port)
            try plain.send("PING\r\n")
            #expect(String(decoding: try plain.receiveAll(), as: UTF8.self) == "-ERR full\r\n")
            let silent = try TestSocket(port: server.port)
            #expect(String(decoding: try silent.receiveAll(), as: UTF8.self) == "-ERR full\r\n")
        }
        try withSecureServer(backend, acceptor: FullAcceptor()) { server in
            let first = try SecureSocket(port: server.port).receiveAll()
            #expect(first == "-ERR full\r\n")
            // A few a second; who comes beyond is closed.
            let outcomes = (0..<30).map { _ in (try? SecureSocket(port: server.port).receiveAll()) ?? "closed" }
            #expect(outcomes.contains("closed") && outcomes.contains("-ERR full\r\n"), "\(outcomes)")
        }
    }

    // MARK: Certificates

    /// Tells the client who it is.
    final class NamingHandler: ConnectionHandler {
        override func secured(_ connection: Connection) {
            let names = [false, true].map { connection.peerCertificateName(isURI: $0) ?? "nobody" }
            connection.output.pointee.append(names.joined(separator: " ") + "\n")
            connection.close(afterFlush: true)
        }
    }

    @Test(arguments: backends, SecureFiles.Asks.allCases)
    func clientsShowCertificatesAsTheyAreAsked(_ backend: LoopBackend, asks: SecureFiles.Asks) throws {
        let (ours, others) = (try TestCertificates(), try TestCertificates())
        let acceptor = ClosureAcceptor { _ in NamingHandler() }
        try withSecureServer(backend, files: ours.files("server", asks: asks), acceptor: acceptor) { server in
            let port = server.port
            let named = try SecureSocket(port: port, try ours.files("alice")).receiveAll()
            #expect(named == (asks == .no ? "nobody nobody\n" : "alice kvd://test/alice\n"))
            let unnamed = try? SecureSocket(port: port).receiveAll()
            #expect(unnamed == (asks == .yes ? nil : "nobody nobody\n"))
            let foreign = try? SecureSocket(port: port, try others.files("alice")).receiveAll()
            #expect(foreign == (asks == .no ? "nobody nobody\n" : nil), "of another authority")
            #expect(eventually { server.statistics.failed == (asks == .no ? 0 : asks == .yes ? 2 : 1) })
        }
    }

    @Test(arguments: backends) func anotherCertificateIsForNewConnections(_ backend: LoopBackend) throws {
        let (before, after) = (try TestCertificates(), try TestCertificates())
        try withSecureServer(backend, files: before.files("server")) { server in
            let client = try SecureSocket(port: server.port, try before.trusting)
            #expect(throws: (any Error).self) { try SecureSocket(port: server.port, try after.trusting) }
            let next = UncheckedContext(try SecureContext.make(after.files("server"), count: 1)[0])
            let secure = UncheckedPort(server.secure)
            server.loop.perform { secure.value.replace(next.value) }
            let isNew = eventually { (try? SecureSocket(port: server.port, try after.trusting)) != nil }
            #expect(isNew)
            #expect(throws: (any Error).self) { try SecureSocket(port: server.port, try before.trusting) }
            try client.send("still here")
            #expect(try client.receiveText(10) == "still here")
        }
    }

    private struct UncheckedPort: @unchecked Sendable {
        let value: SecurePort
        init(_ value: SecurePort) { self.value = value }
    }
    private struct UncheckedContext: @unchecked Sendable {
        let value: SecureContext
        init(_ value: SecureContext) { self.value = value }
    }

    @Test func filesThatCannotBeUsedAreNamed() throws {
        let (one, other, old) = (try TestCertificates(), try TestCertificates(), try TestCertificates(days: -1))
        func fault(_ change: (inout SecureFiles) throws -> Void) throws -> String {
            var files = try one.files("server", asks: .yes)
            try change(&files)
            do {
                _ = try SecureContext.make(files, count: 1)
                return "none"
            } catch { return "\(error.file.map { "\($0)" } ?? "-") \(error)" }
        }
        #expect(try fault { _ in } == "none")
        #expect(try fault { $0.certificate = [] } == "certificate is no certificate")
        #expect(try fault { $0.certificate = $0.key } == "certificate is no certificate")
        #expect(try fault { $0.certificate = try old.files("server").certificate } == "certificate has expired")
        #expect(try fault { $0.key = try other.files("server").key } == "key is not the key of the certificate")
        #expect(try fault { $0.key = $0.certificate } == "key is no key, or one that needs a password")
        #expect(try fault { $0.authority = $0.key } == "authority has no certificate")
        #expect(
            try fault { $0.certificate += Array("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".utf8) }
                == "certificate has something else behind its first certificate")
    }
}
