// Three servers are stopped and started one after the other, as an upgrade does, while clients write: nothing that was
// acknowledged is lost, no call fails, and writes are visible as promised. Real processes.

import Foundation
import KVClient
import KVTestTraits
import Synchronization
import Testing

@Suite(.serialized) struct RollingRestartTests {
    /// The goal of a stop, and what README.md promises.
    private static let stopSeconds = 5.0
    private static let visibleMillis = 2_000
    private static let probesOfRestart = 5

    /// One of three servers on ports of its own, which it keeps over restarts.
    private final class Member: @unchecked Sendable {
        let port = FreePorts.take(4)
        let directory: String?
        private let name: String
        private var process = Process()

        var address: String { "127.0.0.1:\(port + 1)" }
        var clients: String { "127.0.0.1:\(port + 1),127.0.0.1:\(port + 2)" }
        private var metricsPort: UInt16 { UInt16(port + 3) }

        init(_ name: String, directory: String?) { (self.name, self.directory) = (name, directory) }

        deinit {
            if process.isRunning { kill(process.processIdentifier, SIGKILL) }
            process.waitUntilExit()
        }

        /// Starts it; it may not be ready yet.
        func start(joining others: [Member]) throws {
            process = Process()
            process.executableURL = Programs.url("kvd")
            process.arguments =
                ["--port", "\(port)", "--actors", "2", "--pin", "no", "--log-level", "error", "--name", name]
                + ["--metrics-address", "127.0.0.1:\(metricsPort)"]
                + others.flatMap { ["--join", "127.0.0.1:\($0.port)"] } + (directory.map { ["--dir", $0] } ?? [])
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
        }

        /// The status of /readyz; nil if nobody answers.
        func readiness() -> Int? {
            guard let socket = try? TestSocket(port: metricsPort, timeoutSeconds: 20),
                (try? socket.send("GET /readyz HTTP/1.0\r\n\r\n")) != nil, let bytes = try? socket.receiveAll()
            else { return nil }
            return Int(String(decoding: bytes, as: UTF8.self).dropFirst(9).prefix(3))
        }

        /// As `systemctl stop` does it. Whether /readyz said no meanwhile, the exit code, and how long it took. The
        /// tests beside this one may keep every thread of the tasks for as long as a stop takes: it has one of its own.
        func stop() async -> (saidNo: Bool, code: Int32, seconds: Double) {
            await withCheckedContinuation { ended in
                Thread { [self] in
                    let began = ContinuousClock.now
                    kill(process.processIdentifier, SIGTERM)
                    var saidNo = false
                    while process.isRunning, ContinuousClock.now - began < .seconds(90) {
                        if !saidNo { saidNo = readiness() == 503 }
                        if saidNo { usleep(2000) }  // between two polls
                    }
                    process.waitUntilExit()
                    let seconds = (ContinuousClock.now - began) / .seconds(1)
                    ended.resume(returning: (saidNo, process.terminationStatus, seconds))
                }.start()
            }
        }
    }

    /// What was acknowledged, and what went wrong.
    private final class Ledger: Sendable {
        struct State {
            var acknowledged: [String: Int] = [:]
            var calls = 0
            var errors: [String] = []
            var slowest = Duration.zero
        }
        let state = Mutex(State())
        let isOver = Atomic<Bool>(false)
        /// The member that is being restarted, and how many restarts there were: for whoever looks at the others.
        let phase = Mutex((member: 0, count: 0))
        let visibility = Mutex([Int]())
    }

    private static let keysOfTask = 500
    private static let tasksOfClient = 2

    /// Writes ever greater numbers, each key anew every few hundred calls.
    private func write(_ client: KVClient, _ task: Int, _ ledger: Ledger) async {
        var number = 0
        while !ledger.isOver.load(ordering: .relaxed) {
            number += 1
            let key = "w/\(task)/\(number % RollingRestartTests.keysOfTask)"
            let began = ContinuousClock.now
            var failure: String?
            do { try await client.put(key, "\(number)") } catch { failure = "\(error)" }
            let took = ContinuousClock.now - began
            ledger.state.withLock { [number] state in
                state.calls += 1
                state.slowest = max(state.slowest, took)
                if let failure { state.errors.append(failure) } else { state.acknowledged[key] = number }
            }
        }
    }

    /// How long writes take from one server that runs to the other.
    private func probe(_ members: [Member], _ ledger: Ledger) async throws {
        var clients: [KVClient] = []
        for member in members { clients.append(try KVClient(servers: member.address)) }
        var number = 0
        while !ledger.isOver.load(ordering: .relaxed) {
            let before = ledger.phase.withLock { $0 }
            let (from, to) = ((before.member + 1) % 3, (before.member + 2) % 3)
            number += 1
            let began = ContinuousClock.now
            guard (try? await clients[from].put("probe", "\(number)")) != nil else { continue }
            while !ledger.isOver.load(ordering: .relaxed), ledger.phase.withLock({ $0 == before }) {
                guard (try? await clients[to].get("probe")) == KVBytes("\(number)") else { continue }
                let millis = Int((ContinuousClock.now - began) / .milliseconds(1))
                ledger.visibility.withLock { $0.append(millis) }
                break
            }
        }
        for client in clients { await client.close() }
    }

    private func areUp(_ members: [Member]) async -> Bool {
        for member in members {
            guard member.readiness() == 200, let client = try? KVClient(servers: member.address) else { return false }
            let peers = try? await client.send(["KVD", "PEERS"]).elements
            await client.close()
            let states = (peers ?? []).map { $0.bytes?.description.split(separator: " ")[2] ?? "" }
            guard states == ["up", "up"] else { return false }
        }
        return true
    }

    @Test(arguments: [false, true]) func nothingIsLostAndNoCallFails(keepsData: Bool) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-rolling-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let members = try ["one", "two", "three"].map { name in
            let directory = folder.appendingPathComponent(name)
            if keepsData { try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true) }
            return Member(name, directory: keepsData ? directory.path : nil)
        }
        for (place, member) in members.enumerated() { try member.start(joining: Array(members[..<place])) }
        try await eventually("all are up") { await areUp(members) }
        let ledger = Ledger()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for first in 0..<3 {
                // Each begins with another server, and knows all.
                let servers = (0..<3).map { members[(first + $0) % 3].clients }.joined(separator: ",")
                let client = try KVClient(servers: servers)
                for task in 0..<RollingRestartTests.tasksOfClient {
                    group.addTask { await write(client, first * RollingRestartTests.tasksOfClient + task, ledger) }
                }
            }
            group.addTask { try await probe(members, ledger) }
            defer { ledger.isOver.store(true, ordering: .relaxed) }
            for place in 0..<3 {
                ledger.phase.withLock { $0 = (place, $0.count + 1) }
                let calls = ledger.state.withLock { $0.calls }
                let end = await members[place].stop()
                #expect(end.saidNo, "/readyz of member \(place) never said no")
                #expect(end.code == 0 && end.seconds < RollingRestartTests.stopSeconds, "\(end)")
                try members[place].start(joining: members.filter { $0 !== members[place] })
                try await eventually("all are up again") { await areUp(members) }
                #expect(ledger.state.withLock { $0.calls } > calls, "nobody wrote during restart \(place)")
                // However slow the machine: a percentile needs values, some of each restart.
                let wanted = (place + 1) * RollingRestartTests.probesOfRestart
                try await eventually("enough was probed") { ledger.visibility.withLock { $0.count >= wanted } }
                print("restart \(place): stopped in \(end.seconds) s, with code \(end.code)")
            }
            ledger.isOver.store(true, ordering: .relaxed)
            try await group.waitForAll()
        }
        try await look(at: members, ledger)
    }

    private func look(at members: [Member], _ ledger: Ledger) async throws {
        let found = ledger.state.withLock { $0 }
        #expect(found.errors.isEmpty, "\(found.errors.count) calls failed: \(found.errors.prefix(3))")
        let visibility = ledger.visibility.withLock { $0.sorted() }
        // Nine of ten: a machine that does other things may stop all of it for seconds.
        let most = visibility[visibility.count * 9 / 10]
        #expect(most <= RollingRestartTests.visibleMillis, "\(visibility.suffix(9))")
        print(
            "\(found.calls) calls, slowest \(found.slowest); \(visibility.count) probes, visible after",
            "\(visibility[visibility.count / 2]) ms, at most \(visibility.last ?? -1) ms")
        for member in members {
            let client = try KVClient(servers: member.address, configuration: .patient)
            var missing: [String] = []
            try await eventually("all is at \(member.address)") {
                let keys = found.acknowledged.keys.map { KVBytes($0) }
                let values = try await client.getAll(keys)
                missing = found.acknowledged.filter { values[KVBytes($0.key)] != KVBytes("\($0.value)") }.map(\.key)
                return missing.isEmpty
            }
            #expect(missing.isEmpty, "\(missing.count) of \(found.acknowledged.count) are lost: \(missing.prefix(3))")
            await client.close()
        }
    }
}
