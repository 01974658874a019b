// One server process: loops, query actors, ports, and the order of starting and stopping them. Main thread.

import Glibc
import KVBase
import KVRuntime
package import Logging

/// Why the server could not start; one line for standard error, exit code 1.
package struct StartFailure: Error, CustomStringConvertible {
    package var description: String
}

/// Started once, stopped once, from the same thread.
package final class Server {
    package let config: Config
    package private(set) var context: ServerContext!
    private let log: Logger
    private var cores: [Core] = []

    /// A loop with its thread, its query actor and its listeners.
    private struct Core {
        var thread: LoopThread
        var actor: QueryActor
        var listeners: [Listener]
    }

    package init(config: Config, log: Logger) {
        self.config = config
        self.log = log
    }

    /// Opens every port, then starts the loops. When it returns, clients are served. Nothing is left open when it
    /// throws.
    package func start() throws(StartFailure) -> ServerDescription {
        Machine.ignoreBrokenPipes()
        _ = Machine.raiseOpenFilesLimit()
        let backend = try chooseBackend()
        context = ServerContext(
            config: config, serverID: Machine.random(), hashSeed: Machine.random(), digestKey: Server.digestKey,
            inputOutput: backend.rawValue)
        do {
            for index in 1...config.actors { cores.append(try makeCore(index, backend)) }
        } catch {
            for core in cores { core.actor.close() }
            cores = []
            throw error
        }
        for core in cores { core.thread.start() }
        let description = self.description
        log.info(
            "serving",
            metadata: [
                "actors": "\(config.actors)", "io": "\(context.inputOutput)", "first port": "\(config.port + 1)",
                "server": "\(description.id)",
            ])
        return description
    }

    /// Equal content must give equal digests on every server of a cluster, so the key is the same for all of a release.
    private static let digestKey: UInt64 = 0x6B76_6420_6469_6731

    package var description: ServerDescription {
        ServerDescription(
            id: hex16(context.serverID), address: config.advertisedAddress,
            actors: (1...config.actors).map { config.actorAddress($0) },
            shared: config.sharedPort.map { Endpoint(host: config.host, port: $0) },
            inputOutput: context.inputOutput, version: ServerVersion.kvd, processID: Int(getpid()))
    }

    private func chooseBackend() throws(StartFailure) -> LoopBackend {
        let choice: LoopBackendChoice =
            switch config.inputOutput {
            case .auto: .auto
            case .io_uring: .ioUring
            case .epoll: .epoll
            }
        do {
            let (backend, refusal) = try LoopBackend.select(choice)
            if let refusal { log.notice("using epoll: \(refusal)") }
            return backend
        } catch {
            throw StartFailure(description: "--io io_uring: \(error); use --io epoll or --io auto")
        }
    }

    private func makeCore(_ index: Int, _ backend: LoopBackend) throws(StartFailure) -> Core {
        let loop: Loop
        do { loop = try Loop(backend: backend, index: index - 1) } catch {
            throw StartFailure(description: "cannot start: \(error)")
        }
        let actor = QueryActor(index: index, context: context)
        var listeners: [Listener] = []
        do {
            let acceptor = QueryAcceptor(actor: actor)
            // Servers talk to each other on the first port; it is taken from the start so that nobody else gets it.
            if index == 1 { listeners.append(try listen(loop, config.port, Acceptor())) }
            listeners.append(try listen(loop, config.port + index, acceptor))
            if let port = config.sharedPort { listeners.append(try listen(loop, port, acceptor, reusePort: true)) }
        } catch {
            actor.close()
            throw error
        }
        actor.attach(to: loop)
        let thread = LoopThread(loop: loop, processor: config.pinLoops ? index - 1 : nil, name: "kvd-\(index)")
        return Core(thread: thread, actor: actor, listeners: listeners)
    }

    private func listen(
        _ loop: Loop, _ port: Int, _ acceptor: Acceptor, reusePort: Bool = false
    ) throws(StartFailure) -> Listener {
        let endpoint = Endpoint(host: config.host, port: port)
        do {
            let address = try HostPort(host: config.host, port: UInt16(port)).resolve()[0]
            return try loop.listen(address, reusePort: reusePort, acceptor: acceptor)
        } catch let failure as SocketFailure {
            let reason = String(cString: strerror(failure.code))
            let advice = failure.code == EADDRINUSE ? "choose another --port" : "check --host and --port"
            throw StartFailure(description: "cannot listen on \(endpoint): \(reason); \(advice)")
        } catch {
            throw StartFailure(description: "cannot listen on \(endpoint): \(error)")
        }
    }

    /// How long clients may take to read their last replies.
    private static let drainMillisMax = 1500

    /// Stops accepting, lets replies go out, ends the loops. Bounded by about four seconds.
    package func stop() {
        log.info("stopping")
        for core in cores {
            let actor = UncheckedBox(core.actor)
            let listeners = UncheckedBox(core.listeners)
            core.thread.loop.perform {
                for listener in listeners.value { listener.close() }
                actor.value.finishClients()
            }
        }
        let deadline = monotonicNanos() + Nanos(Server.drainMillisMax) * 1_000_000
        while context.connectedClients > 0, monotonicNanos() < deadline { usleep(2000) }
        for core in cores { core.thread.loop.stop() }
        for core in cores {
            do { try core.thread.join() } catch { log.error("loop ended: \(error)") }
            core.actor.close()
        }
        cores = []
        log.info("stopped")
    }
}

/// Carries a loop's own objects to that loop's thread.
struct UncheckedBox<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
