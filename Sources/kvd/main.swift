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
        version: "kvd \(ServerVersion.kvd)", subcommands: [Secret.self, Cert.self])

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
    @Option(
        help: ArgumentHelp(
            "Name of this server, the same over restarts and addresses. (default: host name and port)",
            valueName: "NAME"))
    var name: String?
    @Option(help: ArgumentHelp("Any server to join, or its description line; repeatable.", valueName: "HOST:PORT"))
    var join: [String] = []
    @Option(help: ArgumentHelp("Servers of different clusters refuse each other. (default: kvd)", valueName: "NAME"))
    var cluster: String?
    @Option(
        help: ArgumentHelp(
            "The key by which servers of the cluster know each other: kvd secret > FILE. SIGHUP reads it again.",
            valueName: "FILE"))
    var clusterKeyFile: String?
    @Option(help: ArgumentHelp("Instead of a key: this server's certificate, PEM.", valueName: "FILE"))
    var peerTlsCert: String?
    @Option(help: ArgumentHelp("Its private key, PEM.", valueName: "FILE"))
    var peerTlsKey: String?
    @Option(help: ArgumentHelp("Who signs the servers' certificates, PEM.", valueName: "FILE"))
    var peerTlsCa: String?
    @Flag(help: "Off loopback without a key or certificates: whoever reaches the port is believed.")
    var trustTheNetwork = false
    @Option(
        help: ArgumentHelp(
            "The password of clients, one line. SIGHUP reads it again. (default: none)", valueName: "FILE"))
    var requirepassFile: String?
    @Option(
        help: ArgumentHelp("The users of clients, lines of Redis's ACL. SIGHUP reads it again.", valueName: "FILE"))
    var aclfile: String?
    @Option(
        help: ArgumentHelp(
            "yes or no: clients of other machines are refused as long as none needs a password. (default: yes)",
            valueName: "WHETHER"))
    var protectedMode: String?
    @Option(
        help: ArgumentHelp(
            "off, optional or required: TLS with clients. (default: required with a certificate, else off)",
            valueName: "MODE"))
    var tls: String?
    @Option(help: ArgumentHelp("The certificate that clients see, PEM. SIGHUP reads it again.", valueName: "FILE"))
    var tlsCertFile: String?
    @Option(help: ArgumentHelp("Its private key, PEM.", valueName: "FILE"))
    var tlsKeyFile: String?
    @Option(help: ArgumentHelp("Who signs the certificates of clients, PEM.", valueName: "FILE"))
    var tlsCaFile: String?
    @Option(
        help: ArgumentHelp(
            "no, optional or yes: clients show a certificate. (default: optional with --tls-ca-file, else no)",
            valueName: "WHETHER"))
    var tlsAuthClients: String?
    @Option(
        help: ArgumentHelp("CN or URI: what of a client's certificate is its user. (default: none)", valueName: "FIELD")
    )
    var tlsAuthClientsUser: String?
    @Option(
        help: ArgumentHelp(
            "One more place for clients: a socket in the file system. (default: none)", valueName: "PATH"))
    var unixsocket: String?
    @Option(help: ArgumentHelp("Who may use it, octal. (default: 700)", valueName: "MODE"))
    var unixsocketperm: String?
    @Option(help: ArgumentHelp("auto, io_uring or epoll. (default: auto)", valueName: "BACKEND"))
    var io: String?
    @Option(
        help: ArgumentHelp("trace, debug, info, notice, warning, error or critical. (default: info)", valueName: "L"))
    var logLevel: String?
    @Option(help: ArgumentHelp("Connections served at once. (default: 10000)", valueName: "N"))
    var maxclients: String?
    @Option(
        help: ArgumentHelp(
            "Memory above which clients' writes are refused: 0 for none, or as 512mb, 4gb. (default: 80 % of all)",
            valueName: "BYTES"))
    var maxmemory: String?
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
        help: ArgumentHelp(
            "Answer data commands while still fetching what others have: yes or no. (default: yes)", valueName: "YES"))
    var serveWhileJoining: String?
    @Option(
        help: ArgumentHelp(
            "Refuse writes while one has waited longer for another server that is up. (default: off)",
            valueName: "SECONDS"))
    var maxLag: String?
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
            ("cluster", cluster), ("io", io), ("log-level", logLevel), ("maxclients", maxclients),
            ("maxmemory", maxmemory),
            ("unixsocket", unixsocket), ("unixsocketperm", unixsocketperm), ("pin", pin),
            ("warm-memory", warmMemory),
            ("drain-timeout", drainTimeout), ("debug-clock-offset-ms", clockOffset),
            ("cluster-key-file", clusterKeyFile), ("peer-tls-cert", peerTlsCert), ("peer-tls-key", peerTlsKey),
            ("peer-tls-ca", peerTlsCa), ("trust-the-network", trustTheNetwork ? "yes" : nil),
            ("tls", tls), ("tls-cert-file", tlsCertFile), ("tls-key-file", tlsKeyFile), ("tls-ca-file", tlsCaFile),
            ("tls-auth-clients", tlsAuthClients), ("tls-auth-clients-user", tlsAuthClientsUser),
            ("requirepass-file", requirepassFile), ("aclfile", aclfile), ("protected-mode", protectedMode),
            ("name", name), ("serve-while-joining", serveWhileJoining), ("max-lag", maxLag),
        ]
        return single.compactMap { name, value in value.map { (name, $0) } } + join.map { ("join", $0) }
    }
}

/// `kvd secret`: a key for --cluster-key-file.
struct Secret: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print a new key of a cluster, for --cluster-key-file: kvd secret > FILE.",
        discussion: """
            To replace a key without losing a link, put the new one on a second line of the file on every server and \
            send SIGHUP; then exchange the two lines everywhere and send SIGHUP; then take the old one out.
            """)

    func run() throws {
        guard let key = TrustSettings.newKey() else { fail("the system has no random bytes", code: 1) }
        say(key, on: STDOUT_FILENO)
    }
}

/// `kvd cert ca|server|client`: a working set of certificates, a command each.
struct Cert: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make certificates for --peer-tls-cert: an authority first, then one for each server.",
        discussion: """
            kvd cert ca              writes ca.pem and ca.key: keep ca.key where no server can read it
            kvd cert server NAME     writes NAME.pem and NAME.key, for kvd://CLUSTER/NAME and this machine's addresses
            kvd cert client NAME     the same for a client

            Start a server with --peer-tls-cert NAME.pem --peer-tls-key NAME.key --peer-tls-ca ca.pem.
            """)

    @Argument(help: "ca, server or client.") var kind: String
    @Argument(help: "Of the server or client.") var name: String?
    @Option(help: ArgumentHelp("The cluster it is for. (default: kvd)", valueName: "NAME")) var cluster = "kvd"
    @Option(help: ArgumentHelp("Where the files are and go. (default: .)", valueName: "FOLDER")) var dir = "."
    @Option(help: ArgumentHelp("One more host name or address; repeatable.", valueName: "HOST")) var host: [String] = []
    @Option(help: ArgumentHelp("How long it is good. (default: 3650 for ca, 365 else)", valueName: "DAYS")) var days:
        Int?

    func run() throws {
        let failure = TrustSettings.makeCertificate(
            kind: kind, name: name, cluster: cluster, folder: dir, hosts: host, days: days)
        if let failure { fail(failure.text, code: failure.isUsage ? 64 : 1) }
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

/// Runs a subcommand and ends, or returns the flags of the server.
func parseFlags() -> KVD {
    // By hand: the parser would give --host and --cluster behind a subcommand to the server.
    let words = Array(CommandLine.arguments.dropFirst())
    for subcommand in KVD.configuration.subcommands where words.first == subcommand._commandName {
        subcommand.main(Array(words.dropFirst()))
        exit(0)
    }
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
    Signals.rereadSettings(of: server)
} catch { fail(error.description, code: 1) }

Lifecycle.run(server, until: signals)
