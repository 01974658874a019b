// Which server each router names, and how the sticky one moves on: floors, events, rests.

import Foundation
import KVClient
import Synchronization
import Testing

@testable import KVClient

@Suite struct RouterTests {
    private func servers(_ count: Int, _ stores: [FakeStore]) async throws -> [ScriptedServer] {
        var servers: [ScriptedServer] = []
        for index in 0..<count {
            let store = stores[index % stores.count]
            servers.append(try await ScriptedServer { store.answer($0) })
        }
        return servers
    }

    @Test func roundRobinAsksEachServerEquallyOften() async throws {
        let servers = try await servers(3, [FakeStore()])
        let client = KVClient(router: .roundRobin(servers.map(\.address)), configuration: .patient)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<300 { group.addTask { _ = try await client.get("k\(index)") } }
            try await group.waitForAll()
        }
        #expect(servers.map(\.requests.count) == [100, 100, 100])
        #expect(servers.map(\.connections) == [1, 1, 1])
        await client.close()
        for server in servers { await server.stop() }
    }

    @Test func roundRobinSurvivesADeadServerForReads() async throws {
        let servers = try await servers(3, [FakeStore()])
        await servers[1].stop()
        let client = KVClient(router: .roundRobin(servers.map(\.address)), configuration: .patient)
        for index in 0..<12 { #expect(try await client.get("k\(index)") == nil) }
        await client.close()
        await servers[0].stop()
        await servers[2].stop()
    }

    @Test func randomAsksAllServersInTheLongRun() {
        let addresses = (1...4).map { KVAddress(host: "h", port: $0) }
        let router = RandomRouter(addresses)
        #expect(Set((0..<400).compactMap { _ in router.nextAddress() }) == Set(addresses))
    }

    @Test func aRouterIsAskedBeforeEveryCall() async throws {
        final class Counting: KVRouter {
            let address: KVAddress
            let asked = Atomic<Int>(0)
            init(_ address: KVAddress) { self.address = address }
            func nextAddress() -> KVAddress? {
                asked.wrappingAdd(1, ordering: .relaxed)
                return address
            }
        }
        let servers = try await servers(1, [FakeStore()])
        let router = Counting(servers[0].address)
        let client = KVClient(router: router, configuration: .patient)
        for _ in 0..<7 { _ = try await client.get("k") }
        #expect(router.asked.load(ordering: .relaxed) == 7)
        await client.close()
        await servers[0].stop()
    }

    @Test func aRouterWithoutServersIsAnError() async {
        let clients = [
            KVClient(router: .roundRobin([]), configuration: .patient),
            KVClient(servers: [], configuration: .patient), KVClient(router: .random([]), configuration: .patient),
        ]
        for client in clients {
            guard case .invalidArgument = await failure({ try await client.get("k") }) else {
                Issue.record("no error")
                return
            }
        }
    }

    @Test func dnsNamesLeadToTheirAddresses() async throws {
        let servers = try await servers(1, [FakeStore()])
        let client = KVClient(router: .dns("localhost", port: servers[0].port), configuration: .patient)
        try await client.put("k", "v")
        #expect(try await client.get("k") == "v")
        await client.close()
        await servers[0].stop()
    }

    @Test func dnsNamesThatDoNotExistAreUnreachable() async {
        let client = KVClient(router: .dns("no-such-host.invalid", port: 1), configuration: .patient)
        guard case .unreachable = await failure({ try await client.get("k") }) else {
            Issue.record("no error")
            return
        }
    }

    /// For a task that holds its thread: those of the other tests are few.
    private final class OwnThread: TaskExecutor {
        private let queue = DispatchQueue(label: "a test's own")

        func enqueue(_ job: consuming ExecutorJob) {
            let job = UnownedJob(job)
            queue.async { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        }
    }

    /// A look-up may end between a call's look at the clock and at when the last one ended.
    @Test func aLookUpMayEndWhileACallAsksForIts() async throws {
        let router = DNSRouter("127.0.0.1", port: 1)
        try await router.prepare()
        let calls = Task(executorPreference: OwnThread()) {
            while !Task.isCancelled { #expect(router.nextAddress()?.host == "127.0.0.1") }
        }
        for _ in 0..<2000 { try await router.prepare() }
        calls.cancel()
        await calls.value
    }

    /// Finds its server when it is told to.
    private final class SearchingRouter: KVRouter {
        private struct State {
            var address: KVAddress?
            var searches: [CheckedContinuation<Void, Never>] = []
        }

        private let state = Mutex(State())

        var searches: Int { state.withLock { $0.searches.count } }
        func nextAddress() -> KVAddress? { state.withLock { $0.address } }
        func prepare() async throws(KVError) {
            await withCheckedContinuation { search in state.withLock { $0.searches.append(search) } }
        }
        func find(_ address: KVAddress) {
            for search in state.withLock({ state in
                state.address = address
                return state.searches
            }) { search.resume() }
        }
    }

    /// Looking a name up may take half a minute.
    @Test(arguments: [true, false])
    func aCallWaitsForItsRouterNoLongerThanForAnAnswer(isCancelled: Bool) async throws {
        let store = FakeStore()
        let server = try await ScriptedServer { store.answer($0) }
        let router = SearchingRouter()
        let client = KVClient(router: router, configuration: .patient)
        let outcome = Mutex<KVError?>(nil)
        let call = Task {
            let time = isCancelled ? Duration.seconds(90) : .milliseconds(50)
            let error = await failure { try await client.withTimeout(time).put("k", "v") }
            outcome.withLock { $0 = error }
        }
        let patient = Task { try await client.put("k", "w") }
        try await eventually("both wait") { router.searches == 2 || outcome.withLock { $0 != nil } }
        if isCancelled { call.cancel() }
        try await eventually("the call has ended") { outcome.withLock { $0 != nil } }
        router.find(server.address)
        let expected = isCancelled ? KVError.cancelled(mayHaveExecuted: false) : .timeout(mayHaveExecuted: false)
        #expect(outcome.withLock { $0 } == expected)
        _ = try await patient.value
        #expect(server.requests == [["KVD", "PUT", "k", "w"]])
        await call.value
        await client.close()
        await server.stop()
    }

    // MARK: Failover

    @Test func stickyStaysUntilTheServerFailsAndTellsOfTheMove() async throws {
        let servers = try await servers(2, [FakeStore()])
        let client = KVClient(servers: servers.map(\.address), configuration: .patient)
        let events = client.events()
        for _ in 0..<5 { _ = try await client.get("k") }
        #expect(servers.map(\.requests.count) == [5, 0])
        let (first, second) = (servers[0].address, servers[1].address)
        await servers[0].stop()
        for _ in 0..<5 { _ = try await client.get("k") }
        #expect(servers[1].requests.count == 5)
        let moved = await nextEvent(events) { if case .failedOver = $0 { true } else { false } }
        guard case .failedOver(first, second, let reason) = moved else {
            Issue.record("\(String(describing: moved))")
            return
        }
        #expect(!reason.isEmpty)
        await client.close()
        await servers[1].stop()
    }

    /// Its second caller is stopped when it has been told where to go.
    private final class StoppingRouter: KVRouter {
        private let router: StickyRouter
        private let asked = Atomic<Int>(0)
        private let goesOn = Atomic<Bool>(false)

        init(_ servers: [KVAddress]) { router = StickyRouter(servers) }

        var hasStopped: Bool { asked.load(ordering: .relaxed) == 2 }
        func goOn() { goesOn.store(true, ordering: .relaxed) }

        func nextAddress() -> KVAddress? {
            let address = router.nextAddress()
            if asked.wrappingAdd(1, ordering: .relaxed).newValue == 2 {
                while !goesOn.load(ordering: .relaxed) { sched_yield() }
            }
            return address
        }
        func connectionFailed(_ address: KVAddress) { router.connectionFailed(address) }
        func connectionSucceeded(_ address: KVAddress) { router.connectionSucceeded(address) }
        var staysWithOneServer: Bool { true }
    }

    @Test func aCallThatComesLateDoesNotLeadBack() async throws {
        let servers = try await servers(2, [FakeStore()])
        let router = StoppingRouter(servers.map(\.address))
        let client = KVClient(router: router, configuration: .patient)
        let events = client.events()
        _ = try await client.get("k")
        let late = Task(executorPreference: OwnThread()) { try await client.get("late") }
        try await eventually("it is stopped") { router.hasStopped }
        await servers[0].stop()
        try await eventually("moved") { (try? await client.put("k", "v")) != nil }
        router.goOn()
        #expect(try await late.value == nil)
        await client.close()
        var moves: [KVAddress] = []
        for await event in events { if case .failedOver(_, let to, _) = event { moves.append(to) } }
        #expect(moves == [servers[1].address])
        await servers[1].stop()
    }

    @Test func eventsComeInTheOrderOfWhatHappened() async throws {
        let servers = try await servers(2, [FakeStore()])
        let client = KVClient(servers: servers.map(\.address), configuration: .patient)
        let events = client.events()
        _ = try await client.get("k")
        await servers[0].stop()
        try await eventually("moved") { (try? await client.get("k")) != nil || servers[1].requests.count > 0 }
        await client.close()
        var kinds: [String] = []
        for await event in events { kinds.append("\(event)".prefix { $0 != "(" }.description) }
        #expect(kinds.first == "connected")
        #expect(kinds.last == "connected")
        #expect(kinds.firstIndex(of: "connectionLost")! < kinds.firstIndex(of: "failedOver")!)
        await servers[1].stop()
    }

    @Test func afterFailoverAPutCarriesTheGreatestStampAsFloor() async throws {
        // The second server's clock is far behind.
        let servers = try await servers(2, [FakeStore(clockMillis: 5_000_000), FakeStore(clockMillis: 1_000)])
        let client = KVClient(servers: servers.map(\.address), configuration: .patient)
        let events = client.events()
        _ = try await client.put("a", "1")
        let greatest = try await client.put("b", "1")
        #expect(servers[0].requests.allSatisfy { $0.count == 4 })
        await servers[0].stop()
        #expect(await nextEvent(events) { if case .connectionLost = $0 { true } else { false } } != nil)
        var later = try await client.put("a", "2")
        #expect(later > greatest)
        #expect(servers[1].requests.last == ["KVD", "PUT", "a", "2", "FLOOR", "\(greatest.millis)"])
        later = try await client.put("b", "2")
        #expect(later > greatest)
        // The floor stays where it was: it does not climb with the new server's own stamps.
        #expect(servers[1].requests.last == ["KVD", "PUT", "b", "2", "FLOOR", "\(greatest.millis)"])
        await client.close()
        await servers[1].stop()
    }

    @Test func aPutOfUnknownOutcomeRaisesTheFloorByTheTimePassed() async throws {
        let first = FakeStore(clockMillis: 5_000_000)
        let refuse = Mutex(false)
        let a = try await ScriptedServer { exchange in
            if refuse.withLock({ $0 }) { exchange.close() } else { first.answer(exchange) }
        }
        let second = FakeStore(clockMillis: 1_000)
        let b = try await ScriptedServer { second.answer($0) }
        let client = KVClient(servers: [a.address, b.address], configuration: .patient)
        let known = try await client.put("k", "1")
        refuse.withLock { $0 = true }
        #expect(await failure { try await client.put("k", "2") }?.mayHaveExecuted == true)
        try await client.put("k", "3")
        let floor = b.requests.last.flatMap { Int64($0[5]) } ?? 0
        #expect(floor > known.millis)
        #expect(floor < known.millis + 60_000)
        await client.close()
        await a.stop()
        await b.stop()
    }

    /// The stamps of its puts are in the answer to EXEC; what else is in there is none.
    @Test func aTransactionRaisesTheFloor() async throws {
        let a = try await ScriptedServer { exchange in
            switch exchange.arguments[0] {
            case "MULTI": exchange.reply("+OK\r\n")
            case "EXEC": exchange.reply("*3\r\n:5000000\r\n:9000000\r\n:4000000\r\n")
            default: exchange.reply("+QUEUED\r\n")
            }
        }
        let store = FakeStore(clockMillis: 1_000)
        let b = try await ScriptedServer { store.answer($0) }
        let client = KVClient(servers: [a.address, b.address], configuration: .patient)
        let events = client.events()
        let stamp = try await client.transaction { calls in
            let stamp = calls.put("k", "1")
            calls.send(["INCRBY", "n", "9000000"])
            calls.put("l", "1")
            return stamp
        }
        await a.stop()
        #expect(await nextEvent(events) { if case .connectionLost = $0 { true } else { false } } != nil)
        #expect(try await client.put("k", "2") > stamp.value)
        #expect(b.requests.last == ["KVD", "PUT", "k", "2", "FLOOR", "5000000"])
        await client.close()
        await b.stop()
    }

    /// The answer to a delete has no stamp, but it has one all the same.
    @Test func aDeleteRaisesTheFloorByTheTimePassed() async throws {
        let servers = try await servers(2, [FakeStore(clockMillis: 5_000_000), FakeStore(clockMillis: 1_000)])
        let client = KVClient(servers: servers.map(\.address), configuration: .patient)
        let events = client.events()
        let known = try await client.put("k", "1")
        for _ in 0..<200 { try await client.delete("k") }
        await servers[0].stop()
        #expect(await nextEvent(events) { if case .connectionLost = $0 { true } else { false } } != nil)
        try await client.put("k", "2")
        let floor = servers[1].requests.last.flatMap { Int64($0[5]) } ?? 0
        #expect(floor > known.millis)
        #expect(floor < known.millis + 60_000)
        await client.close()
        await servers[1].stop()
    }

    @Test func spreadingRoutersSendNoFloor() async throws {
        let servers = try await servers(2, [FakeStore(clockMillis: 5_000_000), FakeStore(clockMillis: 1_000)])
        let client = KVClient(router: .roundRobin(servers.map(\.address)), configuration: .patient)
        for _ in 0..<6 { try await client.put("k", "v") }
        #expect(servers.allSatisfy { $0.requests.allSatisfy { $0.count == 4 } })
        await client.close()
        for server in servers { await server.stop() }
    }

    @Test func failoverUnderLoadLosesNoReadAndDoublesNoWrite() async throws {
        let store = FakeStore()
        let count = Mutex(0)
        let a = try await ScriptedServer { exchange in
            let isBroken = count.withLock { count in
                count += 1
                return count > 200
            }
            if isBroken { exchange.close() } else { store.answer(exchange) }
        }
        let b = try await ScriptedServer { store.answer($0) }
        let client = KVClient(servers: [a.address, b.address], configuration: .patient)
        let failed = try await withThrowingTaskGroup(of: Int.self) { group in
            for task in 0..<50 {
                group.addTask {
                    var failed = 0
                    for step in 0..<10 {
                        _ = try await client.get("k\(task)")
                        do {
                            try await client.put("k\(task)", "\(step)")
                        } catch let error as KVError where error.mayHaveExecuted {
                            failed += 1
                        }
                    }
                    return failed
                }
            }
            return try await group.reduce(0, +)
        }
        let puts = (a.requests + b.requests).filter { $0[0] == "KVD" }
        #expect(Set(puts.map { $0[2] + "=" + $0[3] }).count == puts.count, "a write was sent twice")
        #expect(failed <= 50)
        await client.close()
        await a.stop()
        await b.stop()
    }

    @Test func restsDoubleAndAreForgottenAfterSuccess() {
        let servers = (1...3).map { StickyRouter.Server(address: KVAddress(host: "h", port: $0)) }
        var state = StickyRouter.State(servers: servers)
        func port() -> Int { state.servers[state.pinned].address.port }
        state.failed(servers[0].address, now: 0, jitter: 1)
        #expect(port() == 2)
        // A second report of the same failure does not move the pin again.
        state.failed(servers[0].address, now: 0, jitter: 1)
        #expect(port() == 2)
        state.failed(servers[1].address, now: 1, jitter: 1)
        #expect(port() == 3)
        // All rest: the one whose rest ends first. Server 1 failed twice, server 2 and 3 once.
        state.failed(servers[2].address, now: 2, jitter: 1)
        #expect(port() == 2)
        #expect(state.servers[0].restsUntil == 200_000_000)
        state.succeeded(servers[0].address)
        #expect(state.servers[0].restsUntil == 0)
        state.failed(servers[1].address, now: 3, jitter: 1)
        #expect(port() == 1)
        for round in 0..<60 { state.failed(servers[2].address, now: UInt64(round), jitter: 0) }
        #expect(state.servers[2].restsUntil <= 59 + UInt64(StickyRouter.restNanosMax) / 2)
    }
}
