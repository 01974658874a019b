// What the listeners of one loop need for TLS: what connections are made from, and whose handshake goes on next. The
// loop's thread.

import KVBase

/// Handshakes are work between turns' other work: a step of one a turn, when all who are served have been. Where the
/// loop has time to spare they take all of it, and else a quarter.
package final class SecurePort {
    package enum Mode: String, Sendable, CaseIterable {
        case off, optional, required
    }

    private let mode: Mode
    /// How long a handshake may take.
    let handshakeMillis: Int64
    /// For new connections.
    package private(set) var context: SecureContext
    package let statistics: SecureStatistics
    let arena = SecureArena()
    /// Who speaks no TLS is told so.
    private(set) var refusesPlain: Bool

    private unowned(unsafe) let loop: Loop
    /// What each turn looks at.
    private let state: UnsafeMutablePointer<SecurePortState>
    private var farewells = 0
    private var farewellsSince: Nanos = 0

    /// Absolute, since some clients open all connections before the first handshake.
    package static let handshakeMillisMax: Int64 = 10_000
    /// For a refused client to show whether it speaks TLS.
    static let farewellMillisMax: Int64 = 1000
    /// Handshakes that are done only to say that the server is full, in a second.
    static let farewellsMax = 8
    static let creditMax: Nanos = 1_000_000
    /// A queue whose oldest has waited longer is served from its newest end: the oldest has given up.
    static let patienceNanos: Nanos = 1_000_000_000
    /// Plain bytes encrypted in one turn of one connection: about a tenth of a millisecond.
    static let sealBytesMax = 256 * 1024
    static let sealBytesPerTurn = 512 * 1024
    /// Any connection gets so much.
    static let sealBytesMin = 16 * 1024

    static let plainReply: StaticString = "ERR this port takes connections with TLS only"

    /// Before the loop runs. `refusesPlain`: as `mode` required does, where silence is not a client's yet.
    package init(
        loop: Loop, mode: Mode, context: SecureContext, statistics: SecureStatistics, refusesPlain: Bool = false,
        handshakeMillis: Int64 = SecurePort.handshakeMillisMax
    ) {
        (self.loop, self.mode, self.context, self.statistics) = (loop, mode, context, statistics)
        self.handshakeMillis = handshakeMillis
        self.refusesPlain = mode == .required || refusesPlain
        state = .allocate(capacity: 1)
        state.initialize(to: SecurePortState())
        loop.onTurnEnd { [self] in endTurn() }
    }

    deinit {
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// New connections are made from another; those that stand go on.
    package func replace(_ context: SecureContext) { self.context = context }

    /// The time for a handshake counts from the beginning where no connection may go without.
    var countsFromArrival: Bool { mode == .required }

    func noteEvent() { state.pointee.ownEvents += 1 }

    /// Whether a refused client may be told so with TLS.
    func mayFinishFarewell() -> Bool {
        if loop.nowNanos - farewellsSince >= 1_000_000_000 { (farewellsSince, farewells) = (loop.nowNanos, 0) }
        farewells += 1
        return farewells <= SecurePort.farewellsMax
    }

    /// How many of `waiting` plain bytes a connection may encrypt in this turn.
    func sealShare(_ waiting: Int) -> Int {
        if waiting <= SecurePort.sealBytesMin { return waiting }
        let most = max(SecurePort.sealBytesMax, waiting / 8)
        let share = min(waiting, max(SecurePort.sealBytesMin, min(most, state.pointee.sealBytesLeft)))
        state.pointee.sealBytesLeft -= share
        return share
    }

    func enqueue(_ connection: Connection, _ layer: SecureLayer) {
        guard !layer.isQueued else { return }
        (layer.isQueued, layer.queuedAt) = (true, loop.nowNanos)
        state.pointee.waiting.append(connection, hasBegun: layer.hasBegun)
    }

    // MARK: Turns

    private func endTurn() {
        // All that was received has been parsed and answered.
        arena.reset()
        state.pointee.sealBytesLeft = SecurePort.sealBytesPerTurn
        let serves = loop.state.pointee.turnEvents > state.pointee.ownEvents
        state.pointee.ownEvents = 0
        if !state.pointee.waiting.isEmpty { shakeHands(serves: serves) }
    }

    private func shakeHands(serves: Bool) {
        let start = Machine.monotonicNanos
        if serves {
            state.pointee.credit = min(state.pointee.credit + (start - loop.nowNanos) / 3, SecurePort.creditMax)
        }
        if !serves || state.pointee.credit > 0, let connection = next(start) {
            loop.note(.handshake)
            connection.shakeHands()
            if serves { state.pointee.credit -= Machine.monotonicNanos - start }
        }
        if !state.pointee.waiting.isEmpty { loop.requestTurn() }
    }

    private func next(_ now: Nanos) -> Connection? {
        while let connection = state.pointee.waiting.popBegun() {
            connection.state.pointee.layer?.isQueued = false
            if connection.wantsHandshake { return connection }
        }
        return nextToBegin(now)
    }

    /// The oldest, or the newest where the oldest has waited too long. Who is gone is passed over.
    private func nextToBegin(_ now: Nanos) -> Connection? {
        while let oldest = state.pointee.waiting.oldest {
            let isOld = now - (oldest.state.pointee.layer?.queuedAt ?? 0) > SecurePort.patienceNanos
            let takesNewest = isOld && oldest.wantsHandshake
            let connection = takesNewest ? state.pointee.waiting.popNewest() : state.pointee.waiting.popOldest()
            guard let connection, connection.wantsHandshake else { continue }
            connection.state.pointee.layer?.isQueued = false
            return connection
        }
        return nil
    }
}

/// Kept behind a pointer: no exclusivity checks on the request path.
private struct SecurePortState {
    /// Connections whose handshake can go on.
    var waiting = HandshakeQueue<Connection>()
    /// Nanoseconds that handshakes may take of turns that serve.
    var credit: Nanos = 0
    /// Events of the turn under way that are of handshakes.
    var ownEvents = 0
    /// Plain bytes that this turn may still encrypt of long replies.
    var sealBytesLeft = SecurePort.sealBytesPerTurn
}

extension TurnWork {
    /// A step of a TLS handshake.
    package static let handshake = TurnWork(rawValue: 256)
}
