// Puts TLS between a channel and its handlers, and says in words why it fails. Any thread.

import NIOCore
import Synchronization

#if TLS
    import NIOSSL

    final class SecureChannels: Sendable {
        private let tls: KVTLS
        /// Made once: reading what the system trusts takes milliseconds.
        private let made = Mutex<Result<NIOSSLContext, any Error>?>(nil)

        init(_ tls: KVTLS) { self.tls = tls }

        /// First of a channel's handlers. Blocks the first time, for the files.
        func handler(for address: KVAddress) throws -> NIOSSLClientHandler {
            let context = try made.withLock { made in
                let result = made ?? Result { try SecureChannels.context(tls) }
                made = result
                return result
            }.get()
            // An address is looked for in the certificate as the channel's own; a name is told to the server too.
            let isAddress = (try? SocketAddress(ipAddress: address.host, port: address.port)) != nil
            return try NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : address.host)
        }

        /// Reads the files, and throws what is wrong with one.
        static func check(_ tls: KVTLS) throws(KVError) { _ = try context(tls) }

        private static func context(_ tls: KVTLS) throws(KVError) -> NIOSSLContext {
            guard (tls.certificateFile == nil) == (tls.keyFile == nil) else {
                throw .invalidArgument("TLS needs a certificate and its key, both or neither")
            }
            var configuration = TLSConfiguration.makeClientConfiguration()
            configuration.minimumTLSVersion = .tlsv12
            if let file = tls.authorityFile {
                configuration.trustRoots = .certificates(try certificates(file))
            }
            guard let file = tls.certificateFile, let keyFile = tls.keyFile else { return try made(configuration, nil) }
            configuration.certificateChain = try certificates(file).map { .certificate($0) }
            let key = try used(keyFile, "no key, or one that needs a password") {
                try NIOSSLPrivateKey(file: $0, format: .pem) { (_: NIOSSLPassphraseSetter<[UInt8]>) in
                    throw NIOSSLError.failedToLoadPrivateKey
                }
            }
            configuration.privateKey = .privateKey(key)
            return try made(configuration, keyFile)
        }

        private static func made(_ configuration: TLSConfiguration, _ keyFile: String?) throws(KVError) -> NIOSSLContext
        {
            do { return try NIOSSLContext(configuration: configuration) } catch {
                if let keyFile { throw .invalidArgument("TLS cannot use \(keyFile): not the key of the certificate") }
                throw .invalidArgument("TLS cannot be used: \(error)")
            }
        }

        private static func certificates(_ file: String) throws(KVError) -> [NIOSSLCertificate] {
            let found = try used(file, "no certificate") { try NIOSSLCertificate.fromPEMFile($0) }
            if found.isEmpty { throw .invalidArgument("TLS cannot use \(file): no certificate") }
            return found
        }

        private static func used<Value>(
            _ file: String, _ what: String, _ body: (String) throws -> Value
        ) throws(KVError) -> Value {
            if let fault = readingFault(file) { throw .invalidArgument("TLS cannot use \(file): \(fault)") }
            do { return try body(file) } catch { throw .invalidArgument("TLS cannot use \(file): \(what)") }
        }
    }

    /// Why TLS failed, in words a user can act on; nil if it is no error of TLS.
    func secureFailureText(_ error: any Error) -> String? {
        let detail: String
        switch error {
        case let error as KVError: return "\(error)"
        case NIOSSLError.uncleanShutdown: return "closed by the server"
        case NIOSSLError.handshakeFailed(let why): detail = "\(why)"
        case is NIOSSLExtraError: return "TLS failed: the server's certificate is for other names"
        case is NIOSSLError, is BoringSSLError: detail = "\(error)"
        default: return nil
        }
        // The library's words end in its own place: …:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED at FILE:LINE
        guard let mark = detail.firstRange(of: ":OPENSSL_internal:") else { return "TLS failed: \(detail)" }
        let reason = detail[mark.upperBound...].prefix { $0 == "_" || $0.isASCII && ($0.isLetter || $0.isNumber) }
        switch reason {
        case "CERTIFICATE_VERIFY_FAILED":
            return "TLS failed: the server's certificate is of nobody who is trusted, or out of date"
        case "WRONG_VERSION_NUMBER": return "TLS failed: the server speaks something else"
        default: return "TLS failed: \(reason.lowercased().replacing("_", with: " "))"
        }
    }
#else
    /// Of a build without the package's trait TLS: every use of it fails.
    final class SecureChannels: Sendable {
        private static let fault = KVError.invalidArgument("this program is built without TLS: kvd's trait TLS is off")

        init(_ tls: KVTLS) {}

        func handler(for address: KVAddress) throws(KVError) -> any ChannelHandler & Sendable {
            throw SecureChannels.fault
        }

        static func check(_ tls: KVTLS) throws(KVError) { throw fault }
    }

    func secureFailureText(_ error: any Error) -> String? { (error as? KVError).map { "\($0)" } }
#endif
