// A client as a service of swift-service-lifecycle: logs what happens to its connections, closes it at the end.

public import KVClient
public import Logging
public import Metrics
public import ServiceLifecycle

/// Runs with the other services of a program. On a graceful shutdown it closes the client, so put it before those that
/// use it in the group: services are shut down in the opposite order.
///
///     let client = try KVClient(servers: "db1:6001,db2:6001")
///     let services = ServiceGroup(services: [KVClientService(client, logger: logger), server], logger: logger)
///     try await services.run()
public struct KVClientService: Service {
    public let client: KVClient
    private let logger: Logger
    private let factory: any MetricsFactory

    public init(_ client: KVClient, logger: Logger, factory: any MetricsFactory = MetricsSystem.factory) {
        (self.client, self.logger, self.factory) = (client, logger, factory)
    }

    /// Returns when the program shuts down gracefully, when the task is cancelled, or when the client was closed. Any
    /// task, once.
    public func run() async {
        let events = client.events()
        await cancelWhenGracefulShutdown {
            for await event in events { note(event) }
        }
        await client.close()
    }

    /// One line, and one more in the counter `kv_client_events`.
    func note(_ event: KVEvent) {
        let (kind, level, server, reason) = Self.words(event)
        var metadata: Logger.Metadata = ["server": "\(server)"]
        if let reason { metadata["reason"] = "\(reason)" }
        logger.log(level: level, "kv client: \(kind)", metadata: metadata)
        let dimensions = [("event", kind), ("server", "\(server)")]
        Counter(label: "kv_client_events", dimensions: dimensions, factory: factory).increment()
    }

    private static func words(_ event: KVEvent) -> (String, Logger.Level, KVAddress, String?) {
        switch event {
        case .connected(let server): ("connected", .debug, server, nil)
        case .connectionLost(let server, let reason): ("connection lost", .warning, server, reason)
        case .connectFailed(let server, let reason): ("connect failed", .warning, server, reason)
        case .failedOver(_, let server, let reason): ("failed over", .notice, server, reason)
        }
    }
}
