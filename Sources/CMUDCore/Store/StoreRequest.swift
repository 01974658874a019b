// What the game asks of its surroundings. The session only records requests; a front end carries them out and reports
// the replies, so the game itself waits for nothing and knows no network. Values, any thread.

/// The part of a key-value store that the game needs. A front end adapts the real client to it.
package protocol GameStore: Sendable {
    /// Nil when the key is absent; throws when that is not known.
    func get(_ key: String) async throws -> [UInt8]?
    /// Returns the store's stamp of the write in milliseconds, when the store tells.
    func put(_ key: String, _ value: [UInt8]) async throws -> Int64?
    func delete(_ key: String) async throws
    func list(prefix: String, limit: Int) async throws -> [(key: String, value: [UInt8])]
}

/// Turns passwords into verifiers; slow on purpose.
package protocol PasswordHasher: Sendable {
    func derive(password: String, salt: [UInt8], parameters: PasswordParameters) async throws -> [UInt8]
}

/// scrypt's cost: memory is 128 x `blockSize` x `rounds` bytes, 16 MiB here.
package struct PasswordParameters: Equatable, Sendable {
    package var rounds: Int
    package var blockSize: Int
    package var parallelism: Int

    package static let current = PasswordParameters(rounds: 16_384, blockSize: 8, parallelism: 1)

    package init(rounds: Int, blockSize: Int, parallelism: Int) {
        (self.rounds, self.blockSize, self.parallelism) = (rounds, blockSize, parallelism)
    }

    /// Whether it is safe to run them: a stored verifier is anybody's text and must not cost more than ours.
    package var isBearable: Bool {
        (2...16_384).contains(rounds) && rounds & (rounds - 1) == 0 && (1...8).contains(blockSize) && parallelism == 1
    }
}

package enum StoreOperation: Sendable {
    case get(String)
    case put(String, [UInt8])
    case delete(String)
    case list(prefix: String, limit: Int)
    case derive(password: String, salt: [UInt8], parameters: PasswordParameters)
}

package enum StoreReply: Sendable {
    case value([UInt8]?)
    case stored(stamp: Int64?)
    case deleted
    case pairs([(key: String, value: [UInt8])])
    case derived([UInt8])
    /// The request failed or its outcome is unknown; every request of the game may be repeated.
    case failed(String)
}

package struct StoreRequest: Sendable {
    package let id: UInt64
    package let operation: StoreOperation
}

extension StoreRequest {
    /// Carries the request out; never throws, since a failure is one of the replies.
    package func perform(store: any GameStore, hasher: any PasswordHasher) async -> StoreReply {
        do {
            switch operation {
            case .get(let key): return .value(try await store.get(key))
            case .put(let key, let value): return .stored(stamp: try await store.put(key, value))
            case .delete(let key):
                try await store.delete(key)
                return .deleted
            case .list(let prefix, let limit): return .pairs(try await store.list(prefix: prefix, limit: limit))
            case .derive(let password, let salt, let parameters):
                return .derived(try await hasher.derive(password: password, salt: salt, parameters: parameters))
            }
        } catch {
            return .failed(String(describing: error))
        }
    }
}
