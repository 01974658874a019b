// One server's connection by itself, beside what the client makes of it.

import NIOCore
import NIOPosix
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
}
