// perf-driver: the command line's root and what its subcommands share. Main thread.

import ArgumentParser
import Foundation
import KVBase
import KVRuntime

@main
struct PerfDriver: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "perf-driver",
        abstract:
            "Load generator and benchmark reporter for kvd, Redis, memcached and anything that speaks their protocols.",
        discussion: """
            EXAMPLES
              Load a million keys, then read them for 10 s; the server's CPU per request comes from its pid:
                perf-driver --server 127.0.0.1:6001 --server-pid $(pidof kvd) --load --cpu 1
              Pipelines of 16, 95 % GET, Zipf 0.99, results as JSON too:
                perf-driver --server 127.0.0.1:6379 -P 16 --ops get:95,set:5 --distribution zipf:0.99 --json out.json
              Latency at a fixed rate, from each request's intended start (free of coordinated omission):
                perf-driver --rate 50000 --duration 30 --svg latency.svg --hdr-log latency.hlog
              YCSB A against three servers at once, one row each:
                perf-driver --server h1:6001 --server h2:6001 --server h3:6001 --ycsb A -c 150
              memcached, text protocol:
                perf-driver --server memcached://127.0.0.1:11211 --load
              A thousand new keys, then the next thousand:
                perf-driver --ops insert --requests 1000
                perf-driver --ops insert --requests 1000 --first-insert 1000
              A command of your own (100 members from a sorted set):
                perf-driver --ops custom --command 'ZRANGEBYLEX z [__key__ + LIMIT 0 100'
              Where the knee is; what two servers cost in alternating rounds; what the kernel alone costs:
                perf-driver sweep --server 127.0.0.1:6001 --limit-micros 1000
                perf-driver compare --target redis=127.0.0.1:6379,pid=11 --target kvd=127.0.0.1:6001,pid=12 --rounds 5
                perf-driver limit --port 7000 --cpu 0
            """,
        version: "perf-driver \(ProductVersion.text)",
        subcommands: [RunCommand.self, SweepCommand.self, CompareCommand.self, LimitCommand.self, ParseCommand.self],
        defaultSubcommand: RunCommand.self)
}

extension PerfDriver {
    /// What is wrong is one line on standard error: of the command line 64, else 1.
    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            let code = exitCode(for: error)
            let message = message(for: error)
            if code == .success || message.isEmpty { exit(withError: error) }
            let hint = code == .validationFailure ? "; see perf-driver --help" : ""
            // What was measured before it comes first, also where both go to one file.
            fflush(nil)
            FileHandle.standardError.write(Data("perf-driver: \(message)\(hint)\n".utf8))
            exit(withError: code)
        }
    }
}

/// Keys, values, operations: the same in every subcommand.
struct WorkloadOptions: ParsableArguments {
    @Option(help: "Number of keys.")
    var keys = 1_000_000

    @Option(help: "Bytes of a key: the prefix, then decimal digits.")
    var keySize = 16

    @Option(help: "Text every key begins with.")
    var keyPrefix = "key:"

    @Option(help: "Inserts that were done before: where a run ended (nextInsert of its JSON), the next goes on.")
    var firstInsert = 0

    @Option(help: "Bytes of a value: N or LOW-HIGH.")
    var valueSize = "64"

    @Option(help: "Operations and weights: get, set, insert, rmw, delete, list, scan, custom; e.g. get:95,set:5.")
    var ops = "get"

    @Option(help: "YCSB core workload A to F; sets the operations and, unless given, the distribution.")
    var ycsb: String?

    @Option(help: "uniform, zipf[:S], latest[:S], hot (one key) or sequential. S is the exponent, 0.99 by default.")
    var distribution: String?

    @Option(help: "Keys a LIST or SCAN prefix covers (a power of ten).")
    var listCount = 100

    @Option(help: "COUNT of each SCAN step. One operation is a whole scan, cursor 0 to 0.")
    var scanCount = 1000

    @Option(help: "Words of the custom operation; __key__, __prefix__ and __data__ are replaced.")
    var command: String?

    @Option(help: "Seed of keys and values: the same seed asks the same.")
    var seed: UInt64 = 1

    func workload() throws -> Workload {
        var workload = Workload()
        workload.keys = keys
        workload.keyBytes = keySize
        workload.keyPrefix = keyPrefix
        workload.firstInsert = firstInsert
        let sizes = valueSize.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        workload.valueBytesMin = sizes.first ?? 0
        workload.valueBytesMax = sizes.count <= 2 ? sizes.last ?? 0 : 0
        workload.scanCount = scanCount
        workload.seed = seed
        workload.custom = (command ?? "").split(separator: " ").map(String.init)
        guard let mix = Workload.mix(ops) else { throw ValidationError("--ops '\(ops)' is not OPERATION:WEIGHT,…") }
        workload.mix = mix
        if let ycsb, !workload.setYCSB(ycsb) { throw ValidationError("--ycsb takes A, B, C, D, E or F") }
        if let distribution {
            guard let parsed = Distribution(distribution) else {
                throw ValidationError(
                    "--distribution '\(distribution)' is none of uniform, zipf:S, latest:S, hot, sequential")
            }
            workload.distribution = parsed
        }
        // Else nobody asked for a prefix, and the default fits every key.
        if workload.usesPrefixes { workload.listKeys = listCount }
        if let problem = workload.problem { throw ValidationError(problem) }
        return workload
    }
}

/// How it is asked: connections, pace, time, threads.
struct PaceOptions: ParsableArguments {
    @Option(name: [.customShort("c"), .long], help: "Connections, spread over the servers.")
    var connections = 50

    @Option(name: [.customShort("P"), .long], help: "Closed loop: requests under way per connection.")
    var pipeline = 1

    @Option(help: "Measured seconds.")
    var duration = 10.0

    @Option(help: "Seconds before measuring.")
    var warmup = 1.0

    @Option(help: "Threads of this load generator.")
    var threads = 1

    @Option(help: "CPU to pin to, or a list, one per thread: 1 or 1,3.")
    var cpu: String?

    @Flag(help: "Never sleep between events: lower measuring error, a whole core each thread.")
    var spin = false

    @Flag(help: "Set every key once on every server first.")
    var load = false

    @Flag(help: "No progress line.")
    var quiet = false

    @OptionGroup var accessOptions: AccessOptions

    private static let secondsMax = 1e6

    /// All that can be wrong with a load is found here, before anything is asked. Without `pace` the loop is closed;
    /// `requests` are operations instead of seconds.
    func plan(
        _ endpoints: [Endpoint], _ workload: Workload, pace: Pace? = nil, requests: Int? = nil
    ) throws -> RunPlan {
        guard connections >= endpoints.count, connections <= 100_000 else {
            throw ValidationError("--connections must be at least one per server and at most 100000")
        }
        guard pipeline >= 1, pipeline <= 65_536 else { throw ValidationError("--pipeline must be 1 to 65536") }
        guard duration > 0, duration <= Self.secondsMax, warmup >= 0, warmup <= Self.secondsMax else {
            throw ValidationError("--duration must be above 0, --warmup at least 0, both at most 1000000 seconds")
        }
        guard threads >= 1, threads <= 256 else { throw ValidationError("--threads must be 1 to 256") }
        var plan = RunPlan(endpoints: try accessOptions.apply(to: endpoints))
        plan.connections = connections
        plan.pace = pace ?? .closed(depth: pipeline)
        plan.workload = workload
        plan.threads = threads
        plan.cpus = try cpus()
        plan.warmUpSeconds = warmup
        plan.seconds = duration
        plan.spins = spin
        plan.showsProgress = !quiet && isatty(2) == 1
        if let requests {
            guard requests > 0 else { throw ValidationError("--requests must be positive") }
            plan.operations = requests
            plan.warmUpSeconds = 0
        }
        if let problem = plan.problem { throw ValidationError(problem) }
        return plan
    }

    private func cpus() throws -> [Int] {
        let parts = (cpu ?? "").split(separator: ",").map { Int($0) }
        guard parts.allSatisfy({ $0 != nil && $0! >= 0 && $0! < 1024 }) else {
            throw ValidationError("--cpu takes numbers: 1 or 1,3")
        }
        return parts.compactMap { $0 }
    }
}

/// Who asks, and how servers are reached that want to know. The password is KV_PASSWORD's.
struct AccessOptions: ParsableArguments {
    @Flag(help: "Reach every server with TLS, as rediss:// does for one.")
    var tls = false

    @Option(help: "Who signs servers' certificates, PEM. Without it whoever answers is believed.")
    var cacert: String?

    @Option(help: "A certificate to show, PEM.")
    var cert: String?

    @Option(help: "Its private key, PEM.")
    var key: String?

    @Option(help: "Who asks, where servers want to know; the password is KV_PASSWORD's.")
    var user: String?

    func apply(to endpoints: [Endpoint]) throws -> [Endpoint] {
        guard (cert == nil) == (key == nil) else { throw ValidationError("--cert and --key go together") }
        var access = ServerAccess()
        access.files = SecureFiles(
            certificate: try bytes(cert), key: try bytes(key), authority: try bytes(cacert),
            asks: cacert == nil ? .no : .yes)
        access.user = user ?? "default"
        access.password = ProcessInfo.processInfo.environment["KV_PASSWORD"].flatMap { $0.isEmpty ? nil : $0 }
        return endpoints.map { endpoint in
            var endpoint = endpoint
            endpoint.access = access
            endpoint.isSecure = (endpoint.isSecure || tls) && endpoint.wire == .redis
            return endpoint
        }
    }

    private func bytes(_ path: String?) throws -> [UInt8] {
        guard let path else { return [] }
        do { return Array(try Data(contentsOf: URL(fileURLWithPath: path))) } catch {
            throw DriverError("cannot read \(path): \(error.localizedDescription)")
        }
    }
}

/// The pace of an open loop, whose rate `option` gave.
func openPace(_ rate: Double, poisson: Bool, burst: Int = 1, option: String = "--rate") throws -> Pace {
    guard rate >= 0.001, rate <= Pace.rateMax else {
        throw ValidationError("\(option) must be 0.001 to 1000000000 operations per second")
    }
    guard burst >= 1, burst <= 1_000_000 else { throw ValidationError("--burst must be 1 to 1000000") }
    return .open(ratePerSecond: rate, poisson: poisson, burst: burst)
}

func endpoints(_ servers: [String], pids: String?) throws -> [Endpoint] {
    let numbers = (pids ?? "").split(separator: ",").map { Int32($0) }
    guard numbers.allSatisfy({ $0 != nil }), numbers.isEmpty || numbers.count == servers.count else {
        throw ValidationError("--server-pid takes one pid for each --server, separated by commas")
    }
    return try servers.enumerated().map { i, text in
        guard let endpoint = Endpoint(text, pid: numbers.isEmpty ? nil : numbers[i]) else {
            throw ValidationError("--server '\(text)' is not [redis://|rediss://|memcached://]HOST:PORT")
        }
        if let pid = endpoint.pid, ProcessSample(pid: pid) == nil {
            throw DriverError("there is no process \(pid) to watch")
        }
        return endpoint
    }
}

func jsonText(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}

/// What cannot be written later is found out before anything is measured. Leaves every file as it was.
func tryOutputs(_ paths: String?...) throws {
    for case let path? in paths where path != "-" {
        let isNew = access(path, F_OK) != 0
        let fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard fd >= 0 else { throw DriverError("cannot write \(path): \(errorText(errno))") }
        close(fd)
        if isNew { unlink(path) }
    }
}

/// Error replies are a failure of the run, whatever else it found.
func failOnErrors(_ errors: Int, of requests: Int, _ first: String?) throws {
    guard errors > 0 else { return }
    throw DriverError(
        "\(grouped(errors)) of \(grouped(requests)) replies are errors, the first: \(first ?? "unknown")")
}

func write(_ text: String, to path: String) throws {
    if path == "-" {
        print(text)
        return
    }
    do { try Data((text + "\n").utf8).write(to: URL(fileURLWithPath: path)) } catch {
        throw DriverError("cannot write \(path): \(error.localizedDescription)")
    }
}
