// A store that tells swift-metrics how long its calls take and how they fail. Any task.

public import KVClient
public import Metrics

/// Wraps any store. Two metrics, whose names begin with `label`: the timer `_calls`, by `call` (get, getAll, put,
/// delete, list), and the counter `_failures`, by `call` and `error` (the case of ``KVError``).
///
///     let store = KVMeasuredStore(client)
public struct KVMeasuredStore<Store: KeyValueStore>: KeyValueStore {
    private struct CallMeter: Sendable {
        let call: String
        let label: String
        let factory: any MetricsFactory
        let timer: Timer

        init(_ label: String, _ call: String, _ factory: any MetricsFactory) {
            (self.label, self.call, self.factory) = (label, call, factory)
            timer = Timer(label: label + "_calls", dimensions: [("call", call)], factory: factory)
        }

        func measure<Answer>(_ body: () async throws(KVError) -> Answer) async throws(KVError) -> Answer {
            let start = ContinuousClock.now
            defer { timer.record(duration: ContinuousClock.now - start) }
            do {
                return try await body()
            } catch {
                let dimensions = [("call", call), ("error", error.kind)]
                Counter(label: label + "_failures", dimensions: dimensions, factory: factory).increment()
                throw error
            }
        }
    }

    private let store: Store
    private let gets: CallMeter
    private let manyGets: CallMeter
    private let puts: CallMeter
    private let deletes: CallMeter
    private let lists: CallMeter

    public init(_ store: Store, label: String = "kv_client", factory: any MetricsFactory = MetricsSystem.factory) {
        self.store = store
        gets = CallMeter(label, "get", factory)
        manyGets = CallMeter(label, "getAll", factory)
        puts = CallMeter(label, "put", factory)
        deletes = CallMeter(label, "delete", factory)
        lists = CallMeter(label, "list", factory)
    }

    public func get(_ key: KVBytes) async throws(KVError) -> KVBytes? {
        try await gets.measure { () throws(KVError) in try await store.get(key) }
    }

    public func getAll(_ keys: [KVBytes]) async throws(KVError) -> [KVBytes: KVBytes] {
        try await manyGets.measure { () throws(KVError) in try await store.getAll(keys) }
    }

    @discardableResult
    public func put(_ key: KVBytes, _ value: KVBytes) async throws(KVError) -> KVStamp {
        try await puts.measure { () throws(KVError) in try await store.put(key, value) }
    }

    @discardableResult
    public func delete(_ key: KVBytes) async throws(KVError) -> Bool {
        try await deletes.measure { () throws(KVError) in try await store.delete(key) }
    }

    public func list(prefix: KVBytes, limit: Int?, after: KVBytes?) async throws(KVError) -> [KVPair] {
        try await lists.measure { () throws(KVError) in
            try await store.list(prefix: prefix, limit: limit, after: after)
        }
    }

    public func events() -> AsyncStream<KVEvent> { store.events() }
}

extension KVError {
    /// The case's name: few values, as a dimension of a metric must have.
    fileprivate var kind: String {
        switch self {
        case .server: "server"
        case .timeout: "timeout"
        case .connectionLost: "connectionLost"
        case .unreachable: "unreachable"
        case .protocolViolation: "protocolViolation"
        case .cancelled: "cancelled"
        case .closed: "closed"
        case .tooManyOutstanding: "tooManyOutstanding"
        case .invalidArgument: "invalidArgument"
        case .unreadable: "unreadable"
        }
    }
}
