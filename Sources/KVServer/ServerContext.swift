// What all query actors of one process share: identity, settings, counters. Any thread.

import Glibc
package import KVBase
package import KVCore
import KVRuntime
package import Logging
import Synchronization

package struct Setting: Sendable {
    package var name: String
    package var value: String
}

/// One row of KVD PEERS.
package struct PeerRow: Sendable {
    package enum State: String, Sendable { case up, suspect, down, syncing }
    package var id: UInt64
    package var address: String
    package var name = "-"
    package var state: State
    /// How far one of the two has caught up with the other; nil where nobody is catching up.
    package var caughtUpPercent: Int?
    package var pending: Int
    /// -1 if never.
    package var heardMillisAgo: Millis
    /// How long the oldest write has waited that it has not acknowledged.
    package var lagMillis: Millis = 0
    /// -1 if not known.
    package var roundTripMillis: Millis = -1
    package var clockOffsetMillis: Millis = 0
    /// What protects the link: `key`, `cert` or `none`.
    package var encryption = "none"
    /// About what is still to be sent, and what the line carries (0 if not known).
    package var backlogBytes = 0
    package var bytesPerSecond = 0

    package init(id: UInt64, address: String, state: State, pending: Int, heardMillisAgo: Millis) {
        (self.id, self.address, self.state) = (id, address, state)
        (self.pending, self.heardMillisAgo) = (pending, heardMillisAgo)
    }

    /// The line of KVD PEERS: id, address, state, pending deltas, milliseconds since last heard, name, encryption,
    /// round trip and clock offset in milliseconds, how far one of the two has caught up with the other.
    var line: String {
        "\(hex16(id)) \(address) \(state.rawValue) \(pending) \(heardMillisAgo) \(name) \(encryption) \(roundTripMillis)"
            + " \(clockOffsetMillis) \(caughtUpPercent.map { "\($0)%" } ?? "-")"
    }

    /// The value of INFO's peerN.
    var fields: String {
        "id=\(hex16(id)),address=\(address),state=\(state.rawValue),pending=\(pending),lag_ms=\(lagMillis)"
            + ",heard_ms=\(heardMillisAgo),rtt_ms=\(roundTripMillis),bytes_per_sec=\(bytesPerSecond)"
            + ",backlog_bytes=\(backlogBytes),name=\(name)"
            + (caughtUpPercent.map { ",caught_up_percent=\($0)" } ?? "")
    }
}

package final class ServerContext: Sendable {
    package let config: Config
    /// New at every start: a restarted server is a new writer (docs/replication.md 2.1).
    package let serverID: UInt64
    package let hashSeed: UInt64
    package let digestKey: UInt64
    package let origins = OriginTable()
    package let scanMarks = ScanMarks()
    package let closedClients = ClosedClients()
    package let access = AccessBook()
    let secureStatistics = SecureStatistics()
    package let memory: MemoryLimit
    package let certificates: CertificateKeeper
    package let live: LiveSettings
    let slowLog = SlowLog()
    let latencyEvents = LatencyEvents()
    let loading = LoadingProgress()
    let memoryPeak = MemoryPeak()
    let monitors: Monitors
    package let log: Logger
    package let statistics: [ShardStatistics]
    package let startedNanos: Nanos
    package let startedMillis: Millis
    package let inputOutput: String

    /// When this server's certificate ends, in seconds since 1970; 0 if it has none.
    private let certificateEnd = Atomic<Int64>(0)
    private let kept = Mutex<Persistence?>(nil)
    private let systemCounters = Mutex<(@Sendable () -> MessageCounters)?>(nil)
    private let clientIDs = Atomic<Int>(0)
    private let clients = Atomic<Int>(0)
    private let rejected = Atomic<Int>(0)
    /// Not above what the limit of open files leaves.
    var clientsMax: Int { live.clientsMax }

    package init(
        config: Config, serverID: UInt64, hashSeed: UInt64, digestKey: UInt64, inputOutput: String,
        log: Logger = Logger(label: "kvd") { _ in SwiftLogNoOpLogHandler() }
    ) {
        (self.config, self.log) = (config, log)
        (self.serverID, self.hashSeed, self.digestKey) = (serverID, hashSeed, digestKey)
        self.inputOutput = inputOutput
        certificates = CertificateKeeper(config.tls)
        memory = MemoryLimit(config.memoryMax)
        startedNanos = Machine.monotonicNanos
        startedMillis = Machine.wallMillis
        statistics = (0..<config.actors).map { _ in ShardStatistics() }
        monitors = Monitors(actors: config.actors)
        let possible = ServerContext.clientsPossible(actors: config.actors)
        live = LiveSettings(config, clientsMax: min(config.clientsMax, possible))
    }

    /// What is kept on disk; nil: nothing is.
    var persistence: Persistence? { kept.withLock { $0 } }
    /// Before the loops run.
    func keep(with persistence: Persistence) { kept.withLock { $0 = persistence } }

    /// Query actors are numbered from 1, as their ports; in UIDs from 0.
    package func uid(_ index: Int) -> ActorUID { ActorUID(server: serverID, index: UInt16(index - 1)) }

    package var certificateEndsAt: Int64 { certificateEnd.load(ordering: .relaxed) }
    package func noteCertificateEnd(_ seconds: Int64) { certificateEnd.store(seconds, ordering: .relaxed) }

    package func nextClientID() -> Int { clientIDs.add(1, ordering: .relaxed).newValue }

    /// Counts a connection in; false when there are already as many as allowed.
    package func admitClient() -> Bool {
        if clients.add(1, ordering: .relaxed).newValue <= clientsMax { return true }
        clients.subtract(1, ordering: .relaxed)
        rejected.add(1, ordering: .relaxed)
        return false
    }

    /// Protected mode: as long as nobody needs a password, clients of other machines are not let in.
    func mayEnter(from peer: SocketAddress?) -> Bool {
        guard config.access.isProtected, !config.isLoopback, access.isOpen, let peer else { return true }
        return peer.reach == .machine
    }

    static let protectedReply: StaticString = """
        DENIED kvd is running in protected mode because protected mode is enabled and no password is set for the \
        default user. In this mode connections are only accepted from this machine. Ways out: 1) start kvd with \
        --requirepass-file FILE or --aclfile FILE; 2) start it with --protected-mode no, on a network that you trust; \
        3) connect from the machine that it runs on.
        """

    package func clientLeft() { clients.subtract(1, ordering: .relaxed) }
    package var connectedClients: Int { clients.load(ordering: .relaxed) }
    package var rejectedConnections: Int { rejected.load(ordering: .relaxed) }
    /// Bytes of unfinished requests, of all actors.
    var heldInput: Int { statistics.reduce(0) { $0 + $1.heldInput } }
    /// The same of replies that clients have not taken.
    var heldOutput: Int { statistics.reduce(0) { $0 + $1.heldOutput } }
    /// What the requests of all clients may hold, and their requests and replies together.
    var heldInputMax: Int { min(Limits.heldInputMax, heldMax) }
    var heldMax: Int { memory.bytes > 0 ? memory.bytes / 4 : .max }
    package var clientsAtMost: Int { clientsMax }

    /// Where the actor system's part of the counters comes from. Before the loops run.
    package func countMessages(_ source: @escaping @Sendable () -> MessageCounters) {
        systemCounters.withLock { $0 = source }
    }

    package func messageCounters() -> MessageCounters {
        var counters = systemCounters.withLock { $0 }?() ?? MessageCounters()
        // A request is a message from its receiver to the query actor, handed over without a queue.
        let requests = statistics.reduce(0) { $0 + $1.commands }
        counters.fromReceivers += requests
        counters.replies += requests
        return counters
    }

    /// Open files that are not for clients: of a server with one actor, and of each further one, which has a loop,
    /// ports and files of its log.
    private static let ownFiles = 64
    private static let ownFilesPerActor = 8

    /// What the limit of open files leaves for clients; a quarter of it where it is small for that many actors.
    static func clientsPossible(actors: Int) -> Int {
        max(openFilesMax / 4, openFilesMax - ownFiles - ownFilesPerActor * (actors - 1))
    }

    static var openFilesMax: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(min(limit.rlim_cur, 1 << 30))
    }

    /// What CONFIG GET shows: Redis's names where tools ask for them, then the server's own.
    package var settings: [Setting] {
        [
            Setting(name: "save", value: ""),
            Setting(name: "appendonly", value: config.disk.directory == nil ? "no" : "yes"),
            Setting(name: "appendfsync", value: config.disk.policy.rawValue),
            Setting(name: "dir", value: config.disk.directory ?? ""),
            Setting(name: "save-after-bytes", value: config.disk.saveAfterBytes.map { String($0) } ?? "auto"),
            Setting(name: "maxmemory", value: String(memory.bytes)),
            Setting(name: "maxmemory-policy", value: "noeviction"),
            Setting(name: "databases", value: String(Keyspace.count)),
            Setting(name: "timeout", value: "0"),
            Setting(name: "proto-max-bulk-len", value: String(Limits.valueBytesMax)),
            Setting(name: "bind", value: config.host),
            Setting(name: "client-output-buffer-limit", value: ServerContext.outputLimit),
            Setting(name: "slowlog-log-slower-than", value: String(live.slowLogMicros)),
            Setting(name: "slowlog-max-len", value: String(live.slowLogEntries)),
            Setting(name: "latency-monitor-threshold", value: String(live.latencyMillis)),
            Setting(name: "latency-tracking", value: "yes"),
            Setting(name: "latency-tracking-info-percentiles", value: "50 99 99.9"),
            Setting(name: "loglevel", value: redisLogLevel),
            Setting(name: "maxclients", value: String(clientsMax)),
            Setting(name: "port", value: String(config.port)),
            Setting(name: "actors", value: String(config.actors)),
            Setting(name: "shared-port", value: config.sharedPort.map { String($0) } ?? "off"),
            Setting(name: "host", value: config.host),
            Setting(name: "advertise", value: config.advertisedAddress.description),
            Setting(name: "join", value: config.join.map(\.description).joined(separator: ",")),
            Setting(name: "cluster", value: config.cluster),
            Setting(name: "name", value: config.nameText),
            Setting(name: "serve-while-joining", value: config.servesWhileJoining ? "yes" : "no"),
            Setting(name: "max-lag", value: live.maxLagSeconds.map { String($0) } ?? "off"),
            Setting(name: "clock-skew-max", value: String(config.clockSkewMaxMillis / 1000)),
            Setting(name: "pin", value: config.pinLoops ? "yes" : "no"),
            Setting(name: "warm-memory", value: config.warmsMemory ? "yes" : "no"),
            Setting(name: "unixsocket", value: config.socketPath ?? ""),
            Setting(name: "unixsocketperm", value: String(config.socketMode, radix: 8)),
            Setting(name: "requirepass-file", value: config.access.passwordFile ?? ""),
            Setting(name: "aclfile", value: config.access.usersFile ?? ""),
            Setting(name: "protected-mode", value: config.access.isProtected ? "yes" : "no"),
            Setting(name: "tls", value: config.tls.mode.rawValue),
            Setting(name: "tls-cert-file", value: config.tls.certificate ?? ""),
            Setting(name: "tls-key-file", value: config.tls.key ?? ""),
            Setting(name: "tls-ca-file", value: config.tls.authority ?? ""),
            Setting(name: "tls-auth-clients", value: config.tls.asks.rawValue),
            Setting(name: "tls-auth-clients-user", value: config.tls.userName?.rawValue ?? ""),
            Setting(name: "io", value: config.inputOutput.rawValue),
            Setting(name: "log-level", value: LogLevel.shared.level.rawValue),
            Setting(name: "log-format", value: config.logFormat.rawValue),
            Setting(name: "metrics-address", value: config.metricsAddress?.description ?? "off"),
            Setting(name: "drain-timeout", value: String(live.drainSeconds)),
        ]
    }

    /// Every client is a normal one: closed at once above the bound.
    private static let outputLimit =
        "normal \(Limits.outputBytesMax) \(Limits.outputBytesMax) 60 slave 0 0 0 pubsub 0 0 0"

    private var redisLogLevel: String {
        switch LogLevel.shared.level {
        case .trace, .debug: "debug"
        case .info: "verbose"
        case .notice: "notice"
        default: "warning"
        }
    }
}
