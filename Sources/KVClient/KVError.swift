// Everything that can go wrong with a call, each case naming what a program would do differently. Values, any thread.

/// Why a call failed. That a key does not exist is not a failure: `get` then answers nil.
public enum KVError: Error, Hashable, Sendable {
    /// The server understood the request and refused it; its words, such as `ERR value is too large`.
    case server(String)
    /// No answer within the call's time. A write may have been executed, unless it was still waiting to be sent.
    case timeout(mayHaveExecuted: Bool)
    /// The connection broke before the answer came. Reads were tried again first; writes are not, once sent.
    case connectionLost(server: KVAddress, reason: String, mayHaveExecuted: Bool)
    /// No connection to the server, or to any of several: nothing was sent.
    case unreachable(server: KVAddress, reason: String)
    /// The other side sent something that is not an answer to the question. It is not a kvd, or a proxy interferes.
    case protocolViolation(server: KVAddress, reason: String)
    /// The task that made the call was cancelled. A write may have been executed, unless it was still waiting to be
    /// sent.
    case cancelled(mayHaveExecuted: Bool)
    /// The client was closed before or during the call. A write may have been executed, if it was under way.
    case closed
    /// As many calls as the configuration allows are waiting for answers, and it says to fail rather than to wait.
    case tooManyOutstanding(limit: Int)
    /// The call cannot be sent as it is: what is wrong with it.
    case invalidArgument(String)
    /// The value is there and is not what it was to be read as; the type's name.
    case unreadable(key: KVBytes, as: String)

    /// Whether a write that failed so may nevertheless have taken effect.
    public var mayHaveExecuted: Bool {
        switch self {
        case .timeout(let may), .connectionLost(_, _, let may), .cancelled(let may): may
        case .protocolViolation, .closed: true
        case .server, .unreachable, .tooManyOutstanding, .invalidArgument, .unreadable: false
        }
    }

    /// Refusals of a server that leaves, that still reads its directory, or whose disk takes nothing. Nothing was done,
    /// and another server may do it.
    var isOfServersState: Bool {
        guard case .server(let message) = self else { return false }
        return ["LEAVING ", "LOADING ", "MISCONF "].contains { message.hasPrefix($0) }
    }

    /// The same of a read, of which no write can be in doubt.
    var ofRead: KVError { mayHaveExecuted(false) }

    /// The same of calls made together, of which another may have written.
    var inDoubt: KVError { mayHaveExecuted(true) }

    private func mayHaveExecuted(_ may: Bool) -> KVError {
        switch self {
        case .timeout: .timeout(mayHaveExecuted: may)
        case .connectionLost(let server, let reason, _):
            .connectionLost(server: server, reason: reason, mayHaveExecuted: may)
        case .cancelled: .cancelled(mayHaveExecuted: may)
        default: self
        }
    }

    /// Whether the store could not be asked at all or did not answer, as opposed to refusing this request: the cases in
    /// which trying again later can help.
    public var isStoreUnavailable: Bool {
        switch self {
        case .timeout, .connectionLost, .unreachable, .protocolViolation, .tooManyOutstanding: true
        case .server, .cancelled, .closed, .invalidArgument, .unreadable: false
        }
    }
}

extension KVError: CustomStringConvertible {
    /// One line fit for an error message.
    public var description: String {
        switch self {
        case .server(let message): "the server refused: \(message)"
        case .timeout(let may): "no answer in time" + Self.doubt(may)
        case .connectionLost(let server, let reason, let may):
            "connection to \(server) lost: \(reason)" + Self.doubt(may)
        case .unreachable(let server, let reason): "cannot reach \(server): \(reason)"
        case .protocolViolation(let server, let reason): "\(server) does not speak the protocol: \(reason)"
        case .cancelled(let may): "cancelled" + Self.doubt(may)
        case .closed: "the client was closed"
        case .tooManyOutstanding(let limit): "\(limit) calls are waiting for answers already"
        case .invalidArgument(let what): what
        case .unreadable(let key, let type): "the value of \(key) is no \(type)"
        }
    }

    private static func doubt(_ may: Bool) -> String { may ? " (a write may have been executed)" : "" }
}
