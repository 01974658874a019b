// Puts TLS between a channel and its handlers. Any thread.

import NIOCore
import NIOSSL
import Synchronization

/// A file that TLS cannot use.
private struct TLSFileError: Error, CustomStringConvertible { let description: String }

final class SecureChannels: Sendable {
    private let tls: KVTLS
    /// Made once: reading what the system trusts takes milliseconds.
    private let made = Mutex<Result<NIOSSLContext, any Error>?>(nil)

    init(_ tls: KVTLS) { self.tls = tls }

    /// First of a channel's handlers. Blocks the first time, for the files.
    func handler(for address: KVAddress) throws -> NIOSSLClientHandler {
        let context = try made.withLock { made in
            let result = made ?? Result { try makeContext() }
            made = result
            return result
        }.get()
        // An address is looked for in the certificate as the channel's own; a name is told to the server too.
        let isAddress = (try? SocketAddress(ipAddress: address.host, port: address.port)) != nil
        return try NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : address.host)
    }

    private func makeContext() throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        if let file = tls.authorityFile {
            configuration.trustRoots = .certificates(try used(file) { try NIOSSLCertificate.fromPEMFile($0) })
        }
        if let file = tls.certificateFile {
            configuration.certificateChain =
                try used(file) { try NIOSSLCertificate.fromPEMFile($0) }.map { .certificate($0) }
        }
        if let file = tls.keyFile {
            configuration.privateKey = .privateKey(try used(file) { try NIOSSLPrivateKey(file: $0, format: .pem) })
        }
        return try NIOSSLContext(configuration: configuration)
    }

    private func used<Value>(_ file: String, _ body: (String) throws -> Value) throws -> Value {
        do { return try body(file) } catch { throw TLSFileError(description: "TLS cannot use the file \(file)") }
    }
}
