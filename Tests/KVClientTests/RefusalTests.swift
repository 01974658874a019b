// A server that is there and cannot do what it is asked: it leaves, still reads its directory, or its disk is full. The
// call is made at another one.

import Foundation
import KVClient
import Synchronization
import Testing

@Suite struct RefusalTests {
    private static let leaving = "-LEAVING this server is shutting down and takes no writes; use another server\r\n"

    /// The first server refuses what is no read with `refusal`; the second is a fake store.
    private func withTwo(
        _ refusal: String, _ body: (KVClient, ScriptedServer, ScriptedServer) async throws -> Void
    ) async throws {
        let (store, other) = (FakeStore(), FakeStore())
        let first = try await ScriptedServer { exchange in
            exchange.arguments[0] == "GET" ? store.answer(exchange) : exchange.reply(refusal)
        }
        let second = try await ScriptedServer { other.answer($0) }
        let client = KVClient(servers: [first.address, second.address], configuration: .patient)
        try await body(client, first, second)
        await client.close()
        await first.stop()
        await second.stop()
    }

    @Test(arguments: [
        leaving, "-LOADING kvd is loading the dataset from disk\r\n", "-MISCONF Errors writing to the log\r\n",
    ]) func aRefusedWriteIsMadeElsewhere(refusal: String) async throws {
        try await withTwo(refusal) { (client, first, second) async throws in
            let events = client.events()
            #expect(try await client.get("k") == nil)
            #expect(try await client.put("k", "v").millis > 0)
            #expect(first.requests.count == 2 && second.requests.count == 1)
            // Later calls go there at once.
            #expect(try await client.get("k") == "v")
            #expect(first.requests.count == 2 && second.requests.count == 2)
            let moved = await nextEvent(events) { if case .failedOver = $0 { true } else { false } }
            guard case .failedOver(first.address, second.address, let reason) = moved else {
                Issue.record("\(String(describing: moved))")
                return
            }
            #expect(reason.contains(refusal.dropFirst().prefix(7)))
        }
    }

    @Test(arguments: ["-ERR value is not an integer\r\n", "-CLOCK this key\r\n", "-LEAVINGS\r\n", "-OOM x\r\n"])
    func whatConcernsTheRequestIsNotAskedAgain(refusal: String) async throws {
        try await withTwo(refusal) { (client, first, second) async throws in
            guard case .server = await failure({ try await client.put("k", "v") }) else {
                Issue.record("it was written")
                return
            }
            #expect(first.requests.count == 1 && second.requests.isEmpty)
        }
    }

    @Test func aServerThatIsTheOnlyOneIsNotAskedForEver() async throws {
        try await withServer {
            $0.reply(RefusalTests.leaving)
        } _: { (client, server) async throws in
            let error = await failure { try await client.put("k", "v") }
            #expect(error.map { "\($0)" }?.hasPrefix("the server refused: LEAVING") == true)
            #expect(error?.mayHaveExecuted == false)
            #expect(server.requests.count == KVClientConfiguration().attemptsPerServerMax)
        }
    }

    @Test func whereAllRefuseTheLastWordIsGiven() async throws {
        let servers = [
            try await ScriptedServer { $0.reply(RefusalTests.leaving) },
            try await ScriptedServer { $0.reply("-LOADING x\r\n") },
        ]
        let client = KVClient(servers: servers.map(\.address), configuration: .patient)
        guard case .server = await failure({ try await client.put("k", "v") }) else {
            Issue.record("it was written")
            return
        }
        let most = KVClientConfiguration().attemptsPerServerMax
        #expect(servers.allSatisfy { (1...most).contains($0.requests.count) })
        await client.close()
        for server in servers { await server.stop() }
    }

    /// Counts how often it is told that a server has failed.
    private final class CountingRouter: KVRouter {
        private let router: StickyRouter
        let failures = Mutex<[KVAddress]>([])

        init(_ servers: [KVAddress]) { router = StickyRouter(servers) }

        func nextAddress() -> KVAddress? { router.nextAddress() }
        func connectionFailed(_ address: KVAddress) {
            failures.withLock { $0.append(address) }
            router.connectionFailed(address)
        }
        func connectionSucceeded(_ address: KVAddress) { router.connectionSucceeded(address) }
        var staysWithOneServer: Bool { true }
    }

    /// Were each of them one, the server would rest for half a minute.
    @Test func aThousandRefusalsAreOneFailureOfTheServer() async throws {
        let store = FakeStore()
        let held = Mutex<[Exchange]>([])
        // The first answers when all are there, so that all are refused at once.
        let first = try await ScriptedServer { exchange in
            let all = held.withLock { held in
                held.append(exchange)
                return held.count == 1000 ? held : []
            }
            for one in all { one.reply(RefusalTests.leaving) }
        }
        let second = try await ScriptedServer { store.answer($0) }
        let router = CountingRouter([first.address, second.address])
        let client = KVClient(router: router, configuration: .patient)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<1000 { group.addTask { _ = try await client.put("k\(index)", "v") } }
            try await group.waitForAll()
        }
        #expect(first.requests.count == 1000 && second.requests.count == 1000)
        // A busy machine may take longer for them than the time a server rests.
        let failures = router.failures.withLock { $0 }
        #expect(Set(failures) == [first.address] && failures.count < 20, "\(failures.count)")
        await client.close()
        for server in [first, second] { await server.stop() }
    }

    /// The first report of a failure takes until the first server was asked a third time, or a while.
    private final class SlowRouter: KVRouter {
        private let router: StickyRouter
        private let wasAskedAgain: @Sendable () -> Bool
        private let isFirst = Atomic<Bool>(true)

        init(_ servers: [KVAddress], _ wasAskedAgain: @escaping @Sendable () -> Bool) {
            (router, self.wasAskedAgain) = (StickyRouter(servers), wasAskedAgain)
        }

        func nextAddress() -> KVAddress? { router.nextAddress() }
        func connectionFailed(_ address: KVAddress) {
            let deadline = ContinuousClock.now + .milliseconds(300)
            if isFirst.exchange(false, ordering: .relaxed) {
                // That nothing happens is what is tested.
                while ContinuousClock.now < deadline, !wasAskedAgain() { sched_yield() }
            }
            router.connectionFailed(address)
        }
        var staysWithOneServer: Bool { true }
    }

    /// A call whose task is stopped between finding out and saying so must not cost another its attempts.
    @Test func aCallWaitsForTheReportOfAnother() async throws {
        let store = FakeStore()
        let held = Mutex<[Exchange]>([])
        let first = try await ScriptedServer { exchange in
            let all = held.withLock { held in
                held.append(exchange)
                return held.count >= 2 ? held : []
            }
            for one in all.prefix(2) where all.count == 2 { one.reply(RefusalTests.leaving) }
            if all.count > 2 { exchange.reply(RefusalTests.leaving) }
        }
        let second = try await ScriptedServer { store.answer($0) }
        let router = SlowRouter([first.address, second.address]) { first.requests.count > 2 }
        let client = KVClient(router: router, configuration: .patient)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<2 { group.addTask { _ = try await client.put("k\(index)", "v") } }
            try await group.waitForAll()
        }
        #expect(first.requests.count == 2 && second.requests.count == 2)
        await client.close()
        for server in [first, second] { await server.stop() }
    }

    /// Goes to the servers in an order that was written down.
    private final class OrderedRouter: KVRouter {
        private let servers: [KVAddress]
        private let order: Mutex<ArraySlice<Int>>

        init(_ servers: [KVAddress], _ order: [Int]) {
            self.servers = servers
            self.order = Mutex(order[...])
        }

        func nextAddress() -> KVAddress? { order.withLock { order in order.popFirst().map { servers[$0] } } }
        func alternatives(to address: KVAddress) -> [KVAddress] { servers.filter { $0 != address } }
    }

    /// Two actors of a server that leaves may both be asked twice while the server that serves still rests.
    @Test func attemptsAreCountedOverAllServers() async throws {
        let store = FakeStore()
        let leaving = [
            try await ScriptedServer { $0.reply(RefusalTests.leaving) },
            try await ScriptedServer { $0.reply(RefusalTests.leaving) },
        ]
        let serving = try await ScriptedServer { store.answer($0) }
        let servers = leaving + [serving]
        let router = OrderedRouter(servers.map(\.address), [0, 1, 0, 1, 0, 2])
        let client = KVClient(router: router, configuration: .patient)
        try await client.put("k", "v")
        #expect(servers.map(\.requests.count) == [3, 2, 1])
        await client.close()
        for server in servers { await server.stop() }
    }

    /// It says so to who connects, in place of anything else: nothing was executed, whatever was sent meanwhile.
    @Test(arguments: [true, false])
    func aServerWithTooManyClientsIsLeft(hasCredentials: Bool) async throws {
        let store = FakeStore()
        let first = try await ScriptedServer { exchange in
            exchange.reply("-ERR max number of clients reached\r\n")
            exchange.close()
        }
        let second = try await ScriptedServer { exchange in
            if exchange.arguments[0] == "AUTH" { exchange.reply("+OK\r\n") } else { store.answer(exchange) }
        }
        let configuration = configured { if hasCredentials { $0.credentials = KVCredentials(password: "x") } }
        let client = KVClient(servers: [first.address, second.address], configuration: configuration)
        let events = client.events()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<5 { group.addTask { try await client.put("k\(index)", "v") } }
            try await group.waitForAll()
        }
        #expect(second.requests.filter { $0[0] == "KVD" }.count == 5)
        let moved = await nextEvent(events) { if case .failedOver = $0 { true } else { false } }
        #expect("\(String(describing: moved))".contains("max number of clients"))
        await client.close()
        for server in [first, second] { await server.stop() }
    }

    @Test func aTransactionIsMadeElsewhereAsAWhole() async throws {
        let first = try await ScriptedServer { exchange in
            switch exchange.arguments[0] {
            case "MULTI": exchange.reply("+OK\r\n")
            case "EXEC": exchange.reply("-EXECABORT Transaction discarded because of previous errors.\r\n")
            default: exchange.reply(RefusalTests.leaving)
            }
        }
        let second = try await ScriptedServer { exchange in
            switch exchange.arguments[0] {
            case "MULTI": exchange.reply("+OK\r\n")
            case "EXEC": exchange.reply("*2\r\n:7\r\n:1\r\n")
            default: exchange.reply("+QUEUED\r\n")
            }
        }
        let client = KVClient(servers: [first.address, second.address], configuration: .patient)
        let (stamp, count) = try await client.transaction { ($0.put("a", "1"), $0.delete("b")) }
        #expect(try stamp.value.millis == 7 && count.value)
        #expect(first.requests.count == 4 && second.requests == first.requests)
        await client.close()
        for server in [first, second] { await server.stop() }
    }

    /// Reads of it were answered, so the writes are its own affair: they are told to who made them.
    @Test func aPipelineOfWhichAPartRanIsNotSentAgain() async throws {
        try await withTwo(RefusalTests.leaving) { (client, first, second) async throws in
            let (value, stamp) = try await client.withPipeline { ($0.get("k"), $0.put("k", "v")) }
            #expect(try value.value == nil)
            #expect(throws: KVError.self) { try stamp.value }
            #expect(first.requests.count == 2 && second.requests.isEmpty)
            // The next one is made where writes are taken.
            let (again, read) = try await client.withPipeline { ($0.put("k", "v"), $0.get("k")) }
            #expect(try again.value.millis > 0 && read.value == "v")
            #expect(first.requests.count == 2)
        }
    }
}
