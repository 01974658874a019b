// A server that cannot open one of its ports leaves none of the others open. Real sockets.

import KVBase
import KVTestTraits
import Logging
import Testing

@testable import KVRuntime
@testable import KVServer

@Suite(.blocking, .serialized) struct StartFailureTests {
    private func server(_ port: Int, _ backend: LoopBackend) -> Server {
        var config = Config()
        (config.port, config.actors, config.pinLoops) = (port, 2, false)
        config.inputOutput = backend == .ioUring ? .io_uring : .epoll
        return Server(config: config, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    /// Occupies the port of the other servers, which is opened last, at a place where the three ports are free.
    private func occupied() throws -> (loop: Loop, port: Int) {
        let port = FreePorts.take(3)
        let loop = try Loop(backend: .epoll)
        let address = try HostPort(host: "127.0.0.1", port: UInt16(port)).resolve()[0]
        _ = try loop.listen(address, acceptor: Acceptor())
        return (loop, port)
    }

    private static let backends: [LoopBackend] = LoopBackend.ioUringRefusal() == nil ? [.ioUring, .epoll] : [.epoll]

    /// Two servers with the same shared port would split its clients between them.
    @Test func aSharedPortBelongsToOneServer() throws {
        let (loop, port) = try occupied()
        var config = Config()
        (config.port, config.actors, config.pinLoops, config.sharedPort) = (port + 1, 1, false, port)
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        do {
            _ = try Server(config: config, log: log).start()
            Issue.record("started")
        } catch { #expect(error.description.hasSuffix("choose another --shared-port"), "\(error)") }
        #expect(loop.socketCount == 1)
    }

    @Test(arguments: backends) func nothingIsLeftOpen(_ backend: LoopBackend) throws {
        var (loop, port): (Loop?, Int) = try occupied()
        #expect(throws: StartFailure.self) { try server(port, backend).start() }
        for index in 1...2 {
            #expect(throws: TestSocket.Failure.self) { try TestSocket(port: UInt16(port + index)) }
        }
        // Nor by a loop that goes away without having run.
        #expect(loop?.socketCount == 1)
        loop = nil
        let second = server(port, backend)
        _ = try second.start()
        let client = try TestSocket(port: UInt16(port + 1))
        try client.send("PING\r\n")
        #expect(try client.receiveText(7) == "+PONG\r\n")
        second.stop()
    }
}
