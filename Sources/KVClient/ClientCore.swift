// What all copies of a client share: its connections, routing, attempts after failures, events. Any thread.

import NIOCore
import NIOPosix
import Synchronization

final class ClientCore: Sendable {
    private struct State {
        var connections: [KVAddress: ServerConnection] = [:]
        /// The connection of the latest call, so that the next one to the same server needs no look-up.
        var last: ServerConnection?
        /// Why each server was left, for the event that tells of it.
        var failures: [KVAddress: String] = [:]
        /// Greatest stamp of servers whose connection objects are gone.
        var retiredStamp: Int64 = 0
        var isClosed = false
    }

    let configuration: KVClientConfiguration
    let events = EventHub()
    /// Nil where connections are not protected.
    let secure: SecureChannels?
    private let router: any KVRouter
    private let group: any EventLoopGroup
    private let state = Mutex(State())
    /// Whether there ever was a second server: only then can a put need a floor.
    private let hasManyServers = Atomic<Bool>(false)

    init(router: any KVRouter, configuration: KVClientConfiguration) {
        (self.router, self.configuration) = (router, configuration)
        secure = configuration.tls.map(SecureChannels.init)
        group = configuration.eventLoopGroup ?? MultiThreadedEventLoopGroup.singleton
    }

    // MARK: Calls

    /// Sends `command` where the router says, again after failures that allow it, and answers what came of it.
    func perform(_ command: Command, timeoutNanos: UInt64) async -> Outcome {
        let deadline = NIODeadline.now().uptimeNanoseconds + timeoutNanos
        var attempts = Attempts(perServerMax: configuration.attemptsPerServerMax)
        while true {
            let connection: ServerConnection
            do {
                connection = try await route(until: deadline)
            } catch {
                return .failure(error)
            }
            let told = connection.refusalsTold
            let outcome = await Call(command, deadline: deadline).run(on: connection)
            // The connection was taken out of use between being chosen and being used: nothing was sent.
            if case .failure(.closed) = outcome, !isClosed { continue }
            guard case .failure(let error) = outcome else { return outcome }
            if error.isOfServersState { refused(connection, told, error) }
            guard attempts.allowsAnother(after: error, isRead: command.isRead, at: connection.address, of: router),
                NIODeadline.now().uptimeNanoseconds < deadline
            else { return outcome.of(command) }
        }
    }

    /// Sends all commands together to one server. They are sent again, all of them, only if none can have been executed
    /// or all are reads. `isTransaction`: the first is MULTI and the last is EXEC, with which all of them are refused.
    func perform(_ commands: [Command], isTransaction: Bool = false, timeoutNanos: UInt64) async -> [Outcome] {
        let deadline = NIODeadline.now().uptimeNanoseconds + timeoutNanos
        let areReads = commands.allSatisfy(\.isRead)
        var attempts = Attempts(perServerMax: configuration.attemptsPerServerMax)
        while true {
            let connection: ServerConnection
            do {
                connection = try await route(until: deadline)
            } catch {
                return commands.map { _ in .failure(error) }
            }
            let told = connection.refusalsTold
            let outcomes = await PipelineBatch(commands, isTransaction: isTransaction, deadline: deadline)
                .run(on: connection)
            if case .failure(.closed) = outcomes[0], !isClosed { continue }
            var error: KVError?
            let allFailed = outcomes.allSatisfy { outcome in
                guard case .failure(let each) = outcome else { return false }
                if error == nil || each.mayHaveExecuted { error = each }
                return true
            }
            var isRefused = allFailed
            if isTransaction, case .failure(.server) = outcomes[outcomes.count - 1] { isRefused = true }
            if let refusal = outcomes.lazy.compactMap(\.error).first(where: \.isOfServersState) {
                refused(connection, told, refusal)
                if isTransaction, isRefused { error = refusal }
            }
            guard isRefused, let error,
                attempts.allowsAnother(after: error, isRead: areReads, at: connection.address, of: router),
                NIODeadline.now().uptimeNanoseconds < deadline
            else { return zip(outcomes, commands).map { $0.of($1) } }
        }
    }

    private var isClosed: Bool { state.withLock { $0.isClosed } }

    private func route(until deadline: UInt64) async throws(KVError) -> ServerConnection {
        if let address = router.nextAddress() { return try connection(to: address) }
        try await prepare(until: deadline)
        guard let address = router.nextAddress() else { throw .invalidArgument("the router has no server") }
        return try connection(to: address)
    }

    /// Waits for the router no longer than the call may take, nor than its task wants it: looking a name up may take
    /// half a minute, and cannot be stopped.
    private func prepare(until deadline: UInt64) async throws(KVError) {
        let search = Call(.custom([], isRead: true), deadline: deadline)
        var ends: (work: Task<Void, Never>, limit: Scheduled<Void>)?
        let outcome = await search.run {
            let work = Task { [router] in
                do throws(KVError) {
                    try await router.prepare()
                    search.finish(.success(.null))
                } catch {
                    search.finish(.failure(error))
                }
            }
            let limit = group.any().scheduleTask(deadline: .uptimeNanoseconds(deadline)) {
                search.finish(.failure(.timeout(mayHaveExecuted: false)))
            }
            ends = (work, limit)
        }
        ends?.work.cancel()
        ends?.limit.cancel()
        _ = try outcome.get()
    }

    private func connection(to address: KVAddress) throws(KVError) -> ServerConnection {
        var failover: KVEvent?
        var evicted: ServerConnection?
        let connection: ServerConnection? = state.withLock { state in
            if state.isClosed { return nil }
            if let last = state.last, last.address == address { return last }
            var address = address
            if let last = state.last, router.staysWithOneServer {
                // As of now: this call may have been stopped since it was told, and another have moved on.
                address = router.nextAddress() ?? address
                if last.address == address { return last }
                failover = .failedOver(
                    from: last.address, to: address,
                    reason: state.failures[last.address] ?? "the router chose another server")
            }
            if let known = state.connections[address] {
                state.last = known
                return known
            }
            if !state.connections.isEmpty { hasManyServers.store(true, ordering: .relaxed) }
            evicted = makeRoom(&state)
            let made = ServerConnection(address, loop: group.next(), core: self, configuration: configuration)
            state.connections[address] = made
            state.last = made
            return made
        }
        evicted?.retire()
        if let failover { events.emit(failover) }
        guard let connection else { throw .closed }
        return connection
    }

    /// Takes out a connection without calls under way when there are as many as allowed.
    private func makeRoom(_ state: inout State) -> ServerConnection? {
        guard state.connections.count >= configuration.connectionsMax else { return nil }
        guard
            let idle = state.connections.values.first(where: {
                $0 !== state.last && $0.outstanding.load(ordering: .relaxed) == 0
            })
        else { return nil }
        state.connections[idle.address] = nil
        state.failures[idle.address] = nil
        state.retiredStamp = max(state.retiredStamp, idle.greatestStamp.load(ordering: .relaxed))
        return idle
    }

    /// The floor for a put on `connection`: the greatest stamp any other server gave this client, when the router stays
    /// with one server and so has left the others. Zero: none needed. A router that spreads calls over servers gets
    /// none, as the two clocks would drive each other ahead of real time.
    func floor(for connection: ServerConnection) -> Int64 {
        guard hasManyServers.load(ordering: .relaxed), router.staysWithOneServer else { return 0 }
        return state.withLock { state in
            state.connections.values.reduce(state.retiredStamp) { floor, other in
                other === connection ? floor : max(floor, other.greatestStamp.load(ordering: .relaxed))
            }
        }
    }

    // MARK: What connections report, on their event loops

    func connected(_ connection: ServerConnection) { events.emit(.connected(connection.address)) }

    func connectionSucceeded(_ connection: ServerConnection) { router.connectionSucceeded(connection.address) }

    /// Servers to ask when the one of `connection` is silent.
    func alternatives(to connection: ServerConnection) -> [KVAddress] {
        Array(router.alternatives(to: connection.address).prefix(max(0, configuration.probedServersMax)))
    }

    /// A probed server that did not answer: it is no place to turn to.
    func probeFailed(_ address: KVAddress) { router.connectionFailed(address) }

    func connectionLost(_ connection: ServerConnection, _ reason: String) {
        failed(connection, reason)
        events.emit(.connectionLost(connection.address, reason: reason))
    }

    func connectFailed(_ connection: ServerConnection, _ reason: String) {
        failed(connection, reason)
        events.emit(.connectFailed(connection.address, reason: reason))
    }

    /// The server answers, and cannot do what it is asked. The router is told once, not for each call under way, and
    /// has been told when this returns.
    private func refused(_ connection: ServerConnection, _ told: Int, _ error: KVError) {
        connection.refused(since: told) { failed(connection, "\(error)") }
    }

    private func failed(_ connection: ServerConnection, _ reason: String) {
        state.withLock { if $0.connections[connection.address] != nil { $0.failures[connection.address] = reason } }
        router.connectionFailed(connection.address)
    }

    // MARK: Closing

    /// Closes every connection; `done` runs when the last one is closed. Later calls fail with ``KVError/closed``.
    func close(_ done: @escaping @Sendable () -> Void = {}) {
        let connections = state.withLock { state in
            state.isClosed = true
            defer { state.connections = [:] }
            state.last = nil
            return Array(state.connections.values)
        }
        events.finish()
        guard !connections.isEmpty else { return done() }
        let left = CountDown(connections.count, done)
        for connection in connections { connection.close { left.one() } }
    }
}

extension Outcome {
    fileprivate var error: KVError? {
        if case .failure(let error) = self { error } else { nil }
    }

    /// A read that failed leaves no doubt whether something was written.
    fileprivate func of(_ command: Command) -> Outcome {
        guard command.isRead, case .failure(let error) = self else { return self }
        return .failure(error.ofRead)
    }
}

/// Runs a closure when it has been told `count` times.
private final class CountDown: Sendable {
    private let left: Atomic<Int>
    private let done: @Sendable () -> Void

    init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
        left = Atomic(count)
        self.done = done
    }

    func one() {
        if left.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { done() }
    }
}

/// How often one call was tried, and where.
struct Attempts {
    let perServerMax: Int
    private var asked: Set<KVAddress> = []
    private var failures = 0

    init(perServerMax: Int) { self.perServerMax = perServerMax }

    /// Whether the call may be made again: it did not reach a server, or one refused it for what concerns only itself,
    /// or it is a read whose connection broke; and the attempts at all servers are not used up. They are counted
    /// together: the router may come back to two that leave while those that serve still rest.
    mutating func allowsAnother(
        after error: KVError, isRead: Bool, at server: KVAddress, of router: any KVRouter
    ) -> Bool {
        switch error {
        case .unreachable: break
        case .connectionLost(_, _, let mayHaveExecuted): guard isRead || !mayHaveExecuted else { return false }
        case .server: guard error.isOfServersState else { return false }
        default: return false
        }
        failures += 1
        asked.insert(server)
        return failures / max(asked.count, 1 + router.alternatives(to: server).count) < perServerMax
    }
}
