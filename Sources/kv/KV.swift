// kv: the command line of the key-value store. The program's entry and its one-shot commands; runs on the main task.

import ArgumentParser
import KVClient

@main
enum Main {
    /// The main thread waits for signals; everything else happens on others, which have them blocked.
    static func main() {
        Interrupts.block()
        Task.detached {
            await run()
            KV.exit()
        }
        Interrupts.wait()
    }

    /// One line on standard error for whatever is wrong, and the exit code.
    private static func run() async {
        do {
            var command = try KV.parseAsRoot(ProgramArguments.given)
            if var waiting = command as? any AsyncParsableCommand {
                try await waiting.run()
            } else {
                try command.run()
            }
        } catch {
            let code = KV.exitCode(for: error)
            let message = KV.message(for: error)
            if code == .success || message.isEmpty { KV.exit(withError: error) }
            let hint = code == .validationFailure ? "; see kv --help" : ""
            Terminal.complain(Text.escaped(ProgramArguments.bytes(message)) + hint)
            KV.exit(withError: code)
        }
    }
}

struct KV: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kv",
        abstract: "Reads and writes a kvd key-value store.",
        discussion: """
            Without a command, kv reads commands: from a prompt with history and completion on a terminal, line by \
            line otherwise.

            Exit codes: 0 done; 1 the store could not be asked or refused; 2 there is no such key, or \
            put --if-absent found one; 64 wrong usage.
            """,
        version: KVClient.version,
        subcommands: [
            Get.self, Put.self, List.self, Delete.self, TimeToLive.self, Increment.self, Ping.self, Status.self,
            Doctor.self, Raw.self, Check.self, Backup.self, Restore.self, Export.self, Import.self,
        ])

    @OptionGroup var options: CommonOptions

    func validate() throws { try options.check() }

    func run() async throws {
        let client = try options.client()
        let isTerminal = Terminal.isTerminal(0) && Terminal.isTerminal(1)
        let code: Int32
        if isTerminal {
            code = await Prompt(client: client, options: options).run()
        } else {
            code = await Script(client: client, options: options).run()
        }
        await client.close()
        if code != 0 { throw ExitCode(code) }
    }
}

/// Options that every command takes, before or after its name.
struct CommonOptions: ParsableArguments {
    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "Servers to use; the first is asked until it fails. Default: KV_SERVER, else 127.0.0.1:6001.",
            valueName: "host:port[,…]"))
    var server: String?

    @Flag(help: "Print JSON, one object a line.") var json = false

    @Flag(help: "Print keys and values byte for byte, also on a terminal.") var raw = false

    @Option(help: ArgumentHelp("How long one call may take. Default: 5.", valueName: "seconds")) var timeout: Double?

    @Option(
        help: ArgumentHelp(
            "Who you are, for a server that asks. Default: KV_USER, else default. The password is KV_PASSWORD.",
            valueName: "name"))
    var user: String?

    @Flag(help: "Speak TLS. Any of the next three says so too.") var tls = false

    @Option(help: ArgumentHelp("Who signs servers' certificates. Default: whom the system trusts.", valueName: "file"))
    var cacert: String?

    @Option(help: ArgumentHelp("A certificate to show to the server.", valueName: "file")) var cert: String?

    @Option(help: ArgumentHelp("Its private key.", valueName: "file")) var key: String?

    /// These options, where given, and otherwise those given before the command's name.
    func over(_ outer: CommonOptions) -> CommonOptions {
        var merged = self
        merged.server = server ?? outer.server
        merged.json = json || outer.json
        merged.raw = raw || outer.raw
        merged.timeout = timeout ?? outer.timeout
        merged.user = user ?? outer.user
        merged.tls = tls || outer.tls
        (merged.cacert, merged.cert, merged.key) = (cacert ?? outer.cacert, cert ?? outer.cert, key ?? outer.key)
        return merged
    }

    /// What is wrong with the options is wrong usage, whichever command they came with.
    func check() throws {
        if json && raw { throw ValidationError("Either --json or --raw, not both.") }
        if let server, KVAddress.list(server) == nil {
            throw ValidationError("--server \(server) is not HOST:PORT[,HOST:PORT…]")
        }
        if let timeout, !(timeout > 0 && timeout <= 86_400) {
            throw ValidationError("--timeout must be more than 0 and at most 86400 seconds")
        }
        if (cert == nil) != (key == nil) { throw ValidationError("--cert and --key go together.") }
    }

    func addresses() throws -> [KVAddress] {
        let named = server ?? Terminal.environment("KV_SERVER")
        guard let named, !named.isEmpty else { return [.local] }
        guard let addresses = KVAddress.list(named) else {
            throw ValidationError("KV_SERVER=\(named) is not HOST:PORT[,HOST:PORT…]")
        }
        return addresses
    }

    /// `silence`: how long the server may say nothing while it is busy; nil: as long as a call may take.
    func client(silence: Duration? = nil) throws -> KVClient {
        var configuration = KVClientConfiguration()
        let seconds = timeout ?? 5
        configuration.callTimeout = .seconds(seconds)
        configuration.connectTimeout = .seconds(min(seconds, 2))
        configuration.silenceTimeout = silence ?? .seconds(seconds)
        if tls || cacert != nil || cert != nil {
            let tls = KVTLS(authorityFile: cacert, certificateFile: cert, keyFile: key)
            do { try tls.check() } catch { throw ValidationError("\(error)") }
            configuration.tls = tls
        }
        configuration.credentials = KVCredentials { name in
            name == "KV_USER" ? user ?? Terminal.environment(name) : Terminal.environment(name)
        }
        return KVClient(servers: try addresses(), configuration: configuration)
    }
}

/// A one-shot command: makes the request and exits with its code.
protocol OneShot: AsyncParsableCommand {
    var outer: KV { get }
    var options: CommonOptions { get }
    func request() throws -> Request
}

extension OneShot {
    func validate() throws { try options.check() }

    func run() async throws {
        let options = options.over(outer.options)
        let client = try options.client()
        let request = try request()
        let code = await Runner(client: client, json: options.json, isRaw: options.raw).run(request)
        await client.close()
        if code != 0 { throw ExitCode(code) }
    }
}

struct Get: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Prints the value of a key, byte for byte.",
        discussion: "Exit code 2, and nothing printed, when there is no such key.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(help: "The key.") var key: String

    func request() -> Request { .get(ProgramArguments.bytes(key)) }
}

struct Put: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Writes a value under a key.",
        discussion: "A value that begins with a dash comes after a lone --. With --stdin any bytes can be written.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Flag(help: "Take the value from standard input, all of it, byte for byte.") var stdin = false
    @Option(
        name: .customLong("ttl"),
        help: ArgumentHelp("Let it vanish after that time: 500ms, 30s, 15m, 2h.", valueName: "time"))
    var time: String?
    @Flag(help: "Only if there is no such key; exit code 2 if there is one.") var ifAbsent = false
    @Argument(help: "The key.") var key: String
    @Argument(help: "The value; not with --stdin.") var value: String?

    func validate() throws {
        try options.check()
        if stdin == (value != nil) {
            throw ValidationError(
                stdin
                    ? "Either a value or --stdin, not both."
                    : "The value is missing; one that begins with - comes after --")
        }
        if let time, Request.time(time) == nil { throw ValidationError("--ttl \(time) is not 500ms, 30s, 15m or 2h") }
    }

    func request() throws -> Request {
        let key = ProgramArguments.bytes(key)
        let value = try value.map { ProgramArguments.bytes($0) } ?? KVBytes(try Terminal.readAll())
        if time == nil, !ifAbsent { return .put(key, value) }
        return .putFor(key, value, time: time.flatMap { Request.time($0) }, ifAbsent: ifAbsent)
    }
}

struct TimeToLive: OneShot {
    static let configuration = CommandConfiguration(
        commandName: "ttl",
        abstract: "Prints for how many seconds a key is still there, or none if it does not expire.",
        discussion: "Exit code 2, and nothing printed, when there is no such key.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(help: "The key.") var key: String

    func request() -> Request { .timeToLive(ProgramArguments.bytes(key)) }
}

struct Increment: OneShot {
    static let configuration = CommandConfiguration(
        commandName: "incr",
        abstract: "Adds to a number and prints what it is then.",
        discussion: "Increments made on several servers add up. A number that is less than 0 comes after a lone --.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(help: "The key.") var key: String
    @Argument(help: "What is added. Default: 1.") var step: Int64 = 1

    func request() -> Request { .increment(ProgramArguments.bytes(key), by: step) }
}

struct List: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Prints the pairs whose key starts with a prefix, in byte order of keys.",
        discussion:
            "One pair a line: key, tab, value. Control characters, tabs and backslashes are written as \\n, \\t, "
            + "\\\\, \\x1B, so that every pair stays on its line.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Option(help: "At most so many pairs.") var limit: Int?
    @Option(help: "Only keys after this one.") var after: String?
    @Argument(help: "The prefix; all keys without one.") var prefix: String?

    func validate() throws {
        try options.check()
        if let limit, limit < 1 { throw ValidationError("--limit must be at least 1") }
    }

    func request() -> Request {
        .list(
            prefix: ProgramArguments.bytes(prefix ?? ""), limit: limit, after: after.map { ProgramArguments.bytes($0) })
    }
}

struct Delete: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Removes keys and prints how many there were.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(help: "The keys.") var keys: [String]

    func request() -> Request { .delete(keys.map { ProgramArguments.bytes($0) }) }
}

struct Ping: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Asks the store to answer and prints how long that took.",
        discussion: "Milliseconds, the connection made before. Exit code 1 when it does not answer.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions

    func request() -> Request { .ping }
}

struct Status: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Prints the cluster as a table, as the server sees it.",
        discussion: "This server first, then the others; what only they know of themselves is a dash. --json has more.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions

    func request() -> Request { .status }
}

struct Doctor: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Prints what looks wrong, and what to do.",
        discussion: "Exit code 1 when something is critical.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions

    func request() -> Request { .doctor }
}

struct Raw: OneShot {
    static let configuration = CommandConfiguration(
        abstract: "Sends any command of the server, such as raw INFO server, and prints the reply.",
        discussion: "Options of kv come before the command; what follows it is the server's.")

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(parsing: .captureForPassthrough, help: "The command and its arguments.") var words: [String]

    func validate() throws {
        try options.check()
        if words.isEmpty { throw ValidationError("The command is missing.") }
    }

    func request() -> Request { .raw(words.map { ProgramArguments.bytes($0) }) }
}
