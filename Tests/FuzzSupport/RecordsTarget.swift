// The fuzz target `records`: requests and replies in TLS records of any size, cut anywhere, and damaged. In process.

import Foundation
import KVBase
import KVRuntime
package import KVTestSupport
import RESP

extension FuzzTarget {
    /// However a request is put into records, and wherever these are cut, the replies are the same; what was damaged on
    /// the way is never taken for anything that was said.
    package static let records = FuzzTarget(
        name: "records", about: "requests and replies in TLS records of any size, cut anywhere, and damaged ones"
    ) { random, _ in RecordLine.shared.check(&random) }

    /// Loses one byte of what was decrypted in a thousand inputs: the harness must notice.
    package static let recordsCanary = FuzzTarget(
        name: "records-canary", about: "as records, with a planted mismatch; must fail"
    ) { random, _ in RecordLine.shared.check(&random, loses: random.below(100) == 0) }
}

private struct SealingFault: Error, CustomStringConvertible { let description: String }

/// A client and a server that hear each other by TLS, and a session that hears the same requests without. A line serves
/// many inputs, since a handshake takes longer than everything else. One thread.
private final class RecordLine: @unchecked Sendable {
    static let shared = RecordLine()

    private static let inputsMax = 300
    private static let requestBytesMax = 40_000

    private let port: SecurePort
    private let arena = SecureArena()
    private var client: SecureDialer?
    private var server: SecureLayer?
    private var version: Int32 = 13
    private var inputs = 0
    private var now: Nanos = 0
    private var open = LocalSession(seed: 1)
    private var sealed = LocalSession(seed: 1)

    private init() {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kv-fuzz-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        do {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            for (role, name) in [(LinkCertificate.Role.authority, "ca"), (.server, "server")] {
                try LinkCertificate(role: role, cluster: "fuzz", name: name, days: 30).make(in: folder.path)
            }
            func bytes(_ name: String) throws -> [UInt8] {
                Array(try Data(contentsOf: folder.appendingPathComponent(name)))
            }
            let files = SecureFiles(certificate: try bytes("server.pem"), key: try bytes("server.key"))
            // It never runs: only the steps of single connections are of interest.
            port = SecurePort(
                loop: try Loop(backend: .epoll), mode: .required, context: try SecureContext.make(files, count: 1)[0],
                statistics: SecureStatistics())
        } catch { fatalError("the fuzzer has no certificate: \(error)") }
        // The leak checker cannot follow a store's pointers.
        atexit { RecordLine.shared.closeSessions() }
    }

    func check(_ random: inout PRNG, loses: Bool = false) -> String? {
        // A second an input: changes of keys are never too many.
        now += 1_000_000_000
        inputs += 1
        if client == nil || inputs > Self.inputsMax {
            inputs = 0
            if let problem = shakeHands(&random) { return problem }
        }
        guard let client, let server else { return nil }
        let requests = requests(&random)
        let expected = open.reply(to: requests)
        do {
            var bytes = try records(&random, requests, client)
            let isDamaged = random.below(20) == 0
            if isDamaged { Mutation.apply(&random, &bytes) }
            let heard = hear(&random, bytes, server)
            if isDamaged { return checkDamaged(heard, requests) }
            var said = heard.said
            if loses, !said.isEmpty { said.removeLast() }
            if said != requests || heard.outcome != .all {
                return "said \(escapedText(requests))\nheard \(escapedText(said)) (\(heard.outcome))"
            }
            if heard.replies != expected {
                return "requests \(escapedText(requests))\nin the open \(escapedText(expected))\n"
                    + "in records \(escapedText(heard.replies))"
            }
            let back = try answered(&random, expected, server, client)
            return back == expected ? nil : "answered \(escapedText(expected))\nreceived \(escapedText(back))"
        } catch {
            forget()
            return "TLS failed without damage: \(error)"
        }
    }

    // MARK: Handshake

    private func shakeHands(_ random: inout PRNG) -> String? {
        forget()
        version = random.below(2) == 0 ? 12 : 13
        let isDamaged = random.below(4) == 0
        do {
            let client = try SecureDialer(version: version)
            let server = SecureLayer(port)
            guard server.start(port.context) else { return "memory is short" }
            for _ in 0..<10 where !client.isDone || !server.isDone {
                var flight = client.takeOutput()
                if isDamaged, random.below(2) == 0 { Mutation.apply(&random, &flight) }
                for piece in pieces(&random, flight) where !server.isDone && !server.hasFailed {
                    piece.withUnsafeBytes { server.collect($0) }
                    if random.below(2) == 0 { _ = server.shakeHands() }
                }
                if !server.isDone, !server.hasFailed { _ = server.shakeHands() }
                let answer = Array(server.held.bytes)
                server.held.count = 0
                for piece in pieces(&random, answer) { try piece.withUnsafeBytes { try client.receive($0) { _ in } } }
            }
            if isDamaged { return nil }
            guard client.isDone, server.isDone else { return "no handshake of TLS 1.\(version - 10)" }
            // What came with the last flight: nothing.
            _ = server.open(nil, in: arena, now: now) { _ in }
            arena.reset()
            (self.client, self.server) = (client, server)
            return nil
        } catch {
            forget()
            return isDamaged ? nil : "no handshake: \(error)"
        }
    }

    private func closeSessions() { for session in [open, sealed] { session.close() } }

    private func forget() {
        (client, server) = (nil, nil)
        closeSessions()
        (open, sealed) = (LocalSession(seed: 1), LocalSession(seed: 1))
    }

    // MARK: Requests

    private func requests(_ random: inout PRNG) -> [UInt8] {
        var request = OutputBuffer()
        defer { request.deallocate() }
        for _ in 0..<1 + random.below(4) {
            let key = Bytes("key:\(random.below(10))")
            switch random.below(6) {
            case 0: request.request(["PING"])
            case 1: request.request(["SET", key, value(&random)])
            case 2: request.request(["ECHO", value(&random)])
            case 3: request.append("PING inline\r\n" as StaticString)
            case 4: request.request(["NOSUCH", key])
            default: request.request(["GET", key])
            }
        }
        return Array(request.bytes)
    }

    private func value(_ random: inout PRNG) -> Bytes {
        let count = random.below(40) == 0 ? random.below(Self.requestBytesMax) : random.below(60)
        return Bytes([UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: count))
    }

    /// In records whose ends are anywhere, with changes of keys between some of them.
    private func records(_ random: inout PRNG, _ plain: [UInt8], _ client: SecureDialer) throws -> [UInt8] {
        for piece in pieces(&random, plain) {
            if version == 13, random.below(50) == 0 { try client.changeKeys() }
            try piece.withUnsafeBytes { try client.seal($0) }
        }
        return client.takeOutput()
    }

    private func pieces(_ random: inout PRNG, _ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var from = 0
        return (Cuts.random(&random, bytes.count) + [bytes.count]).map { end in
            defer { from = end }
            return bytes[from..<end]
        }.filter { !$0.isEmpty }
    }

    // MARK: Both sides

    private struct Heard {
        var said: [UInt8] = []
        var replies: [UInt8] = []
        var outcome = SecureLayer.Opened.all
    }

    /// What the server's session says to what comes out of the records, piece by piece.
    private func hear(_ random: inout PRNG, _ bytes: [UInt8], _ server: SecureLayer) -> Heard {
        var heard = Heard()
        for piece in pieces(&random, bytes) {
            // Of its own length, so that a look behind its end is noticed.
            let exact = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
            defer { exact.deallocate() }
            exact.copyBytes(from: piece)
            heard.outcome = server.open(UnsafeRawBufferPointer(exact), in: arena, now: now) { plain in
                var turns = 0
                heard.said += plain
                heard.replies += self.sealed.reply(to: plain, turns: &turns)
            }
            arena.reset()
            if heard.outcome != .all { break }
        }
        return heard
    }

    /// Only a beginning of what was said may have been understood.
    private func checkDamaged(_ heard: Heard, _ requests: [UInt8]) -> String? {
        forget()
        if requests.starts(with: heard.said) { return nil }
        return "said \(escapedText(requests))\nheard, of what was damaged, \(escapedText(heard.said))"
    }

    private func answered(
        _ random: inout PRNG, _ replies: [UInt8], _ server: SecureLayer, _ client: SecureDialer
    ) throws -> [UInt8] {
        var (output, received) = (OutputBuffer(), [UInt8]())
        defer { output.deallocate() }
        output.append(server.held.bytes)
        server.held.count = 0
        for piece in pieces(&random, replies) {
            let isSealed = piece.withUnsafeBytes { server.seal($0.baseAddress!, $0.count, into: &output) }
            guard isSealed else { throw SealingFault(description: server.reason) }
        }
        for piece in pieces(&random, Array(output.bytes)) {
            try piece.withUnsafeBytes { try client.receive($0) { received += $0 } }
        }
        // An answer to the server's change of keys goes with the next requests.
        return received
    }
}
