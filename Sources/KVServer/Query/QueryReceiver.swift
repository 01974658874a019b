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

/// One client's connection. Reading stops while replies are not taken or more input waits than a turn can run, so a
/// client that does not read costs its kernel buffers, `Limits.outputBytesHigh` and one reply.
final class QueryReceiver: ConnectionHandler, SessionOwner {
    /// Input waiting for its turn above which no more is read.
    private static let pendingInputMax = 64 * 1024

    private let session: Session
    private unowned let connection: Connection
    /// The peer has ended its stream: what it sent is still answered, then the connection closes.
    private var hasEnded = false

    init(actor: QueryActor, connection: Connection) {
        self.connection = connection
        session = Session(
            actor: actor, peer: connection.peerAddress?.description ?? "",
            local: connection.localAddress?.description ?? "",
            descriptor: Int(connection.descriptor))
        super.init()
        session.owner = self
    }

    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        session.actor.beginTurn(connection.loop)
        let state = session.actor.state
        let output = connection.output
        let before = output.pointee.count
        let status = session.receive(bytes, output: output, unsent: connection.unsentBytes &- before)
        state.pointee.bytesReceived &+= bytes.count
        state.pointee.bytesSent &+= output.pointee.count &- before
        settle(status)
    }

    func sessionShouldRun() { run() }

    override func drained(_ connection: Connection) { run() }

    private func run() {
        guard !connection.isClosing else { return }
        session.actor.beginTurn(connection.loop)
        let output = connection.output
        let before = output.pointee.count
        let status = session.run(output: output, unsent: connection.unsentBytes - before)
        session.actor.state.pointee.bytesSent &+= output.pointee.count - before
        settle(status)
        connection.outputMayHaveGrown()
    }

    private func settle(_ status: SessionStatus) {
        switch status {
        case .idle:
            if connection.isReadingPaused { connection.resumeReading() }
            if hasEnded { connection.close(afterFlush: true) }
        case .ready:
            session.actor.enqueue(session)
            if session.pendingInput > QueryReceiver.pendingInputMax { connection.pauseReading() }
        case .blocked:
            connection.pauseReading()
            connection.notifyWhenDrained()
        case .closing:
            connection.close(afterFlush: true)
        }
        if connection.unsentBytes > Limits.outputBytesMax { connection.close() }
    }

    override func ended(_ connection: Connection) {
        hasEnded = true
        if !session.state.pointee.isWaiting { run() }
    }

    func sessionStalled() { connection.close() }

    /// The server is going down: what has been answered is still sent.
    func finish() { connection.close(afterFlush: true) }

    override func closed(_ connection: Connection) {
        session.close()
        session.actor.context.clientLeft()
    }
}
