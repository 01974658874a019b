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

    private func path(_ name: String) -> String { "/tmp/kvd-live-\(getpid())-\(Machine.random())-\(name)" }

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

    // MARK: The end

    /// As a socket of the file system: the first reply to PING, or nil if nobody listens.
    private func ping(_ path: String) -> String? {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        guard isConnected, send(fd, "PING\r\n", 6, Int32(MSG_NOSIGNAL)) == 6 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = recv(fd, &bytes, bytes.count, 0)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    }

    /// It begins while the one before waits for its last clients.
    @Test func theSocketOfTheNextServerStays() throws {
        var config = config()
        config.socketPath = path("socket")
        let first = server(config)
        _ = try first.start()
        // It does not close, so that the end takes a second.
        let client = try TestSocket(port: UInt16(config.port + 1))
        try client.send("PING\r\n")
        #expect(try client.receiveText(7) == "+PONG\r\n")
        config.port = FreePorts.take(2)
        let next = server(config)
        let (box, hasStarted) = (UncheckedBox(next), Locked(false))
        var thread = pthread_t()
        let failure = SystemThread.start(&thread) {
            let deadline = Machine.monotonicNanos + 20_000_000_000
            while Machine.monotonicNanos < deadline {
                guard (try? box.value.start()) != nil else {
                    _ = poll(nil, 0, 1)
                    continue
                }
                return hasStarted.withLock { $0 = true }
            }
        }
        #expect(failure == 0)
        first.stop()
        pthread_join(thread, nil)
        #expect(hasStarted.withLock { $0 })
        #expect(ping(config.socketPath!) == "+PONG\r\n")
        next.stop()
        #expect(access(config.socketPath!, F_OK) != 0)
    }

    /// SIGHUP, and the look every ten seconds, come on a thread of their own until the process is gone.
    @Test func certificatesAreNotReadAgainBehindTheEnd() throws {
        let folder = path("certificates")
        #expect(mkdir(folder, 0o700) == 0)
        defer {
            for name in ["ca.pem", "ca.key", "s.pem", "s.key"] { unlink("\(folder)/\(name)") }
            rmdir(folder)
        }
        for (kind, name) in [("ca", nil), ("server", "s")] as [(String, String?)] {
            let failure = TrustSettings.makeCertificate(
                kind: kind, name: name, cluster: "kvd", folder: folder, hosts: [], days: nil)
            #expect(failure == nil)
        }
        var config = config()
        (config.tls.certificate, config.tls.key) = ("\(folder)/s.pem", "\(folder)/s.key")
        let server = server(config)
        _ = try server.start()
        let (reread, look) = (server.rereadTrust, server.lookAtCertificates)
        #expect(reread().contains("the files of --tls-cert-file are read again"))
        #expect(look() == nil)
        server.stop()
        #expect(utimes("\(folder)/s.pem", nil) == 0)
        #expect(look() == nil)
        #expect(!reread().contains("read again: new connections"))
    }

    /// Two actors, clients at the first one.
    private struct Pair {
        let loops: [Loop]
        let shards: [UncheckedBox<Shard>]
        let threads: [LoopThread]
        let port: UInt16

        init() throws {
            var config = Config()
            config.actors = 2
            let context = ServerContext(
                config: config, serverID: 1, hashSeed: 1, digestKey: 1, inputOutput: "epoll")
            loops = try (0..<2).map { try Loop(backend: .epoll, index: $0) }
            shards = (1...2).map { UncheckedBox(Shard(index: $0, context: context)) }
            for (shard, loop) in zip(shards, loops) { shard.value.attach(to: loop) }
            let homes = LoopHomes(zip(loops, shards).map { ($0, $1.value) })
            for shard in shards { shard.value.homes = homes }
            port = UInt16(FreePorts.take(1))
            let address = try HostPort(host: "127.0.0.1", port: port).resolve()[0]
            _ = try loops[0].listen(address, acceptor: QueryAcceptor(shard: shards[0].value))
            threads = loops.map { LoopThread(loop: $0) }
            for thread in threads { thread.start() }
        }

        /// What an actor says of itself.
        func ask<T: Sendable>(_ actor: Int, _ question: @escaping @Sendable (Shard) -> T) -> T {
            let (answer, isThere, shard) = (Locked<T?>(nil), SystemSemaphore(), shards[actor - 1])
            loops[actor - 1].perform {
                let found = question(shard.value)
                answer.withLock { $0 = found }
                isThere.post()
            }
            isThere.wait()
            return answer.withLock { $0! }
        }

        func close() {
            for thread in threads { try? thread.stopAndJoin() }
            for shard in shards { shard.value.close() }
        }

        /// Keys whose home is the second actor.
        func keys(_ count: Int) -> [String] {
            ask(1) { shard in
                let store = shard.state.pointee.store
                let all = (0..<1000).map { "k\($0)" }.filter { key in
                    Bytes(key).withBytes { shard.homes!.home(of: ByteView($0), store) } == 2
                }
                return Array(all.prefix(count))
            }
        }
    }

    /// The home does it after all clients have been told that this was all.
    @Test(arguments: ["INCR", "DEL", "EXEC"]) func whatRunsAtAnotherActorIsAnsweredBeforeTheEnd(_ name: String) throws {
        let pair = try Pair()
        defer { pair.close() }
        let key = pair.keys(1)[0]
        let client = try TestSocket(port: pair.port)
        if name == "EXEC" {
            try client.send("MULTI\r\nINCR \(key)\r\n")
            #expect(try client.receiveText(14) == "+OK\r\n+QUEUED\r\n")
        }
        if name == "DEL" {
            try client.send("SET \(key) v\r\n")
            #expect(try client.receiveText(5) == "+OK\r\n")
        }
        let goesOn = SystemSemaphore()
        pair.loops[1].perform { goesOn.wait() }
        try client.send(name == "EXEC" ? "EXEC\r\nGET \(key)\r\n" : "\(name) \(key)\r\nGET \(key)\r\n")
        #expect(eventually { pair.ask(1) { $0.sessions.first?.isSuspended ?? false } })
        pair.ask(1) { $0.finishClients() }
        goesOn.post()
        let replies = ["INCR": ":1\r\n$1\r\n1\r\n", "DEL": ":1\r\n$-1\r\n", "EXEC": "*1\r\n:1\r\n$1\r\n1\r\n"]
        #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == replies[name])
    }
}
