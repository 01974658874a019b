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

    @Test func badUsageAndMissingServersAreToldApart() throws {
        for wrong in [["--nonsense"], ["--ops", "fly"], ["--distribution", "zipf:x"], ["--keys", "0"], ["compare"]] {
            #expect(try Tool.run(driver, wrong).code == 64, "\(wrong)")
        }
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
        // Batches under way when the last request was counted are not timed: at most one of 3 for each connection.
        #expect((5000 - 7 * 3...5000).contains(latency["count"] as? Int ?? 0))
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

    @Test func theNullResponderAnswersEverything() throws {
        let port = KVDProcess.freePorts(1)
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
