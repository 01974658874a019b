// Broken connections, servers slow, silent, absent or talking nonsense: what a call reports, and what comes after.

import KVClient
import KVTestTraits
import Synchronization
import Testing

@Suite struct FailureTests {
    /// Breaks the first connection after answering `raw` to its first request; other connections get a fake store.
    private func breaking(_ raw: String, store: FakeStore = FakeStore()) -> ScriptedServer.Script {
        { exchange in
            guard exchange.connection == 1 else { return store.answer(exchange) }
            if !raw.isEmpty { exchange.reply(raw) }
            exchange.close()
        }
    }

    @Test(arguments: ["", "$", "$5\r\nab", "$5", "*2\r\n$1\r\na\r\n"])
    func aWriteWhoseAnswerBrokeOffMayHaveExecuted(raw: String) async throws {
        try await withServer(breaking(raw)) { (client, server) async throws in
            let error = await failure { try await client.put("k", "v") }
            guard case .connectionLost(server.address, _, mayHaveExecuted: true) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(server.requests.count == 1)
            #expect(try await client.put("k", "v").millis > 0)
            #expect(server.connections == 2)
        }
    }

    @Test(arguments: ["", "$5\r\nab", "$-"])
    func aReadWhoseAnswerBrokeOffIsAskedAgain(raw: String) async throws {
        try await withServer(breaking(raw)) { (client, server) async throws in
            #expect(try await client.get("k") == nil)
            #expect(server.connections == 2)
            #expect(server.requests == [["GET", "k"], ["GET", "k"]])
        }
    }

    @Test func everyCallUnderWayLearnsOfTheBreak() async throws {
        let held = Mutex(0)
        try await withServer { exchange in
            if held.withLock({
                $0 += 1; return $0
            }) == 100 {
                exchange.close()
            }
        } _: { (client, _) async throws in
            let errors = await withTaskGroup(of: KVError?.self) { group in
                for index in 0..<100 { group.addTask { await failure { try await client.put("k\(index)", "v") } } }
                return await group.reduce(into: [KVError?]()) { $0.append($1) }
            }
            #expect(errors.allSatisfy { $0?.mayHaveExecuted == true })
        }
    }

    @Test(arguments: ["nonsense\r\n", "$abc\r\n", "$-7\r\n", "*-3\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"])
    func nonsenseIsAProtocolViolationAndCostsTheConnection(raw: String) async throws {
        let store = FakeStore()
        try await withServer { exchange in
            if exchange.connection == 1 { exchange.reply(raw) } else { store.answer(exchange) }
        } _: { (client, server) async throws in
            let error = await failure { try await client.get("k") }
            guard case .protocolViolation = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(try await client.get("k") == nil)
            #expect(server.connections == 2)
        }
    }

    @Test func anAnswerNobodyAskedForCostsTheConnection() async throws {
        let store = FakeStore()
        try await withServer { exchange in
            store.answer(exchange)
            if exchange.connection == 1 { exchange.reply("$4\r\nextra\r\n".replacing("$4", with: "$5")) }
        } _: { (client, server) async throws in
            let events = client.events()
            #expect(try await client.get("k") == nil)
            let lost = await nextEvent(events) { if case .connectionLost = $0 { true } else { false } }
            #expect(lost != nil)
            #expect(try await client.get("k") == nil)
            #expect(server.connections == 2)
        }
    }

    @Test func whatTheServerSaidBeforeClosingIsTold() async throws {
        try await withServer { exchange in
            exchange.reply(":1\r\n-ERR max number of clients reached\r\n")
            exchange.close()
        } _: { (client, _) async throws in
            let events = client.events()
            _ = try await client.delete("k")
            let lost = await nextEvent(events) { if case .connectionLost = $0 { true } else { false } }
            #expect("\(String(describing: lost))".contains("max number of clients"))
        }
    }

    @Test func anAnswerBeyondTheLimitIsRefused() async throws {
        let configuration = configured { $0.replyBytesMax = 10_000 }
        try await withServer(configuration: configuration) { exchange in
            exchange.reply("$20000\r\n" + String(repeating: "x", count: 20_000) + "\r\n")
        } _: { (client, _) async throws in
            let error = await failure { try await client.send(["BIG"]) }
            #expect(error?.isStoreUnavailable == true)
        }
    }

    @Test func unreachableSaysWhoAndWhy() async throws {
        let server = try await ScriptedServer { _ in }
        let address = server.address
        await server.stop()
        let client = KVClient(servers: [address], configuration: .patient)
        let error = await failure { try await client.put("k", "v") }
        #expect(error == .unreachable(server: address, reason: "Connection refused"))
        #expect(error?.mayHaveExecuted == false)
        #expect("\(error!)" == "cannot reach \(address): Connection refused")
    }

    @Test func anUnknownHostNameIsUnreachable() async throws {
        let client = KVClient(servers: [KVAddress(host: "no-such-host.invalid", port: 1)], configuration: .patient)
        let error = await failure { try await client.get("k") }
        guard case .unreachable = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func aSlowServerTimesOutAndItsLateAnswerIsDiscarded() async throws {
        let held = Mutex<[Exchange]>([])
        try await withServer { exchange in
            if exchange.arguments[1] == "first" { exchange.bulk("1") } else { held.withLock { $0.append(exchange) } }
        } _: { (client, server) async throws in
            #expect(try await client.get("first") == "1")
            let error = await failure { try await client.withTimeout(.milliseconds(200)).get("slow") }
            #expect(error == .timeout(mayHaveExecuted: false))
            // RESP answers in order: the next call's answer follows the late one.
            async let next = client.get("other")
            try await eventually("the second request arrived") { held.withLock { $0.count } == 2 }
            held.withLock { held in
                held[0].bulk("late")
                held[1].bulk("in time")
            }
            #expect(try await next == "in time")
            #expect(server.connections == 1)
        }
    }

    @Test func aSilentServerIsLeft() async throws {
        let store = FakeStore()
        let configuration = configured { $0.silenceTimeout = .seconds(2) }
        try await withServer(configuration: configuration) { exchange in
            if exchange.connection > 1 { store.answer(exchange) }
        } _: { (client, server) async throws in
            #expect(try await client.get("k") == nil)
            #expect(server.connections == 2)
        }
    }

    @Test func anIdleConnectionIsNotSilent() async throws {
        let configuration = configured { $0.silenceTimeout = .seconds(2) }
        try await withFakeStore(configuration: configuration) { (client, server) async throws in
            for _ in 0..<2 {
                _ = try await client.get("k")
                // The deadline passes without anything being owed: that nothing happens is what is tested.
                try await Task.sleep(for: .milliseconds(2100))
            }
            #expect(server.connections == 1)
        }
    }

    @Test func aTimeoutWhileConnectingNamesTheServer() async throws {
        let refusing = try HeldPort()
        defer { withExtendedLifetime(refusing) {} }
        let address = try #require(KVAddress("127.0.0.1:\(refusing.port)"))
        let configuration = configured {
            $0.attemptsPerServerMax = 1000
            $0.callTimeout = .milliseconds(120)
        }
        let client = KVClient(servers: [address], configuration: configuration)
        guard case .unreachable(address, _) = await failure({ try await client.get("k") }) else {
            Issue.record("not told which server is unreachable")
            return
        }
    }

    @Test func aRestartedServerIsFoundAgain() async throws {
        let store = FakeStore()
        let port = FreePorts.take(1)
        let first = try await ScriptedServer(port: port) { store.answer($0) }
        let client = KVClient(servers: [first.address], configuration: .patient)
        try await client.put("k", "v")
        await first.stop()
        let second = try await ScriptedServer(port: port) { store.answer($0) }
        try await eventually("answered again") { (try? await client.get("k")) == "v" }
        await client.close()
        await second.stop()
    }

    @Test func aClosedClientSaysSo() async throws {
        try await withServer { _ in
        } _: { (client, server) async throws in
            async let pending = failure { try await client.get("k") }
            try await eventually("asked") { server.requests.count == 1 }
            await client.close()
            #expect(await pending == .closed)
            #expect(await failure { try await client.get("k") } == .closed)
            try await eventually("the connection closed") { server.openConnections == 0 }
            await client.close()
        }
    }

    @Test func theLastCopyGoneClosesTheConnection() async throws {
        let store = FakeStore()
        let server = try await ScriptedServer { store.answer($0) }
        do {
            let client = KVClient(servers: [server.address], configuration: .patient)
            _ = try await client.get("k")
            #expect(server.openConnections == 1)
        }
        try await eventually("the connection closed") { server.openConnections == 0 }
        await server.stop()
    }

    /// The first of its calls to fail is a read, or one that came behind a write that was answered.
    @Test(arguments: [["GET", "KVD"], ["KVD", "GET"]])
    func aPipelineCutOffTellsOfItsWrites(order: [String]) async throws {
        try await withServer { exchange in
            if exchange.arguments[0] == "KVD", order[0] == "KVD" { exchange.reply(":7\r\n") }
            if exchange.arguments[0] == order[1] { exchange.close() }
        } _: { (client, server) async throws in
            let error = await failure {
                try await client.withPipeline { pipeline in
                    if order[0] == "GET" { _ = pipeline.get("a") }
                    pipeline.put("b", "1")
                    if order[1] == "GET" { _ = pipeline.get("a") }
                }
            }
            guard case .connectionLost(server.address, _, mayHaveExecuted: true) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(server.connections == 1)
        }
    }

    /// The server may carry out what it was sent.
    @Test func aWriteUnderWayWhenTheClientClosesMayHaveExecuted() async throws {
        try await withServer { _ in
        } _: { (client, server) async throws in
            async let pending = failure { try await client.put("k", "v") }
            try await eventually("asked") { server.requests.count == 1 }
            await client.close()
            let error = await pending
            #expect(error == .closed && error?.mayHaveExecuted == true)
        }
    }

    @Test func aPipelineCutOffTellsThatWritesMayHaveExecuted() async throws {
        try await withServer { exchange in
            if exchange.arguments[0] == "GET" { exchange.bulk("x") } else { exchange.close() }
        } _: { (client, server) async throws in
            let error = await failure {
                try await client.withPipeline { pipeline in
                    _ = pipeline.get("a")
                    pipeline.put("b", "1")
                    pipeline.put("c", "1")
                }
            }
            #expect(error?.mayHaveExecuted == true)
            #expect(server.connections == 1)
        }
    }
}
