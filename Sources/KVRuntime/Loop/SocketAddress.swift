// Numeric socket addresses and `host:port` texts. Values; any thread, but resolve() blocks and stays off loops.

import CSupport
import Glibc

/// What went wrong in a socket call, worded for a log line or for standard error.
package struct SocketFailure: Error, CustomStringConvertible, Sendable {
    package let operation: String
    /// Positive errno.
    package let code: Int32
    /// In words, where errno has none that fit.
    let reason: String?

    package init(_ operation: String, code: Int32, reason: String? = nil) {
        (self.operation, self.code, self.reason) = (operation, code, reason)
    }

    package var description: String { "\(operation): \(reason ?? String(cString: strerror(code)))" }
}

/// An IPv4 or IPv6 address and port, 32 bytes, compared by value.
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    private var first: UInt64 = 0
    private var second: UInt64 = 0
    private var third: UInt64 = 0
    private var fourth: UInt32 = 0
    private var length: UInt32 = 0

    init(_ raw: cs_address) {
        withUnsafeBytes(of: raw) { source in
            first = source.load(as: UInt64.self)
            second = source.load(fromByteOffset: 8, as: UInt64.self)
            third = source.load(fromByteOffset: 16, as: UInt64.self)
            fourth = source.load(fromByteOffset: 24, as: UInt32.self)
        }
        length = raw.length
    }

    /// `host` must be numeric ("127.0.0.1", "::1"); nil otherwise.
    package init?(host: String, port: UInt16) {
        var raw = cs_address()
        guard cs_address_parse(host, port, &raw) == 0 else { return nil }
        self.init(raw)
    }

    var raw: cs_address {
        var raw = cs_address()
        withUnsafeMutableBytes(of: &raw) { target in
            target.storeBytes(of: first, as: UInt64.self)
            target.storeBytes(of: second, toByteOffset: 8, as: UInt64.self)
            target.storeBytes(of: third, toByteOffset: 16, as: UInt64.self)
            target.storeBytes(of: fourth, toByteOffset: 24, as: UInt32.self)
        }
        raw.length = length
        return raw
    }

    /// Throws if somebody listens here, or nobody may. For ports that several listeners share, which a stranger's
    /// could join otherwise.
    package func checkFree() throws {
        var raw = raw
        let result = cs_address_check_free(&raw)
        if result < 0 { throw SocketFailure("cannot listen on \(self)", code: -result) }
    }

    package var hostAndPort: HostPort {
        var raw = raw
        var text = [CChar](repeating: 0, count: 64)
        let port = cs_address_format(&raw, &text, text.count)
        return HostPort(host: text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }, port: port)
    }

    /// 4 or 16 bytes in the network's order; none of another family.
    private var octets: [UInt8] {
        withUnsafeBytes(of: raw) { bytes in
            switch Int32(bytes.load(as: sa_family_t.self)) {
            case AF_INET: Array(bytes[4..<8])
            case AF_INET6: Array(bytes[8..<24])
            default: []
            }
        }
    }

    /// An IPv4 address that came by an IPv6 socket, `::ffff:10.0.0.1`, as itself.
    package var unmapped: SocketAddress {
        let octets = octets
        guard octets.count == 16, octets[..<12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF] else { return self }
        return SocketAddress(host: octets[12...].map { "\($0)" }.joined(separator: "."), port: port) ?? self
    }

    package var reach: AddressReach {
        let octets = unmapped.octets
        if octets.allSatisfy({ $0 == 0 }) { return .nowhere }
        guard octets.count == 16 else { return octets.first == 127 ? .machine : .network }
        if octets.dropLast() == [UInt8](repeating: 0, count: 15), octets.last == 1 { return .machine }
        // Good together with an interface of one machine only.
        return octets[0] == 0xFE && octets[1] & 0xC0 == 0x80 ? .nowhere : .network
    }

    package var host: String { hostAndPort.host }
    package var port: UInt16 { hostAndPort.port }
    package var description: String { hostAndPort.description }
}

/// From how far away an address can be reached. The greater one reaches farther.
package enum AddressReach: Int, Comparable, Sendable {
    /// No address to go to: a wildcard, or one that needs an interface's name.
    case nowhere
    /// Loopback: on the same machine.
    case machine
    case network

    package static func < (a: AddressReach, b: AddressReach) -> Bool { a.rawValue < b.rawValue }
}

/// A host (name or number) and a port as users write them: `localhost:6000`, `10.0.0.1:6000`, `[::1]:6000`.
package struct HostPort: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// nil unless `text` is a host and a port from 0 to 65535; an IPv6 number needs brackets.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = String(text[..<colon])
        let digits = text[text.index(after: colon)...]
        guard digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let port = UInt16(digits) else { return nil }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty, !host.contains(where: { $0 == "[" || $0 == "]" || $0.isWhitespace }) else { return nil }
        self.init(host: host, port: port)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// The addresses the host stands for, best first. Blocks on the resolver unless the host is numeric: never on a
    /// loop.
    package func resolve() throws -> [SocketAddress] {
        var found = [cs_address](repeating: cs_address(), count: HostPort.addressesMax)
        let count = cs_address_resolve(host, port, &found, Int32(found.count))
        guard count > 0 || isLocalhost else {
            throw SocketFailure("cannot resolve \(host)", code: -count, reason: HostPort.reason(-count))
        }
        var addresses = found[..<Int(max(0, count))].map(SocketAddress.init)
        // Both, whatever /etc/hosts has.
        for host in isLocalhost ? ["127.0.0.1", "::1"] : [] {
            let address = SocketAddress(host: host, port: port)!
            if !addresses.contains(address) { addresses.append(address) }
        }
        return addresses
    }

    /// Addresses of one name that are looked at.
    static let addressesMax = 16

    package var isLocalhost: Bool { ["localhost", "localhost."].contains(host.lowercased()) }

    /// Of a number; nil for a name, about which nothing is known.
    package var reach: AddressReach? { isLocalhost ? .machine : SocketAddress(host: host, port: port)?.reach }

    private static func reason(_ code: Int32) -> String? {
        switch code {
        case ENXIO: "there is no such host name"
        case EAGAIN: "no name server answers"
        case EADDRNOTAVAIL: "the name has no address"
        default: nil
        }
    }
}
