// Makes the certificates of a cluster. Plain functions; any thread; they read and write files.

import CSupport
import CTLS
import Glibc
import KVBase

/// What a certificate says, and where it goes.
package struct LinkCertificate {
    package enum Role { case authority, server, client }

    package var role: Role
    package var cluster: String
    package var name: String
    /// Beside the identity `kvd://CLUSTER/NAME`: host names and addresses under which it is reached.
    package var hosts: [String] = []
    package var days: Int

    package init(role: Role, cluster: String, name: String, hosts: [String] = [], days: Int) {
        (self.role, self.cluster, self.name, self.hosts, self.days) = (role, cluster, name, hosts, days)
    }

    /// Writes `NAME.pem` and `NAME.key` in `folder`, signed by `ca.pem` and `ca.key` there; an authority is `ca`. Never
    /// overwrites a file.
    package func make(in folder: String) throws(LinkTrustError) {
        for host in hosts
        where host.contains(where: { ",\n=:".contains($0) && SocketAddress(host: host, port: 0) == nil }) {
            throw LinkTrustError(description: "'\(host)' is neither a host name nor an address")
        }
        guard !cluster.isEmpty, !name.isEmpty, !(cluster + name).contains(where: { "/,\n".contains($0) }) else {
            throw LinkTrustError(
                description: "'\(cluster)' and '\(name)' must not be empty or contain a slash or comma")
        }
        let names = hosts.map { (SocketAddress(host: $0, port: 0) == nil ? "DNS:" : "IP:") + $0 }
        let file = folder + "/" + (role == .authority ? "ca" : name)
        var error = [CChar](repeating: 0, count: Int(CS_TLS_ERROR_BYTES))
        let result = cluster.withCString { cluster in
            name.withCString { name in
                names.joined(separator: ",").withCString { names in
                    var subject = cs_tls_subject(
                        cluster: cluster, name: name, seconds: Int64(days) * 86_400, is_client: role == .client ? 1 : 0,
                        names: names)
                    return role == .authority
                        ? cs_tls_make_certificate(&subject, nil, nil, file + ".pem", file + ".key", &error)
                        : cs_tls_make_certificate(
                            &subject, folder + "/ca.pem", folder + "/ca.key", file + ".pem", file + ".key", &error)
                }
            }
        }
        guard result == 0 else {
            throw LinkTrustError(
                description: String(decoding: error.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
    }

    /// Names under which this machine is reached: localhost, its host name, the addresses of its interfaces.
    package static func ownHosts() -> [String] {
        var hosts = ["localhost", "127.0.0.1", "::1"]
        var name = [CChar](repeating: 0, count: 256)
        if gethostname(&name, name.count - 1) == 0 {
            hosts.append(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return hosts }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next {
            if let address = entry.pointee.ifa_addr, let host = text(address), !hosts.contains(host) {
                hosts.append(host)
            }
            next = entry.pointee.ifa_next
        }
        return hosts
    }

    private static func text(_ address: UnsafeMutablePointer<sockaddr>) -> String? {
        let family = Int32(address.pointee.sa_family)
        let size = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
        guard family == AF_INET || family == AF_INET6 else { return nil }
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        guard getnameinfo(address, socklen_t(size), &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) == 0 else {
            return nil
        }
        // Without the interface of a link-local address.
        let bytes = host.prefix { $0 != 0 && $0 != 37 }.map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
