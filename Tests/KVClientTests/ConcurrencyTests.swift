// Hundreds of calls at once on one connection, answered late, in bursts and cut into pieces: each gets its own answer.

import KVBase
import KVClient
import Synchronization
import Testing

@Suite struct ConcurrencyTests {
    /// Keeps requests back and releases them in order, a random number at a time, cut into random pieces.
    final class BurstScript: Sendable {
        private struct State {
            var held: [Exchange] = []
            var random: PRNG
        }

        private let state: Mutex<State>

        init(seed: UInt64) { state = Mutex(State(random: PRNG(seed: seed))) }

        func answer(_ exchange: Exchange) {
            state.withLock { state in
                state.held.append(exchange)
                guard state.random.chance(0.2) else { return }
                release(&state, state.random.below(state.held.count + 1))
            }
        }

        func releaseAll() { state.withLock { release(&$0, $0.held.count) } }

        private func release(_ state: inout State, _ count: Int) {
            guard count > 0 else { return }
            var bytes: [UInt8] = []
            for exchange in state.held[..<count] { bytes += Self.reply(to: exchange.arguments) }
            let sizes = (0..<8).map { _ in 1 + state.random.below(60) }
            state.held[0].reply(bytes, inPieces: sizes)
            state.held.removeFirst(count)
        }

        /// Says in its answer what was asked, so that a mix-up is seen.
        private static func reply(to arguments: [String]) -> [UInt8] {
            switch arguments[0] {
            case "GET" where arguments[1].hasSuffix("absent"): return Array("$-1\r\n".utf8)
            case "GET" where arguments[1].hasSuffix("error"): return Array("-ERR \(arguments[1])\r\n".utf8)
            case "GET": return Array("$\(arguments[1].utf8.count)\r\n\(arguments[1])\r\n".utf8)
            case "KVD": return Array(":\(arguments[3])\r\n".utf8)
            case "LIST":
                let key = arguments[1]
                return Array("*2\r\n$\(key.utf8.count)\r\n\(key)\r\n$1\r\nx\r\n".utf8)
            default: return Array(":1\r\n".utf8)
            }
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func everyCallGetsItsOwnAnswer(seed: UInt64) async throws {
        let script = BurstScript(seed: seed)
        try await withServer({ script.answer($0) }) { (client, server) async throws in
            // Releases what no further request would: the script alone would keep the last ones for ever.
            let releaser = Task {
                while !Task.isCancelled {
                    script.releaseAll()
                    await Task.yield()
                }
            }
            let wrong = try await withThrowingTaskGroup(of: [String].self) { group in
                for task in 0..<500 { group.addTask { try await Self.fiveCalls(client, task) } }
                return try await group.reduce(into: [String]()) { $0 += $1 }
            }
            releaser.cancel()
            #expect(wrong.isEmpty, "seed \(seed): \(wrong.prefix(5))")
            #expect(server.connections == 1)
            #expect(server.requests.count == 2500)
        }
    }

    private static func fiveCalls(_ client: KVClient, _ task: Int) async throws -> [String] {
        var wrong: [String] = []
        if try await client.get("k\(task)") != KVBytes("k\(task)") { wrong.append("get \(task)") }
        if try await client.put("k", "\(task)").millis != Int64(task) { wrong.append("put \(task)") }
        if try await client.get("k\(task)absent") != nil { wrong.append("absent \(task)") }
        if await failure({ try await client.get("\(task)error") }) != .server("ERR \(task)error") {
            wrong.append("error \(task)")
        }
        if try await client.list(prefix: "p\(task)").first?.key != KVBytes("p\(task)") { wrong.append("list \(task)") }
        return wrong
    }

    @Test func concurrentCallsShareOneConnection() async throws {
        try await withFakeStore { (client, server) async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<300 { group.addTask { try await client.put("k\(index)", "v\(index)") } }
                try await group.waitForAll()
            }
            for index in 0..<300 { #expect(try await client.get("k\(index)") == KVBytes("v\(index)")) }
            #expect(server.connections == 1)
        }
    }

    @Test func callsOfOneTaskGoOutInTheirOrder() async throws {
        try await withFakeStore { (client, server) async throws in
            for index in 0..<50 { try await client.put("k", "\(index)") }
            #expect(server.requests.map { $0[3] } == (0..<50).map { "\($0)" })
        }
    }

    @Test func aLargeValueArrivesWholeThroughManyReads() async throws {
        let size = 5_000_000
        let value = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        try await withServer { exchange in
            exchange.reply(Array("$\(size)\r\n".utf8) + value + [13, 10], inPieces: [100_001, 7, 65_536])
        } _: { (client, _) async throws in
            for _ in 0..<2 { #expect(try await client.get("big")?.array == value) }
        }
    }

    @Test func aLargeValueIsSentWhole() async throws {
        let value = String(repeating: "0123456789", count: 400_000)
        try await withFakeStore { (client, _) async throws in
            try await client.put("big", value)
            #expect(try await client.get("big")?.count == 4_000_000)
            #expect(try await client.get("big")?.text == value)
        }
    }

    @Test func aPipelineIsNotInterruptedByOtherCalls() async throws {
        try await withFakeStore { (client, server) async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<20 {
                    group.addTask {
                        _ = try await client.withPipeline { pipeline in
                            for step in 0..<10 { pipeline.put("t\(task)", "\(step)") }
                        }
                    }
                    group.addTask { _ = try await client.get("single") }
                }
                try await group.waitForAll()
            }
            let puts = server.requests.enumerated().filter { $0.element[0] == "KVD" }
            for start in stride(from: 0, to: puts.count, by: 10) {
                let batch = puts[start..<start + 10]
                #expect(Set(batch.map { $0.element[2] }).count == 1)
                #expect(batch.last!.offset - batch.first!.offset == 9)
            }
        }
    }

    @Test func manyReadersFromManyClientsCopies() async throws {
        try await withFakeStore { (client, server) async throws in
            try await client.put("k", "v")
            let copies = (0..<10).map { _ in client.withTimeout(.seconds(3)) }
            for copy in copies { #expect(try await copy.get("k") == "v") }
            #expect(server.connections == 1)
        }
    }
}
