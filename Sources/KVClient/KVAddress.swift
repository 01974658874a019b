// Where a server is, and the text form that command lines and configuration use. Values, any thread.

/// Host name or IP address, and port, of one query actor.
public struct KVAddress: Hashable, Sendable {
    public var host: String
    public var port: Int

    public init(host: String, port: Int) { (self.host, self.port) = (host, port) }

    /// The first query actor of a server started with its default flags.
    public static let local = KVAddress(host: "127.0.0.1", port: 6001)

    /// Reads `HOST:PORT` or `[IPv6]:PORT`; nil when it is not one of them.
    public init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0,
            text.utf8[text.index(after: colon)] != UInt8(ascii: "+")
        else {
            return nil
        }
        var host = String(text[..<colon])
        if host.hasPrefix("[") && host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty, !host.utf8.contains(where: { $0 <= 32 || $0 == 127 }) else { return nil }
        self.init(host: host, port: Int(port))
    }

    /// Reads `HOST:PORT[,HOST:PORT…]`; nil when any part of it is not an address, or when there is none.
    public static func list(_ text: some StringProtocol) -> [KVAddress]? {
        var addresses: [KVAddress] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let address = KVAddress(trimmed(part)) else { return nil }
            addresses.append(address)
        }
        return addresses.isEmpty ? nil : addresses
    }

    private static func trimmed<S: StringProtocol>(_ text: S) -> S.SubSequence {
        let start = text.firstIndex { $0 != " " } ?? text.endIndex
        let tail = text[start...]
        let end = tail.lastIndex { $0 != " " }.map { tail.index(after: $0) } ?? start
        return text[start..<end]
    }
}

extension KVAddress: CustomStringConvertible {
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
