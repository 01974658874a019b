// What only a server shows whose loops run: clients beside each other, the end beside a beginning. Real sockets.

import FuzzSupport
import Glibc
import KVBase
import KVTestTraits
import Logging
import Testing

@testable import KVRuntime
@testable import KVServer

@Suite(.blocking, .serialized) struct LiveServerTests {
    private func config(actors: Int = 1) -> Config {
        var config = Config()
        (config.port, config.actors, config.pinLoops) = (FreePorts.take(actors + 1), actors, false)
        return config
    }

    private func server(_ config: Config) -> Server {
        Server(config: config, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    }

    private func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Machine.monotonicNanos + 20_000_000_000
        while Machine.monotonicNanos < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 2)
        }
        return false
    }

    /// Both have commands behind the one that is ended, or that ends it.
    @Test(arguments: [1, 2]) func whoIsUnblockedWaitsForTheCommandsOfWhoDidIt(actors: Int) throws {
        let config = config(actors: actors)
        let server = server(config)
        _ = try server.start()
        defer { server.stop() }
        let admin = try TestSocket(port: UInt16(config.port + 1))
        let waiting = try TestSocket(port: UInt16(config.port + 1))
        try admin.send("MSET a 1 b 2 c 3\r\n")
        #expect(try admin.receiveText(5) == "+OK\r\n")
        try waiting.send("CLIENT ID\r\n")
        var id = String(decoding: try waiting.receiveSome(), as: UTF8.self)
        id = String(id.dropFirst().dropLast())
        try waiting.send("WAIT 1 0\r\nGET a\r\nGET b\r\nGET c\r\n")
        #expect(
            try eventually {
                try admin.send("INFO clients\r\n")
                return String(decoding: try admin.receiveSome(), as: UTF8.self).contains("blocked_clients:1\r\n")
            })
        try admin.send("CLIENT UNBLOCK \(id)\r\nSET x y\r\nGET x\r\n")
        #expect(try admin.receiveText(16) == ":1\r\n+OK\r\n$1\r\ny\r\n")
        #expect(try waiting.receiveText(25) == ":0\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n")
    }
}
