// The extra product: Foundation's types, JSON, a service's life, metrics of calls. In memory, without a server.

import Foundation
import KVClient
import Logging
import Metrics
import MetricsTestKit
import ServiceLifecycle
import Synchronization
import Testing

@testable import KVClientExtras

/// A store in memory that can be told to refuse.
private final class MemoryStore: KeyValueStore {
    let pairs = Mutex<[KVBytes: KVBytes]>([:])
    let failure: KVError?

    init(failing failure: KVError? = nil) { self.failure = failure }

    func get(_ key: KVBytes) async throws(KVError) -> KVBytes? {
        if let failure { throw failure }
        return pairs.withLock { $0[key] }
    }

    func put(_ key: KVBytes, _ value: KVBytes) async throws(KVError) -> KVStamp {
        if let failure { throw failure }
        pairs.withLock { $0[key] = value }
        return KVStamp(millis: 1)
    }

    func delete(_ key: KVBytes) async throws(KVError) -> Bool { pairs.withLock { $0.removeValue(forKey: key) } != nil }

    func list(prefix: KVBytes, limit: Int?, after: KVBytes?) async throws(KVError) -> [KVPair] { [] }
}

@Suite(.serialized) struct ExtrasTests {
    private struct User: Codable, Equatable, Sendable {
        var name: String
        var age: Int
    }

    @Test func dataGoesThereAndBack() async throws {
        let store = MemoryStore()
        let data = Data([0, 255, 10])
        try await store.put("k", data)
        #expect(try await store.get("k") == [0, 255, 10])
        #expect(try await store.get("k", as: Data.self) == data)
        #expect(try await store.get(data, as: Data.self) == nil)
    }

    @Test func codableValuesAreJSON() async throws {
        let store = MemoryStore()
        let ada = User(name: "Ada", age: 36)
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        try await store.put("user/7", json: ada, encoder: encoder)
        #expect(try await store.get("user/7", as: String.self) == #"{"age":36,"name":"Ada"}"#)
        #expect(try await store.get("user/7", json: User.self) == ada)
        #expect(try await store.get("none", json: User.self) == nil)
        try await store.put("user/8", "Ada")
        await #expect(throws: KVError.unreadable(key: "user/8", as: "User")) {
            try await store.get("user/8", json: User.self)
        }
        await #expect {
            try await store.put("user/9", json: Double.infinity)
        } throws: {
            if case KVError.invalidArgument = $0 { true } else { false }
        }
        #expect(try await store.get("user/9") == nil)
    }

    @Test func errorsAreReadable() {
        let error: any Error = KVError.unreachable(server: .local, reason: "Connection refused")
        #expect(error.localizedDescription == "cannot reach 127.0.0.1:6001: Connection refused")
    }

    @Test func callsAndFailuresAreMeasured() async throws {
        let metrics = TestMetrics()
        let store = KVMeasuredStore(MemoryStore(), factory: metrics)
        try await store.put("k", "v")
        #expect(try await store.get("k") == "v")
        #expect(try await store.getAll(["k", "none"]) == ["k": "v"])
        _ = try await store.get("k")
        #expect(try metrics.expectTimer("kv_client_calls", [("call", "get")]).values.count == 2)
        #expect(try metrics.expectTimer("kv_client_calls", [("call", "getAll")]).values.count == 1)
        #expect(try metrics.expectTimer("kv_client_calls", [("call", "put")]).values.count == 1)
        let failing = KVMeasuredStore(MemoryStore(failing: .closed), label: "other", factory: metrics)
        await #expect(throws: KVError.closed) { try await failing.get("k") }
        let failures = try metrics.expectCounter("other_failures", [("call", "get"), ("error", "closed")])
        #expect(failures.totalValue == 1)
        #expect(try metrics.expectTimer("other_calls", [("call", "get")]).values.count == 1)
    }

    @Test func theServiceClosesTheClientOnShutdown() async throws {
        let client = KVClient(servers: [KVAddress(host: "127.0.0.1", port: 1)])
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let group = ServiceGroup(services: [KVClientService(client, logger: logger)], logger: logger)
        async let running: Void = group.run()
        await #expect {
            try await client.get("k")
        } throws: {
            if case KVError.unreachable = $0 { true } else { false }
        }
        await group.triggerGracefulShutdown()
        try await running
        await #expect(throws: KVError.closed) { try await client.get("k") }
    }

    @Test func eventsAreLinesAndCounted() throws {
        let metrics = TestMetrics()
        let lines = Lines()
        let service = KVClientService(KVClient(), logger: Logger(label: "test") { _ in lines }, factory: metrics)
        service.note(.failedOver(from: .local, to: KVAddress(host: "b", port: 2), reason: "it hangs"))
        service.note(.connected(.local))
        #expect(lines.taken == ["notice kv client: failed over reason=it hangs server=b:2"])
        let events = [("event", "failed over"), ("server", "b:2")]
        #expect(try metrics.expectCounter("kv_client_events", events).totalValue == 1)
    }
}

/// Keeps lines at level notice and above.
private final class Lines: LogHandler {
    private let kept = Mutex<[String]>([])
    var logLevel: Logger.Level {
        get { .notice }
        set {}
    }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var taken: [String] { kept.withLock { $0 } }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let words = (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted().joined(separator: " ")
        kept.withLock { $0.append("\(event.level) \(event.message) \(words)") }
    }
}
