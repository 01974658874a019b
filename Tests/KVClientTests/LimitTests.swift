// The limit of outstanding calls, and what happens at it.

import KVClient
import Synchronization
import Testing

@Suite struct LimitTests {
    @Test func callsBeyondTheLimitWaitTheirTurn() async throws {
        let held = Mutex<[Exchange]>([])
        let most = Mutex(0)
        let configuration = configured { $0.outstandingCallsMax = 8 }
        try await withServer(configuration: configuration) { exchange in
            let count = held.withLock {
                $0.append(exchange); return $0.count
            }
            most.withLock { $0 = max($0, count) }
        } _: { (client, server) async throws in
            let tasks = (0..<100).map { index in Task { try await client.get("k\(index)") } }
            for answered in 0..<100 {
                try await eventually("request \(answered) held") { held.withLock { !$0.isEmpty } }
                held.withLock { held in
                    let exchange = held.removeFirst()
                    exchange.bulk(exchange.arguments[1])
                }
            }
            for (index, task) in tasks.enumerated() { #expect(try await task.value == KVBytes("k\(index)")) }
            #expect(most.withLock { $0 } <= 8)
            #expect(most.withLock { $0 } > 1)
        }
    }

    @Test func callsBeyondTheLimitFailWhenToldTo() async throws {
        let held = Mutex<[Exchange]>([])
        let configuration = configured {
            $0.outstandingCallsMax = 3
            $0.whenFull = .fail
        }
        try await withServer(configuration: configuration) { exchange in
            held.withLock { $0.append(exchange) }
        } _: {
            (client, server) async throws in
            let tasks = (0..<3).map { index in Task { try await client.get("k\(index)") } }
            try await eventually("three asked") { server.requests.count == 3 }
            #expect(await failure { try await client.get("one too many") } == .tooManyOutstanding(limit: 3))
            let error = await failure { try await client.withPipeline { _ = $0.get("one too many") } }
            #expect(error == .tooManyOutstanding(limit: 3))
            for exchange in held.withLock({ $0 }) { exchange.bulk("v") }
            for task in tasks { #expect(try await task.value == "v") }
            let after = Task { try await client.get("room again") }
            try await eventually("asked again") { server.requests.count == 4 }
            held.withLock { $0[3].bulk("v") }
            #expect(try await after.value == "v")
        }
    }

    /// A call that is answered counts no more when its task goes on.
    @Test func whoWasAnsweredHasRoomForTheNextCall() async throws {
        let (tasks, rounds) = (64, 50)
        let held = Mutex<[Exchange]>([])
        let configuration = configured {
            $0.outstandingCallsMax = tasks
            $0.whenFull = .fail
        }
        // All are answered together.
        try await withServer(configuration: configuration) { exchange in
            let all = held.withLock { held in
                held.append(exchange)
                guard held.count == tasks else { return [Exchange]() }
                defer { held = [] }
                return held
            }
            for one in all { one.bulk("v") }
        } _: { (client, _) async throws in
            let refused = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<tasks {
                    group.addTask {
                        var refused = 0
                        for _ in 0..<rounds {
                            var isAnswered = false
                            while !isAnswered {
                                do {
                                    isAnswered = try await client.get("k") == "v"
                                } catch KVError.tooManyOutstanding {
                                    refused += 1
                                    await Task.yield()
                                }
                            }
                        }
                        return refused
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(refused == 0)
        }
    }

    @Test func waitingCallsTimeOut() async throws {
        let configuration = configured { $0.outstandingCallsMax = 1 }
        try await withServer(configuration: configuration) { _ in
        } _: { (client, server) async throws in
            let first = Task { try? await client.get("a") }
            try await eventually("asked") { server.requests.count == 1 }
            let error = await failure { try await client.withTimeout(.milliseconds(30)).put("b", "1") }
            #expect(error == .timeout(mayHaveExecuted: false))
            first.cancel()
            _ = await first.value
        }
    }

    @Test func connectionsBeyondTheLimitReplaceIdleOnes() async throws {
        let store = FakeStore()
        var servers: [ScriptedServer] = []
        for _ in 0..<4 { servers.append(try await ScriptedServer { store.answer($0) }) }
        let configuration = configured { $0.connectionsMax = 2 }
        let client = KVClient(router: .roundRobin(servers.map(\.address)), configuration: configuration)
        for _ in 0..<12 { _ = try await client.get("k") }
        for server in servers { #expect(server.requests.count == 3) }
        try await eventually("at most two connections") { servers.reduce(0) { $0 + $1.openConnections } <= 2 }
        await client.close()
        for server in servers { await server.stop() }
    }
}
