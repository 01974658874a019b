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

    /// What follows on the connection would else be queued behind its MULTI.
    @Test(arguments: [true, false])
    func aTransactionOnItsWayIsSentToItsEnd(isCancelled: Bool) async throws {
        let held = Mutex<[Exchange]?>([])
        let answer: @Sendable (Exchange) -> Void = { exchange in
            switch exchange.arguments[0] {
            case "MULTI": exchange.reply("+OK\r\n")
            case "KVD": exchange.reply("+QUEUED\r\n")
            case "EXEC": exchange.reply("*2\r\n:1\r\n:2\r\n")
            default: exchange.bulk("v")
            }
        }
        let configuration = configured { $0.outstandingCallsMax = 2 }
        try await withServer(configuration: configuration) { exchange in
            if held.withLock({ held in
                held?.append(exchange)
                return held == nil
            }) {
                answer(exchange)
            }
        } _: { (client, server) async throws in
            let limited = client.withTimeout(isCancelled ? .seconds(90) : .milliseconds(300))
            let task = Task { await failure { try await limited.transaction { ($0.put("a", "1"), $0.put("b", "2")) } } }
            try await eventually("a half of it has arrived") { server.requests.count == 2 }
            if isCancelled { task.cancel() }
            let error = await task.value
            #expect(error == (isCancelled ? .cancelled(mayHaveExecuted: true) : .timeout(mayHaveExecuted: true)))
            let value = Task { try await client.get("c") }
            for exchange in held.withLock({ held in
                defer { held = nil }
                return held ?? []
            }) {
                answer(exchange)
            }
            #expect(try await value.value == "v")
            #expect(server.requests.map { $0[0] } == ["MULTI", "KVD", "KVD", "EXEC", "GET"])
        }
    }

    /// The task is cancelled on one thread while another writes.
    @Test func transactionsAreSentWholeOrNotAtAll() async throws {
        try await withServer { exchange in
            switch exchange.arguments[0] {
            case "MULTI": exchange.reply("+OK\r\n")
            case "EXEC": exchange.reply("*20\r\n" + String(repeating: ":1\r\n", count: 20))
            default: exchange.reply("+QUEUED\r\n")
            }
        } _: { (client, server) async throws in
            for round in 0..<300 {
                let tasks = (0..<10).map { index in
                    Task {
                        try? await client.transaction { calls in
                            for number in 0..<20 { calls.put("\(round)/\(index)", "\(number)") }
                        }
                    }
                }
                if round % 2 == 0 { await Task.yield() }
                for task in tasks { task.cancel() }
                for task in tasks { _ = await task.value }
            }
            _ = try await client.transaction { calls in for _ in 0..<20 { calls.put("last", "v") } }
            let names = server.requests.map { $0[0] }
            let whole = ["MULTI"] + Array(repeating: "KVD", count: 20) + ["EXEC"]
            let isWhole = stride(from: 0, to: names.count, by: 22).map { Array(names[$0...].prefix(22)) == whole }
            #expect(isWhole.allSatisfy { $0 }, "\(isWhole.count)")
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
