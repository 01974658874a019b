// The server's configuration: flags, environment and file become one validated value at start. Main thread.

import Glibc
package import KVBase
import KVCore
package import KVRuntime

/// A setting that cannot be used; `description` is one line that says which, why and what would do. Exit code 64.
package struct ConfigError: Error, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
}

package enum InputOutputChoice: String, Sendable, CaseIterable { case auto, io_uring, epoll }

/// Validated configuration. Precedence: flag, then environment, then file, then the default written here.
package struct Config: Sendable {
    package var port = 6000
    package var actors = min(Machine.processorCount, Limits.actorsMax)
    package var sharedPort: Int?
    package var host = "127.0.0.1"
    /// Only this machine reaches it.
    var isLoopback: Bool { host.hasPrefix("127.") || host == "::1" || host.lowercased() == "localhost" }
    package var advertise: Endpoint?
    /// Given by the user, who says that no other server has it.
    package var name: String?
    package var join: [Endpoint] = []
    /// Servers of different clusters refuse each other.
    package var cluster = "kvd"
    package var trust = TrustSettings()
    package var access = AccessSettings()
    package var tls = TLSSettings()
    package var disk = DiskSettings()
    /// One more place for clients, in the file system, and who may use it.
    package var socketPath: String?
    package var socketMode: UInt32 = 0o700
    package var inputOutput = InputOutputChoice.auto
    package var logLevel = "info"
    package var logFormat = LogFormat.text
    /// The file that was read, for CONFIG REWRITE.
    package var file: String?
    package var clientsMax = Limits.clientsMax
    /// Where metrics, health and the page are served; nil: nowhere.
    package var metricsAddress: Endpoint?
    /// Bytes above which clients' writes are refused; 0: none.
    package var memoryMax = MemoryLimit.standard
    package var pinLoops = true
    /// Fresh memory is made ready beside the loops (CSupport/memory).
    package var warmsMemory = true
    /// How long handing over the last writes may take.
    package var drainSeconds = 30
    /// Data commands are answered while the server fetches what others have.
    package var servesWhileJoining = true
    /// Writes are refused while one has waited longer than this for a server that is up; nil: never.
    package var maxLagSeconds: Int?
    /// By so much the members' clocks may differ, as far as that cannot be seen.
    package var clockSkewMaxMillis: Millis = 10_000
    /// Added to the wall clock, for tests of skewed clocks.
    package var clockOffsetMillis: Millis = 0

    package init() {}

    /// One row per setting; the names are the flags without dashes in front, the words of the file, and (upper case,
    /// with `KVD_` in front) the environment.
    struct Row {
        var name: String
        var repeats = false
        var apply: @Sendable (inout Config, String) throws(ConfigError) -> Void
    }

    static let rows: [Row] = [
        Row(name: "port") { config, text throws(ConfigError) in config.port = try number(text, 1...65534) },
        Row(name: "actors") { config, text throws(ConfigError) in
            config.actors = try number(text, 1...Limits.actorsMax)
        },
        Row(name: "shared-port") { config, text throws(ConfigError) in
            config.sharedPort = text == "off" ? nil : try number(text, 1...65535)
        },
        Row(name: "host") { config, text throws(ConfigError) in
            guard !text.isEmpty else { throw ConfigError("is empty; give an address such as 127.0.0.1") }
            config.host = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
        },
        Row(name: "name") { config, text throws(ConfigError) in
            guard text.utf8.count <= nameBytesMax, SystemName.isUsable(text) else {
                throw ConfigError("'\(text)' is not 1 to \(nameBytesMax) letters, digits and signs of .-_:@/[]%")
            }
            config.name = text
        },
        Row(name: "advertise") { config, text throws(ConfigError) in
            guard let endpoint = Endpoint(text, defaultPort: 0) else {
                throw ConfigError("'\(text)' is not HOST or HOST:PORT")
            }
            config.advertise = endpoint
        },
        Row(name: "join", repeats: true) { config, text throws(ConfigError) in
            let endpoint = text.hasPrefix("{") ? ServerDescription.address(inJSON: text) : Endpoint(text)
            guard let endpoint else {
                throw ConfigError("'\(text)' is neither HOST:PORT nor the description line of a server")
            }
            guard config.join.count < Seeds.seedsMax else {
                throw ConfigError("more than \(Seeds.seedsMax) servers to join; one is enough to learn all")
            }
            config.join.append(endpoint)
        },
        Row(name: "cluster") { config, text throws(ConfigError) in
            guard (1...64).contains(text.utf8.count) else { throw ConfigError("'\(text)' is not 1 to 64 bytes long") }
            config.cluster = text
        },
        Row(name: "cluster-key-file") { config, text throws(ConfigError) in config.trust.keyFile = text },
        Row(name: "peer-tls-cert") { config, text throws(ConfigError) in config.trust.certificate = text },
        Row(name: "peer-tls-key") { config, text throws(ConfigError) in config.trust.certificateKey = text },
        Row(name: "peer-tls-ca") { config, text throws(ConfigError) in config.trust.authority = text },
        Row(name: "trust-the-network") { config, text throws(ConfigError) in
            config.trust.trustsNetwork = try flag(text)
        },
        Row(name: "requirepass-file") { config, text throws(ConfigError) in config.access.passwordFile = text },
        Row(name: "aclfile") { config, text throws(ConfigError) in config.access.usersFile = text },
        Row(name: "protected-mode") { config, text throws(ConfigError) in config.access.isProtected = try flag(text) },
        Row(name: "tls") { config, text throws(ConfigError) in config.tls.givenMode = try choice(text) },
        Row(name: "tls-cert-file") { config, text throws(ConfigError) in config.tls.certificate = text },
        Row(name: "tls-key-file") { config, text throws(ConfigError) in config.tls.key = text },
        Row(name: "tls-ca-file") { config, text throws(ConfigError) in config.tls.authority = text },
        Row(name: "tls-auth-clients") { config, text throws(ConfigError) in config.tls.givenAsks = try choice(text) },
        Row(name: "tls-auth-clients-user") { config, text throws(ConfigError) in
            config.tls.userName = try choice(text)
        },
        Row(name: "dir") { config, text throws(ConfigError) in
            guard !text.isEmpty else { throw ConfigError("is empty; give the path of a directory") }
            config.disk.directory = text
        },
        Row(name: "appendfsync") { config, text throws(ConfigError) in
            guard let policy = AppendPolicy(rawValue: text) else {
                throw ConfigError("'\(text)' is not one of always, everysec, no")
            }
            config.disk.policy = policy
        },
        Row(name: "save-after-bytes") { config, text throws(ConfigError) in
            config.disk.saveAfterBytes = text == "auto" ? nil : try number(text, 1024 * 1024...1 << 50)
        },
        Row(name: "restore") { config, text throws(ConfigError) in
            guard !text.isEmpty else { throw ConfigError("is empty; give the path of a backup") }
            config.disk.restores = text
        },
        Row(name: "mode") { config, text throws(ConfigError) in config.disk.restoreMode = try choice(text) },
        Row(name: "repair") { config, text throws(ConfigError) in config.disk.repairs = try flag(text) },
        Row(name: "io") { config, text throws(ConfigError) in
            guard let choice = InputOutputChoice(rawValue: text) else {
                throw ConfigError("'\(text)' is not one of auto, io_uring, epoll")
            }
            config.inputOutput = choice
        },
        Row(name: "log-level") { config, text throws(ConfigError) in
            guard logLevels.contains(text) else {
                throw ConfigError("'\(text)' is not one of \(logLevels.joined(separator: ", "))")
            }
            config.logLevel = text
        },
        Row(name: "log-format") { config, text throws(ConfigError) in
            guard let format = LogFormat(rawValue: text) else {
                throw ConfigError(
                    "'\(text)' is not one of \(LogFormat.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            config.logFormat = format
        },
        Row(name: "maxclients") { config, text throws(ConfigError) in
            config.clientsMax = try number(text, 1...1_000_000)
        },
        Row(name: "metrics-address") { config, text throws(ConfigError) in
            let address = Int(text) == nil ? text : "127.0.0.1:\(text)"
            guard text != "off" else {
                config.metricsAddress = nil
                return
            }
            guard let endpoint = Endpoint(address) else {
                throw ConfigError("'\(text)' is not HOST:PORT, a port on 127.0.0.1, or off")
            }
            config.metricsAddress = endpoint
        },
        Row(name: "maxmemory") { config, text throws(ConfigError) in
            guard let bytes = MemoryLimit.parse(text) else {
                throw ConfigError("'\(text)' is no number of bytes, as 0, 1000000, 512mb or 4gb")
            }
            config.memoryMax = bytes
        },
        Row(name: "unixsocket") { config, text throws(ConfigError) in
            guard (1...pathBytesMax).contains(text.utf8.count) else {
                throw ConfigError("'\(text)' is not a path of 1 to \(pathBytesMax) bytes")
            }
            config.socketPath = text
        },
        Row(name: "unixsocketperm") { config, text throws(ConfigError) in
            guard let mode = UInt32(text, radix: 8), mode <= 0o777 else {
                throw ConfigError("'\(text)' is no mode of a file, as 700 or 770")
            }
            config.socketMode = mode
        },
        Row(name: "drain-timeout") { config, text throws(ConfigError) in
            config.drainSeconds = try number(text, 0...3600)
        },
        Row(name: "serve-while-joining") { config, text throws(ConfigError) in
            config.servesWhileJoining = try flag(text)
        },
        Row(name: "max-lag") { config, text throws(ConfigError) in
            config.maxLagSeconds = text == "off" ? nil : try number(text, 1...86_400)
        },
        Row(name: "clock-skew-max") { config, text throws(ConfigError) in
            config.clockSkewMaxMillis = 1000 * Millis(try number(text, 1...86_400))
        },
        Row(name: "debug-clock-offset-ms") { config, text throws(ConfigError) in
            config.clockOffsetMillis = Millis(try number(text, -1_000_000_000_000...1_000_000_000_000))
        },
        Row(name: "pin") { config, text throws(ConfigError) in
            config.pinLoops = try flag(text)
        },
        Row(name: "warm-memory") { config, text throws(ConfigError) in
            guard let flag = ["yes": true, "no": false][text] else { throw ConfigError("'\(text)' is not yes or no") }
            config.warmsMemory = flag
        },
    ]

    private static let nameBytesMax = 64
    private static let pathBytesMax = 107

    package static let logLevels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]
    package static var names: [String] { rows.map(\.name) }

    private static func flag(_ text: String) throws(ConfigError) -> Bool {
        guard let flag = ["yes": true, "no": false][text] else { throw ConfigError("'\(text)' is not yes or no") }
        return flag
    }

    private static func choice<T: RawRepresentable & CaseIterable>(_ text: String) throws(ConfigError) -> T
    where T.RawValue == String {
        guard let value = T(rawValue: text) else {
            throw ConfigError("'\(text)' is not one of \(T.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return value
    }

    private static func number(_ text: String, _ range: ClosedRange<Int>) throws(ConfigError) -> Int {
        guard let value = Int(text), range.contains(value) else {
            throw ConfigError("'\(text)' is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// Joins the three sources and checks what only the whole can tell. `flags` keeps the order of the command line.
    package static func resolve(
        flags: [(name: String, value: String)], environment: [String: String], file: String? = nil
    ) throws(ConfigError) -> Config {
        var config = Config()
        var settled: Set<String> = []
        try config.take(flags.map { ($0.name, $0.value, "--\($0.name)") }, settled: &settled)
        try config.take(fromEnvironment(environment), settled: &settled)
        config.file = file ?? environment["KVD_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
        if let path = config.file { try config.take(fromFile(path), settled: &settled) }
        try config.finish()
        return config
    }

    /// Each setting that is given, as a line of the file would, with where it comes from: the strongest source only.
    package static func report(
        flags: [(name: String, value: String)], environment: [String: String], file: String? = nil
    ) throws(ConfigError) -> [String] {
        let config = try resolve(flags: flags, environment: environment, file: file)
        var sources = [flags.map { (name: $0.name, value: $0.value, origin: "--\($0.name)") }]
        sources.append(fromEnvironment(environment))
        if let path = config.file { sources.append(try fromFile(path)) }
        var (lines, settled): ([String], Set<String>) = ([], [])
        for entries in sources {
            for entry in entries where !settled.contains(entry.name) {
                let origin =
                    entry.origin.hasSuffix(": \(entry.name)")
                    ? entry.origin.dropLast(entry.name.count + 2) : entry.origin[...]
                lines.append("\(entry.name) \(entry.value)  # \(origin)")
            }
            for entry in entries { settled.insert(entry.name) }
        }
        return lines.isEmpty ? ["# every setting has its default"] : lines
    }

    /// Applies entries of one source unless an earlier, stronger source has settled the name.
    private mutating func take(
        _ entries: [(name: String, value: String, origin: String)], settled: inout Set<String>
    ) throws(ConfigError) {
        for (name, value, origin) in entries where !settled.contains(name) {
            guard let row = Config.rows.first(where: { $0.name == name }) else {
                throw Config.unknown(name, origin)
            }
            do { try row.apply(&self, value) } catch { throw ConfigError("\(origin): \(error.description)") }
        }
        for entry in entries { settled.insert(entry.name) }
    }

    /// With the nearest name, where one is near.
    static func unknown(_ name: String, _ origin: String) -> ConfigError {
        let near = NearestName.of(name, among: names.filter { !$0.hasPrefix("debug-") } + ["config"])
        // Of a flag that is said anyway.
        let all = origin.hasPrefix("--") ? "" : "; kvd --help lists all of them"
        return ConfigError(
            "\(origin): unknown setting"
                + (near.map { "; did you mean \($0)?" } ?? ", and none has a name like it\(all)"))
    }

    private static func fromEnvironment(_ environment: [String: String]) -> [(
        name: String, value: String, origin: String
    )] {
        var entries: [(name: String, value: String, origin: String)] = []
        for row in rows {
            let variable = variable(row)
            guard let value = environment[variable], !value.isEmpty else { continue }
            // A description is JSON with commas of its own, so only plain addresses may be listed in one variable.
            let parts = row.repeats && !value.hasPrefix("{") ? value.split(separator: ",").map(String.init) : [value]
            for part in parts { entries.append((row.name, part, variable)) }
        }
        return entries
    }

    private static func variable(_ row: Row) -> String {
        "KVD_" + row.name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }

    /// What to tell the user about variables that look like settings and are none, a line each. No error: what runs
    /// servers sets variables of its own (KVD_SERVICE_HOST for a service named kvd).
    package static func unknownVariables(_ environment: [String: String]) -> [String] {
        let known = rows.map(variable) + ["KVD_CONFIG"]
        return environment.keys.filter { $0.hasPrefix("KVD_") && !known.contains($0) }.sorted().map { name in
            let close = NearestName.of(name, among: known.filter { !$0.hasPrefix("KVD_DEBUG_") })
            return "\(name) is not a setting and is ignored" + (close.map { "; did you mean \($0)?" } ?? "")
        }
    }

    private static func fromFile(_ path: String) throws(ConfigError) -> [(name: String, value: String, origin: String)]
    {
        let text = try contents(ofFile: path)
        var entries: [(name: String, value: String, origin: String)] = []
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let trimmed = trim(line)
            if trimmed.isEmpty || trimmed.hasPrefix("#") { continue }
            let origin = "\(path) line \(index + 1)"
            guard let space = trimmed.firstIndex(where: { $0 == " " || $0 == "\t" }) else {
                throw ConfigError("\(origin): '\(trimmed)' has no value; write NAME VALUE")
            }
            let value = try value(trim(trimmed[space...]), "\(origin): \(trimmed[..<space])")
            entries.append((String(trimmed[..<space]), value, "\(origin): \(trimmed[..<space])"))
        }
        return entries
    }

    private static func trim(_ text: Substring) -> Substring {
        var text = text
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return text.drop(while: \.isWhitespace)
    }

    /// In quotes as it is; otherwise up to a comment, which begins with # behind a blank.
    private static func value(_ text: Substring, _ origin: String) throws(ConfigError) -> String {
        if text.hasPrefix("\"") {
            let inner = text.dropFirst()
            guard let end = inner.firstIndex(of: "\"") else { throw ConfigError("\(origin): the quote is not closed") }
            let rest = trim(inner[inner.index(after: end)...])
            guard rest.isEmpty || rest.hasPrefix("#") else {
                throw ConfigError("\(origin): '\(rest)' behind the closing quote; a comment begins with #")
            }
            return String(inner[..<end])
        }
        var before: Character = " "
        for (index, character) in zip(text.indices, text) {
            if character == "#", before.isWhitespace {
                guard index > text.startIndex else { throw ConfigError("\(origin) has no value; write NAME VALUE") }
                return String(trim(text[..<index]))
            }
            before = character
        }
        return String(text)
    }

    private static func contents(ofFile path: String) throws(ConfigError) -> String {
        guard let file = fopen(path, "r") else {
            throw ConfigError("--config \(path): \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while bytes.count <= fileBytesMax {
            let n = fread(&chunk, 1, chunk.count, file)
            if n == 0 { break }
            bytes.append(contentsOf: chunk[..<n])
        }
        if ferror(file) != 0 { throw ConfigError("--config \(path): \(String(cString: strerror(errno)))") }
        guard bytes.count <= fileBytesMax else {
            throw ConfigError("--config \(path): longer than \(fileBytesMax) bytes")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static let fileBytesMax = 1024 * 1024

    private mutating func finish() throws(ConfigError) {
        guard port + actors <= 65535 else {
            throw ConfigError("--port \(port) with \(actors) actors needs ports up to \(port + actors), above 65535")
        }
        if let shared = sharedPort, (port...port + actors).contains(shared) {
            throw ConfigError("--shared-port \(shared) is one of the server's own ports \(port) to \(port + actors)")
        }
        if let metrics = metricsAddress, (port...port + actors).contains(metrics.port) || metrics.port == sharedPort {
            throw ConfigError("--metrics-address \(metrics) has one of the server's own ports")
        }
        try trust.check(host: host, port: port, isLoopback: isLoopback)
        try tls.check()
        try disk.check()
        if let given = advertise, given.port == 0 { advertise = Endpoint(host: given.host, port: port) }
        let own = advertisedAddress.description
        guard SystemName.isWord(own) else {
            throw ConfigError("--\(advertise == nil ? "host" : "advertise") '\(own)' is not plain text without commas")
        }
    }

    /// Nobody is reached at a wildcard: such an --advertise counts as none.
    private var usableAdvertise: Endpoint? { advertise.flatMap { $0.isWildcard ? nil : $0 } }
    var ignoresAdvertise: Bool { advertise != nil && usableAdvertise == nil }

    /// Where this server says that it is reached: as it is told, or at the one address it is bound to. nil where it is
    /// bound to all of the machine's: then its peers tell it what they see.
    package var announcedAddress: Endpoint? {
        let own = usableAdvertise ?? Endpoint(host: host, port: port)
        return own.isWildcard ? nil : own
    }

    /// The same, or what it is bound to.
    package var advertisedAddress: Endpoint { announcedAddress ?? Endpoint(host: host, port: port) }

    var nameText: String { systemName.text }

    /// `--name`, or the host's name and the port.
    package var systemName: SystemName {
        if let name { return SystemName(name, isGiven: true) }
        let machine = String(Machine.hostName.prefix(Config.nameBytesMax).filter { SystemName.isUsable("\($0)") })
        return SystemName("\(machine.isEmpty ? "kvd" : machine):\(port)", isGiven: false)
    }
    package func actorAddress(_ index: Int) -> Endpoint { Endpoint(host: host, port: port + index) }
}
