// How a client protects what it says to servers. A value, any thread.

/// TLS 1.2 and 1.3 with each server, whose certificate has to be for the address it is reached at.
///
/// Files are PEM, and are read at the first connection. One that cannot be used fails every call, with its name.
public struct KVTLS: Sendable, Equatable {
    /// Who signs the servers' certificates; nil: those whom the system trusts.
    public var authorityFile: String?
    /// What this client shows to servers that ask; nil: nothing.
    public var certificateFile: String?
    /// The private key of the certificate.
    public var keyFile: String?

    public init(authorityFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil) {
        (self.authorityFile, self.certificateFile, self.keyFile) = (authorityFile, certificateFile, keyFile)
    }
}
