// The connection side of a query port: moves bytes between a socket, its session and the shard's batch. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Accepts clients for one shard.
final class QueryAcceptor: Acceptor {
    private let shard: Shard

    init(shard: Shard) { self.shard = shard }

    override func accepted(_ connection: Connection) -> ConnectionHandler? {
        guard shard.context.admitClient() else {
            connection.output.pointee.error("ERR max number of clients reached")
            return nil
        }
        guard shard.context.mayEnter(from: connection.peerAddress) else {
            connection.output.pointee.error(ServerContext.protectedReply)
            shard.context.clientLeft()
            return nil
        }
        shard.beginTurn(connection.loop)
        return QueryReceiver(shard: shard, connection: connection)
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
    private let shard: Shard
    /// The connection owns its handler, so it is there whenever the handler is called. Borrowed, never retained: at one
    /// request a turn the counting alone would be a hundredth of the request.
    private let link: Unmanaged<Connection>
    /// The peer has ended its stream: what it sent is still answered, then the connection closes.
    private var hasEnded = false

    init(shard: Shard, connection: Connection) {
        (self.shard, link) = (shard, Unmanaged.passUnretained(connection))
        session = Session(
            shard: shard, peer: connection.peerAddress?.description ?? QueryReceiver.ofPath(shard),
            local: connection.localAddress?.description ?? QueryReceiver.ofPath(shard),
            descriptor: Int(connection.descriptor))
        super.init()
        session.owner = self
    }

    /// As Redis shows who came by the file system.
    private static func ofPath(_ shard: Shard) -> String { shard.context.config.socketPath.map { "\($0):0" } ?? "" }

    /// The client has proved what it can with TLS.
    override func secured(_ connection: Connection) {
        shard.beginTurn(connection.loop)
        session.secured(
            certificateName: shard.context.config.tls.userName.flatMap {
                connection.peerCertificateName(isURI: $0 == .uri)
            })
    }

    // The usual way: Batch.swift has all of it.

    /// Parses at once and, in the usual case, answers later, together with what other connections received.
    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        let state = shard.state
        if shard.batch.isEmpty { shard.beginTurn(connection.loop) }
        state.pointee.counters.bytesReceived &+= bytes.count
        guard session.mayParseAhead, !state.pointee.budget.isSpent, !shard.mustWaitForMemory(session)
        else { return receivedMore(connection, bytes) }
        let run = session.parseAhead(bytes)
        if !shard.batch.append(self, bytes, run) { shard.answerReceived() }
    }

    /// Answers what was parsed ahead. `keys`: how many there are. Who adds keys waits if the turn has done enough by
    /// now.
    @inline(__always)
    func answer(_ segment: BatchSegment, keys: inout Int) {
        if session.state.pointee.isAdding, shard.state.pointee.budget.isSpent {
            session.postpone(segment.bytes)
            return link._withUnsafeGuaranteedRef { settle($0, .ready) }
        }
        let before = shard.state.pointee.store.ownSeq
        link._withUnsafeGuaranteedRef { connection in
            fillOutput(connection) { session.answerAhead(segment, output: $0, unsent: $1) }
            connection.outputMayHaveGrown()
        }
        if shard.state.pointee.store.ownSeq != before { wrote() }
        shard.noteAdding(session, keys: &keys)
    }

    /// Bytes for a session that is in the middle of something, or in a turn that has done its work: then they wait.
    private func receivedMore(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        shard.answerReceived()
        if shard.state.pointee.budget.isSpent || shard.mustWaitForMemory(session) { shard.enqueue(session) }
        fillOutputTracked(connection) { session.receive(bytes, output: $0, unsent: $1) }
        if session.pendingInput >= Shard.heldInputWatchedBytes { shard.boundInput() }
    }

    // Later turns.

    func sessionShouldRun() { link._withUnsafeGuaranteedRef { giveTurn($0) } }

    override func drained(_ connection: Connection) { giveTurn(connection) }

    private func giveTurn(_ connection: Connection) {
        shard.answerReceived()
        guard !connection.isClosing, !session.state.pointee[.unsaved] else { return }
        shard.beginTurn(connection.loop)
        connection.expectMuchOutput()
        fillOutputTracked(connection) { session.takeTurn(output: $0, unsent: $1) }
        connection.outputMayHaveGrown()
    }

    /// Lets the session work on its output, told how much of earlier output is unsent, and does what it asks for then.
    @inline(__always)
    private func fillOutput(
        _ connection: Connection, _ work: (UnsafeMutablePointer<OutputBuffer>, Int) -> SessionStatus
    ) {
        let output = connection.output
        let before = output.pointee.count
        let status = work(output, connection.unsentBytes &- before)
        shard.state.pointee.counters.bytesSent &+= output.pointee.count &- before
        settle(connection, status)
    }

    /// The same of a session that is asked then whether it wrote.
    private func fillOutputTracked(
        _ connection: Connection, _ work: (UnsafeMutablePointer<OutputBuffer>, Int) -> SessionStatus
    ) {
        let before = shard.state.pointee.store.ownSeq
        fillOutput(connection, work)
        if shard.state.pointee.store.ownSeq != before { wrote() }
    }

    /// Its replies wait for the log, where that does not write before they leave.
    @inline(never)
    private func wrote() {
        guard let log = shard.log, log.isHelped else { return }
        hold(for: log)
    }

    private func hold(for log: ActorLog) {
        guard !session.state.pointee[.unsaved] else { return }
        session.state.pointee[.unsaved] = true
        link._withUnsafeGuaranteedRef { connection in
            connection.hold()
            log.keepWaiting(self, connection)
        }
    }

    /// Whatever it was answered in this turn waits for the log, also where the connection ends behind it.
    func holdIfAnswered(for log: ActorLog) {
        if link._withUnsafeGuaranteedRef({ $0.output.pointee.count > 0 }) { hold(for: log) }
    }

    /// What it was answered is on the disk. The connection may have closed meanwhile.
    func saved(_ connection: Connection) {
        session.state.pointee[.unsaved] = false
        guard session.state.pointee.place >= 0 else { return }
        connection.letGo()
        if session.hasWork || hasEnded {
            shard.enqueue(session)
        } else if connection.isReadingPaused {
            connection.resumeReading()
        }
    }

    /// What it was answered in this turn is on no disk, and may never be: the client must not hear it.
    func closeIfAnswered() {
        link._withUnsafeGuaranteedRef { connection in if connection.output.pointee.count > 0 { connection.close() } }
    }

    @inline(__always)
    private func settle(_ connection: Connection, _ status: SessionStatus) {
        if case .idle = status {
            if connection.isReadingPaused { connection.resumeReading() }
            if hasEnded { connection.close(afterFlush: true) }
        } else {
            settleUnusual(connection, status)
        }
        if connection.unsentBytes > Limits.outputBytesMax { closeForOutput(connection) }
    }

    private func closeForOutput(_ connection: Connection) {
        if !connection.isClosing {
            shard.context.closedClients.note(.leavesOutput, peer: session.state.pointee.peer)
        }
        connection.close()
    }

    private func settleUnusual(_ connection: Connection, _ status: SessionStatus) {
        switch status {
        case .idle: break
        case .ready:
            shard.enqueue(session)
            if session.pendingInput > QueryReceiver.pendingInputMax { connection.pauseReading() }
        case .blocked:
            session.block()
            if !session.state.pointee.readsOn || session.pendingInput > Limits.commandBytesMax {
                connection.pauseReading()
            }
            connection.notifyWhenDrained()
        case .suspended:
            if session.pendingInput > QueryReceiver.pendingInputMax { connection.pauseReading() }
        case .closing:
            connection.close(afterFlush: true)
        }
    }

    // What the shard wants of the connection.

    var sessionUnsentBytes: Int { link._withUnsafeGuaranteedRef { $0.unsentBytes } }

    var sessionOutputBytes: Int { link._withUnsafeGuaranteedRef { $0.outputCapacity } }

    func sessionTold(_ bytes: UnsafeRawBufferPointer) {
        link._withUnsafeGuaranteedRef { connection in
            guard !connection.isClosing else { return }
            connection.output.pointee.append(bytes)
            connection.outputMayHaveGrown()
        }
        shard.state.pointee.counters.bytesSent &+= bytes.count
    }

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

    /// The server is going down: what has been answered is still sent, and what other actors are asked to run.
    func finish() {
        if session.continuation?.isElsewhere ?? false {
            hasEnded = true
        } else {
            link._withUnsafeGuaranteedRef { $0.close(afterFlush: true) }
        }
    }

    // The end.

    override func ended(_ connection: Connection) {
        shard.answerReceived()
        hasEnded = true
        if !session.state.pointee.isWaiting { giveTurn(connection) }
    }

    override func closed(_ connection: Connection) {
        shard.answerReceived()
        session.close()
        shard.context.clientLeft()
    }
}
