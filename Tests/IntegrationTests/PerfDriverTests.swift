// perf-driver as a user runs it: against a real kvd and its own null responder; exit codes and reports.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking, .serialized) struct PerfDriverTests {
    private let driver = KVDProcess.directory.appendingPathComponent("perf-driver").path

    private func run(_ arguments: [String]) throws -> (code: Int32, output: String, errors: String) {
        try Tool.run(driver, arguments + ["--quiet"])
    }

    private func json(_ arguments: [String]) throws -> [String: Any] {
        let ended = try run(arguments + ["--json", "-"])
        #expect(ended.code == 0, "\(arguments): \(ended.errors)")
        return try #require(try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any])
    }

    @Test func badUsageIsExitCode64() throws {
        for wrong in [["--nonsense"], ["--ops", "fly"], ["--distribution", "zipf:x"], ["--keys", "0"], ["compare"]] {
            #expect(try Tool.run(driver, wrong).code == 64, "\(wrong)")
        }
    }

    @Test func everyBadFlagIsOneLine() throws {
        let compare = ["compare", "--target", "a=127.0.0.1:1", "--target", "b=127.0.0.1:1"]
        let ofCompare: [[String]] = [["--rate", "inf"], ["--rate", "1e300"], ["--rate", "10", "--ops", "scan"]]
        let ofOthers: [[String]] = [
            ["--ops", ":"], ["--ops", "get:inf"], ["--ops", "get:1e300,set:1e300"], ["--ops", "get:0"],
            ["--rate", "inf"], ["--rate", "1e300"], ["--rate", "1e-300"], ["--rate", "10", "--burst", "0"],
            ["sweep", "--from", "inf"], ["sweep", "--ops", "scan"], ["sweep", "--limit-micros", "inf"],
            ["sweep", "--over-connections", ","], ["--duration", "inf"], ["--duration", "1e300"], ["--warmup", "inf"],
            ["--warmup", "1e300"], ["--ops", "list", "--list-count", "9223372036854775807"],
            ["--ops", "list", "--list-count", "0"],
            ["--ops", "custom", "--command", "LIST __prefix__", "--list-count", "7"],
            ["--value-size=-5"], ["--distribution", "hot:3"], ["--distribution", "zipf:"], ["--scan-count", "0"],
            ["--key-size=-9223372036854775808"], ["--keys", "9223372036854775807"], ["limit", "--port", "0"],
            ["--ops", "custom", "--command", "SET __key__ __data__", "--value-size", "1-9"],
            ["parse", "--pipeline", "9223372036854775807"],
        ]
        for arguments in ofCompare.map({ compare + $0 }) + ofOthers {
            let ended = try Tool.run(driver, arguments)
            #expect(ended.code == 64, "\(arguments): \(ended.code)")
            #expect(ended.errors.split(separator: "\n").count == 1, "\(arguments): \(ended.errors)")
        }
        // What nobody asks for is not looked at: keys of two digits have no prefix for 100 keys, and GET needs none.
        let small = try run(["--server", "127.0.0.1:1", "--keys", "9", "--key-size", "6", "--list-count", "7"])
        #expect(small.code == 1 && small.errors.contains("cannot connect"), "\(small.errors)")
    }

    @Test func missingServersAreOneLine() throws {
        let nobody = try run(["--server", "127.0.0.1:1"])
        #expect(nobody.code == 1)
        #expect(nobody.errors.split(separator: "\n").count == 1 && nobody.errors.contains("cannot connect"))
    }

    @Test func closedLoopCountsWhatItAsked() throws {
        let server = try KVDProcess()
        let address = "127.0.0.1:\(server.clientPort)"
        let report = try json([
            "--server", address, "--server-pid", "\(server.process.processIdentifier)", "--load",
            "--keys", "500", "--requests", "5000", "-c", "7", "-P", "3", "--ops", "get:80,set:20",
        ])
        #expect(report["operations"] as? Int == 5000)
        #expect(report["errors"] as? Int == 0 && report["misses"] as? Int == 0, "every key was loaded")
        let latency = try #require(report["latency"] as? [String: Any])
        #expect(latency["count"] as? Int == 5000, "every request is timed, the first ones too")
        let servers = try #require(report["servers"] as? [[String: Any]])
        #expect((servers[0]["cpuMicrosPerRequest"] as? Double ?? 0) > 0)
        #expect(try server.connect().command("DBSIZE") == ":500\r\n")
    }

    @Test func everyWorkloadRunsOnKvd() throws {
        let server = try KVDProcess()
        let address = "127.0.0.1:\(server.clientPort)"
        let common = ["--server", address, "--keys", "1000", "-c", "3", "--requests", "300"]
        _ = try json(common + ["--load"])
        for letter in ["A", "B", "C", "D", "E", "F"] {
            let report = try json(common + ["--ycsb", letter])
            #expect(report["errors"] as? Int == 0, "YCSB \(letter): \(report["firstError"] ?? "")")
        }
        for arguments in [
            ["--ops", "scan"], ["--ops", "list"], ["--ops", "delete:1,insert:1"], ["--distribution", "zipf:4"],
            ["--distribution", "hot", "--ops", "set"], ["--distribution", "sequential"],
            ["--ops", "custom", "--command", "STRLEN __key__"], ["--rate", "2000", "--poisson"], ["--threads", "2"],
        ] {
            let report = try json(common + arguments)
            #expect(report["errors"] as? Int == 0, "\(arguments): \(report["firstError"] ?? "")")
            #expect(report["operations"] as? Int ?? 0 >= 300, "\(arguments)")
        }
    }

    @Test func noKeyIsInsertedTwice() throws {
        let servers = [try KVDProcess(), try KVDProcess()]
        let common = ["--ops", "insert", "--keys", "1000", "-c", "3"]
        let targets = servers.enumerated().flatMap { ["--target", "t\($0)=127.0.0.1:\($1.clientPort)"] }
        let compared = try json(
            ["compare"] + targets + common + ["--rounds", "2", "--duration", "0.2", "--warmup", "0"])
        let rows = try #require(compared["rows"] as? [[String: Any]])
        for (server, row) in zip(servers, rows) {
            let rate = try #require(row["operationsPerSecond"] as? [String: Any])
            let ofBoth = (rate["least"] as? Double ?? 0) + (rate["greatest"] as? Double ?? 0)
            let kept = try size(of: server)
            #expect(ofBoth > 0 && Double(kept) >= 0.2 * ofBoth - 1, "\(kept) keys, \(ofBoth) inserts/s in two rounds")
        }
        let again = try KVDProcess()
        var next = 0
        for threads in ["1", "2"] {
            let report = try json(
                ["--server", "127.0.0.1:\(again.clientPort)", "--requests", "300", "--threads", threads] + common
                    + ["--first-insert", "\(next)"])
            next = try #require(report["nextInsert"] as? Int)
        }
        #expect(try size(of: again) == 600 && next >= 600)
    }

    @Test func aSweepTellsTheKnee() throws {
        let server = try KVDProcess()
        let address = "127.0.0.1:\(server.clientPort)"
        let sweep = ["sweep", "--server", address, "-c", "3", "--keys", "1000", "--warmup", "0"]
        let found = try json(
            sweep + ["--from", "50000", "--limit-micros", "1000000", "--refine", "1", "--duration", "0.2"])
        let steps = try #require(found["steps"] as? [[String: Any]])
        let keptUp = steps.filter { $0["keptUp"] as? Bool == true }.compactMap { $0["rate"] as? Double }
        #expect(found["knee"] as? Double == keptUp.max(), "the knee is the greatest rate that was kept up with")
        #expect(found["limitMicros"] as? Double == 1_000_000)
        let results = steps.compactMap { $0["result"] as? [String: Any] }
        #expect(results.count == steps.count && results.allSatisfy { $0["latency"] != nil })
        // Nothing is answered within a nanosecond: one step up, twelve steps down or, where others have the processors,
        // three, then no knee.
        let none = try json(sweep + ["--from", "1000", "--limit-micros", "0.001", "--duration", "0.05"])
        #expect(none["knee"] is NSNull)
        let rates = (none["steps"] as? [[String: Any]] ?? []).compactMap { $0["rate"] as? Double }
        #expect(rates.count == 14 || (rates.count >= 5 && none["bound"] as? String == "machine"), "\(rates)")
        #expect(rates == rates.sorted() && rates.dropLast().last == 1000, "\(rates)")
        #expect(self.steps(none).allSatisfy { $0["tries"] as? Int == 2 }, "two tries of three agree")
    }

    private func steps(_ found: [String: Any]) -> [[String: Any]] { found["steps"] as? [[String: Any]] ?? [] }

    /// Half of the requests are refused: they are no operations, have no latency, and the run has failed.
    @Test func errorRepliesAreCountedApart() throws {
        let server = try KVDProcess()
        let refused = ["--ops", "custom:1,set:1", "--command", "NOSUCH __key__", "-c", "4", "-P", "5"]
        let address = "127.0.0.1:\(server.clientPort)"
        let ended = try run(["--server", address, "--requests", "2000", "--json", "-"] + refused)
        let report = try #require(try JSONSerialization.jsonObject(with: Data(ended.output.utf8)) as? [String: Any])
        let (errors, operations) = (report["errors"] as? Int ?? 0, report["operations"] as? Int ?? 0)
        #expect(errors > 700 && operations > 700 && errors + operations == 2000, "\(errors) and \(operations)")
        let kinds = report["operationLatencies"] as? [[String: Any]] ?? []
        #expect(kinds.compactMap { $0["operation"] as? String } == ["set"])
        #expect(kinds.first?["count"] as? Int == operations)
        #expect(
            ended.code == 1 && ended.errors.contains("of 2,000 replies are errors, the first: -ERR unknown command"))
        #expect(ended.errors.split(separator: "\n").count == 1, "\(ended.errors)")
        let compared = try run(
            ["compare", "--target", "a=\(address)", "--target", "b=\(address)", "--rounds", "1", "--duration", "0.1"]
                + refused)
        #expect(compared.code == 1 && compared.errors.contains("replies are errors"), "\(compared.errors)")
        let swept = try run(
            ["sweep", "--server", address, "--from", "1000", "--refine", "0", "--duration", "0.05", "--warmup", "0"]
                + refused.dropLast(2))
        #expect(swept.code == 1 && swept.output.contains("replies are errors"), "\(swept.output) \(swept.errors)")
    }

    /// Before anything is measured, and without touching a file that is there.
    @Test func impossibleOutputsAreFoundFirst() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("perf-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let nowhere = folder.appendingPathComponent("none/x").path
        let kept = folder.appendingPathComponent("kept")
        try Data("as it was".utf8).write(to: kept)
        for option in ["--svg", "--json", "--hgrm", "--hdr-log"] {
            // Nobody listens there: the first thing that is wrong is the file.
            for path in [nowhere, folder.path] {
                let ended = try run(["--server", "127.0.0.1:1", option, path])
                #expect(ended.code == 1 && ended.errors.contains("cannot write \(path)"), "\(ended.errors)")
            }
            let tried = try run(["--server", "127.0.0.1:1", option, kept.path])
            #expect(tried.errors.contains("cannot connect"))
        }
        let targets = ["--target", "a=127.0.0.1:1", "--target", "b=127.0.0.1:1"]
        for command in [["sweep", "--server", "127.0.0.1:1"], ["compare"] + targets] {
            #expect(try run(command + ["--svg", nowhere]).errors.contains("cannot write"))
        }
        #expect(try String(contentsOf: kept, encoding: .utf8) == "as it was")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["kept"])
    }

    @Test func aSweepOverConnectionsGoesOnInserting() throws {
        let server = try KVDProcess()
        let ended = try run([
            "sweep", "--server", "127.0.0.1:\(server.clientPort)", "--over-connections", "2,3", "--ops", "insert",
            "--keys", "1000", "--duration", "0.1", "--warmup", "0", "--json", "-",
        ])
        let parsed = try JSONSerialization.jsonObject(with: Data(ended.output.utf8))
        let results = try #require(parsed as? [[String: Any]])
        let inserted = results.compactMap { $0["operations"] as? Int }
        #expect(inserted.count == 2)
        let kept = try size(of: server)
        #expect(kept >= inserted.reduce(0, +), "\(kept) keys of \(inserted) inserts")
    }

    private func size(of server: KVDProcess) throws -> Int {
        let reply = try server.connect().command("DBSIZE")
        return Int(reply.filter { $0.isNumber }) ?? 0
    }

    @Test func insertsEndWhereTheDigitsDo() throws {
        let server = try KVDProcess()
        let address = "127.0.0.1:\(server.clientPort)"
        let common = ["--server", address, "--ops", "insert", "--keys", "10", "--key-size", "6"]
        let known = try run(common + ["--requests", "91"])
        #expect(known.code == 64 && known.errors.contains("use a larger --key-size"), "\(known.errors)")
        let found = try run(common + ["--duration", "20", "-c", "4"])
        #expect(found.code == 1 && found.errors.contains("keys are used up"), "\(found.errors)")
        let kept = try size(of: server)
        #expect((1...90).contains(kept), "\(kept) keys")
        #expect(try server.connect().command("EXISTS", "key:10") == ":1\r\n")
    }

    /// Of 10,000 requests a connection takes a thousand; a server that answers none of them has delayed them all.
    @Test func requestsThatNeverStartedAreCountedToo() throws {
        let silent = try HeldPort()
        try silent.listen()
        let report = try json([
            "--server", "127.0.0.1:\(silent.port)", "--rate", "20000", "--duration", "0.5", "--warmup", "0", "-c", "1",
        ])
        let due = 20_000 * (report["seconds"] as? Double ?? 0)
        let unanswered = report["unanswered"] as? Int ?? 0
        let latency = try #require(report["latency"] as? [String: Any])
        #expect(report["operations"] as? Int == 0 && latency["count"] as? Int == unanswered)
        #expect(due >= 10_000 && Double(unanswered) > 0.5 * due, "\(unanswered) of \(due)")
        #expect(latency["p50Micros"] as? Double ?? 0 > 100_000)
    }

    @Test func theNullResponderAnswersEverything() throws {
        let port = FreePorts.take(1)
        let limit = Process()
        limit.executableURL = URL(fileURLWithPath: driver)
        limit.arguments = ["limit", "--port", "\(port)"]
        let output = Pipe()
        limit.standardOutput = output
        limit.standardError = Pipe()
        try limit.run()
        defer {
            limit.terminate()
            limit.waitUntilExit()
        }
        let ready = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
        #expect(ready.contains("\"address\":\"127.0.0.1:\(port)\""))
        let ended = try run([
            "--server", "127.0.0.1:\(port)", "--requests", "20000", "-P", "16", "--ops", "get:1,set:1",
        ])
        if ended.code == 1 && !limit.isRunning {
            print("io_uring is not permitted here: the null responder is not tested")
            return
        }
        #expect(ended.code == 0, "\(ended.errors)")
        let comparison = try run([
            "compare", "--target", "a=127.0.0.1:\(port)", "--target", "b=127.0.0.1:\(port)", "--rounds", "1",
            "--duration", "0.2", "--warmup", "0",
        ])
        #expect(comparison.code == 0 && comparison.output.contains("throughput ratio"), "\(comparison.errors)")
    }
}
