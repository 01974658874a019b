// kvd, the server program: flags to configuration, signals to the server's end. Main thread only.

import ArgumentParser
import Glibc
import KVServer
import Logging

struct KVD: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kvd",
        abstract: "An in-memory key-value store that any Redis client can use and whose servers keep each other equal.",
        discussion: """
            Query actor i (from 1) serves clients on port P+i. Every flag may also come from the environment
            (KVD_PORT, …) and from --config FILE (one "name value" a line, # comments); a flag beats the environment,
            which beats the file.
            """,
        version: "kvd \(ServerVersion.kvd)")

    @Option(help: ArgumentHelp("Actor-system port; clients use the ports above it. (default: 6000)", valueName: "P"))
    var port: String?
    @Option(help: ArgumentHelp("Query actors, one event loop each. (default: online cores)", valueName: "N"))
    var actors: String?
    @Option(
        help: ArgumentHelp(
            "One more client port, spread over all query actors by the kernel. (default: off)", valueName: "Q"))
    var sharedPort: String?
    @Option(help: ArgumentHelp("Address to bind. (default: 127.0.0.1)", valueName: "H"))
    var host: String?
    @Option(help: ArgumentHelp("What other servers are told instead of host and port.", valueName: "HOST[:PORT]"))
    var advertise: String?
    @Option(help: ArgumentHelp("Any server to join, or its description line; repeatable.", valueName: "HOST:PORT"))
    var join: [String] = []
    @Option(help: ArgumentHelp("Servers of different clusters refuse each other. (default: kvd)", valueName: "NAME"))
    var cluster: String?
    @Option(help: ArgumentHelp("auto, io_uring or epoll. (default: auto)", valueName: "BACKEND"))
    var io: String?
    @Option(
        help: ArgumentHelp("trace, debug, info, notice, warning, error or critical. (default: info)", valueName: "L"))
    var logLevel: String?
    @Option(help: ArgumentHelp("Connections served at once. (default: 10000)", valueName: "N"))
    var maxclients: String?
    @Option(help: ArgumentHelp("Pin each loop to a core: yes or no. (default: yes)", valueName: "YES"))
    var pin: String?
    @Option(
        help: ArgumentHelp("Make fresh memory ready beside the loops: yes or no. (default: yes)", valueName: "YES"))
    var warmMemory: String?
    @Option(
        help: ArgumentHelp(
            "Longest time, in seconds, to hand over the last writes when told to stop. (default: 30)",
            valueName: "SECONDS"))
    var drainTimeout: String?
    @Option(
        name: .customLong("debug-clock-offset-ms"), parsing: .unconditional,
        help: ArgumentHelp("Added to the clock, for tests.", valueName: "MS", visibility: .hidden))
    var clockOffset: String?
    @Option(help: ArgumentHelp("Settings, one 'name value' a line.", valueName: "FILE"))
    var config: String?

    /// In the names of the configuration's rows.
    var flags: [(name: String, value: String)] {
        let single: [(String, String?)] = [
            ("port", port), ("actors", actors), ("shared-port", sharedPort), ("host", host), ("advertise", advertise),
            ("cluster", cluster), ("io", io), ("log-level", logLevel), ("maxclients", maxclients), ("pin", pin),
            ("warm-memory", warmMemory), ("drain-timeout", drainTimeout), ("debug-clock-offset-ms", clockOffset),
        ]
        return single.compactMap { name, value in value.map { (name, $0) } } + join.map { ("join", $0) }
    }
}

/// One line, unbuffered: C's stdio streams are global variables that Swift 6 does not let a program share.
func say(_ line: String, on descriptor: Int32) {
    let bytes = Array((line + "\n").utf8)
    var written = 0
    while written < bytes.count {
        let n = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + written, bytes.count - written) }
        if n <= 0 { return }
        written += n
    }
}

/// One line on standard error, then out.
func fail(_ message: String, code: Int32) -> Never {
    say("kvd: \(message)", on: STDERR_FILENO)
    exit(code)
}

func parseFlags() -> KVD {
    do { return try KVD.parse() } catch {
        let code = KVD.exitCode(for: error)
        if code == .success { KVD.exit(withError: error) }
        fail("\(KVD.message(for: error)); see kvd --help", code: 64)
    }
}

func environment() -> [String: String] {
    var variables: [String: String] = [:]
    var entry = environ
    while let text = entry.pointee {
        let parts = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2, parts[0].hasPrefix("KVD_") { variables[String(parts[0])] = String(parts[1]) }
        entry += 1
    }
    return variables
}

let command = parseFlags()
let config: Config
do { config = try Config.resolve(flags: command.flags, environment: environment(), file: command.config) } catch {
    fail(error.description, code: 64)
}

LoggingSystem.bootstrap { ServerLogHandler(label: $0) }
atexit { LogQueue.standardError.flush() }
var log = Logger(label: "kvd")
log.logLevel = Logger.Level(rawValue: config.logLevel) ?? .info
let signals = Signals.prepare(log)
for line in Config.unknownVariables(environment()) { log.warning("\(line)") }

let server = Server(config: config, log: log, onForgotten: Lifecycle.askToStop)
do {
    say(try server.start().json, on: STDOUT_FILENO)
} catch { fail(error.description, code: 1) }

Lifecycle.run(server, until: signals)
