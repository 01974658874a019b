// One reply as a tree, for the client, tools and tests; the server never builds one. Values, any thread.

package import KVBase

/// A RESP2 or RESP3 reply. RESP2's two nulls and RESP3's `_` are all `.null`. Attributes are read and dropped.
package enum RESPValue: Equatable, Sendable {
    case simple(String)
    /// The text without '-', beginning with its code: "ERR unknown command …".
    case error(String)
    case integer(Int)
    case bulk(Bytes)
    case null
    case array([RESPValue])
    /// Keys and values in turn.
    case map([RESPValue])
    case set([RESPValue])
    /// Out of band: not the reply to a request.
    case push([RESPValue])
    case double(Double)
    case boolean(Bool)
    case bigNumber(String)
    /// The text without its three-letter format.
    case verbatim(Bytes)

    /// The bytes of a string of any kind; nil for anything else.
    package var bytes: Bytes? {
        switch self {
        case .bulk(let bytes), .verbatim(let bytes): bytes
        case .simple(let text): Bytes(text)
        default: nil
        }
    }

    /// The elements of an array, set, push or map (keys and values in turn); nil for anything else.
    package var elements: [RESPValue]? {
        switch self {
        case .array(let values), .map(let values), .set(let values), .push(let values): values
        default: nil
        }
    }
}
