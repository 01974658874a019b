// What the ends of a link prove to each other before either believes a word. Values; any thread.

import CTLS
import KVBase

/// How systems of a cluster know each other.
public enum LinkTrust: Sendable, Equatable {
    /// By nothing: whoever reaches the port is believed.
    case network
    /// By one or two keys of 32 bytes. The first is used to dial, both are accepted, so that a key can be replaced
    /// without a lost link: TLS 1.3 with a pre-shared key and a fresh Diffie-Hellman exchange.
    case keys([[UInt8]])
    /// By certificates of one authority, for `kvd://CLUSTER/NAME` in the URI field; PEM files.
    case certificates(certificate: String, key: String, authority: String)
}

extension LinkTrust {
    /// By the key in a text, or by two of them: 64 hexadecimal digits a line, comments behind `#`. The same text on
    /// every system. Throws if it is something else. Any thread; O(text).
    public init(keys text: String) throws(LinkTrustError) { self = .keys(try ClusterKey.parse(text)) }

    /// Seconds since 1970 at which this side's certificate ends; nil where there is none, or it cannot be read. Reads
    /// files on the calling thread.
    package func certificateEnd(cluster: String) -> Int64? {
        guard case .certificates = self else { return nil }
        return (try? LinkContext(self, cluster: cluster, incarnation: 1))?.endsAtSeconds
    }
}

/// One line that says what cannot be used.
public struct LinkTrustError: Error, CustomStringConvertible {
    public let description: String
    package init(description: String) { self.description = description }
}

/// What new connections are made from. Any thread; the old one lives on with its connections when it is replaced.
final class LinkContext: @unchecked Sendable {
    fileprivate let raw: OpaquePointer

    /// Reads the files, if there are any. `incarnation` is this system's.
    init(_ trust: LinkTrust, cluster: String, incarnation: UInt64) throws(LinkTrustError) {
        switch trust {
        case .network: throw LinkTrustError(description: "links are not protected")
        case .keys(let keys):
            guard keys.allSatisfy({ $0.count == Int(CS_TLS_KEY_BYTES) }),
                let made = cs_tls_context_keys(cluster, incarnation, keys.flatMap { $0 }, Int32(keys.count))
            else { throw LinkTrustError(description: "one or two keys of \(CS_TLS_KEY_BYTES) bytes are needed") }
            raw = made
        case .certificates(let certificate, let key, let authority):
            var error = [CChar](repeating: 0, count: Int(CS_TLS_ERROR_BYTES))
            guard let made = cs_tls_context_certificates(cluster, certificate, key, authority, &error) else {
                let text = error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
                throw LinkTrustError(description: String(decoding: text, as: UTF8.self))
            }
            raw = made
        }
    }

    deinit { cs_tls_context_release(raw) }

    /// Seconds since 1970 at which this side's certificate ends; nil with keys.
    var endsAtSeconds: Int64? {
        let ends = cs_tls_context_ends(raw)
        return ends == 0 ? nil : ends
    }
}

/// The encryption of one connection: bytes in, bytes out, steps of a turn. Its loop only.
final class LinkCipher {
    enum Handshake { case underWay, done, failed }

    /// Nil once it was released.
    private var raw: OpaquePointer?
    /// What is to be sealed next.
    private var plain = OutputBuffer()
    private(set) var isDone = false
    private var lastReason = ""
    /// The peer said that no more follows: a mere end of the connection may be somebody's cut.
    private(set) var hasEnded = false
    private var saidEnd = false

    /// Nil if memory is short.
    init?(_ context: LinkContext, isDialer: Bool) {
        guard let made = cs_tls_new(context.raw, isDialer ? 1 : 0) else { return nil }
        raw = made
    }

    deinit {
        cs_tls_free(raw)
        plain.deallocate()
    }

    /// Gives back what a handshake holds, some 45 KiB. Nothing can be said or heard by it any more.
    func release() {
        lastReason = reason
        cs_tls_free(raw)
        raw = nil
    }

    /// A handshake that has begun and not ended.
    var isUnderWay: Bool { raw != nil && !isDone }

    /// Goes on as far as it can; what is to be sent is appended. Of one that failed nothing is kept but its reason.
    func shakeHands(_ output: inout OutputBuffer) -> Handshake {
        guard let raw else { return .failed }
        let result = cs_tls_handshake(raw)
        drain(into: &output)
        isDone = result == 1
        if result < 0 { release() }
        return result == 1 ? .done : result == 0 ? .underWay : .failed
    }

    /// Takes what came; false if memory is short.
    func feed(_ bytes: UnsafeRawBufferPointer) -> Bool {
        raw.map { cs_tls_feed($0, bytes.baseAddress, bytes.count) == 0 } ?? false
    }

    /// Decrypts what was fed, a record at a time.
    func open(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
        try withUnsafeTemporaryAllocation(byteCount: LinkCipher.recordBytes, alignment: 8) { record in
            while let raw {
                let count = cs_tls_read(raw, record.baseAddress, record.count)
                switch count {
                case 1...: try body(UnsafeRawBufferPointer(rebasing: record[..<count]))
                case 0: return
                case -2:
                    hasEnded = true
                    return
                default: throw LinkTrustError(description: reason)
                }
            }
        }
    }

    /// Encrypts what `body` writes and appends it.
    func seal(into output: inout OutputBuffer, _ body: (inout OutputBuffer) -> Void) throws(LinkTrustError) {
        guard let raw else { throw LinkTrustError(description: reason) }
        plain.count = 0
        body(&plain)
        let isSealed = cs_tls_write(raw, plain.base, plain.count) == 0
        plain.count = 0
        plain.shrink(to: LinkCipher.plainBytesKept)
        drain(into: &output)
        if !isSealed { throw LinkTrustError(description: reason) }
    }

    /// Appends that no more follows, once.
    func end(into output: inout OutputBuffer) {
        guard let raw, !saidEnd else { return }
        saidEnd = true
        cs_tls_end(raw)
        drain(into: &output)
    }

    /// At the side that was dialled, with keys: whom the dialler proved to be; else 0.
    var peer: UInt64 { raw.map { cs_tls_peer($0) } ?? 0 }
    /// With certificates: the peer's name; else empty.
    var peerName: String { raw.map { String(cString: cs_tls_peer_name($0)) } ?? "" }
    /// Why it failed.
    var reason: String { raw.map { String(cString: cs_tls_error($0)) } ?? lastReason }

    private static let recordBytes = 16 * 1024
    private static let plainBytesKept = 256 * 1024

    private func drain(into output: inout OutputBuffer) {
        guard let raw else { return }
        let waiting = cs_tls_pending(raw)
        guard waiting > 0 else { return }
        output.reserve(waiting)
        output.count += cs_tls_take(raw, output.base + output.count, waiting)
    }
}

/// Keys of a cluster as text: 64 hexadecimal digits a line, `#` comments. One or two.
package enum ClusterKey {
    package static let bytes = Int(CS_TLS_KEY_BYTES)
    package static let most = Int(CS_TLS_KEYS_MAX)

    /// A fresh one; nil if the system has no random bytes.
    package static func make() -> String? {
        SecureHash.random(bytes).map { SecureHash.hexadecimal($0) }
    }

    /// The keys of a file's text.
    package static func parse(_ text: String) throws(LinkTrustError) -> [[UInt8]] {
        var keys: [[UInt8]] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let content = line.prefix { $0 != "#" }.filter { !$0.isWhitespace }
            if content.isEmpty { continue }
            guard let key = SecureHash.bytes(content.lowercased()), key.count == bytes else {
                throw LinkTrustError(
                    description: "line \(index + 1) is no key: 64 hexadecimal digits, as `kvd secret` prints them")
            }
            keys.append(key)
        }
        guard (1...most).contains(keys.count) else {
            throw LinkTrustError(description: "\(keys.count) keys where one or two are needed")
        }
        return keys
    }
}
