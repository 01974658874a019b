// An answer in the protocol's own terms, for commands the client has no method for. A value, any thread.

/// What a server replied to ``KVClient/send(_:)``. An error reply is thrown instead, except inside an array.
public enum KVReply: Hashable, Sendable {
    case null
    /// A short status such as `OK`.
    case status(String)
    case bytes(KVBytes)
    case integer(Int64)
    case double(Double)
    case boolean(Bool)
    case array([KVReply])
    case map([KVReply])
    case error(String)
}

extension KVReply {
    /// Bytes or status as bytes; nil for anything else.
    public var bytes: KVBytes? {
        switch self {
        case .bytes(let bytes): bytes
        case .status(let text): KVBytes(text)
        default: nil
        }
    }

    public var integer: Int64? {
        if case .integer(let value) = self { value } else { nil }
    }

    /// The elements of an array or, key and value in turn, of a map.
    public var elements: [KVReply]? {
        switch self {
        case .array(let elements), .map(let elements): elements
        default: nil
        }
    }
}
