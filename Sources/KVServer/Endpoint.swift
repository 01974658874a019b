// A host and a port, and the JSON description a server prints about itself. Values; any thread.

import KVRuntime

/// Where a socket is: `127.0.0.1:6000`, `[::1]:6000`, `name.example:6000`.
package struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: Int

    package init(host: String, port: Int) { (self.host, self.port) = (host, port) }

    /// Parses `HOST:PORT`, or `HOST` alone when a default port is given. Nil when it is neither.
    package init?(_ text: String, defaultPort: Int? = nil) {
        var host = Substring(text)
        var port = defaultPort
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<close]
            let rest = text[text.index(after: close)...]
            if !rest.isEmpty {
                guard rest.hasPrefix(":") else { return nil }
                port = Endpoint.port(rest.dropFirst())
            }
        } else if text.filter({ $0 == ":" }).count == 1, let colon = text.firstIndex(of: ":") {
            host = text[..<colon]
            port = Endpoint.port(text[text.index(after: colon)...])
        }
        guard let port, !host.isEmpty, !host.contains(where: { $0 == " " || $0 == "," || $0 == "\"" }) else {
            return nil
        }
        (self.host, self.port) = (String(host), port)
    }

    private static func port(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let port = Int(text) else { return nil }
        return (1...65535).contains(port) ? port : nil
    }

    /// All addresses of a machine, and none that others reach.
    var isWildcard: Bool { HostPort(host: host, port: UInt16(port)).reach == .nowhere }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// What a ready server prints on standard output as one line of JSON, and what another accepts in `--join`.
package struct ServerDescription: Sendable, Equatable {
    package var id: String
    package var address: Endpoint
    package var actors: [Endpoint]
    package var shared: Endpoint?
    package var inputOutput: String
    package var version: String
    package var processID: Int
    package var name = ""

    package var json: String {
        var text = "{\"id\":\"\(id)\",\"address\":\"\(address)\",\"actors\":["
        text += actors.map { "\"\($0)\"" }.joined(separator: ",")
        text += "]"
        if let shared { text += ",\"shared\":\"\(shared)\"" }
        if !name.isEmpty { text += ",\"name\":\"\(name)\"" }
        text += ",\"io\":\"\(inputOutput)\",\"version\":\"\(version)\",\"pid\":\(processID)}"
        return text
    }

    /// The `address` of a description's JSON object; nil when `text` is no JSON object with such a member. Only flat
    /// string members matter, so this is a scanner for them and not a JSON library. O(text).
    package static func address(inJSON text: String) -> Endpoint? {
        var scanner = FlatJSON(bytes: Array(text.utf8))
        guard let member = scanner.stringMember("address") else { return nil }
        return Endpoint(member)
    }
}

/// Walks one JSON object, skipping what it does not look for; strict enough to refuse anything that is not JSON.
private struct FlatJSON {
    let bytes: [UInt8]
    var at = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func stringMember(_ wanted: String) -> String? {
        var found: String?
        guard take("{") else { return nil }
        if take("}") { return nil }
        repeat {
            guard let name = string(), take(":") else { return nil }
            if name == wanted {
                guard let value = string() else { return nil }
                found = value
            } else if !skipValue(depth: 0) {
                return nil
            }
        } while take(",")
        guard take("}") else { return nil }
        skipSpace()
        return at == bytes.count ? found : nil
    }

    private mutating func skipSpace() {
        while at < bytes.count, bytes[at] == 32 || (9...13).contains(bytes[at]) { at += 1 }
    }

    private mutating func take(_ character: Character) -> Bool {
        skipSpace()
        guard at < bytes.count, bytes[at] == character.asciiValue else { return false }
        at += 1
        return true
    }

    private mutating func string() -> String? {
        guard take("\"") else { return nil }
        var out: [UInt8] = []
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            if byte == UInt8(ascii: "\"") { return String(decoding: out, as: UTF8.self) }
            if byte == UInt8(ascii: "\\") {
                guard at < bytes.count else { return nil }
                out.append(bytes[at])
                at += 1
            } else {
                out.append(byte)
            }
        }
        return nil
    }

    private mutating func skipValue(depth: Int) -> Bool {
        guard depth < 16 else { return false }
        skipSpace()
        guard at < bytes.count else { return false }
        switch bytes[at] {
        case UInt8(ascii: "\""): return string() != nil
        case UInt8(ascii: "["):
            at += 1
            if take("]") { return true }
            repeat { guard skipValue(depth: depth + 1) else { return false } } while take(",")
            return take("]")
        case UInt8(ascii: "{"):
            at += 1
            if take("}") { return true }
            repeat {
                guard string() != nil, take(":"), skipValue(depth: depth + 1) else { return false }
            } while take(",")
            return take("}")
        default:
            let start = at
            while at < bytes.count, ![44, 93, 125].contains(bytes[at]), bytes[at] > 32 { at += 1 }
            return at > start
        }
    }
}
