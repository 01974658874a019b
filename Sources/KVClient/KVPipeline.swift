// Several calls sent as one: gathered by the caller, written together, answered together. The batch is any thread.

import NIOCore
import Synchronization

/// Gathers the calls of ``KVClient/withPipeline(_:)``. Each method answers a placeholder for the call's result.
public struct KVPipeline {
    var commands: [Command] = []
    var takers: [@Sendable (Outcome) -> Void] = []

    public var count: Int { commands.count }

    public mutating func get(_ key: some KVBytesConvertible) -> KVPending<KVBytes?> {
        add(.get(key.kvBytes)) { reply throws(KVError) in try reply.asValue() }
    }

    @discardableResult
    public mutating func put(
        _ key: some KVBytesConvertible, _ value: some KVBytesConvertible
    ) -> KVPending<KVStamp> {
        add(.put(key.kvBytes, value.kvBytes)) { reply throws(KVError) in try reply.asStamp() }
    }

    @discardableResult
    public mutating func delete(_ key: some KVBytesConvertible) -> KVPending<Bool> {
        add(.delete(key.kvBytes)) { reply throws(KVError) in try reply.asCount() > 0 }
    }

    public mutating func list(
        prefix: some KVBytesConvertible = "", limit: Int? = nil, after: KVBytes? = nil
    ) -> KVPending<[KVPair]> {
        add(.list(prefix: prefix.kvBytes, limit: limit, after: after)) { reply throws(KVError) in try reply.asPairs() }
    }

    /// A command in the protocol's own words.
    @discardableResult
    public mutating func send(_ arguments: [KVBytes]) -> KVPending<KVReply> {
        add(.custom(arguments, isRead: false)) { reply throws(KVError) in reply }
    }

    private mutating func add<Value>(
        _ command: Command, _ convert: @escaping @Sendable (KVReply) throws(KVError) -> Value
    ) -> KVPending<Value> {
        let pending = KVPending<Value>()
        commands.append(command)
        takers.append { outcome in pending.take(outcome, convert) }
        return pending
    }
}

/// The result of one call of a pipeline, there once ``KVClient/withPipeline(_:)`` has returned.
public final class KVPending<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, KVError>?>(nil)

    init() {}

    /// What the call answered; throws what it failed with.
    public var value: Value {
        get throws(KVError) {
            guard let result = result.withLock({ $0 }) else { throw .invalidArgument("the pipeline has not run yet") }
            return try result.get()
        }
    }

    func take(_ outcome: Outcome, _ convert: (KVReply) throws(KVError) -> Value) {
        let converted: Result<Value, KVError>
        do {
            converted = .success(try convert(try outcome.get()))
        } catch {
            converted = .failure(error)
        }
        result.withLock { $0 = converted }
    }
}

/// The calls of one pipeline under way. Each outcome has a place of its own; the last to arrive resumes the caller.
final class PipelineBatch: @unchecked Sendable {
    private let calls: [Call]
    private let isTransaction: Bool
    private let outcomes: UnsafeMutableBufferPointer<Outcome?>
    private let left: Atomic<Int>
    private var continuation: UnsafeContinuation<Void, Never>?

    init(_ commands: [Command], isTransaction: Bool, deadline: UInt64) {
        let first = Call(commands[0], deadline: deadline)
        var calls = [first] + commands.dropFirst().map { Call($0, deadline: deadline, in: isTransaction ? first : nil) }
        if isTransaction, let exec = commands.last {
            // EXEC answers all but MULTI and itself.
            let places = commands.indices.filter { commands[$0].isPut }.map { $0 - 1 }
            calls[calls.count - 1] = Call(exec, deadline: deadline, in: first, stampPlaces: places)
        }
        self.calls = calls
        self.isTransaction = isTransaction
        outcomes = .allocate(capacity: commands.count)
        outcomes.initialize(repeating: nil)
        left = Atomic(commands.count)
    }

    deinit {
        outcomes.deinitialize()
        outcomes.deallocate()
    }

    func run(on connection: ServerConnection) async -> [Outcome] {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                self.continuation = continuation
                start(on: connection)
            }
        } onCancel: {
            for call in calls { call.cancel() }
        }
        return outcomes.map { $0 ?? .failure(.cancelled(mayHaveExecuted: false)) }
    }

    private func start(on connection: ServerConnection) {
        var begun: [Call] = []
        begun.reserveCapacity(calls.count)
        for (index, call) in calls.enumerated() {
            if call.begin(in: self, index: index) { begun.append(call) }
        }
        let cancelled = calls.count - begun.count
        if isTransaction, cancelled > 0 {
            for call in begun { call.cancel() }
            begun = []
        }
        if !begun.isEmpty { connection.submit(begun) }
        finished(cancelled)
    }

    /// Takes the outcome of one call, from whichever thread decided it. Nobody else touches that place until all are
    /// in.
    func finished(_ index: Int, _ outcome: Outcome) {
        outcomes[index] = outcome
        finished(1)
    }

    private func finished(_ count: Int) {
        // Acquire and release: the caller sees every outcome written before its resumption.
        guard count > 0, left.wrappingSubtract(count, ordering: .acquiringAndReleasing).newValue == 0 else { return }
        continuation?.resume()
    }
}
