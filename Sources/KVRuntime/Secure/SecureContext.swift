// What TLS connections with clients are made from: a certificate, its key, and who signs those of clients. Any thread.

import CTLS

/// The files a server proves itself with, as read.
package struct SecureFiles: Sendable {
    /// Whether clients show a certificate that the authority signed.
    package enum Asks: String, Sendable, CaseIterable {
        case no, optional, yes

        var raw: Int32 {
            switch self {
            case .no: Int32(CS_FRONT_ASKS_NOT)
            case .optional: Int32(CS_FRONT_ASKS)
            case .yes: Int32(CS_FRONT_DEMANDS)
            }
        }
    }

    /// PEM: the certificate, then who signed it.
    package var certificate: [UInt8]
    package var key: [UInt8]
    package var authority: [UInt8]
    package var asks: Asks

    package init(certificate: [UInt8], key: [UInt8], authority: [UInt8] = [], asks: Asks = .no) {
        (self.certificate, self.key, self.authority, self.asks) = (certificate, key, authority, asks)
    }
}

/// Which file cannot be used, and why, in words that follow its name.
package struct SecureFault: Error, CustomStringConvertible {
    package enum File: Sendable { case certificate, key, authority }
    package var file: File?
    package var description: String

    package init(file: File?, description: String) { (self.file, self.description) = (file, description) }
}

/// The old one lives on with its connections when it is replaced.
package final class SecureContext: @unchecked Sendable {
    let raw: OpaquePointer

    /// One for each of `count` loops, so that they share no counts; a client's ticket is good for all of them, and for
    /// none made by another call.
    package static func make(_ files: SecureFiles, count: Int) throws(SecureFault) -> [SecureContext] {
        guard let tickets = SecureHash.random(Int(CS_FRONT_TICKET_BYTES)) else {
            throw SecureFault(file: nil, description: "the system has no random bytes")
        }
        var made: [SecureContext] = []
        for _ in 0..<count { made.append(try SecureContext(files, tickets)) }
        return made
    }

    private init(_ files: SecureFiles, _ tickets: [UInt8]) throws(SecureFault) {
        raw = try SecureContext.withRaw(files, tickets: tickets) { cs_front_context_new(&$0, &$1, $2) }
    }

    /// What `make` makes of the files, given as C has them, with places for the number of a file at fault and for why.
    static func withRaw(
        _ files: SecureFiles, tickets: [UInt8],
        _ make: (inout cs_front_files, inout Int32, UnsafeMutablePointer<CChar>) -> OpaquePointer?
    ) throws(SecureFault) -> OpaquePointer {
        var (which, error) = (Int32(0), [CChar](repeating: 0, count: Int(CS_FRONT_ERROR_BYTES)))
        let made = files.certificate.withUnsafeBytes { certificate in
            files.key.withUnsafeBytes { key in
                files.authority.withUnsafeBytes { authority in
                    tickets.withUnsafeBytes { tickets in
                        var raw = cs_front_files(
                            certificate: certificate.baseAddress, certificate_count: certificate.count,
                            key: key.baseAddress, key_count: key.count, authority: authority.baseAddress,
                            authority_count: authority.count, asks: files.asks.raw, ticket_keys: tickets.baseAddress)
                        return error.withUnsafeMutableBufferPointer { make(&raw, &which, $0.baseAddress!) }
                    }
                }
            }
        }
        guard let made else {
            let text = error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            let file: SecureFault.File? =
                switch which {
                case Int32(CS_FRONT_CERTIFICATE): .certificate
                case Int32(CS_FRONT_KEY): .key
                case Int32(CS_FRONT_AUTHORITY): .authority
                default: nil
                }
            throw SecureFault(file: file, description: String(decoding: text, as: UTF8.self))
        }
        return made
    }

    deinit { cs_front_context_release(raw) }

    /// Seconds since 1970 at which the certificate ends.
    package var endsAtSeconds: Int64 { cs_front_context_ends(raw) }
    /// Of an RSA key; 0 for any other kind.
    package var keyBitsOfRSA: Int { Int(cs_front_context_rsa_bits(raw)) }
}
