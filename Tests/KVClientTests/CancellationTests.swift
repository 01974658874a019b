// A cancelled call returns at once, its answer is thrown away when it comes, and the order of the others is kept.

import KVClient
import Synchronization
import Testing

@Suite struct CancellationTests {
    @Test func returnsAtOnceAndKeepsTheOrder() async throws {
        let held = Mutex<[Exchange]>([])
        try await withServer { exchange in
            held.withLock { $0.append(exchange) }
        } _: { (client, server) async throws in
            let doomed = Task { await failure { try await client.get("a") } }
            try await eventually("asked a") { server.requests.count == 1 }
            let kept = Task { try await client.get("b") }
            try await eventually("asked b") { server.requests.count == 2 }
            doomed.cancel()
            #expect(await doomed.value == .cancelled(mayHaveExecuted: false), "a read leaves no doubt")
            for exchange in held.withLock({ $0 }) { exchange.bulk("answer to \(exchange.arguments[1])") }
            #expect(try await kept.value == "answer to b")
            #expect(server.connections == 1)
        }
    }

    @Test func beforeSendingNothingIsSent() async throws {
        try await withFakeStore { (client, server) async throws in
            let task = Task {
                while !Task.isCancelled { await Task.yield() }
                return await failure { try await client.put("k", "v") }
            }
            task.cancel()
            #expect(await task.value == .cancelled(mayHaveExecuted: false))
            #expect(try await client.get("k") == nil)
            #expect(server.requests == [["GET", "k"]])
        }
    }

    @Test func aWaitingCallIsNeverSent() async throws {
        let held = Mutex<[Exchange]>([])
        let configuration = configured { $0.outstandingCallsMax = 1 }
        try await withServer(configuration: configuration) { exchange in
            held.withLock { $0.append(exchange) }
        } _: {
            (client, server) async throws in
            let first = Task { try await client.get("a") }
            try await eventually("asked a") { server.requests.count == 1 }
            let waiting = Task { await failure { try await client.put("b", "1") } }
            await Task.yield()
            waiting.cancel()
            #expect(await waiting.value == .cancelled(mayHaveExecuted: false))
            let last = Task { try await client.get("c") }
            held.withLock { $0[0].bulk("1") }
            #expect(try await first.value == "1")
            try await eventually("asked c") { server.requests.count == 2 }
            #expect(server.requests.map { $0[1] } == ["a", "c"])
            held.withLock { $0[1].bulk("2") }
            #expect(try await last.value == "2")
        }
    }

    @Test func aPipelineIsCancelledAsAWhole() async throws {
        try await withServer { _ in
        } _: { (client, server) async throws in
            let task = Task {
                await failure { try await client.withPipeline { ($0.get("a"), $0.get("b"), $0.get("c")) } }
            }
            try await eventually("asked") { server.requests.count == 3 }
            task.cancel()
            #expect(await task.value == .cancelled(mayHaveExecuted: false), "reads leave no doubt")
        }
    }

    @Test func hundredsAmongHundredsLeaveTheOthersIntact() async throws {
        let held = Mutex<[Exchange]>([])
        try await withServer { exchange in
            held.withLock { $0.append(exchange) }
        } _: { (client, server) async throws in
            let tasks = (0..<400).map { index in Task { try await client.get("k\(index)") } }
            try await eventually("all asked") { server.requests.count == 400 }
            for index in stride(from: 0, to: 400, by: 2) { tasks[index].cancel() }
            for index in stride(from: 0, to: 400, by: 2) {
                #expect(await tasks[index].result.isCancelled)
            }
            for exchange in held.withLock({ $0 }) { exchange.bulk(exchange.arguments[1]) }
            for index in stride(from: 1, to: 400, by: 2) {
                #expect(try await tasks[index].value == KVBytes("k\(index)"))
            }
        }
    }
}

extension Result {
    fileprivate var isCancelled: Bool {
        if case .failure(let error) = self, case .cancelled? = error as? KVError { true } else { false }
    }
}
