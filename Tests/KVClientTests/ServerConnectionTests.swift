// One server's connection by itself, beside what the client makes of it.

import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import KVClient

@Suite struct ServerConnectionTests {
    /// A name with several addresses is tried with several channels; those that are not used end after a while.
    @Test func aChannelThatIsNotUsedMayEnd() async throws {
        let server = try await ScriptedServer { $0.bulk("yes") }
        let core = ClientCore(router: StickyRouter([server.address]), configuration: .patient)
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let connection = ServerConnection(server.address, loop: loop, core: core, configuration: .patient)
        for number in 1...3 {
            let outcome = await Call(.get(KVBytes("k\(number)")), deadline: .max).run(on: connection)
            #expect(try outcome.get() == .bytes("yes"))
            try await loop.submit {
                connection.inactive(ReplyHandler(connection, handshakeTimeout: nil), "not used")
            }.get()
        }
        #expect(server.connections == 1)
        await withCheckedContinuation { closed in connection.close { closed.resume() } }
        await server.stop()
    }

    /// Calls are cancelled while those that ran out of time are taken out of the queue.
    @Test func everyCallThatWaitedIsCountedOut() async throws {
        let held = Mutex<[Exchange]>([])
        let server = try await ScriptedServer { exchange in held.withLock { $0.append(exchange) } }
        let configuration = configured { $0.outstandingCallsMax = 1 }
        let core = ClientCore(router: StickyRouter([server.address]), configuration: configuration)
        let loop = MultiThreadedEventLoopGroup.singleton.any()
        let connection = ServerConnection(server.address, loop: loop, core: core, configuration: configuration)
        let first = Task { await Call(.get("first"), deadline: .max).run(on: connection) }
        try await eventually("it is asked") { server.requests.count == 1 }
        for _ in 0..<20 {
            let start = NIODeadline.now().uptimeNanoseconds
            let calls = (0..<2000).map { index in
                let millis = index % 2 == 0 ? UInt64(5 + index % 50) : 90_000
                return Call(.get("k"), deadline: start + millis * 1_000_000)
            }
            let tasks = calls.map { call in Task { await call.run(on: connection) } }
            while NIODeadline.now().uptimeNanoseconds < start + 60_000_000 {
                for index in stride(from: 1, to: calls.count, by: 2) { calls[index].cancel() }
                await Task.yield()
            }
            for task in tasks { _ = await task.value }
        }
        held.withLock { $0[0].bulk("v") }
        #expect(try await first.value.get() == .bytes("v"))
        try await eventually("none is left") { connection.outstanding.load(ordering: .relaxed) == 0 }
        await withCheckedContinuation { closed in connection.close { closed.resume() } }
        await server.stop()
    }
}
