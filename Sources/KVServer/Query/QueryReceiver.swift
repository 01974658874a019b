// The connection side of a query port: bytes in, to the session; replies out, once per turn. Loop thread of its actor.

import KVBase
import KVRuntime
import RESP

/// Accepts clients for one query actor.
final class QueryAcceptor: Acceptor {
    private let actor: QueryActor

    init(actor: QueryActor) { self.actor = actor }

    override func accepted(_ connection: Connection) -> ConnectionHandler? {
        guard actor.context.admitClient() else {
            connection.output.pointee.error("ERR max number of clients reached")
            return nil
        }
        actor.beginTurn(connection.loop)
        return QueryReceiver(actor: actor, connection: connection)
    }
}

/// One client's connection. Reading stops while replies are not taken or more input waits than a turn can run. A client
/// that writes on without reading anything is read all the same, as it may be one that writes its whole pipeline first,
/// up to `Limits.commandBytesMax` (decision 0151). So one that does not read costs its kernel buffers, that much input,
/// `Limits.outputBytesHigh` and one reply.
final class QueryReceiver: ConnectionHandler, SessionOwner {
    /// Input waiting for its turn above which no more is read.
    private static let pendingInputMax = 64 * 1024

    private let session: Session
    private let actor: QueryActor
    /// The connection owns its handler, so it is there whenever the handler is called. Borrowed, never retained: at one
    /// request a turn the counting alone would be a hundredth of the request.
    private let link: Unmanaged<Connection>
    /// The peer has ended its stream: what it sent is still answered, then the connection closes.
    private var hasEnded = false

    init(actor: QueryActor, connection: Connection) {
        (self.actor, link) = (actor, Unmanaged.passUnretained(connection))
        session = Session(
            actor: actor, peer: connection.peerAddress?.description ?? "",
            local: connection.localAddress?.description ?? "",
            descriptor: Int(connection.descriptor))
        super.init()
        session.owner = self
    }

    /// Parses at once and, in the usual case, runs later, together with what other connections received.
    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        let query = actor.state
        if query.pointee.segmentCount == 0 { actor.beginTurn(connection.loop) }
        query.pointee.bytesReceived &+= bytes.count
        guard session.mayParseAhead, !query.pointee.budget.isSpent, !actor.mustWaitForMemory(session)
        else { return receivedMore(connection, bytes) }
        let parsed = session.parseAhead(bytes)
        query.pointee.segments[query.pointee.segmentCount] = ReceivedSegment(
            receiver: Unmanaged.passUnretained(self), bytes: bytes, parsed: parsed)
        query.pointee.segmentCount &+= 1
        if case .drained = parsed.status, query.pointee.batch.count < QueryState.commandsTogether,
            query.pointee.segmentCount < QueryState.segmentsMax
        {
            return
        }
        actor.executeReceived()
    }

    /// Runs what was parsed ahead. `keys`: how many there are. Who adds keys waits if the turn has done enough by now.
    @inline(__always)
    func execute(_ segment: ReceivedSegment, keys: inout Int) {
        if session.state.pointee.isAdding, actor.state.pointee.budget.isSpent {
            session.postpone(segment.bytes)
            return link._withUnsafeGuaranteedRef { settle($0, .ready) }
        }
        link._withUnsafeGuaranteedRef { connection in
            answer(connection) { session.runParsed(segment, output: $0, unsent: $1) }
            connection.outputMayHaveGrown()
        }
        actor.noteAdding(session, keys: &keys)
    }

    /// Bytes for a session that is in the middle of something, or in a turn that has done its work: then they wait.
    private func receivedMore(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        actor.executeReceived()
        if actor.state.pointee.budget.isSpent || actor.mustWaitForMemory(session) { actor.enqueue(session) }
        answer(connection) { session.receive(bytes, output: $0, unsent: $1) }
        if session.pendingInput >= QueryActor.heldInputWatchedBytes { actor.boundInput() }
    }

    func sessionShouldRun() { link._withUnsafeGuaranteedRef { run($0) } }

    override func drained(_ connection: Connection) { run(connection) }

    private func run(_ connection: Connection) {
        actor.executeReceived()
        guard !connection.isClosing else { return }
        actor.beginTurn(connection.loop)
        connection.expectMuchOutput()
        answer(connection) { session.run(output: $0, unsent: $1) }
        connection.outputMayHaveGrown()
    }

    /// Lets the session work on its output, told how much of earlier output is unsent, and does what it asks for then.
    @inline(__always)
    private func answer(
        _ connection: Connection, _ work: (UnsafeMutablePointer<OutputBuffer>, Int) -> SessionStatus
    ) {
        let output = connection.output
        let before = output.pointee.count
        let status = work(output, connection.unsentBytes &- before)
        actor.state.pointee.bytesSent &+= output.pointee.count &- before
        settle(connection, status)
    }

    @inline(__always)
    private func settle(_ connection: Connection, _ status: SessionStatus) {
        if case .idle = status {
            if connection.isReadingPaused { connection.resumeReading() }
            if hasEnded { connection.close(afterFlush: true) }
        } else {
            settleUnusual(connection, status)
        }
        if connection.unsentBytes > Limits.outputBytesMax { connection.close() }
    }

    private func settleUnusual(_ connection: Connection, _ status: SessionStatus) {
        switch status {
        case .idle: break
        case .ready:
            actor.enqueue(session)
            if session.pendingInput > QueryReceiver.pendingInputMax { connection.pauseReading() }
        case .blocked:
            session.block()
            if !session.state.pointee.readsOn || session.pendingInput > Limits.commandBytesMax {
                connection.pauseReading()
            }
            connection.notifyWhenDrained()
        case .closing:
            connection.close(afterFlush: true)
        }
    }

    override func ended(_ connection: Connection) {
        actor.executeReceived()
        hasEnded = true
        if !session.state.pointee.isWaiting { run(connection) }
    }

    var sessionUnsentBytes: Int { link._withUnsafeGuaranteedRef { $0.unsentBytes } }

    var sessionOutputBytes: Int { link._withUnsafeGuaranteedRef { $0.outputCapacity } }

    func sessionReadsOn() {
        guard session.pendingInput <= Limits.commandBytesMax else { return }
        session.state.pointee.readsOn = true
        link._withUnsafeGuaranteedRef { $0.resumeReading() }
    }

    func sessionRefused(reply: StaticString?) {
        session.dropInput()
        link._withUnsafeGuaranteedRef { connection in
            if let reply {
                connection.output.pointee.error(reply)
                connection.outputMayHaveGrown()
            }
            connection.close(afterFlush: reply != nil)
        }
    }

    /// The server is going down: what has been answered is still sent.
    func finish() { link._withUnsafeGuaranteedRef { $0.close(afterFlush: true) } }

    override func closed(_ connection: Connection) {
        actor.executeReceived()
        session.close()
        actor.context.clientLeft()
    }
}
