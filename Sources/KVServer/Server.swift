// One server process: loops, query actors, ports, and the order of starting and stopping them. Main thread.

import Glibc
import KVBase
import KVCore
package import KVRuntime
package import Logging

/// Why the server could not start; one line for standard error, exit code 1.
package struct StartFailure: Error, CustomStringConvertible {
    package var description: String
}

/// Started once, stopped once, from the same thread.
package final class Server {
    package private(set) var config: Config
    package private(set) var context: ServerContext!
    private let log: Logger
    private var cores: [Core] = []
    private var system: ActorSystem?
    private var metrics: MetricsServer?
    /// systemd, where it started the server. Set before the start.
    package var manager: ServiceManager?
    private let status: ReplicatorStatus
    private var areLoopsRunning = false
    private var disk: ServerDisk?
    /// What host names stand for; nil: what the system says. Set before the start.
    package var resolver: NameResolver?

    /// A loop with its thread, its shard and its listeners.
    private struct Core {
        var thread: LoopThread
        var shard: Shard
        var listeners: [Listener]
        var secure: SecurePort?
    }

    /// `onForgotten` is called, on a loop's thread, when other servers have removed this one.
    package init(config: Config, log: Logger, onForgotten: @escaping @Sendable () -> Void = {}) {
        status = ReplicatorStatus(onForgotten: onForgotten)
        self.config = config
        self.log = log
    }

    /// Opens every port, then starts the loops. When it returns, clients are served. Nothing is left open when it
    /// throws.
    package func start() throws(StartFailure) -> ServerDescription {
        Machine.ignoreBrokenPipes()
        _ = Machine.raiseOpenFilesLimit()
        let backend = try chooseBackend()
        let directory = try openDirectory()
        context = ServerContext(
            config: config, serverID: Machine.random(), hashSeed: Machine.random(), digestKey: Server.digestKey,
            inputOutput: backend.rawValue, log: log)
        guard context.clientsMax > 0 else {
            throw StartFailure(
                description: "too few open files are allowed to serve a client; raise the limit (ulimit -n)")
        }
        do {
            for line in try config.access.apply(to: context.access) { log.warning("\(line)") }
        } catch { throw StartFailure(description: error.description) }
        let certificates = try loadCertificates()
        do {
            try checkSharedPort()
            for index in 1...config.actors {
                cores.append(try makeCore(index, backend, certificates.isEmpty ? nil : certificates[index - 1]))
            }
            metrics = try makeMetrics(backend)
        } catch {
            for core in cores { core.shard.close() }
            cores = []
            throw error
        }
        do { try begin(directory) } catch {
            giveUp()
            throw error
        }
        tellSettings(directory)
        return description
    }

    /// Reads the directory, if there is one, and begins with what is in it. Where there is something to read the loops
    /// run meanwhile, over empty stores, and answer that they load; while the rest begins they stand still.
    private func begin(_ directory: DataDirectory?) throws(StartFailure) {
        let ends = cores.map { ($0.shard, $0.thread.loop) }
        guard let directory, directory.manifest != nil else {
            if let directory {
                disk = try ServerDisk(directory, ends, into: ends.map { $0.0.state.pointee.store }, context, log)
            }
            try beginReplication()
            return startLoops()
        }
        for core in cores { core.shard.state.pointee.isReading = true }
        startLoops()
        let stores = cores.map { Shard.makeStore($0.shard.index, context) }
        do throws(StartFailure) { disk = try ServerDisk(directory, ends, into: stores, context, log) } catch {
            for store in stores { store.destroy() }
            throw error
        }
        let pause = LoopPause(cores.map(\.thread.loop))
        defer { pause.end() }
        for (core, store) in zip(cores, stores) { core.shard.take(store) }
        try beginReplication()
        for core in cores { core.shard.state.pointee.isReading = false }
        context.loading.end()
    }

    /// Before the loops run, or while they stand still.
    private func beginReplication() throws(StartFailure) {
        try startReplication()
        try disk?.begin()
        guard let manager else { return }
        LoopWatchdog(cores.map(\.thread.loop), manager).begin()
        tellReady(manager)
    }

    private func startLoops() {
        if cores.count > 1 {
            let homes = LoopHomes(cores.map { ($0.thread.loop, $0.shard) })
            for core in cores { core.shard.homes = homes }
        }
        for core in cores {
            if let secure = core.secure { context.certificates.add(secure, on: core.thread.loop) }
            core.thread.start()
        }
        metrics?.start()
        areLoopsRunning = true
    }

    /// It could not start: nothing is left open.
    private func giveUp() {
        if areLoopsRunning {
            try? metrics?.stop()
            system?.close()
            for core in cores { core.thread.loop.stop() }
            for core in cores { try? core.thread.join() }
            for core in cores { core.shard.replicator = nil }
            context.certificates.forgetPorts()
        }
        disk = nil
        for core in cores { core.shard.close() }
        (cores, metrics, system, areLoopsRunning) = ([], nil, nil, false)
    }

    private func tellSettings(_ directory: DataDirectory?) {
        if context.clientsMax < config.clientsMax {
            log.notice("the limit of open files allows \(context.clientsMax) clients, not \(config.clientsMax)")
        }
        if config.ignoresAdvertise {
            let instead = config.announcedAddress.map { "announcing \($0)" } ?? "announcing what others see"
            log.warning("--advertise \(config.advertise!) is no address that others reach; \(instead)")
        }
        if !config.isLoopback {
            if context.access.isOpen {
                log.warning(
                    config.access.isProtected
                        ? "protected mode: clients of other machines are refused, as none needs a password (see --requirepass-file)"
                        : "\(config.host) may be reached by others, and clients need no password: only for trusted networks"
                )
            }
            if config.trust.trustsNetwork {
                log.warning("--trust-the-network: whoever reaches port \(config.port) is believed to be a server")
            }
        }
        log.info(
            "serving",
            metadata: [
                "actors": "\(config.actors)", "io": "\(context.inputOutput)", "first port": "\(config.port + 1)",
                "server": "\(hex16(context.serverID))",
            ])
        if let directory {
            log.info("data is kept in \(directory.path), synced \(config.disk.policy.rawValue)")
        } else {
            log.notice(
                "data lives in memory, here and at the servers that join: when the last of them ends, it is gone (see --dir)"
            )
        }
    }

    /// The directory keeps the name that the server's user gave it.
    private func openDirectory() throws(StartFailure) -> DataDirectory? {
        guard let path = config.disk.directory else { return nil }
        try Restorer.run(config, log)
        let directory = try DataDirectory.open(path, cluster: config.cluster)
        if config.name == nil, let manifest = directory.manifest, manifest.isNamed { config.name = manifest.name }
        return directory
    }

    /// Equal content must give equal digests on every server of a cluster, so the key is the same for all of a release.
    private static let digestKey: UInt64 = 0x6B76_6420_6469_6731

    package var description: ServerDescription {
        ServerDescription(
            id: hex16(context.serverID), address: config.advertisedAddress,
            actors: (1...config.actors).map { config.actorAddress($0) },
            shared: config.sharedPort.map { Endpoint(host: config.host, port: $0) },
            inputOutput: context.inputOutput, version: ServerVersion.kvd, processID: Int(getpid()),
            name: config.nameText)
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

    /// All actors listen on it, and so could those of another server.
    private func checkSharedPort() throws(StartFailure) {
        guard let port = config.sharedPort else { return }
        do { try address(port).checkFree() } catch { throw failure(port, error) }
    }

    /// One for each loop; none without TLS.
    private func loadCertificates() throws(StartFailure) -> [SecureContext] {
        guard config.tls.isOn else { return [] }
        if let conflict = config.tls.conflict(with: context.access) { throw StartFailure(description: conflict) }
        do {
            let (contexts, warnings) = try context.certificates.load(count: config.actors)
            for line in warnings { log.warning("\(line)") }
            return contexts
        } catch { throw StartFailure(description: error.description) }
    }

    private func makeCore(
        _ index: Int, _ backend: LoopBackend, _ certificate: SecureContext?
    ) throws(StartFailure) -> Core {
        let loop: Loop
        do { loop = try Loop(backend: backend, index: index - 1) } catch {
            throw StartFailure(description: "cannot start: \(error)")
        }
        let shard = Shard(index: index, context: context)
        shard.attach(to: loop)
        // Behind the shard's: handshakes are for the end of a turn.
        let secure = certificate.map {
            SecurePort(
                loop: loop, mode: config.tls.mode, context: $0, statistics: context.secureStatistics,
                refusesPlain: config.tls.refusesPlain)
        }
        var listeners: [Listener] = []
        do {
            let acceptor = QueryAcceptor(shard: shard)
            listeners.append(try listen(loop, config.port + index, acceptor, secure))
            if let port = config.sharedPort {
                listeners.append(try listen(loop, port, acceptor, secure, reusePort: true))
            }
            if index == 1, let path = config.socketPath { listeners.append(try listen(loop, path, acceptor)) }
        } catch {
            shard.close()
            throw error
        }
        let processor = config.pinLoops ? index - 1 : nil
        let thread = LoopThread(
            loop: loop, processor: processor, name: "kvd-\(index)",
            warmsMemory: config.warmsMemory)
        return Core(thread: thread, shard: shard, listeners: listeners, secure: secure)
    }

    /// Between two looks whether clients are served.
    private static let readyLookMillis: Int64 = 50

    /// When clients are served: at once, or with --serve-while-joining no when the data is there. Before the loops run.
    private func tellReady(_ manager: ServiceManager) {
        let (shard, loop) = (cores[0].shard, cores[0].thread.loop)
        let status = "serving \(config.actors) actors from port \(config.port + 1)"
        var timer: LoopTimer?
        timer = loop.schedule(everyMillis: Server.readyLookMillis) {
            guard !shard.state.pointee.isLoading else { return }
            manager.noteReady(status)
            timer?.cancel()
            timer = nil
        }
    }

    private func makeMetrics(_ backend: LoopBackend) throws(StartFailure) -> MetricsServer? {
        guard let endpoint = config.metricsAddress else { return nil }
        do {
            return try MetricsServer(
                context, address: HostPort(host: endpoint.host, port: UInt16(endpoint.port)).resolve()[0],
                backend: backend, actors: cores.map { ($0.thread.loop, UncheckedBox($0.shard)) })
        } catch {
            let reason = (error as? SocketFailure).map { String(cString: strerror($0.code)) } ?? "\(error)"
            throw StartFailure(
                description: "cannot listen on \(endpoint): \(reason); choose another --metrics-address")
        }
    }

    private func listen(
        _ loop: Loop, _ port: Int, _ acceptor: Acceptor, _ secure: SecurePort?, reusePort: Bool = false
    ) throws(StartFailure) -> Listener {
        do {
            return try loop.listen(try address(port), reusePort: reusePort, acceptor: acceptor, secure: secure)
        } catch { throw failure(port, error) }
    }

    private func listen(_ loop: Loop, _ path: String, _ acceptor: Acceptor) throws(StartFailure) -> Listener {
        do { return try loop.listen(path: path, mode: config.socketMode, acceptor: acceptor) } catch {
            let code = (error as? SocketFailure)?.code ?? EINVAL
            let reason =
                switch code {
                case ENOTSOCK: "there is a file that is no socket"
                case EADDRINUSE: "another server listens on it"
                default: String(cString: strerror(code))
                }
            throw StartFailure(description: "--unixsocket \(path): \(reason)")
        }
    }

    private func address(_ port: Int) throws -> SocketAddress {
        try HostPort(host: config.host, port: UInt16(port)).resolve()[0]
    }

    private func failure(_ port: Int, _ error: any Error) -> StartFailure {
        let endpoint = Endpoint(host: config.host, port: port)
        guard let failure = error as? SocketFailure else {
            return StartFailure(description: "cannot listen on \(endpoint): \(error)")
        }
        if failure.operation.hasPrefix("cannot resolve") {
            return StartFailure(description: "\(failure.operation); check --host")
        }
        let reason = String(cString: strerror(failure.code))
        let flag = port == config.sharedPort ? "--shared-port" : "--port"
        let advice = failure.code == EADDRINUSE ? "choose another \(flag)" : "check --host and \(flag)"
        return StartFailure(description: "cannot listen on \(endpoint): \(reason); \(advice)")
    }

    /// Reads the key or the certificates again, for new links; those that stand go on. Returns the line to log. To be
    /// taken once the server has started; any thread may call it.
    package var rereadTrust: @Sendable () -> String {
        let (trust, system, access, context, log) = (config.trust, system, config.access, context!, log)
        let (cluster, book) = (config.cluster, context.access)
        let certificates = config.tls.isOn ? context.certificates : nil
        return {
            var lines: [String] = []
            if trust.isProtected {
                do {
                    let resolved = try trust.resolve()
                    try system?.replaceTrust(resolved)
                    Server.noteCertificate(resolved, cluster, context, log)
                    lines.append(
                        "the files of --cluster-key-file or --peer-tls-cert are read again: new links use them")
                } catch { lines.append("nothing is changed between servers: \(error)") }
            }
            if !access.isEmpty {
                do {
                    let warnings = try access.apply(to: book)
                    lines += ["the files of --requirepass-file or --aclfile are read again"] + warnings
                } catch { lines.append("no user is changed: \(error)") }
            }
            if let certificates { lines.append(certificates.reread()) }
            if lines.isEmpty { return "there is no setting that is read again while kvd runs" }
            return lines.joined(separator: "; ")
        }
    }

    /// Says when the certificate ends, if there is one.
    private static func noteCertificate(_ trust: LinkTrust, _ cluster: String, _ context: ServerContext, _ log: Logger)
    {
        guard let end = trust.certificateEnd(cluster: cluster) else { return }
        context.noteCertificateEnd(end)
        if let line = TrustSettings.warning(ofEnd: end, now: Int64(time(nil))) { log.warning("\(line)") }
    }

    /// Reads the certificates of clients' connections again if a file is another one, and returns the line to log then.
    /// To be called every ten seconds or so; any thread but a loop's.
    package var lookAtCertificates: @Sendable () -> String? {
        let certificates = config.tls.isOn ? context.certificates : nil
        return { certificates?.look() }
    }

    /// The actor system, and a replica for every query actor. Before the loops run.
    private func startReplication() throws(StartFailure) {
        let loops = cores.map(\.thread.loop)
        let system: ActorSystem
        let trust: LinkTrust
        do { trust = try config.trust.resolve() } catch { throw StartFailure(description: error.description) }
        do {
            // A link's incarnation is the server's id, so that a peer knows at once whom it reached.
            var remote = try RemoteConfiguration(
                listen: try address(config.port), cluster: config.cluster, trust: trust,
                incarnation: context.serverID, name: config.systemName, loop: loops[0],
                trackedSpacingMillis: Limits.linkSpacingMillis)
            remote.lineForStrangers = "this port is for other kvd servers; clients connect to \(clientPorts)"
            if let resolver { remote.resolver = resolver }
            (remote.epoch, remote.epochAdvice) = (epoch, epochAdvice)
            system = try ActorSystem(address: config.advertisedAddress.description, loops: loops, remote: remote)
        } catch let error as LinkTrustError { throw StartFailure(description: error.description) } catch {
            throw failure(config.port, error)
        }
        self.system = system
        system.onEpoch { [context] epoch in context?.persistence?.adopt(epoch: epoch) }
        if let line = config.trust.warning { log.warning("\(line)") }
        Server.noteCertificate(trust, config.cluster, context, log)
        system.onError { [log] failure in log.error("\(failure)") }
        system.onLinkProblem { [log] problem in log.warning("\(problem)") }
        context.countMessages { [unowned system] in MessageCounters(system.statistics) }
        for core in cores { addReplica(core, system) }
        let boxes = cores.map { (loop: $0.thread.loop, shard: UncheckedBox($0.shard)) }
        system.onOwnAddress { address in
            boxes[0].loop.perform { boxes[0].shard.value.replicator?.addressChanged(address) }
        }
        system.onLinkChange { change in
            for box in boxes { box.loop.perform { box.shard.value.replicator?.linkChanged(change) } }
        }
        system.onLinkOpening { opening in
            for box in boxes { box.loop.perform { box.shard.value.replicator?.linkOpened(opening) } }
        }
        system.onLinkMovement { movement in
            guard (1...UInt64(boxes.count)).contains(movement.sender) else { return }
            let box = boxes[Int(movement.sender) - 1]
            box.loop.perform { box.shard.value.replicator?.linkMoved(movement) }
        }
    }

    /// Who joins and brings nothing takes that of the others.
    private var epoch: UInt64 {
        disk?.epoch ?? (config.join.isEmpty ? RemoteConfiguration.firstEpoch : 0)
    }

    private var epochAdvice: String {
        guard let path = config.disk.directory else { return "start it again" }
        return "stop it, run: mv '\(path)' '\(path).before-restore', and start it again"
    }

    private var clientPorts: String {
        let ports = (config.port + 1, config.port + config.actors)
        let own = config.actors == 1 ? "port \(ports.0)" : "ports \(ports.0) to \(ports.1)"
        return own + (config.sharedPort.map { " or \($0)" } ?? "")
    }

    private func addReplica(_ core: Core, _ system: ActorSystem) {
        let shard = core.shard
        let loop = core.thread.loop
        var replicaConfig = ReplicaConfig(
            clusterId: Server.clusterID(config.cluster), server: context.serverID, actorIndex: shard.index - 1,
            actorCount: config.actors, address: Bytes(config.announcedAddress?.description ?? ""),
            joining: !config.join.isEmpty || disk?.knowsOthers ?? false)
        (replicaConfig.name, replicaConfig.isNamed) = (Bytes(config.nameText), config.systemName.isGiven)
        // One byte says what kind of message a frame is.
        replicaConfig.frameBytesMax = Limits.frameBytesMax - 1024
        replicaConfig.transport = .connections
        replicaConfig.entriesPerStep = Replicator.entriesPerStep
        replicaConfig.clockSkewMaxMillis = config.clockSkewMaxMillis
        let replica = Replica(
            config: replicaConfig, store: shard.state.pointee.store, origins: context.origins,
            recovered: disk?.recovered?.state)
        let joinLinks =
            shard.index == 1 ? JoinLinks(system: system, loop: loop, join: config.join, log: log) : nil
        let gate = Gate(config, context.live)
        gate.begin(shard.state)
        let replicator = Replicator(
            replica: replica, state: shard.state, loop: loop, system: system, log: log, status: status,
            joinLinks: joinLinks, gate: gate)
        replicator.encryption = config.trust.name
        shard.replicator = replicator
        let box = UncheckedBox((replicator, joinLinks, disk?.recovered?.state.rows ?? []))
        let ref = system.start(on: shard.index - 1) { (context: ActorContext<SyncMessage>) in
            let (replicator, joinLinks, rows) = box.value
            replicator.context = context
            replicator.learn(rows)
            joinLinks?.begin()
            return ReplicaActor(replicator: replicator)
        }
        precondition(ref.position == UInt64(shard.index), "query actors are the first actors of their system")
    }

    /// The same for the same name, on every machine.
    static func clusterID(_ name: String) -> UInt64 {
        name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    }

    /// How long clients may take to read their last replies, and so long the last ones are waited for.
    private static let drainMillisMax = 1500
    /// Without any progress for this long nobody takes what is still owed.
    private static let stalledMillisMax = 5000
    /// The same where what is owed is on disk.
    private static let stalledMillisMaxKept = 1500

    /// Refuses new writes, hands over what was acknowledged, lets replies go out, ends the loops. Within five seconds
    /// where nothing is owed; else as long as there is progress, up to `--drain-timeout`. Returns the writes that no
    /// other server has.
    @discardableResult
    package func stop() -> Int {
        log.info("stopping")
        metrics?.noteLeaving()
        manager?.noteStopping()
        // While it listens nobody else has the path.
        if let path = config.socketPath { unlink(path) }
        for core in cores {
            let box = UncheckedBox(core)
            core.thread.loop.perform {
                for listener in box.value.listeners { listener.finish() }
                box.value.shard.refuseWrites()
                box.value.shard.replicator?.leave()
            }
        }
        awaitLastClients()
        handOver()
        for core in cores {
            let box = UncheckedBox(core)
            core.thread.loop.perform { box.value.shard.finishClients() }
        }
        let started = Machine.monotonicNanos
        while context.connectedClients > 0, Machine.monotonicNanos - started < Nanos(Server.drainMillisMax) * 1_000_000
        {
            usleep(2000)
        }
        do { try metrics?.stop() } catch { log.error("the loop of --metrics-address ended: \(error)") }
        metrics = nil
        system?.close()
        for core in cores { core.thread.loop.stop() }
        for core in cores {
            do { try core.thread.join() } catch { log.error("loop ended: \(error)") }
        }
        let isKept = disk?.finish() ?? false
        for core in cores {
            core.shard.replicator = nil
            core.shard.close()
        }
        context.certificates.forgetPorts()
        if let line = context.secureStatistics.news() { log.notice("\(line)") }
        (cores, disk, system) = ([], nil, nil)
        let owed = isKept ? 0 : Int(clamping: status.owedWrites)
        if owed > 0 {
            log.error("\(owed) acknowledged writes were not handed over: no other server has them")
        }
        log.info("stopped")
        return owed
    }

    /// Who has come until now is told that writes are refused, like all others, instead of being cut off.
    private func awaitLastClients() {
        let started = Machine.monotonicNanos
        while !cores.allSatisfy({ $0.listeners.allSatisfy(\.isClosed) }) {
            guard Machine.monotonicNanos - started < Nanos(Server.drainMillisMax) * 1_000_000 else { return }
            usleep(2000)
        }
        // Their first requests are read in the turn after.
        usleep(2000)
    }

    /// Waits until every actor has said good-bye, there is no progress any more, or patience ends; says each second how
    /// much is left. From who was removed nobody takes anything.
    private func handOver() {
        if forgottenAddresses != nil { return }
        let started = Machine.monotonicNanos
        var progress = status.progressCount
        var progressAt = started
        var saidAt = started
        while status.leftCount < cores.count {
            usleep(2000)
            let now = Machine.monotonicNanos
            if status.progressCount != progress { (progress, progressAt) = (status.progressCount, now) }
            let patience = disk == nil ? Server.stalledMillisMax : Server.stalledMillisMaxKept
            if now - progressAt > Nanos(patience) * 1_000_000 { break }
            if now - started > Nanos(context.live.drainSeconds) * 1_000_000_000 { break }
            if now - saidAt > 1_000_000_000 {
                saidAt = now
                log.info("leaving: \(status.owedWrites) writes still to be handed over")
            }
        }
    }

    /// Whom to join when other servers have removed this one; nil if they have not.
    package var forgottenAddresses: [String]? { status.forgottenAddresses }
}

extension MessageCounters {
    fileprivate init(_ statistics: ActorSystemStatistics) {
        betweenActors = Int(statistics.messagesSentActor)
        fromReceivers = Int(statistics.messagesSentExternal)
        replies = Int(statistics.repliesSent)
        syncBytesSent = Int(statistics.bytesSent)
        remoteBytesReceived = Int(statistics.remoteBytesReceived)
        messageRateMax = Int(statistics.maxMessageRate)
        remoteDropped = Int(statistics.remoteDropped)
        badFrames = Int(statistics.badFrames)
    }
}

/// Carries a loop's own objects to that loop's thread.
struct UncheckedBox<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
