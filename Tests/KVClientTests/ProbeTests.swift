// A silent server is probed: one that hangs is left for one that answers, one that is slow is waited for.

import KVClient
import Synchronization
import Testing

@Suite struct ProbeTests {
    private var quick: KVClientConfiguration {
        configured {
            $0.probeAfter = .milliseconds(50)
            $0.probeTimeout = .milliseconds(300)
        }
    }

    /// Takes connections and requests, and answers nothing.
    private func hanging() async throws -> ScriptedServer { try await ScriptedServer { _ in } }

    /// What a server was asked besides whether it answers.
    private func asked(_ server: ScriptedServer) -> [[String]] { server.requests.filter { $0 != ["PING"] } }

    @Test func aReadOfAHungServerIsAskedOfTheNext() async throws {
        let (store, hung) = (FakeStore(), try await hanging())
        let good = try await ScriptedServer { store.answer($0) }
        let client = KVClient(servers: [hung.address, good.address], configuration: quick)
        #expect(try await client.get("k") == nil)
        // On a busy machine a probe comes more than once.
        #expect(asked(hung) == [["GET", "k"]] && hung.requests.contains(["PING"]))
        #expect(asked(good) == [["GET", "k"]] && good.requests.first == ["PING"])
        await client.close()
        await hung.stop()
        await good.stop()
    }

    /// It may have been executed: that is said early, and it is not sent again.
    @Test func aWriteToAHungServerFailsInDoubt() async throws {
        let (store, hung) = (FakeStore(), try await hanging())
        let good = try await ScriptedServer { store.answer($0) }
        let client = KVClient(servers: [hung.address, good.address], configuration: quick)
        let error = await failure { try await client.put("k", "v") }
        guard case .connectionLost(hung.address, let reason, mayHaveExecuted: true) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.contains("it hangs"))
        #expect(asked(good).isEmpty && good.requests.contains(["PING"]))
        try await client.put("k", "w")
        #expect(try await client.get("k") == "w")
        await client.close()
        await hung.stop()
        await good.stop()
    }

    /// Two of four hang: the one that was probed and did not answer is not turned to.
    @Test func serversThatDidNotAnswerTheProbeArePassedOver() async throws {
        let store = FakeStore()
        let hung = [try await hanging(), try await hanging()]
        let good = try await ScriptedServer { store.answer($0) }
        let client = KVClient(servers: (hung + [good]).map(\.address), configuration: quick)
        #expect(try await client.get("k") == nil)
        #expect(asked(hung[1]).isEmpty && hung[1].requests.contains(["PING"]), "it was probed, and asked nothing")
        await client.close()
        for server in hung + [good] { await server.stop() }
    }

    @Test func aSlowServerThatAnswersTheProbeIsWaitedFor() async throws {
        let store = FakeStore()
        let held = Mutex<Exchange?>(nil)
        let slow = try await ScriptedServer { exchange in
            if exchange.arguments[0] == "GET" { held.withLock { $0 = exchange } } else { store.answer(exchange) }
        }
        let other = try await ScriptedServer { store.answer($0) }
        // Both answer their probes at once: only a machine that is very busy lets half a minute pass.
        var patient = quick
        patient.probeTimeout = .seconds(30)
        let client = KVClient(servers: [slow.address, other.address], configuration: patient)
        async let answer = client.get("k")
        // Probed again and again, less and less often, and never left.
        try await eventually("probed three times") { slow.requests.filter { $0 == ["PING"] }.count >= 3 }
        held.withLock { $0 }?.bulk("late")
        #expect(try await answer == "late")
        #expect(other.requests.allSatisfy { $0 == ["PING"] })
        try await eventually("probes are closed") { other.openConnections == 0 && slow.openConnections == 1 }
        await client.close()
        await slow.stop()
        await other.stop()
    }

    /// Nobody answers: there is nowhere to go, and the call waits for the silence timeout or its own.
    @Test func nobodyIsLeftForNobody() async throws {
        let hung = [try await hanging(), try await hanging()]
        let client = KVClient(servers: hung.map(\.address), configuration: quick)
        async let asked = failure { try await client.withTimeout(.seconds(2)).get("k") }
        try await eventually("probed twice") { hung[1].requests.count >= 2 }
        #expect(await asked == .timeout(mayHaveExecuted: false))
        #expect(hung[0].requests.filter { $0 == ["GET", "k"] }.count == 1)
        #expect(hung[1].requests.allSatisfy { $0 == ["PING"] })
        await client.close()
        for server in hung { await server.stop() }
    }

    @Test func aServerThatIsAloneIsNotProbed() async throws {
        let hung = try await hanging()
        let client = KVClient(servers: [hung.address], configuration: quick)
        let error = await failure { try await client.withTimeout(.milliseconds(600)).get("k") }
        #expect(error == .timeout(mayHaveExecuted: false))
        #expect(hung.requests == [["GET", "k"]])
        await client.close()
        await hung.stop()
    }

    @Test(arguments: [0, 1, 2])
    func otherRoutersKnowTheirAlternatives(which: Int) {
        let addresses = (1...3).map { KVAddress(host: "h", port: $0) }
        let routers: [any KVRouter] = [.sticky(addresses), .roundRobin(addresses), .random(addresses)]
        #expect(Set(routers[which].alternatives(to: addresses[1])) == [addresses[0], addresses[2]])
        let fixed = FixedRouter(addresses[0])
        #expect(fixed.alternatives(to: addresses[0]).isEmpty)
        // One that failed rests: it is the last to be asked.
        let sticky = StickyRouter(addresses)
        sticky.connectionFailed(addresses[1])
        #expect(sticky.alternatives(to: addresses[0]) == [addresses[2], addresses[1]])
    }
}
