// How a client protects what it says to servers. A value, any thread.

/// TLS 1.2 and 1.3 with each server, whose certificate has to be for the address it is reached at.
///
/// A build without the package's trait `TLS` has none of it, and every call fails and says so.
///
/// Files are PEM, and are read once, at the first connection. While one cannot be used every call fails with its name:
/// ``check()`` says so at once.
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

    /// Reads the files and throws ``KVError/invalidArgument(_:)`` with the name of one that cannot be used, and why.
    ///
    /// Blocks for as long as that takes, some milliseconds. Any thread that may block.
    public func check() throws(KVError) { try SecureChannels.check(self) }
}
