// How clients may speak to this server, as the settings say it: with TLS or without, and what certificates tell. Main
// thread, and the one that takes SIGHUP.

import KVRuntime

package struct TLSSettings: Sendable {
    /// What of a client's certificate is its user's name.
    enum UserName: String, Sendable, CaseIterable { case commonName = "CN", uri = "URI" }

    /// As given; else what the files say.
    var givenMode: SecurePort.Mode?
    var certificate: String?
    var key: String?
    var authority: String?
    var givenAsks: SecureFiles.Asks?
    var userName: UserName?

    /// A certificate is there to be used.
    var mode: SecurePort.Mode { givenMode ?? (certificate == nil ? .off : .required) }
    /// Whoever names an authority wants to know whom it signs.
    var asks: SecureFiles.Asks { givenAsks ?? (authority == nil ? .no : .optional) }
    var isOn: Bool { mode != .off }
    /// A client without TLS shows no certificate.
    var refusesPlain: Bool { mode == .required || asks == .yes }

    /// What only the whole can tell.
    func check() throws(ConfigError) {
        guard isOn || givenMode == nil else { return }
        if isOn || key != nil || authority != nil, certificate == nil || key == nil {
            throw ConfigError("TLS for clients needs --tls-cert-file and --tls-key-file, both")
        }
        if asks != .no, authority == nil {
            throw ConfigError(
                "--tls-auth-clients \(asks.rawValue) needs --tls-ca-file: who signs clients' certificates")
        }
        if userName != nil, asks == .no {
            throw ConfigError("--tls-auth-clients-user needs --tls-auth-clients optional or yes, and --tls-ca-file")
        }
    }

    /// With certificates that clients may leave away, a user without a password is everybody.
    func conflict(with book: AccessBook) -> String? {
        guard isOn, asks == .optional, let user = book.users.first(where: { $0.isOn && $0.needsNoPassword }) else {
            return nil
        }
        return """
            --tls-auth-clients optional lets clients in without a certificate, and the user \(user.name) needs no \
            password: give one (--requirepass-file, --aclfile), or say --tls-auth-clients yes
            """
    }

    private static let fileBytesMax = 1024 * 1024

    /// The files as they are now.
    func read() throws(SecureFileFault) -> SecureFiles {
        SecureFiles(
            certificate: try contents("--tls-cert-file", certificate), key: try contents("--tls-key-file", key),
            authority: asks == .no ? [] : try contents("--tls-ca-file", authority), asks: asks)
    }

    private func contents(_ flag: String, _ path: String?) throws(SecureFileFault) -> [UInt8] {
        guard let path else { throw SecureFileFault(description: "\(flag) is not given") }
        do throws(SecretFileError) {
            return try SecretFile.contents(of: path, bytesMax: TLSSettings.fileBytesMax)
        } catch { throw SecureFileFault(description: "\(flag) \(path): \(error.description)") }
    }

    /// The same fault with the flag and the path of its file.
    func named(_ fault: SecureFault) -> SecureFileFault {
        let (flag, path): (String, String?) =
            switch fault.file {
            case .certificate: ("--tls-cert-file", certificate)
            case .key: ("--tls-key-file", key)
            case .authority: ("--tls-ca-file", authority)
            case nil: ("--tls", nil)
            }
        return SecureFileFault(description: "\(flag)\(path.map { " \($0)" } ?? ""): \(fault.description)")
    }

    var paths: [String] { [certificate, key, authority].compactMap { $0 } }
}

/// One line that names the setting and the file.
struct SecureFileFault: Error, CustomStringConvertible { let description: String }
