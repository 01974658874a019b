// How this server and others know each other, as the settings say it. Main thread, and the one that takes SIGHUP.

import KVRuntime

/// Which of three ways: a key, certificates, or none. Files are read when `resolve` is called, so again after SIGHUP.
package struct TrustSettings: Sendable {
    var keyFile: String?
    var certificate: String?
    var certificateKey: String?
    var authority: String?
    /// Whoever reaches the port is believed, and what is said can be read on the way.
    var trustsNetwork = false

    private static let fileBytesMax = 64 * 1024

    var usesCertificates: Bool { certificate != nil || certificateKey != nil || authority != nil }
    var isProtected: Bool { keyFile != nil || usesCertificates }

    /// As INFO and KVD PEERS say it.
    var name: String { keyFile != nil ? "key" : usesCertificates ? "cert" : "none" }

    /// What only the whole can tell.
    func check(host: String, port: Int, isLoopback: Bool) throws(ConfigError) {
        if usesCertificates, certificate == nil || certificateKey == nil || authority == nil {
            throw ConfigError("--peer-tls-cert, --peer-tls-key and --peer-tls-ca go together: one is missing")
        }
        if keyFile != nil, usesCertificates {
            throw ConfigError(
                "--cluster-key-file and --peer-tls-cert exclude each other: servers know each other one way")
        }
        if !isLoopback, !isProtected, !trustsNetwork {
            throw ConfigError(
                """
                --host \(host) can be reached from other machines, and whoever reaches port \(port) would be believed. \
                Give all servers the same --cluster-key-file FILE (made by: kvd secret > FILE), or certificates \
                (--peer-tls-cert, --peer-tls-key, --peer-tls-ca), or say --trust-the-network
                """)
        }
    }

    /// Reads the key's file; certificates are read by whoever uses them. One line of error.
    func resolve() throws(LinkTrustError) -> LinkTrust {
        if let certificate, let certificateKey, let authority {
            return .certificates(certificate: certificate, key: certificateKey, authority: authority)
        }
        guard let keyFile else { return .network }
        let text = try TrustSettings.contents(of: keyFile)
        do { return .keys(try ClusterKey.parse(text)) } catch {
            throw LinkTrustError(description: "--cluster-key-file \(keyFile): \(error.description)")
        }
    }

    /// A key for a file; nil if the system has no random bytes.
    package static func newKey() -> String? { ClusterKey.make() }

    /// `kvd cert`: nil when the files are written, or a line of why not.
    package static func makeCertificate(
        kind: String, name: String?, cluster: String, folder: String, hosts: [String], days: Int?
    ) -> (text: String, isUsage: Bool)? {
        let roles: [String: LinkCertificate.Role] = ["ca": .authority, "server": .server, "client": .client]
        guard let role = roles[kind] else { return ("'\(kind)' is not ca, server or client", true) }
        guard let name = name ?? (role == .authority ? "ca" : nil) else {
            return ("kvd cert \(kind) needs a name, as in: kvd cert \(kind) \(kind)1", true)
        }
        let days = days ?? (role == .authority ? authorityDays : certificateDays)
        guard (1...36_500).contains(days) else { return ("--days \(days) is not 1 to 36500", true) }
        let own = role == .server ? LinkCertificate.ownHosts() : []
        do {
            try LinkCertificate(
                role: role, cluster: cluster, name: name, hosts: own + hosts.filter { !own.contains($0) }, days: days
            ).make(in: folder)
            return nil
        } catch { return (error.description, false) }
    }

    /// A line of warning where a certificate ends within 30 days, or has ended. Times are seconds since 1970.
    static func warning(ofEnd end: Int64, now: Int64) -> String? {
        guard end - now < 30 * 86_400 else { return nil }
        guard end > now else { return "the certificate of --peer-tls-cert has ended: other servers refuse this one" }
        return "the certificate of --peer-tls-cert ends in \((end - now) / 86_400) days: make another, then send SIGHUP"
    }

    private static let authorityDays = 3650
    private static let certificateDays = 365

    /// A line of warning where others on this machine can read the key.
    var warning: String? { (keyFile ?? certificateKey).flatMap { SecretFile.warning($0) } }

    private static func contents(of path: String) throws(LinkTrustError) -> String {
        do throws(SecretFileError) {
            return String(decoding: try SecretFile.contents(of: path, bytesMax: fileBytesMax), as: UTF8.self)
        } catch { throw LinkTrustError(description: "--cluster-key-file \(path): \(error.description)") }
    }
}
