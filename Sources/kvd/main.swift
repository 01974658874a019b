// kvd, the server program: flags to configuration, signals to the server's end. Main thread only.

import ArgumentParser
import Glibc
import KVServer
import Logging

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

/// `kvd check-config`: what would count, without starting anything.
struct CheckConfig: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check-config", _superCommandName: "kvd",
        abstract: "Read flags, environment and file, and say what would count.",
        discussion: """
            Takes the flags of kvd. Prints each setting that is not at its default, with where it comes from, and \
            checks what only the whole can tell. Exit code 64 and one line if a setting cannot be used.
            """)

    @Argument(parsing: .captureForPassthrough, help: "Flags of kvd.") var words: [String] = []

    func run() throws {
        if words.contains("--help") || words.contains("-h") { throw CleanExit.helpRequest(self) }
        let lines: [String]
        do { lines = try report() } catch { fail(error.description, code: 64) }
        for line in lines { say(line, on: STDOUT_FILENO) }
        for line in Config.unknownVariables(environment()) { say("kvd: \(line)", on: STDERR_FILENO) }
    }

    private func report() throws(ConfigError) -> [String] {
        let parsed = try FlagParser.parse(words)
        return try Config.report(flags: parsed.pairs, environment: environment(), file: parsed.file)
    }
}

/// `kvd settings`: the table of settings as a page.
struct Settings: ParsableCommand {
    static let configuration = CommandConfiguration(
        _superCommandName: "kvd",
        abstract: "Print the settings as markdown, conf, man, bash or zsh.",
        discussion: "conf is a configuration file with every setting commented out; bash and zsh are completions.")

    @Argument(help: "markdown, conf, man, bash or zsh.") var form: String

    func run() throws {
        guard let page = SettingPages.byName.first(where: { $0.name == form }) else {
            fail("'\(form)' is not one of \(SettingPages.byName.map(\.name).joined(separator: ", "))", code: 64)
        }
        say(String(page.text().dropLast()), on: STDOUT_FILENO)
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

let subcommands: [any ParsableCommand.Type] = [Secret.self, Cert.self, CheckConfig.self, Settings.self]

/// Runs a subcommand and ends, or returns the flags of the server.
func parseFlags() -> ParsedFlags {
    let words = Array(CommandLine.arguments.dropFirst())
    for subcommand in subcommands where words.first == subcommand._commandName {
        subcommand.main(Array(words.dropFirst()))
        exit(0)
    }
    do throws(ConfigError) {
        let parsed = try FlagParser.parse(words)
        if parsed.wantsHelp || parsed.wantsVersion {
            say(parsed.wantsHelp ? String(SettingPages.help.dropLast()) : "kvd \(ServerVersion.kvd)", on: STDOUT_FILENO)
            exit(0)
        }
        return parsed
    } catch { fail("\(error.description); see kvd --help", code: 64) }
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

let parsed = parseFlags()
let config: Config
do { config = try Config.resolve(flags: parsed.pairs, environment: environment(), file: parsed.file) } catch {
    fail(error.description, code: 64)
}

LoggingSystem.bootstrap { ServerLogHandler(label: $0, format: config.logFormat) }
atexit { LogQueue.standardError.flush() }
var log = Logger(label: "kvd")
log.logLevel = Logger.Level(rawValue: config.logLevel) ?? .info
let signals = Signals.prepare(log)
for line in Config.unknownVariables(environment()) { log.warning("\(line)") }

let server = Server(config: config, log: log, onForgotten: Lifecycle.askToStop)
server.manager = .ofEnvironment()
do {
    let description = try server.start()
    // Before it is known to be ready: a SIGHUP that follows does what it should.
    Signals.rereadSettings(of: server)
    say(description.json, on: STDOUT_FILENO)
} catch { fail(error.description, code: 1) }

Lifecycle.run(server, until: signals)
