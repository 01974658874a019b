// The settings of a client, each with a default that suits a server application. A value, any thread.

public import NIOCore

/// How long things may take and how many may be under way. Every bound of the client is here.
public struct KVClientConfiguration: Sendable {
    /// What a call does when ``outstandingCallsMax`` calls are waiting for answers on its connection.
    public enum FullPolicy: Sendable {
        /// The call waits for its turn, in order; its timeout runs. The task that made the call is all the memory it
        /// takes.
        case wait
        /// The call fails at once with ``KVError/tooManyOutstanding(limit:)``.
        case fail
    }

    /// The time a call may take in all, connecting and further attempts included.
    public var callTimeout: Duration = .seconds(5)
    /// The time one attempt to connect may take.
    public var connectTimeout: Duration = .seconds(2)
    /// A connection that owes answers and delivered no byte for so long counts as lost: a server that vanished without
    /// closing is noticed by this.
    public var silenceTimeout: Duration = .seconds(5)
    /// A server that owes answers, or was to be connected to, and was silent for so long is probed: it and the others
    /// the router knows are asked PING on connections of their own. If it does not answer within ``probeTimeout`` and
    /// another does, it hangs, and counts as lost without waiting for ``silenceTimeout``. One that answers is waited
    /// for, however long its answer takes, and probed again after twice the time.
    public var probeAfter: Duration = .milliseconds(250)
    /// The time a probe may take, connecting included.
    public var probeTimeout: Duration = .milliseconds(500)
    /// Other servers that are probed together with a silent one.
    public var probedServersMax = 4
    /// Delay before the second attempt to connect to a server; it doubles with every failure, with a random share of
    /// half.
    public var reconnectDelayMin: Duration = .milliseconds(50)
    /// The longest such delay.
    public var reconnectDelayMax: Duration = .seconds(1)
    /// Attempts one call makes for each server the router knows, before it gives up. Only what surely was not executed,
    /// and reads, are tried again.
    public var attemptsPerServerMax = 2
    /// Calls sent on one connection and not answered yet, those given up by their caller included.
    public var outstandingCallsMax = 16_384
    public var whenFull: FullPolicy = .wait
    /// Bytes of the largest answer accepted. A larger one is a protocol violation and costs the connection.
    public var replyBytesMax = 512 * 1024 * 1024
    /// Servers connected to at the same time; the connection unused for longest is closed beyond it.
    public var connectionsMax = 64
    /// Told to each server that is connected to; nil: to none.
    ///
    /// A server that does not accept them answers every call with its reason, a ``KVError/server(_:)`` that begins with
    /// `WRONGPASS`.
    public var credentials: KVCredentials?
    /// How connections are protected; nil: not at all.
    public var tls: KVTLS?
    /// Where the connections run; nil: the process-wide group of SwiftNIO. Never shut down by the client.
    public var eventLoopGroup: (any EventLoopGroup)?

    public init() {}
}

extension Duration {
    /// Whole nanoseconds, at most about 292 years.
    var wholeNanos: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (seconds < 0 ? 0 : .max / 4) : min(product, .max / 4) + attoseconds / 1_000_000_000
    }

    var timeAmount: TimeAmount { .nanoseconds(wholeNanos) }
}
