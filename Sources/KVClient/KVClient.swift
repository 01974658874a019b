// The client: asynchronous calls to one or several kvd servers, many at a time over one connection each. Any task.

import KVBase
import NIOCore

/// Talks to kvd. Make one per program and share it: copies are cheap and use the same connections, every method may be
/// called from any task, and concurrent calls are pipelined on one connection by themselves.
///
/// A call is answered by the server the router names, by default always the same one, so that a program reads what it
/// wrote. When that server fails, the next one takes over; ``events()`` tells. Calls obey task cancellation: a
/// cancelled call returns at once and its answer, when it comes, is thrown away.
///
/// The connections close when the last copy of the client is gone, or with ``close()``.
public struct KVClient: KeyValueStore {
    public typealias Router = KVRouter

    /// The library's version, as `kv --version` prints it.
    public static let version = ProductVersion.text

    /// Closes the connections when no copy of the client is left; the connections themselves hold only the core.
    private final class Owner: Sendable {
        let core: ClientCore

        init(_ core: ClientCore) { self.core = core }
        deinit { core.close() }
    }

    private let owner: Owner
    private var timeoutNanos: UInt64

    /// A client of several servers: the first is used until it fails, then the next (``StickyRouter``).
    public init(servers: [KVAddress] = [.local], configuration: KVClientConfiguration = .init()) {
        self.init(router: StickyRouter(servers), configuration: configuration)
    }

    /// A client of the servers in `HOST:PORT[,HOST:PORT…]`.
    public init(servers: String, configuration: KVClientConfiguration = .init()) throws(KVError) {
        guard let addresses = KVAddress.list(servers) else {
            throw .invalidArgument("\"\(servers)\" is not HOST:PORT[,HOST:PORT…]")
        }
        self.init(servers: addresses, configuration: configuration)
    }

    /// A client that asks `router` before every call where it goes. Nothing is connected before the first call.
    public init(router: some KVRouter, configuration: KVClientConfiguration = .init()) {
        owner = Owner(ClientCore(router: router, configuration: configuration))
        timeoutNanos = UInt64(max(0, configuration.callTimeout.wholeNanos))
    }

    /// The same client, its calls limited to `timeout` instead of the configured time.
    public func withTimeout(_ timeout: Duration) -> KVClient {
        var copy = self
        copy.timeoutNanos = UInt64(max(0, timeout.wholeNanos))
        return copy
    }

    // MARK: Calls

    public func get(_ key: KVBytes) async throws(KVError) -> KVBytes? {
        try await owner.core.perform(.get(key), timeoutNanos: timeoutNanos).get().asValue()
    }

    /// One call for each thousand keys.
    public func getAll(_ keys: [KVBytes]) async throws(KVError) -> [KVBytes: KVBytes] {
        var values: [KVBytes: KVBytes] = [:]
        for start in stride(from: 0, to: keys.count, by: Self.keysPerCallMax) {
            let some = Array(keys[start..<min(start + Self.keysPerCallMax, keys.count)])
            let command = Command.custom(["MGET"] + some, isRead: true)
            let reply = try await owner.core.perform(command, timeoutNanos: timeoutNanos).get()
            for (key, value) in zip(some, try reply.asValues(count: some.count)) where value != nil {
                values[key] = value
            }
        }
        return values
    }

    /// Keys of one call of ``getAll(_:)``: its answer is held in memory as a whole.
    static let keysPerCallMax = 1000

    /// Writes, and answers the write's stamp. After a change of server the write carries the greatest stamp seen so
    /// far as its floor, so it wins over this client's earlier writes even if the new server's clock is behind.
    @discardableResult
    public func put(_ key: KVBytes, _ value: KVBytes) async throws(KVError) -> KVStamp {
        try await owner.core.perform(.put(key, value), timeoutNanos: timeoutNanos).get().asStamp()
    }

    @discardableResult
    public func delete(_ key: KVBytes) async throws(KVError) -> Bool {
        try await owner.core.perform(.delete(key), timeoutNanos: timeoutNanos).get().asCount() > 0
    }

    public func list(prefix: KVBytes, limit: Int?, after: KVBytes?) async throws(KVError) -> [KVPair] {
        if let limit, limit <= 0 { return [] }
        let command = Command.list(prefix: prefix, limit: limit, after: after)
        return try await owner.core.perform(command, timeoutNanos: timeoutNanos).get().asPairs()
    }

    /// Any command in the protocol's own words, such as `["INFO"]`. It is sent again only where it was surely not run.
    public func send(_ arguments: [KVBytes]) async throws(KVError) -> KVReply {
        guard !arguments.isEmpty else { throw .invalidArgument("a command needs at least a name") }
        return try await owner.core.perform(.custom(arguments, isRead: false), timeoutNanos: timeoutNanos).get()
    }

    /// Sends the calls that `build` gathers in one piece to one server, in order, nothing of this client in between,
    /// and returns what `build` returned when all are answered. A refusal by the server concerns its own call and is
    /// thrown by that call's ``KVPending/value``; any other failure is thrown here. It is in doubt if any of the
    /// writes may have been executed.
    ///
    ///     let (name, stamp) = try await client.withPipeline { ($0.get("name"), $0.put("seen", "1")) }
    ///     print(try name.value, try stamp.value)
    public func withPipeline<Answer>(_ build: (inout KVPipeline) -> Answer) async throws(KVError) -> Answer {
        var pipeline = KVPipeline()
        let answer = build(&pipeline)
        guard pipeline.count > 0 else { return answer }
        let outcomes = await owner.core.perform(pipeline.commands, timeoutNanos: timeoutNanos)
        let isInDoubt = outcomes.mayHaveWritten(pipeline.commands)
        var failure: KVError?
        for (taker, outcome) in zip(pipeline.takers, outcomes) {
            taker(outcome)
            if case .failure(let error) = outcome, failure == nil {
                if case .server = error { continue }
                failure = error
            }
        }
        if let failure { throw isInDoubt ? failure.inDoubt : failure }
        return answer
    }

    func perform(_ command: Command) async throws(KVError) -> KVReply {
        try await owner.core.perform(command, timeoutNanos: timeoutNanos).get()
    }

    func perform(transaction commands: [Command]) async -> [Outcome] {
        await owner.core.perform(commands, isTransaction: true, timeoutNanos: timeoutNanos)
    }

    // MARK: Connections

    public func events() -> AsyncStream<KVEvent> { owner.core.events.makeStream() }

    /// Closes every connection; calls under way and later ones fail with ``KVError/closed``. Returns when all are
    /// closed.
    public func close() async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            owner.core.close { continuation.resume() }
        }
    }
}
