// Servers killed under load that start again with their directory: nothing acknowledged is lost, nothing deleted comes
// back. `make crash` runs many cycles.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct CrashTests {
    static let isLong = ProcessInfo.processInfo.environment["KVD_CRASH_CYCLES"] != nil
    static let cycles = Int(ProcessInfo.processInfo.environment["KVD_CRASH_CYCLES"] ?? "") ?? 3
    static let seed = UInt64(ProcessInfo.processInfo.environment["KVD_CRASH_SEED"] ?? "") ?? 1

    private func replay(_ what: String) -> Comment {
        "\(what); KVD_CRASH_SEED=\(Self.seed) KVD_CRASH_CYCLES=\(Self.cycles) sh scripts/test --filter CrashTests"
    }

    /// Until at least so many writes were acknowledged, and a little of the next.
    private func load(_ writers: [CrashWriter], _ random: inout PRNG) {
        for writer in writers { writer.start() }
        let wanted = 200 + random.below(3_000)
        let deadline = Clock.millis() + 10_000
        // Poll with a deadline.
        while writers.reduce(0, { $0 + $1.acknowledged }) < wanted, Clock.millis() < deadline { _ = poll(nil, 0, 1) }
        _ = poll(nil, 0, Int32(random.below(20)))
    }

    /// The kernel gives a killed process's ports free a moment after its end where they were in a ring: poll with a
    /// deadline.
    private func startAgain(_ start: () throws -> KVDProcess) throws -> KVDProcess {
        let deadline = Clock.millis() + 5_000
        while true {
            do { return try start() } catch {
                guard "\(error)".contains("Address already in use"), Clock.millis() < deadline else { throw error }
                _ = poll(nil, 0, 20)
            }
        }
    }

    @Test(arguments: ["always", "everysec", "no"]) func aServerKilledUnderLoadComesBackWithAllItAnswered(
        _ policy: String
    ) throws {
        var random = PRNG(seed: Self.seed)
        let directory = TestDirectory()
        var (port, acknowledged) = (Int?.none, 0)
        var writers: [CrashWriter] = []
        for cycle in 0..<Self.cycles {
            let arguments = [
                "--dir", directory.path("data"), "--appendfsync", policy, "--save-after-bytes", "1048576",
            ]
            let actors = 1 + random.below(3)
            let server = try startAgain { try KVDProcess(arguments: arguments, actors: actors, port: port) }
            port = port ?? server.port
            for actor in 1...actors {
                for writer in writers {
                    let faults = try writer.faults(try server.connect(actor))
                    #expect(faults.isEmpty, replay("cycle \(cycle), \(policy), actor \(actor): \(faults.prefix(5))"))
                }
            }
            writers = (0..<4).map { i in
                CrashWriter(
                    "\(cycle % 4).\(i)", port: server.port + 1 + i % actors, pipeline: [1, 8, 40, 3][i],
                    seed: random.next())
            }
            for writer in writers { try writer.settle(try server.connect()) }
            load(writers, &random)
            if random.chance(0.3) { _ = try? server.connect().command("BGSAVE") }
            _ = server.end()
            for writer in writers { writer.wait() }
            acknowledged += writers.reduce(0) { $0 + $1.acknowledged }
        }
        #expect(acknowledged > Self.cycles * 100)
    }

    /// One, two or all three are killed at once; whoever was, starts again at once.
    @Test(arguments: ["always", "everysec"]) func serversOfAClusterKilledUnderLoadLoseNothing(_ policy: String) throws {
        var random = PRNG(seed: Self.seed)
        let directories = (0..<3).map { _ in TestDirectory() }
        let ports = (0..<3).map { _ in FreePorts.take(3) }
        func start(_ i: Int) throws -> KVDProcess {
            let join = i == 0 ? [] : ["--join", "127.0.0.1:\(ports[0])"]
            return try startAgain {
                try KVDProcess(
                    arguments: ["--dir", directories[i].path("data"), "--appendfsync", policy] + join, actors: 2,
                    port: ports[i])
            }
        }
        var servers = try (0..<3).map { try start($0) }
        for cycle in 0..<Self.cycles {
            let writers = (0..<6).map { i in
                CrashWriter(
                    "\(cycle % 3).\(i)", port: ports[i % 3] + 1 + i / 3, pipeline: [1, 8, 20][i / 2],
                    seed: random.next())
            }
            // From earlier cycles keys hold what nobody remembers.
            for writer in writers { try writer.settle(try servers[0].connect()) }
            load(writers, &random)
            let victims = [[0], [1], [2], [0, 1], [1, 2], [0, 1, 2]][random.below(6)]
            for i in victims { servers[i].signal(SIGKILL) }
            for i in victims { _ = servers[i].end() }
            // Those that live get no more writes either.
            for i in victims { servers[i] = try start(i) }
            for i in 0..<3 where !victims.contains(i) { try quit(writers, on: ports[i], servers[i]) }
            for writer in writers { writer.wait() }
            let deadline = Clock.millis() + 60_000
            var faults: [String] = []
            repeat {
                _ = poll(nil, 0, 50)
                faults = try servers.flatMap { server in
                    try (1...2).flatMap { actor in
                        try writers.flatMap { try $0.faults(try server.connect(actor)) }
                    }
                }
            } while !(try faults.isEmpty && areEqual(servers)) && Clock.millis() < deadline
            #expect(faults.isEmpty, replay("cycle \(cycle), \(policy), killed \(victims): \(faults.prefix(5))"))
            #expect(try areEqual(servers), replay("cycle \(cycle), \(policy), killed \(victims): they differ"))
        }
    }

    private func areEqual(_ servers: [KVDProcess]) throws -> Bool {
        Set(try servers.flatMap { server in try (1...2).map { try server.connect($0).command("KVD", "DIGEST") } }).count
            == 1
    }

    /// Closes the connections of writers on a server that goes on.
    private func quit(_ writers: [CrashWriter], on port: Int, _ server: KVDProcess) throws {
        for writer in writers where (port + 1...port + 2).contains(writer.port) { writer.stop() }
    }
}
