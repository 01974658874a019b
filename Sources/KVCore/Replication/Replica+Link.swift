// Connections to other servers: which stands, what it carries, the first word over it. Part of `Replica`; on its
// actor's thread.

import KVBase

/// A connection over which a greeting went before it was known whose it is, and up to which own write.
struct GreetedLink {
    var session: UInt64
    var at: Millis
    var to: UInt64
}

extension Replica {
    /// Greetings, and connections of servers that are not known yet, that are remembered.
    private static let linksRememberedMax = 1024
    private static let behindDotsMin: UInt64 = 16 * 1024
    private static let greetingBytesMax = 64 * 1024
    /// How long nothing is collected while somebody who was sent own writes has not said who it is.
    static let greetingHoldMillis: Millis = 60_000
    /// A newcomer's first answer waits so long for the first chunk of what it asked for.
    static let firstChunkMillis: Millis = 20

    var isConnected: Bool { config.transport == .connections }

    func isLinked(_ server: RemoteServer) -> Bool { !isConnected || server.link.isUp }

    /// Whether a frame may be handed over in this lane.
    func isFree(_ server: RemoteServer, _ lane: FrameLane) -> Bool { !isConnected || server.link.isFree(lane) }

    func limits(of server: RemoteServer) -> FrameLimits {
        guard isConnected else { return FrameLimits(config) }
        // Far behind, few keys may stand for many writes, and each section brings each of its keys once.
        let isBehind = store.ownSeq > server.sent + Replica.behindDotsMin
        return FrameLimits(server.link, isBehind: isBehind, config)
    }

    /// A connection stands: whatever is known may be said at once. `session` counts connections; frames made from now
    /// on are for this one. If another one stood, it gave way to this one without loss. Remembered for a server that
    /// is not known yet.
    package func linkUp(_ id: UInt64, session: UInt64 = 0, _ at: Moment) {
        guard let server = server(id) else {
            standing.removeAll { $0.server == id }
            standing.append((id, session))
            if standing.count > Replica.linksRememberedMax { standing.removeFirst() }
            return
        }
        take(session, for: server, at)
        cachedDeadline = min(cachedDeadline, server.pacer.earliest(spacing))
    }

    private func take(_ session: UInt64, for server: RemoteServer, _ at: Moment) {
        guard !isConnected || server.link.session != session else { return }
        let greeting = greeted.first { $0.session == session }
        greeted.removeAll { $0.session == session }
        server.link.up(session, greeted: greeting == nil ? 0 : 1)
        if let greeting {
            if !config.bugs.contains(.paceById) { server.pacer.sent(greeting.at) }
            server.sent = max(server.sent, greeting.to)
        }
        // Their numbers counted on another connection, which delivers them.
        for i in server.inFlight.indices { server.inFlight[i].deliveredAt = at.steady }
        for i in server.large.indices where server.large[i].number != 0 { server.large[i].number = .max }
        server.wantedAt = at.steady
    }

    /// A server became known whose connection stands already.
    func takeStanding(_ server: RemoteServer, _ at: Moment) {
        guard let place = standing.firstIndex(where: { $0.server == server.id }) else { return }
        take(standing.remove(at: place).session, for: server, at)
    }

    /// The connection is lost with what was under way on it: that need not be waited for. `session` 0 means any.
    package func linkDown(_ id: UInt64, session: UInt64 = 0, _ at: Moment) {
        standing.removeAll { $0.server == id && (session == 0 || $0.session == session) }
        guard let server = server(id) else { return }
        if isConnected, session != 0, server.link.session != session { return }
        server.link.down(at.steady)
        server.sent = min(server.sent, max(server.tops[own], server.reach[own]))
        server.large.removeAll { $0.from >= server.sent }
        for i in server.large.indices { server.large[i].number = 0 }
        server.inFlight.removeAll()
        server.lossSeenAt = at.steady
        server.donor?.linkBroke()
        if asker?.source == 0 { asker = nil }
    }

    /// Frames of this actor left the connection or reached the other machine.
    package func linkMoved(_ id: UInt64, _ progress: LinkProgress, _ at: Moment) {
        guard let server = server(id) else { return }
        let before = server.link.isAllDelivered(.bulk)
        guard server.link.moved(progress, at.steady) else { return }
        // Where a message really left is what the limit of messages a second counts.
        if progress.begunAt > server.pacer.lastSent ?? .min { server.pacer.sent(progress.begunAt) }
        for i in server.inFlight.indices where server.inFlight[i].deliveredAt == nil {
            let flight = server.inFlight[i]
            if server.link.isDelivered(flight.lane, flight.number) { server.inFlight[i].deliveredAt = at.steady }
        }
        if !before, server.link.isAllDelivered(.bulk) { server.donor?.arrived(at: at.steady) }
        scheduleNext(at)
    }

    /// The first word to whoever is at an address of which nothing is known: rows, vector, own writes so far and, from
    /// the first actor of a newcomer, the request for everything. To be sent over `session`, a connection that stands,
    /// to the first actor there (`to` has server 0). Nil if there is nothing to say.
    package func greet(session: UInt64, _ at: Moment) -> OutgoingFrame? {
        guard isConnected, members.isMember(uid.server), !greeted.contains(where: { $0.session == session }) else {
            return nil
        }
        var head = FrameHead()
        head.sender = uid
        head.steady = at.steady
        head.wall = at.wall
        head.vector = vector
        head.digest = digest
        head.floor = siblings.reduce(store.gcFloor) { max($0, $1.floor) }
        head.rowsHash = members.hash
        head.rows = members.rows
        if isJoining, !isCaughtUp, config.actorIndex == 0, asker == nil, !isLeaving {
            // Whoever answers is the source.
            asker = ScanAsker(
                source: 0, session: nextSession, asked: VersionVector(), everything: false, completesJoin: true,
                lastProgress: at.steady, firstItem: log.last + 1)
            nextSession += 1
            statistics.scansAsked += 1
            head.scanAsk = scanAsk(asker, of: 0)
        }
        var writer = FrameWriter(buffer: frameBuffer, table: origins)
        var pending: [PendingBlock] = []
        entryBuffer.count = 0
        let to = greetingSection(&pending)
        head.sentTo = to
        writer.head(head, cluster: config.clusterId)
        for item in pending {
            writer.block(
                item.block,
                entries: UnsafeRawBufferPointer(rebasing: entryBuffer.bytes[item.start..<(item.start + item.count)]))
        }
        let (bytes, buffer) = writer.finish()
        frameBuffer = buffer
        entryBuffer.count = 0
        greeted.append(GreetedLink(session: session, at: at.steady, to: to))
        if greeted.count > Replica.linksRememberedMax { greeted.removeFirst() }
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(bytes.count)
        return OutgoingFrame(to: ActorUID(server: 0, index: 0), session: session, bytes: bytes)
    }

    /// Own writes went to somebody who is not known yet, and so is not asked before a tombstone is collected.
    func hasGreeted(_ at: Moment) -> Bool {
        greeted.contains { $0.to > 0 && at.steady - $0.at < Replica.greetingHoldMillis }
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
        guard var current = asker, current.source == 0, head.toServer != 0 else { return }
        guard head.serving == current.session else {
            // It does not, or not yet: the ordinary way is open.
            asker = nil
            return
        }
        current.source = head.sender.server
        current.donorIndex = Int(head.sender.index)
        current.isOfNewcomer = members.row(head.sender.server)?.status == .joining
        asker = current
    }
}
