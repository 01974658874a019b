// Foundation's types as keys and values, and its words for errors. Pure, any thread.

public import Foundation
public import KVClient

extension Data: KVBytesConvertible {
    /// A copy. O(n).
    public var kvBytes: KVBytes { KVBytes(copying: self) }
}

extension Data: KVBytesReadable {
    /// A copy. O(n).
    public init(kvBytes: KVBytes) { self.init(kvBytes.array) }
}

extension KVError: LocalizedError {
    /// What ``KVError`` says of itself, for `localizedDescription`.
    public var errorDescription: String? { description }
}

extension KeyValueStore {
    /// Writes `value` as JSON. Throws ``KVError/invalidArgument(_:)``, and writes nothing, if it cannot be encoded.
    @discardableResult
    public func put(
        _ key: some KVBytesConvertible, json value: some Encodable & Sendable, encoder: JSONEncoder = JSONEncoder()
    ) async throws(KVError) -> KVStamp {
        let data: Data
        do {
            data = try encoder.encode(value)
        } catch {
            throw .invalidArgument("the value of \(key.kvBytes) cannot be encoded: \(error)")
        }
        return try await put(key, data)
    }

    /// The value of `key` read as JSON; nil when there is none. Throws ``KVError/unreadable(key:as:)`` when there is
    /// one and it is not such a thing.
    public func get<Value: Decodable & Sendable>(
        _ key: some KVBytesConvertible, json type: Value.Type, decoder: JSONDecoder = JSONDecoder()
    ) async throws(KVError) -> Value? {
        let key = key.kvBytes
        guard let data = try await get(key, as: Data.self) else { return nil }
        do {
            return try decoder.decode(type, from: data)
        } catch {
            throw .unreadable(key: key, as: "\(type)")
        }
    }
}
