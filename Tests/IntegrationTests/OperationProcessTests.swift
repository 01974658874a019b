// What operators' own tools make of a real kvd: the exporter of Debian, promtool, redis-cli's looks, MONITOR, HTTP.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct OperationProcessTests {
    private func tool(_ name: String) -> String? {
        if let path = Tool.path(name) { return path }
        print("\(name) is not installed: its test is skipped")
        #expect(ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil, "\(name) is not installed")
        return nil
    }

    /// The body of what is at a path of a port of this machine; nil as long as nothing answers.
    private func get(_ port: Int, _ path: String) throws -> (status: Int, body: String)? {
        guard let socket = try? TestSocket(port: UInt16(port), timeoutSeconds: 20) else { return nil }
        try socket.send("GET \(path) HTTP/1.0\r\n\r\n")
        let text = String(decoding: try socket.receiveAll(), as: UTF8.self)
        guard let end = text.firstRange(of: "\r\n\r\n") else { return nil }
        return (Int(text.dropFirst(9).prefix(3)) ?? 0, String(text[end.upperBound...]))
    }

    private func eventually<T>(_ look: () throws -> T?) rethrows -> T? {
        let deadline = Clock.millis() + 20_000
        while Clock.millis() < deadline {
            if let found = try look() { return found }
            _ = poll(nil, 0, 50)
        }
        return nil
    }

    private func withLoad(_ server: KVDProcess) throws {
        let client = try server.connect()
        for k in 0..<200 { _ = try client.command("SET", "key:\(k)", "value \(k)") }
        for k in 0..<300 { _ = try client.command("GET", "key:\(k)") }
        _ = try client.command("SETEX", "soon", "1000", "v")
        _ = try client.command("INCR", "n")
        _ = try client.command("NOSUCH")
        _ = try client.command("GET")
    }

    /// Series of the public dashboards for the exporter (763, 11835, 14091) and the alarms that come with it.
    private static let dashboards = [
        "redis_up", "redis_uptime_in_seconds", "redis_start_time_seconds", "redis_connected_clients",
        "redis_blocked_clients", "redis_config_maxclients", "redis_memory_used_bytes", "redis_memory_max_bytes",
        "redis_memory_used_rss_bytes", "redis_memory_used_peak_bytes", "redis_mem_fragmentation_ratio",
        "redis_commands_processed_total", "redis_commands_total",
        "redis_commands_duration_seconds_total", "redis_commands_failed_calls_total",
        "redis_commands_rejected_calls_total", "redis_keyspace_hits_total", "redis_keyspace_misses_total",
        "redis_net_input_bytes_total", "redis_net_output_bytes_total", "redis_db_keys", "redis_db_keys_expiring",
        "redis_expired_keys_total", "redis_evicted_keys_total", "redis_rejected_connections_total",
        "redis_connections_received_total", "redis_cpu_sys_seconds_total", "redis_cpu_user_seconds_total",
        "redis_slowlog_length", "redis_slowlog_last_id", "redis_instance_info", "redis_connected_slaves",
        "redis_rdb_changes_since_last_save", "redis_rdb_last_bgsave_status", "redis_aof_enabled",
        "redis_latency_percentiles_usec", "redis_errors_total", "redis_master_repl_offset", "redis_process_id",
    ]

    @Test func theExporterOfDebianFindsAllThatDashboardsShow() throws {
        guard let exporter = tool("prometheus-redis-exporter") else { return }
        let server = try KVDProcess(actors: 2)
        try withLoad(server)
        let port = FreePorts.take(1)
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: exporter)
        process.arguments = [
            "-redis.addr", "redis://127.0.0.1:\(server.clientPort)", "-web.listen-address", "127.0.0.1:\(port)",
        ]
        let errors = Pipe()
        process.standardError = errors
        process.standardOutput = errors
        try process.run()
        let scrape = try eventually { try get(port, "/metrics") }
        let again = try get(port, "/metrics")
        process.terminate()
        let log = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let text = try #require(scrape?.body)
        #expect(text.contains("\nredis_up 1\n"), "\(log)")
        #expect(text.contains("\nredis_exporter_last_scrape_error{err=\"\"} 0\n"), "\(log)")
        #expect(!log.contains("level=error") && !log.contains("level=warning"), "\(log)")
        for name in Self.dashboards {
            #expect(text.contains("\n\(name) ") || text.contains("\n\(name){"), "the exporter has no \(name)")
        }
        for line in [
            "redis_commands_total{cmd=\"get\"} 300", "redis_commands_total{cmd=\"set\"} 200",
            "redis_db_keys{db=\"db0\"} 202", "redis_db_keys_expiring{db=\"db0\"} 1", "redis_keyspace_misses_total 100",
            "redis_config_maxclients", "redis_errors_total{err=\"ERR\"} 2",
        ] { #expect(text.contains("\n\(line)"), "\(line)") }
        #expect(again?.body.contains("\nredis_up 1\n") == true)
    }

    @Test func promtoolAcceptsTheMetrics() throws {
        guard let promtool = tool("promtool") else { return }
        let port = FreePorts.take(1)
        let server = try KVDProcess(arguments: ["--metrics-address", "127.0.0.1:\(port)"], actors: 2)
        let other = try KVDProcess(arguments: ["--join", "127.0.0.1:\(server.port)"])
        defer { _ = other.port }
        try withLoad(server)
        let found = try eventually { () -> String? in
            let text = try get(port, "/metrics")?.body
            return text?.contains("kvd_peer_up{") == true ? text : nil
        }
        let text = try #require(found)
        let checked = try Tool.run(promtool, ["check", "metrics"], input: text)
        #expect(checked.code == 0 && checked.errors.isEmpty, "\(checked.output)\(checked.errors)")
        let series = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        #expect(series.count < 500)
        #expect(text.contains("kvd_commands_total{command=\"get\"} 300\n"))
        // A server that joins is not ready before it has the data; then it is.
        #expect(try eventually { try get(port, "/readyz")?.status == 200 ? true : nil } == true)
    }

    @Test func aServerThatLeavesIsNotReady() throws {
        let port = FreePorts.take(1)
        let server = try KVDProcess(arguments: ["--metrics-address", "\(port)"])
        #expect(try eventually { try get(port, "/readyz")?.status == 200 ? true : nil } == true)
        // A client that reads nothing keeps it for a second and a half.
        let client = try server.connect()
        #expect(try client.command("PING") == "+PONG\r\n")
        server.signal(SIGTERM)
        var seen = false
        while server.process.isRunning, !seen { seen = (try? get(port, "/readyz"))??.status == 503 }
        #expect(seen)
        #expect(server.exitCode(withinMillis: 60_000) == 0)
    }

    @Test func redisCLIsLooksWork() throws {
        guard let cli = tool("redis-cli"), let timeout = tool("timeout"), let stdbuf = tool("stdbuf") else { return }
        let server = try KVDProcess(actors: 2)
        try withLoad(server)
        func run(_ arguments: [String], seconds: Int? = nil) throws -> String {
            let all = ["-p", "\(server.clientPort)"] + arguments
            let ended =
                try seconds.map { try Tool.run(timeout, ["\($0)", stdbuf, "-o0", cli] + all) } ?? Tool.run(cli, all)
            #expect(seconds == nil ? ended.code == 0 : ended.code == 124, "\(arguments): \(ended.code) \(ended.errors)")
            return ended.output
        }
        let big = try run(["--bigkeys"])
        #expect(big.contains("Sampled 202 keys") && big.contains("202 strings with"), "\(big)")
        let memory = try run(["--memkeys"])
        #expect(memory.contains("Sampled 202 keys") && memory.contains("Biggest string"), "\(memory)")
        #expect(try run(["--stat", "-i", "0.2"], seconds: 2).contains("202"))
        #expect(try run(["--latency", "--raw", "-i", "1"]).split(separator: " ").count == 4)
        #expect(try run(["--latency-history", "--raw", "-i", "1"], seconds: 3).contains("."))
        #expect(try run(["--scan"]).split(separator: "\n").count == 202)
        #expect(try run(["LATENCY", "HISTOGRAM", "get"]).contains("histogram_usec"))
        #expect(try run(["--json", "MEMORY", "STATS"]).contains("\"keys.count\":202"))
    }

    @Test func aWatcherSeesTheCommandsOfEveryActor() throws {
        let server = try KVDProcess(actors: 3)
        let watcher = try server.connect(2)
        #expect(try watcher.command("MONITOR") == "+OK\r\n")
        let clients = try (1...3).map { try server.connect($0) }
        for (place, client) in clients.enumerated() {
            // Every actor has been told of the watcher.
            var text = ""
            var turns = 0
            while !text.contains("\"k\(place)\""), turns < 200 {
                _ = try client.command("SET", "k\(place)", "v")
                turns += 1
                if turns > 3 || place == 1 { text += String(decoding: try watcher.reply(), as: UTF8.self) }
            }
            #expect(text.contains("[0 127.0.0.1:") && text.contains("\"SET\" \"k\(place)\" \"v\"\r\n"), "\(text)")
        }
    }

    @Test func pausedWritesGoOnAtTheEnd() throws {
        let server = try KVDProcess(actors: 2)
        let (admin, writer) = (try server.connect(1), try server.connect(2))
        #expect(try admin.command("CLIENT", "PAUSE", "300", "WRITE") == "+OK\r\n")
        // The other actor hears of it a moment later; from then on a write waits for the end.
        let start = Clock.millis()
        var longest = 0
        while Clock.millis() - start < 600 {
            let sent = Clock.millis()
            #expect(try writer.command("SET", "k", "v") == "+OK\r\n")
            longest = max(longest, Clock.millis() - sent)
        }
        #expect(longest >= 150, "\(longest)")
        #expect(try writer.command("GET", "k") == "$1\r\nv\r\n")
        // Killed at another actor.
        let id = try writer.command("CLIENT", "ID").dropFirst().dropLast()
        #expect(try admin.command("CLIENT", "KILL", "ID", String(id)) == ":1\r\n")
        #expect(throws: (any Error).self) { for _ in 0..<3 { _ = try writer.command("PING") } }
    }

    @Test func waitsOfOtherActorsClientsAreEnded() throws {
        let server = try KVDProcess(actors: 2)
        let (admin, waiting) = (try server.connect(1), try server.connect(2))
        let id = String(try waiting.command("CLIENT", "ID").dropFirst().dropLast())
        let refused = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
        for (command, how, reply) in [
            (["WAIT", "1", "0"], [], ":0\r\n"), (["WAIT", "1", "0"], ["ERROR"], refused),
            (["WAITAOF", "0", "1", "0"], ["timeout"], "*2\r\n:0\r\n:0\r\n"),
            (["WAITAOF", "0", "1", "0"], ["error"], refused),
        ] as [([String], [String], String)] {
            #expect(try admin.command("CLIENT", "UNBLOCK", id) == ":0\r\n", "nothing waits yet")
            try waiting.send(Client.encode(command.map { Bytes($0) }))
            let words = (["CLIENT", "UNBLOCK", id] + how).map { Bytes($0) }
            let isDone = try eventually { try admin.call(words) == Array(":1\r\n".utf8) ? true : nil }
            #expect(isDone == true, "\(command) \(how)")
            #expect(String(decoding: try waiting.reply(), as: UTF8.self) == reply, "\(command) \(how)")
        }
        #expect(try waiting.command("PING") == "+PONG\r\n")
        #expect(try eventually { try server.info("blocked_clients") == "0" ? true : nil } == true)
        for (words, reply) in [
            (["999999"], ":0"), (["x"], "-ERR value is not an integer or out of range"),
            ([id, "FOO"], "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            (["x", "FOO"], "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            ([], "-ERR wrong number of arguments for 'client|unblock' command"),
        ] as [([String], String)] {
            let found = String(
                decoding: try admin.call((["CLIENT", "UNBLOCK"] + words).map { Bytes($0) }), as: UTF8.self)
            #expect(found == reply + "\r\n")
        }
    }

    /// A pause ends by itself or with CLIENT UNPAUSE, and not for one client.
    @Test func aPausedClientIsNotUnblocked() throws {
        let server = try KVDProcess()
        let (admin, writer) = (try server.connect(), try server.connect())
        let id = String(try writer.command("CLIENT", "ID").dropFirst().dropLast())
        #expect(try admin.command("CLIENT", "PAUSE", "60000", "WRITE") == "+OK\r\n")
        try writer.send(Client.encode(["SET", "k", "v"].map { Bytes($0) }))
        #expect(try eventually { try server.info("blocked_clients") == "1" ? true : nil } == true)
        #expect(try admin.command("CLIENT", "UNBLOCK", id) == ":0\r\n")
        #expect(try admin.command("CLIENT", "UNPAUSE") == "+OK\r\n")
        #expect(try writer.reply() == Array("+OK\r\n".utf8))
    }

    // MARK: Looked at from outside

    /// A script of Tests/Operations against this build; nil if a program that it needs is missing.
    private func check(_ name: String, _ arguments: [String] = []) throws {
        guard let python = tool("python3") else { return }
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Operations/\(name).py").path
        let ended = try Tool.run(python, [script, "--bin", KVDProcess.directory.path] + arguments)
        if ended.code == 77, ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil {
            return print("skipped: \(ended.output)")
        }
        #expect(ended.code == 0, "\(ended.output)\(ended.errors)")
    }

    @Test func everyExpressionOfTheDashboardHasAValueAndEveryAlarmIsOff() throws { try check("dashboards") }

    @Test func thePageIsRightOnEveryScreen() throws { try check("page") }

    @Test func wrongRequestsAndSettingsAreRefusedWithinBounds() throws { try check("bad_requests") }

    @Test func theLogLevelChangesForEveryLogger() throws {
        let server = try KVDProcess()
        let client = try server.connect()
        #expect(try client.command("CONFIG", "SET", "log-level", "error") == "+OK\r\n")
        #expect(try client.command("CONFIG", "SET", "maxclients", "100") == "+OK\r\n")
        #expect(try client.command("CONFIG", "SET", "loglevel", "notice") == "+OK\r\n")
        #expect(try client.command("CONFIG", "GET", "log-level").contains("notice"))
        #expect(try client.command("CONFIG", "SET", "maxclients", "101") == "+OK\r\n")
        let text = server.end(SIGTERM)
        #expect(text.matches(of: /CONFIG SET changed maxclients/).count == 1, "\(text)")
    }

    /// Looked at by a browser: whole without JavaScript, renewed with it, no wider than a telephone.
    @Test func aBrowserShowsThePage() throws {
        guard let chromium = tool("chromium") else { return }
        let port = FreePorts.take(1)
        let server = try KVDProcess(arguments: ["--metrics-address", "\(port)"], actors: 2)
        try withLoad(server)
        #expect(try eventually { try get(port, "/")?.status == 200 ? true : nil } == true)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-page-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let common = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=\(folder)",
            "--virtual-time-budget=2000",
        ]
        let dom = try Tool.run(chromium, common + ["--dump-dom", "http://127.0.0.1:\(port)/"])
        #expect(dom.code == 0, "\(dom.errors)")
        for part in ["New figures every 5 seconds.", "Actors, last ten minutes", ">\(server.clientPort)</th>"] {
            #expect(dom.output.contains(part), "\(part)")
        }
    }
}
