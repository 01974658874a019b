// The one frame to each other server. Part of `Replica`; on its actor's thread.

import KVBase

extension Replica {
    /// Own writes looked up in one go for a server that stands elsewhere than the siblings.
    static let catchUpDotsMax = 16 * 1024
    static let holeRepeatMillis: Millis = 210

    func mayCarryData(_ server: RemoteServer, _ at: Moment) -> Bool {
        server.isContacted && !server.isSuspect(at.steady, config.suspectMillis)
            && server.stream.bytesInFlight < config.unackedBytesMax
    }

    func due(_ server: RemoteServer, _ at: Moment) -> Millis {
        guard isLinked(server) else { return .max }
        let token = server.pacer.earliest(spacing)
        var due = Millis.max
        if isFree(server, .live) { due = liveDue(server, token, at) }
        if isFree(server, .bulk), wantsBulk(server, at) { due = min(due, token) }
        return due
    }

    private func liveDue(_ server: RemoteServer, _ token: Millis, _ at: Moment) -> Millis {
        // The first answer to a newcomer brings the first chunk.
        if isConnected, let donor = server.donor, donor.building == 0, donor.wantsWork {
            let end = donor.startedAt + Replica.firstChunkMillis
            if at.steady < end { return max(token, end) }
        }
        guard let last = server.pacer.lastSent else { return token }
        if mayCarryData(server, at) {
            if store.ownSeq > server.stream.sent || !server.repairs.isEmpty { return token }
            // While anything is not acknowledged, empty frames tell how far the stream goes.
            if !isConnected, server.stream.sent > server.seenAtMost[own] { return token }
        }
        if catchUp.asks(server: server.id) { return token }
        var wanted = min(server.wish.at, last + config.keepAliveMillis)
        if hasHole(server) { wanted = min(wanted, last + Replica.holeRepeatMillis) }
        return max(token, wanted)
    }

    /// A chunk or a large value waits to be sent.
    private func wantsBulk(_ server: RemoteServer, _ at: Moment) -> Bool {
        if let donor = server.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) { return true }
        return mayCarryData(server, at) && server.stream.isLargeWaiting
    }

    /// What goes into one frame.
    private struct Load {
        var lane = FrameLane.live
        var pending: [PendingBlock] = []
        var chunk: ScanDonor?
    }

    func send(to server: RemoteServer, _ at: Moment, into effects: inout ReplicaEffects) {
        checkTimeout(server, at)
        bench.begin()
        let index = gateway(of: server, at)
        guard let load = load(server, index, at) else {
            // The chunk is for another of its actors than may be addressed now.
            return server.pacer.sent(at.steady)
        }
        let chunk = load.chunk.map { (block: chunkBlock($0, server), donor: $0) }
        let made = bench.make(head(for: server, index, at), load.pending, chunk: chunk)
        if isConnected { note(load, server, at) }
        let to = ActorUID(server: server.id, index: UInt16(index))
        let session = server.link.session
        let frame =
            switch made {
            case .bytes(let bytes): OutgoingFrame(to: to, lane: load.lane, session: session, bytes: bytes)
            case .seal(let seal): OutgoingFrame(to: to, lane: load.lane, session: session, seal: seal)
            }
        load.chunk?.sent(at: at.steady)
        server.pacer.sent(at.steady)
        if load.lane == .live { server.wish.fulfil() }
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(frame.byteCount)
        effects.frames.append(frame)
        if leaving.hasBegun, members.row(uid.server)?.status == .left {
            leaving.noteGoodBye(of: servers.count { isLinked($0) })
        }
    }

    private func chunkBlock(_ donor: ScanDonor, _ server: RemoteServer) -> Block {
        let isLate = planted(.vectorAtScanEnd) && donor.isLast
        if planted(.stateBeforeVector), donor.building == 0 { donor.pretend(shown(vector, to: server)) }
        let start = isLate ? shown(vector, to: server) : donor.start
        let head = ChunkHead(
            session: donor.session, number: donor.building, isLast: donor.isLast, everything: donor.everything,
            percent: UInt8(donor.percent), start: start, frontier: donor.isLast ? collector.frontier : VersionVector())
        statistics.entriesSent &+= UInt64(donor.entryCount)
        return Block(kind: .chunk(head), count: donor.entryCount, millisMax: donor.millisMax)
    }

    /// Numbers the frame on its connection, for what is in it.
    private func note(_ load: Load, _ server: RemoteServer, _ at: Moment) {
        let number = server.link.handOver(load.lane, at.steady)
        server.stream.number(load.lane, number, isLarge: load.lane == .bulk && load.chunk == nil)
        if load.lane == .live { server.repairs.number(number) }
    }

    /// What goes out now: fresh writes and answers, with a chunk where that takes no time; else they take turns, each
    /// in its lane. Nil if nothing may.
    private func load(_ server: RemoteServer, _ index: Int, _ at: Moment) -> Load? {
        var load = Load()
        let limits = limits(of: server)
        let chunk = server.donor.flatMap { donor in
            donor.isReady(unackedBytesMax: config.unackedBytesMax) && donor.askerIndex == index ? donor : nil
        }
        let chunkBytes = chunk?.bytes.count ?? 0
        server.stream.dropLarge(through: server.seenGapless[own])
        let hasLarge = isConnected && mayCarryData(server, at) && server.stream.isLargeWaiting
        let isBulkFree = isFree(server, .bulk)
        let isLiveFree = isFree(server, .live)
        // Chunks keep their order: none goes in the other lane while one waits in this.
        let isBulkEmpty = !isConnected || server.link.isEmpty(.bulk)
        let mustPart = isConnected && (hasLarge || chunk != nil && (chunkBytes > limits.quickBytes || !isBulkEmpty))
        if mustPart, isBulkFree, server.turns.isBulkNext || !isLiveFree || liveDue(server, .min, at) > at.steady {
            server.turns.setBulkNext(false)
            load.lane = .bulk
            if hasLarge, largeSection(server, at, &load.pending) { return load }
            if chunk != nil {
                load.chunk = chunk
                return load
            }
            load.lane = .live
        }
        guard isLiveFree else { return nil }
        let isChunkTurn = !isConnected && chunk != nil && server.turns.isBulkNext
        if mayCarryData(server, at), !isChunkTurn {
            ownSection(server, limits, at, &load.pending)
            answerRepairs(server, limits, at, &load.pending)
        }
        let entryBytes = load.pending.reduce(0) { $0 + $1.byteCount }
        // Large deltas and a chunk take turns, so that neither starves and the frame keeps its bound.
        let fits =
            entryBytes == 0 && !isConnected
            || entryBytes + chunkBytes <= min(config.frameBytesMax, isConnected ? limits.quickBytes : .max)
        if chunk != nil, fits, isBulkEmpty { load.chunk = chunk }
        server.turns.setBulkNext(chunk != nil && load.chunk == nil || server.stream.isLargeWaiting)
        return load
    }

    /// The first large interval that waits. False if there is nothing to send of it.
    private func largeSection(_ server: RemoteServer, _ at: Moment, _ pending: inout [PendingBlock]) -> Bool {
        guard let owed = server.stream.nextLarge(journalFirst: store.journalFirstSeq) else { return false }
        let segment = ownSegment(from: owed.from, to: owed.to, bytesMax: .max, largeBytes: .max)
        server.stream.noteLarge(segment.from, segment.to, bytes: encode(segment, &pending), at.steady)
        discard(segment)
        return true
    }

    /// The one actor of a server that frames go to: who asked for a scan while it asks, else one by our own index.
    private func gateway(of server: RemoteServer, _ at: Moment) -> Int {
        var asker: Int?
        let freshMillis = isConnected ? config.suspectMillis : config.keepAliveMillis
        if let donor = server.donor, at.steady - donor.lastAskAt < freshMillis {
            asker = donor.askerIndex % server.actorCount
        }
        let donor = catchUp.asker.flatMap { $0.source == server.id ? $0.donorIndex % server.actorCount : nil }
        if let index = server.gateway.forScan(asker: asker, donor: donor) { return index }
        return server.gateway.usual(config.actorIndex, of: server.actorCount)
    }

    /// Goes back to what is acknowledged when that is overdue, and tries the server's next actor as gateway.
    private func checkTimeout(_ server: RemoteServer, _ at: Moment) {
        if isConnected, !planted(.resendOnLivingLink) { return checkDelivered(server, at) }
        let top = server.seenAtMost[own]
        server.stream.skip(to: top)
        guard !server.isSuspect(at.steady, config.suspectMillis), !planted(.keepAliveWithoutHead) else { return }
        let overdue = server.stream.overdue(at.steady, isOther: server.actorCount > 1)
        guard overdue != .no else { return }
        statistics.timeouts += 1
        let sent = server.stream.sent
        let isReset = overdue == .stuck && planted(.gatewayChangeResets)
        // What the former gateway was sent counts as acknowledged.
        if isReset { server.view.assume(own, sent) }
        server.stream.goBack(to: isReset ? sent : top, isStuck: overdue == .stuck, at.steady)
        if overdue == .stuck { passOver(server) }
    }

    /// The same over a connection: then the server's next actor becomes the gateway, and what is not acknowledged goes
    /// again.
    private func checkDelivered(_ server: RemoteServer, _ at: Moment) {
        let top = server.seenAtMost[own]
        server.stream.skip(to: top)
        guard !server.isSuspect(at.steady, config.suspectMillis) else { return }
        let overdue = server.stream.overdueDelivered(
            at.steady, heardAt: server.heardAt, isOther: server.actorCount > 1)
        guard overdue != .no else { return }
        statistics.timeouts += 1
        server.stream.goBackDelivered(to: top, at.steady)
        if overdue == .stuck { passOver(server) }
    }

    private func passOver(_ server: RemoteServer) {
        server.gateway.moveOn()
        statistics.gatewayFailovers += 1
    }

    private func ownSection(
        _ server: RemoteServer, _ limits: FrameLimits, _ at: Moment, _ pending: inout [PendingBlock]
    ) {
        while ownSection(server, limits, from: server.stream.sent, at, &pending) {}
    }

    /// True if a large interval was set apart and what comes after it may follow.
    private func ownSection(
        _ server: RemoteServer, _ limits: FrameLimits, from fresh: UInt64, _ at: Moment,
        _ pending: inout [PendingBlock]
    ) -> Bool {
        var (from, isRepeat) = server.stream.nextFrom(server.seenAtMost[own], repeats: !isConnected, at.steady)
        if isRepeat { statistics.redundantSections += 1 }
        guard from < round.end else { return false }
        var made = round.segment(from: from, limits)
        if made == nil, skipLost(server, after: from) {
            from = server.stream.sent
            guard from < round.end else { return false }
            made = round.segment(from: from, limits)
        }
        let own: OwnSegment
        if let made {
            own = made
        } else {
            let segment = ownSegment(
                from: from, to: round.end, bytesMax: limits.sectionBytes, largeBytes: limits.largeBytes)
            own = OwnSegment(segment: segment, section: nil)
            discard(own.segment)
        }
        let segment = own.segment
        guard segment.to > from else { return false }
        if segment.largestBytes > limits.largeBytes {
            return server.stream.setApart(segment.from, segment.to)
        }
        let bytes: Int
        if let section = own.section {
            bytes = append(segment, section, &pending)
        } else {
            bytes = encode(segment, &pending)
        }
        server.stream.noteSection(segment.from, segment.to, fresh: fresh, bytes: bytes, at.steady)
        return false
    }

    /// Goes on behind writes that the journal has lost, of which vectors will tell who lacks them. False if it has all
    /// after `from`.
    @discardableResult
    func skipLost(_ server: RemoteServer, after from: UInt64) -> Bool {
        guard from + 1 < store.journalFirstSeq, !planted(.journalCutPastAck) else { return false }
        statistics.journalOverruns += 1
        server.stream.skip(to: store.journalFirstSeq - 1)
        return true
    }

    func ownSegment(from: UInt64, to: UInt64, bytesMax: Int, largeBytes: Int) -> DeltaSegment {
        var builder = SegmentBuilder(
            from: from, target: to, bytesMax: bytesMax,
            dotsMax: min(Replica.catchUpDotsMax, config.dotsPerSegmentMax), largeBytes: largeBytes)
        while !builder.isFinished { _ = builder.advance(store, budget: Replica.catchUpDotsMax, planted: planted) }
        return builder.finish(origin: own, cut: vector)
    }

    /// Encodes a section; returns its bytes.
    @discardableResult
    func encode(_ segment: DeltaSegment, _ pending: inout [PendingBlock]) -> Int {
        let block = bench.encode(segment)
        statistics.entriesSent &+= UInt64(block.block.count)
        pending.append(block)
        return block.byteCount + 16
    }

    /// The same for a section that is encoded already.
    private func append(_ segment: DeltaSegment, _ section: EncodedSection, _ pending: inout [PendingBlock]) -> Int {
        statistics.entriesSent &+= UInt64(section.count)
        pending.append(bench.block(segment, section))
        return section.byteCount + 16
    }

    private func answerRepairs(
        _ server: RemoteServer, _ limits: FrameLimits, _ at: Moment, _ pending: inout [PendingBlock]
    ) {
        while bench.entryBytes < min(config.frameBytesMax / 2, limits.sectionBytes), let ask = server.repairs.next() {
            // The same may have been asked for with another end.
            if isAnswered(ask, to: server, at) { continue }
            if ask.origin == own {
                guard ask.from + 1 >= store.journalFirstSeq, ask.from < store.ownSeq,
                    !server.stream.isSentAgain(ask.from, at.steady)
                else { continue }
                let segment = ownSegment(
                    from: ask.from, to: min(ask.to, store.ownSeq), bytesMax: limits.sectionBytes,
                    largeBytes: limits.largeBytes)
                guard segment.to > ask.from else { continue }
                if segment.largestBytes > limits.largeBytes {
                    server.stream.setApartAgain(segment.from, segment.to)
                    discard(segment)
                    continue
                }
                encode(segment, &pending)
                discard(segment)
                noteAnswer(segment, to: server, at)
                server.stream.noteRepaired(at.steady)
                statistics.repairsAnswered += 1
            } else {
                relayRecent(ask, to: server, at, &pending)
            }
        }
    }

    /// Passes on another writer's interval. What does not fit is left to a scan.
    private func relayRecent(_ ask: RepairAsk, to server: RemoteServer, _ at: Moment, _ pending: inout [PendingBlock]) {
        let interval = recent.interval(
            ask.origin, after: ask.from, upTo: ask.to, in: store, cut: vector, bytesMax: config.frameBytesMax / 2)
        guard let interval else { return }
        encode(interval, &pending)
        noteAnswer(interval, to: server, at)
        statistics.repairsRelayed += 1
    }

    private func noteAnswer(_ segment: DeltaSegment, to server: RemoteServer, _ at: Moment) {
        server.repairs.noteAnswer(
            RepairAsk(origin: segment.origin, from: segment.from, to: segment.to),
            arrivedAt: isConnected ? nil : at.steady)
    }

    private func head(for server: RemoteServer, _ index: Int, _ at: Moment) -> FrameHead {
        var head = FrameHead()
        head.sender = uid
        head.toServer = server.id
        head.steady = at.steady
        head.wall = at.wall
        if let (echo, hold) = server.hearing.echo(at.steady) { (head.echo, head.echoHold) = (echo, hold) }
        head.vector = shown(vector, to: server)
        head.digest = comparedDigest
        head.floor =
            planted(.floorMissingFromBootstrap)
            ? 0 : siblings.reduce(store.gcFloor) { max($0, $1.floor) }
        head.sentTo = isConnected ? server.stream.sentGapless(server.link) : server.stream.sent
        if let donor = server.donor, !donor.isOutgrown, donor.askerIndex == index { head.serving = donor.session }
        if planted(.keepAliveWithoutHead) {
            head.sentTo = 0
            head.vector.set(own, server.seenAtMost[own])
        }
        head.islands = seen.islands
        head.rowsHash = members.hash
        if server.hearing.rowsHash != members.hash { head.rows = members.rows }
        if server.turns.isReportDue(at.steady), let report = report(to: server, at) {
            head.report = report
            server.turns.noteReport(at.steady)
        }
        head.asks = asks(for: server, at)
        if catchUp.asker?.donorIndex == index { head.scanAsk = scanAsk(catchUp.asker, of: server.id) }
        head.isSettled = isSettled(at)
        return head
    }
}
