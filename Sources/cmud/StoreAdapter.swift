// Where the game's values live: a kvd store through KVClient, or a dictionary for `--solo`. Any task.

import CMUDCore
import Glibc
import KVClient
import Synchronization

/// The real store. KVClient stays with one server, retries and fails over; a failure here is one the player should hear
/// of.
final class ClientStore: GameStore {
    private let client: KVClient
    private let failure = Mutex<String?>(nil)

    /// Of the last call, if it failed.
    var lastFailure: String? { failure.withLock { $0 } }

    /// Throws what is wrong with an argument, before anything is sent.
    init(_ address: String, tls: KVTLS?, user: String?) throws {
        var configuration = KVClientConfiguration()
        configuration.callTimeout = .seconds(3)
        configuration.connectTimeout = .seconds(1)
        configuration.silenceTimeout = .seconds(2)
        configuration.replyBytesMax = 16 * 1024 * 1024
        try tls?.check()
        configuration.tls = tls
        configuration.credentials = KVCredentials { name in
            name == "KV_USER" && user != nil ? user : getenv(name).map { String(cString: $0) }
        }
        client = try KVClient(servers: address, configuration: configuration)
    }

    func get(_ key: String) async throws -> [UInt8]? { try await noting { try await client.get(key)?.array } }

    func put(_ key: String, _ value: [UInt8]) async throws -> Int64? {
        try await noting { try await client.put(key, value).millis }
    }

    func delete(_ key: String) async throws { _ = try await noting { try await client.delete(key) } }

    func list(prefix: String, limit: Int) async throws -> [(key: String, value: [UInt8])] {
        try await noting {
            try await client.list(prefix: prefix, limit: limit).map { ($0.key.description, $0.value.array) }
        }
    }

    private func noting<Value>(_ call: () async throws -> Value) async throws -> Value {
        do {
            let value = try await call()
            failure.withLock { $0 = nil }
            return value
        } catch {
            failure.withLock { $0 = "\(error)" }
            throw error
        }
    }
}

/// A world in memory, for a first look without a server. Gone when the program ends.
final class MemoryStore: GameStore {
    private let values = Mutex<[String: [UInt8]]>([:])

    func get(_ key: String) async throws -> [UInt8]? { values.withLock { $0[key] } }

    func put(_ key: String, _ value: [UInt8]) async throws -> Int64? {
        values.withLock { $0[key] = value }
        return nil
    }

    func delete(_ key: String) async throws { values.withLock { $0[key] = nil } }

    func list(prefix: String, limit: Int) async throws -> [(key: String, value: [UInt8])] {
        values.withLock { values in
            values.filter { $0.key.hasPrefix(prefix) }.sorted { $0.key < $1.key }.prefix(limit).map {
                ($0.key, $0.value)
            }
        }
    }
}
