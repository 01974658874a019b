// Connections to other servers: which stands, what it carries, the first word over it. Part of `Replica`; on its
// actor's thread.

package import KVBase

extension Replica {
    private static let behindDotsMin: UInt64 = 16 * 1024
    private static let greetingBytesMax = 64 * 1024
    /// A newcomer's first answer waits so long for the first chunk of what it asked for.
    static let firstChunkMillis: Millis = 20

    var isConnected: Bool { config.transport == .connections }

    func isLinked(_ server: RemoteServer) -> Bool { !isConnected || server.link.isUp }

    /// Whether a frame may be handed over in this lane. Behind one that has not left goes another one if the journal
    /// would lose writes before that.
    func isFree(_ server: RemoteServer, _ lane: FrameLane) -> Bool {
        if !isConnected || server.link.isFree(lane) { return true }
        return lane == .live && server.link.isAlmostFree(.live)
            && unsent(server) > UInt64(store.journalCapacity / 4 * 3)
    }

    /// Own writes that were not sent.
    private func unsent(_ server: RemoteServer) -> UInt64 {
        store.ownSeq - min(server.stream.sent, store.ownSeq)
    }

    func limits(of server: RemoteServer) -> FrameLimits {
        guard isConnected else { return FrameLimits(config) }
        // Far behind, few keys may stand for many writes, and each section brings each of its keys once.
        let unsent = unsent(server)
        let backlog: FrameLimits.Backlog =
            unsent > UInt64(store.journalCapacity / 4) ? .greatest : unsent > Replica.behindDotsMin ? .large : .usual
        return FrameLimits(server.link, backlog, config)
    }

    /// A connection stands: whatever is known may be said at once. `session` counts connections; frames made from now
    /// on are for this one. If another one stood, it gave way to this one without loss. Remembered for a server that
    /// is not known yet.
    package func linkUp(_ id: UInt64, session: UInt64 = 0, _ at: Moment) {
        guard let server = server(id) else { return links.note(id, session: session) }
        take(session, for: server, at)
        schedule.bringForward(to: server.pacer.earliest(spacing))
    }

    private func take(_ session: UInt64, for server: RemoteServer, _ at: Moment) {
        guard !isConnected || server.link.session != session else { return }
        let greeting = links.takeGreeting(session)
        server.link.up(session, greeted: greeting == nil ? 0 : 1)
        if let greeting {
            if !planted(.paceById) { server.pacer.sent(greeting.at) }
            server.stream.skip(to: greeting.to)
        }
        server.stream.moveToNewLink(at.steady)
        server.repairs.moveToNewLink(at.steady)
        server.wish.want(at: at.steady)
    }

    /// A server became known whose connection stands already.
    func takeStanding(_ server: RemoteServer, _ at: Moment) {
        if let session = links.take(server.id) { take(session, for: server, at) }
    }

    /// The connection is lost with what was under way on it: that need not be waited for. `session` 0 means any.
    package func linkDown(_ id: UInt64, session: UInt64 = 0, _ at: Moment) {
        links.lose(id, session: session)
        guard let server = server(id) else { return }
        if isConnected, session != 0, server.link.session != session { return }
        server.link.down(at.steady)
        server.stream.linkBroke(acknowledged: max(server.seenAtMost[own], server.seenGapless[own]), at.steady)
        server.repairs.linkBroke()
        server.donor?.linkBroke()
        if catchUp.asks(server: 0) { catchUp.drop() }
    }

    /// Frames of this actor left the connection or reached the other machine.
    package func linkMoved(_ id: UInt64, _ progress: LinkProgress, _ at: Moment) {
        guard let server = server(id) else { return }
        let before = server.link.isAllDelivered(.bulk)
        guard server.link.moved(progress, at.steady) else { return }
        // Where a message really left is what the limit of messages a second counts.
        if progress.begunAt > server.pacer.lastSent ?? .min { server.pacer.sent(progress.begunAt) }
        server.stream.noteDelivered(server.link, at.steady)
        server.repairs.noteDelivered(server.link, at.steady)
        if !before, server.link.isAllDelivered(.bulk) { server.donor?.arrived(at: at.steady) }
        scheduleNext(at)
    }

    /// The first word to whoever is at an address of which nothing is known: rows, vector, own writes so far and, from
    /// the first actor of a newcomer, the request for everything. To be sent over `session`, a connection that stands,
    /// to the first actor there (`to` has server 0). Nil if there is nothing to say.
    package func greet(session: UInt64, _ at: Moment) -> OutgoingFrame? {
        guard isConnected, members.isMember(uid.server), !links.isGreeted(session) else {
            return nil
        }
        var head = FrameHead()
        head.sender = uid
        head.steady = at.steady
        head.wall = at.wall
        head.vector = vector
        head.digest = comparedDigest
        head.floor = siblings.reduce(store.gcFloor) { max($0, $1.floor) }
        head.rowsHash = members.hash
        head.rows = members.rows
        if isJoining, !isCaughtUp, config.actorIndex == 0, !catchUp.isAsking, !leaving.hasBegun {
            // Whoever answers is the source.
            catchUp.begin(
                0, asked: catchUp.known, everything: false, completesJoin: true, firstItem: log.last + 1, at.steady)
            statistics.scansAsked += 1
            head.scanAsk = scanAsk(catchUp.asker, of: 0)
        }
        var pending: [PendingBlock] = []
        bench.begin()
        let to = greetingSection(&pending)
        head.sentTo = to
        guard case .bytes(let bytes) = bench.make(head, pending, slices: false) else { return nil }
        links.noteGreeting(session, at: at.steady, to: to)
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(bytes.count)
        return OutgoingFrame(to: ActorUID(server: 0, index: 0), session: session, bytes: bytes)
    }

    /// A newcomer's first writes go along. Returns the last of them, or 0.
    private func greetingSection(_ pending: inout [PendingBlock]) -> UInt64 {
        guard isJoining, store.ownSeq > 0, store.journalFirstSeq <= 1 else { return 0 }
        let segment = ownSegment(
            from: 0, to: store.ownSeq, bytesMax: Replica.greetingBytesMax, largeBytes: Replica.greetingBytesMax / 2)
        guard segment.to > 0, segment.payloadBytes <= 2 * Replica.greetingBytesMax else {
            discard(segment)
            return 0
        }
        encode(segment, &pending)
        discard(segment)
        return segment.to
    }

    /// The scan asked for in a greeting is answered by whoever says that it serves it.
    func bindAsker(_ head: FrameHead, _ at: Moment) {
        guard let current = catchUp.asker, current.source == 0, head.toServer != 0 else { return }
        // It does not, or not yet: the ordinary way is open.
        guard head.serving == current.session else { return catchUp.drop() }
        catchUp.bind(head.sender, isOfNewcomer: members.row(head.sender.server)?.status == .joining)
    }
}
