// Real kvd processes behind proxies, started and ended by a test. One test uses a cluster from one thread.

import Foundation
import KVTestTraits
import Testing

/// Pauses the workload between two actions that a scenario wants some time apart. Not for waiting until something
/// holds.
func pace(millis: Int32) { _ = poll(nil, 0, millis) }

/// Looks every few milliseconds until `condition` holds; the milliseconds it took, or nil after `within`.
///
/// A look asks each server and takes a millisecond or two. Where one takes over twenty, the machine is what is late:
/// other suites run at the same time on the same cores. The rest of such a look does not count against the figure, so
/// that a limit of the contract can be tested here; what the limit is on a quiet machine, Perf/replication.py measures.
func eventually(within millis: Int64, _ condition: () throws -> Bool) rethrows -> Int64? {
    let lookMillisMax: Int64 = 20
    let start = Clock.millis()
    var counted: Int64 = 0
    while true {
        let before = Clock.millis()
        if try condition() { return Clock.millis() - start }
        pace(millis: 2)
        counted += min(Clock.millis() - before, lookMillisMax)
        if counted > millis { return nil }
    }
}

/// One kvd process and the proxy in front of its actor-system port.
final class ServerProcess {
    static let executable: URL = {
        let here = URL(fileURLWithPath: try! FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
        return here.deletingLastPathComponent().appendingPathComponent("kvd")
    }()

    let port: UInt16
    let actors: Int
    let proxy: TCPProxy
    private let log: URL
    private(set) var process: Process?
    private var connections: [Int: RESPConnection] = [:]

    /// What other servers are told: the proxy.
    var address: String { "127.0.0.1:\(proxy.port)" }

    init(actors: Int) throws {
        self.actors = actors
        port = UInt16(FreePorts.take(actors + 1))
        proxy = try TCPProxy(target: port)
        log = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-test-\(port).log")
        _ = FileManager.default.createFile(atPath: log.path, contents: nil)
    }

    /// `advertise`: another server's address, to take its place.
    func start(join: [String] = [], advertise: String? = nil, arguments: [String] = []) throws {
        let process = Process()
        process.executableURL = Self.executable
        process.arguments =
            ["--port", "\(port)", "--actors", "\(actors)", "--advertise", advertise ?? address]
            + join.flatMap { ["--join", $0] } + arguments
        let output = Pipe()
        process.standardOutput = output
        let errors = try FileHandle(forWritingTo: log)
        errors.seekToEndOfFile()
        process.standardError = errors
        try process.run()
        self.process = process
        connections = [:]
        guard firstLine(from: output.fileHandleForReading.fileDescriptor, withinMillis: 60_000) != nil else {
            throw SocketError("kvd did not get ready; its log:\n\(logText)")
        }
    }

    /// A kept connection to query actor `index` (from 0).
    func connection(_ index: Int = 0) throws -> RESPConnection {
        if let open = connections[index] { return open }
        let opened = try RESPConnection(port: port + 1 + UInt16(index))
        connections[index] = opened
        return opened
    }

    func fresh(_ index: Int = 0) throws -> RESPConnection { try RESPConnection(port: port + 1 + UInt16(index)) }

    func get(_ key: String, actor: Int = 0) throws -> String? { try connection(actor).call("GET", key).text }

    func put(_ key: String, _ value: String, actor: Int = 0) throws {
        let reply = try connection(actor).call("SET", key, value)
        guard reply == .simple("OK") else { throw SocketError("SET \(key) answered \(reply)") }
    }

    func digest(actor: Int = 0) throws -> String? { try connection(actor).call("KVD", "DIGEST").text }

    /// An integer of INFO, for instance `bytes_sent`.
    func info(_ field: String) throws -> Int {
        let text = try connection().call("INFO").text ?? ""
        let line = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix(field + ":") }
        guard let value = line?.split(separator: ":").last.flatMap({ Int($0) }) else {
            throw SocketError("INFO lacks \(field)")
        }
        return value
    }

    /// The server's id, as peers list it, and its process.
    func identity(fresh isFresh: Bool = false) throws -> (server: String, process: String) {
        let text = try (isFresh ? fresh() : connection()).call("INFO", "server").text ?? ""
        func field(_ name: String) throws -> String {
            guard let line = text.split(whereSeparator: \.isNewline).first(where: { $0.hasPrefix(name + ":") }) else {
                throw SocketError("INFO lacks \(name)")
            }
            return String(line.dropFirst(name.count + 1))
        }
        return (try field("run_id"), try field("process_id"))
    }

    /// The process behind the port is another one.
    func forgetConnections() { connections = [:] }

    /// It hangs from now on, until SIGCONT.
    func hang() {
        if let process { suspend(process.processIdentifier) }
    }

    func signal(_ number: Int32) {
        if let process { kill(process.processIdentifier, number) }
    }

    /// SIGKILL and reap.
    func crash() {
        signal(SIGKILL)
        process?.waitUntilExit()
        connections = [:]
    }

    /// SIGTERM; the exit code.
    func stop() -> Int32 {
        connections = [:]
        signal(SIGTERM)
        process?.waitUntilExit()
        return process?.terminationStatus ?? -1
    }

    var logText: String { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }

    deinit {
        if let process, process.isRunning {
            kill(process.processIdentifier, SIGCONT)
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        proxy.stop()
        try? FileManager.default.removeItem(at: log)
    }
}

final class Cluster {
    var servers: [ServerProcess]

    /// Servers with these actor counts; the first is started alone and the others join it. Returns when all know
    /// each other.
    init(actors: [Int], oneWayMillis: Int64 = 0) throws {
        servers = try actors.map { try ServerProcess(actors: $0) }
        introduce()
        for server in servers { server.proxy.set(.delay(oneWayMillis)) }
        for (i, server) in servers.enumerated() { try server.start(join: i == 0 ? [] : [servers[0].address]) }
        try settle(withinMillis: 60_000)
    }

    func introduce() {
        for server in servers { server.proxy.know(sources: servers.map(\.address)) }
    }

    /// Waits until every server lists every other one as up.
    func settle(withinMillis: Int64) throws {
        let took = try eventually(within: withinMillis) {
            try servers.allSatisfy { server in
                let text = try server.connection().call("INFO", "replication").text ?? ""
                return text.components(separatedBy: "state=up").count - 1 == servers.count - 1
            }
        }
        guard took != nil else {
            throw SocketError("the servers did not find each other:\n" + servers.map(\.logText).joined(separator: "\n"))
        }
    }

    /// Every query actor as (server, index).
    var actors: [(server: ServerProcess, index: Int)] {
        servers.flatMap { server in (0..<server.actors).map { (server, $0) } }
    }

    /// The milliseconds until every actor answers `value` for `key`, or nil after `within`.
    func visible(_ key: String, _ value: String, within millis: Int64) throws -> Int64? {
        try eventually(within: millis) { try actors.allSatisfy { try $0.server.get(key, actor: $0.index) == value } }
    }

    /// The milliseconds until all actors hold the same, or nil.
    func equal(within millis: Int64) throws -> Int64? {
        try eventually(within: millis) {
            Set(try actors.map { try $0.server.digest(actor: $0.index) ?? "" }).count == 1
        }
    }

    var logs: String { servers.map { "--- \($0.port)\n\($0.logText)" }.joined(separator: "\n") }
}
