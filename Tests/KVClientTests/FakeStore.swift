// A little store behind a scripted server: enough of kvd's commands for whole programs to run against it. Any thread.

import KVClient
import Synchronization
import Testing

final class FakeStore: Sendable {
    private struct State {
        var pairs: [String: String] = [:]
        var clockMillis: Int64
    }

    private let state: Mutex<State>

    init(clockMillis: Int64 = 1_000_000) { state = Mutex(State(clockMillis: clockMillis)) }

    func answer(_ exchange: Exchange) {
        let arguments = exchange.arguments
        exchange.reply(
            state.withLock { state in
                switch (arguments[0], arguments.dropFirst().first) {
                case ("GET", let key?): return state.pairs[key].map(Self.bulk) ?? "$-1\r\n"
                case ("MGET", _):
                    let values = arguments.dropFirst().map { state.pairs[$0].map(Self.bulk) ?? "$-1\r\n" }
                    return "*\(values.count)\r\n" + values.joined()
                case ("PING", _): return "+PONG\r\n"
                case ("KVD", "PUT"):
                    state.pairs[arguments[2]] = arguments[3]
                    state.clockMillis += 1
                    if arguments.count == 6, let floor = Int64(arguments[5]) {
                        return ":\(max(state.clockMillis, floor + 1))\r\n"
                    }
                    return ":\(state.clockMillis)\r\n"
                case ("DEL", let key?): return state.pairs.removeValue(forKey: key) == nil ? ":0\r\n" : ":1\r\n"
                case ("LIST", let prefix?): return Self.list(state.pairs, prefix, Array(arguments.dropFirst(2)))
                default: return "-ERR unknown command '\(arguments[0])'\r\n"
                }
            })
    }

    private static func list(_ pairs: [String: String], _ prefix: String, _ options: [String]) -> String {
        var limit = Int.max
        var after = ""
        for index in stride(from: 0, to: options.count - 1, by: 2) {
            if options[index] == "LIMIT" { limit = Int(options[index + 1]) ?? 0 }
            if options[index] == "AFTER" { after = options[index + 1] }
        }
        let found = pairs.keys.filter { $0.hasPrefix(prefix) && $0 > after }.sorted().prefix(limit)
        return "*\(found.count * 2)\r\n" + found.map { bulk($0) + bulk(pairs[$0]!) }.joined()
    }

    private static func bulk(_ text: String) -> String { "$\(text.utf8.count)\r\n\(text)\r\n" }
}

/// Runs `body` with a fresh fake store, its server and a client of it.
func withFakeStore(
    configuration: KVClientConfiguration = .patient, _ body: (KVClient, ScriptedServer) async throws -> Void
) async throws {
    let store = FakeStore()
    try await withServer(configuration: configuration, { store.answer($0) }, body)
}

/// Runs `body` with a scripted server and a client of it.
func withServer(
    configuration: KVClientConfiguration = .patient,
    _ script: @escaping ScriptedServer.Script,
    _ body: (KVClient, ScriptedServer) async throws -> Void
) async throws {
    let server = try await ScriptedServer(script)
    let client = KVClient(servers: [server.address], configuration: configuration)
    try await body(client, server)
    await client.close()
    await server.stop()
}

extension KVClientConfiguration {
    /// Times that a busy machine does not exceed, for tests that are about something else.
    static var patient: KVClientConfiguration {
        var configuration = KVClientConfiguration()
        configuration.callTimeout = .seconds(90)
        configuration.connectTimeout = .seconds(20)
        configuration.silenceTimeout = .seconds(90)
        configuration.probeAfter = .seconds(90)
        return configuration
    }
}

func configured(_ configure: (inout KVClientConfiguration) -> Void) -> KVClientConfiguration {
    var configuration = KVClientConfiguration.patient
    configure(&configuration)
    return configuration
}

extension ScriptedServer {
    var address: KVAddress { KVAddress(host: "127.0.0.1", port: port) }
}

/// The client's error that `body` throws; records an issue when it throws nothing or anything else.
func failure<Value>(
    _ body: () async throws -> Value, location: SourceLocation = #_sourceLocation
) async -> KVError? {
    do {
        let value = try await body()
        Issue.record("expected a failure, got \(value)", sourceLocation: location)
    } catch let error as KVError {
        return error
    } catch {
        Issue.record("not an error of the client: \(error)", sourceLocation: location)
    }
    return nil
}

/// Waits until `condition` holds, at most ninety seconds.
func eventually(
    _ what: String, location: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(90)
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            Issue.record("not within ninety seconds: \(what)", sourceLocation: location)
            return
        }
        try? await Task.sleep(for: .milliseconds(2))  // between two polls
    }
}

/// The next event that `wanted` accepts, among those within ninety seconds.
func nextEvent(_ events: AsyncStream<KVEvent>, _ wanted: @escaping @Sendable (KVEvent) -> Bool) async -> KVEvent? {
    await withTaskGroup(of: KVEvent?.self) { group in
        group.addTask {
            for await event in events where wanted(event) { return event }
            return nil
        }
        group.addTask {
            try? await Task.sleep(for: .seconds(90))  // the deadline
            return nil
        }
        let first = await group.next() ?? nil
        group.cancelAll()
        return first
    }
}
