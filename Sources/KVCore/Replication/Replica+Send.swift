// The one frame to each other server. Part of `Replica`; on its actor's thread.

import KVBase

/// A segment of own writes made in this round, and its bytes if a server waits for it.
struct OwnSegment {
    var segment: DeltaSegment
    var section: EncodedSection?
}

/// A block of a frame: a section encoded before, or these bytes of `entryBuffer`.
struct PendingBlock {
    var block: Block
    var start: Int
    var count: Int
    var section: EncodedSection?
}

extension Replica {
    /// Own writes looked up in one go for a server that stands elsewhere than the siblings.
    static let catchUpDotsMax = 16 * 1024
    static let reportEveryMillis: Millis = 1_000
    /// Without progress for this long the server's next actor becomes the gateway.
    static let failoverMillis: Millis = 1_000
    static let holeRepeatMillis: Millis = 210
    /// What the other machine has had for so long and its server has not taken goes again.
    static let deliveredMillisMax: Millis = 10_000

    func mayCarryData(_ server: RemoteServer, _ at: Moment) -> Bool {
        server.isContacted && !server.isSuspect(at.steady, config.suspectMillis)
            && server.bytesInFlight < config.unackedBytesMax
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
            if store.ownSeq > server.sent || !server.repairs.isEmpty { return token }
            // While anything is not acknowledged, empty frames tell how far the stream goes.
            if !isConnected, server.sent > server.tops[own] { return token }
        }
        if let asker, asker.source == server.id { return token }
        var wanted = min(server.wantedAt, last + config.keepAliveMillis)
        if hasHole(server) { wanted = min(wanted, last + Replica.holeRepeatMillis) }
        return max(token, wanted)
    }

    /// A chunk or a large value waits to be sent.
    private func wantsBulk(_ server: RemoteServer, _ at: Moment) -> Bool {
        if let donor = server.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) { return true }
        return mayCarryData(server, at) && server.large.contains { $0.number == 0 }
    }

    /// What goes into one frame.
    private struct Load {
        var lane = FrameLane.live
        var pending: [PendingBlock] = []
        var chunk: ScanDonor?
    }

    func send(to server: RemoteServer, _ at: Moment, into effects: inout ReplicaEffects) {
        checkTimeout(server, at)
        entryBuffer.count = 0
        let index = gateway(of: server, at)
        guard let load = load(server, index, at) else {
            // The chunk is for another of its actors than may be addressed now.
            return server.pacer.sent(at.steady)
        }
        var blocks: [(Block, [UnsafeRawBufferPointer])] = []
        for item in load.pending {
            let own = UnsafeRawBufferPointer(rebasing: entryBuffer.bytes[item.start..<(item.start + item.count)])
            blocks.append((item.block, item.section?.runs ?? [own]))
        }
        if let donor = load.chunk { blocks.append(chunkBlock(donor, server)) }
        var writer = FrameWriter(buffer: frameBuffer, table: origins)
        writer.head(head(for: server, index, at), cluster: config.clusterId)
        for (block, runs) in blocks { writer.block(block, runs: runs) }
        let frame = finish(writer, load, to: ActorUID(server: server.id, index: UInt16(index)), server, at)
        load.chunk?.sent(at: at.steady)
        server.pacer.sent(at.steady)
        if load.lane == .live { server.wantedAt = .max }
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(frame.byteCount)
        effects.frames.append(frame)
        if isLeaving, members.row(uid.server)?.status == .left {
            leftFramesSent += 1
            if leftFramesSent >= servers.count(where: { isLinked($0) }) { noteLeft() }
        }
    }

    private func chunkBlock(_ donor: ScanDonor, _ server: RemoteServer) -> (Block, [UnsafeRawBufferPointer]) {
        let isLate = config.bugs.contains(.vectorAtScanEnd) && donor.isLast
        if config.bugs.contains(.stateBeforeVector), donor.building == 0 { donor.start = shown(vector, to: server) }
        let start = isLate ? shown(vector, to: server) : donor.start
        let head = ChunkHead(
            session: donor.session, number: donor.building, isLast: donor.isLast, everything: donor.everything,
            start: start, frontier: donor.isLast ? frontier : VersionVector())
        statistics.entriesSent &+= UInt64(donor.encoder.count)
        let block = Block(kind: .chunk(head), count: donor.encoder.count, millisMax: donor.encoder.millisMax)
        return (block, [donor.encoded.bytes])
    }

    private func finish(
        _ writer: FrameWriter, _ load: Load, to: ActorUID, _ server: RemoteServer, _ at: Moment
    ) -> OutgoingFrame {
        var writer = writer
        defer { entryBuffer.count = 0 }
        if isConnected { note(load, server, at) }
        if writer.byteCount < FrameSlice.bytes {
            let (bytes, buffer) = writer.finish()
            frameBuffer = buffer
            return OutgoingFrame(to: to, lane: load.lane, session: server.link.session, bytes: bytes)
        }
        var buffers = [entryBuffer]
        if let donor = load.chunk { buffers.append(donor.takeEncoded()) }
        let seal = writer.seal(holding: load.pending.compactMap(\.section), buffers)
        frameBuffer = OutputBuffer(capacity: Replica.bufferBytes)
        entryBuffer = OutputBuffer(capacity: Replica.bufferBytes)
        return OutgoingFrame(to: to, lane: load.lane, session: server.link.session, seal: seal)
    }

    /// Numbers the frame on its connection, for what is in it.
    private func note(_ load: Load, _ server: RemoteServer, _ at: Moment) {
        let number = server.link.handOver(load.lane, at.steady)
        for i in server.inFlight.indices where server.inFlight[i].number == 0 {
            server.inFlight[i].lane = load.lane
            server.inFlight[i].number = number
        }
        guard load.lane == .bulk, load.chunk == nil else { return }
        if let i = server.large.firstIndex(where: { $0.number == 0 }) { server.large[i].number = number }
    }

    /// What goes out now: fresh writes and answers, with a chunk where that takes no time; else they take turns, each
    /// in its lane. Nil if nothing may.
    private func load(_ server: RemoteServer, _ index: Int, _ at: Moment) -> Load? {
        var load = Load()
        let limits = limits(of: server)
        let chunk = server.donor.flatMap { donor in
            donor.isReady(unackedBytesMax: config.unackedBytesMax) && donor.askerIndex == index ? donor : nil
        }
        let chunkBytes = chunk?.encoded.count ?? 0
        server.large.removeAll { $0.to <= server.reach[own] }
        let hasLarge = isConnected && mayCarryData(server, at) && server.large.contains { $0.number == 0 }
        let isBulkFree = isFree(server, .bulk)
        let isLiveFree = isFree(server, .live)
        // Chunks keep their order: none goes in the other lane while one waits in this.
        let isBulkEmpty = !isConnected || server.link.isEmpty(.bulk)
        let mustPart = isConnected && (hasLarge || chunk != nil && (chunkBytes > limits.quickBytes || !isBulkEmpty))
        if mustPart, isBulkFree, server.isBulkNext || !isLiveFree || liveDue(server, .min, at) > at.steady {
            server.isBulkNext = false
            load.lane = .bulk
            if hasLarge, largeSection(server, at, &load.pending) { return load }
            if chunk != nil {
                load.chunk = chunk
                return load
            }
            load.lane = .live
        }
        guard isLiveFree else { return nil }
        let isChunkTurn = !isConnected && chunk != nil && server.isBulkNext
        if mayCarryData(server, at), !isChunkTurn {
            ownSection(server, limits, at, &load.pending)
            answerRepairs(server, limits, at, &load.pending)
        }
        let entryBytes = load.pending.reduce(0) { $0 + ($1.section?.byteCount ?? $1.count) }
        // Large deltas and a chunk take turns, so that neither starves and the frame keeps its bound.
        let fits =
            entryBytes == 0 && !isConnected
            || entryBytes + chunkBytes <= min(config.frameBytesMax, isConnected ? limits.quickBytes : .max)
        if chunk != nil, fits, isBulkEmpty { load.chunk = chunk }
        server.isBulkNext = chunk != nil && load.chunk == nil || server.large.contains { $0.number == 0 }
        return load
    }

    /// The first large interval that waits. False if there is nothing to send of it.
    private func largeSection(_ server: RemoteServer, _ at: Moment, _ pending: inout [PendingBlock]) -> Bool {
        while let place = server.large.firstIndex(where: { $0.number == 0 }) {
            let owed = server.large[place]
            guard owed.from + 1 >= store.journalFirstSeq else {
                // A scan will bring it.
                server.large.remove(at: place)
                continue
            }
            let segment = ownSegment(from: owed.from, to: owed.to, bytesMax: .max, largeBytes: .max)
            let bytes = encode(segment, &pending)
            server.inFlight.append(
                InFlight(
                    from: segment.from, to: segment.to, at: at.steady, bytes: bytes, isRepeat: false, lane: .bulk))
            discard(segment)
            return true
        }
        return false
    }

    /// The one actor of a server that frames go to: who asked for a scan while it asks, else one by our own index.
    private func gateway(of server: RemoteServer, _ at: Moment) -> Int {
        var asker: Int?
        let freshMillis = isConnected ? config.suspectMillis : config.keepAliveMillis
        if let donor = server.donor, at.steady - donor.lastAskAt < freshMillis {
            asker = donor.askerIndex % server.actorCount
        }
        let donor = self.asker.flatMap { $0.source == server.id ? $0.donorIndex % server.actorCount : nil }
        if let asker, let donor, asker != donor {
            server.isAskNext.toggle()
            return server.isAskNext ? donor : asker
        }
        if let index = asker ?? donor { return index }
        return (config.actorIndex + server.shift) % server.actorCount
    }

    /// Goes back to what is acknowledged when that is overdue, and tries the server's next actor as gateway.
    private func checkTimeout(_ server: RemoteServer, _ at: Moment) {
        if isConnected, !config.bugs.contains(.resendOnLivingLink) { return checkDelivered(server, at) }
        let top = server.tops[own]
        if server.sent < top { server.sent = top }
        guard let oldest = server.inFlight.first, !server.isSuspect(at.steady, config.suspectMillis),
            !config.bugs.contains(.keepAliveWithoutHead)
        else { return }
        let waited = at.steady - server.waitingSince
        // Without another gateway there is nothing but to wait: what was sent before a cut may be old, but what was
        // sent since is on its way.
        let isStuck = server.actorCount > 1 && waited >= max(Replica.failoverMillis, server.patienceMillis)
        guard at.steady - oldest.at >= server.timeoutMillis || isStuck else { return }
        statistics.timeouts += 1
        server.lossSeenAt = at.steady
        server.backoff += 1
        server.inFlight.removeAll()
        server.previousBytes = 0
        if isStuck {
            server.waitingSince = at.steady
            server.shift += 1
            statistics.gatewayFailovers += 1
            if config.bugs.contains(.gatewayChangeResets) {
                // What the former gateway was sent counts as acknowledged.
                server.tops.raise(own, to: server.sent)
                server.reach.raise(own, to: server.sent)
                return
            }
        }
        server.sent = top
    }

    /// A connection loses nothing while it lives. But a server may not get to what its machine received, or drop it
    /// for want of room: then its next actor becomes the gateway, and what is not acknowledged goes again.
    private func checkDelivered(_ server: RemoteServer, _ at: Moment) {
        let top = server.tops[own]
        if server.sent < top { server.sent = top }
        guard let oldest = server.inFlight.first, let deliveredAt = oldest.deliveredAt,
            !server.isSuspect(at.steady, config.suspectMillis)
        else { return }
        let waited = at.steady - max(deliveredAt, server.waitingSince)
        // None of its actors may get to it for long: each time it waits twice as long.
        let patience = max(Replica.failoverMillis, server.patienceMillis) << Millis(min(server.backoff, 5))
        // Another of its actors was heard meanwhile: it is this one that does not get to it, and not all of them.
        let isAlive = at.steady - (server.heardAt ?? 0) < waited - Replica.failoverMillis / 2
        let isStuck = server.actorCount > 1 && isAlive && waited >= patience
        guard isStuck || waited >= max(patience, Replica.deliveredMillisMax) else { return }
        statistics.timeouts += 1
        server.backoff += 1
        server.inFlight.removeAll()
        server.waitingSince = at.steady
        if isStuck {
            server.shift += 1
            statistics.gatewayFailovers += 1
        }
        server.sent = top
        server.large.removeAll { $0.from >= top }
    }

    private func ownSection(
        _ server: RemoteServer, _ limits: FrameLimits, _ at: Moment, _ pending: inout [PendingBlock]
    ) {
        while ownSection(server, limits, from: server.sent, at, &pending) {}
    }

    /// True if a large interval was set apart and what comes after it may follow.
    private func ownSection(
        _ server: RemoteServer, _ limits: FrameLimits, from fresh: UInt64, _ at: Moment,
        _ pending: inout [PendingBlock]
    ) -> Bool {
        var from = fresh
        if !isConnected, let loss = server.lossSeenAt, at.steady - loss < RemoteServer.lossMemoryMillis,
            server.previousBytes > 0,
            server.previousBytes < RemoteServer.redundantBytesMax, server.previousFrom < from,
            server.previousFrom >= server.tops[own]
        {
            from = server.previousFrom
            statistics.redundantSections += 1
        }
        server.previousBytes = 0
        guard from < roundTarget else { return false }
        if from + 1 < store.journalFirstSeq, !config.bugs.contains(.journalCutPastAck) {
            statistics.journalOverruns += 1
            from = store.journalFirstSeq - 1
            server.sent = max(server.sent, from)
            guard from < roundTarget else { return false }
        }
        let own: OwnSegment
        if let shared = ownSegments.first(where: { $0.segment.from == from && limits.allow($0.segment) }) {
            own = shared
        } else {
            let segment = ownSegment(
                from: from, to: roundTarget, bytesMax: limits.sectionBytes, largeBytes: limits.largeBytes)
            own = OwnSegment(segment: segment, section: nil)
            discard(own.segment)
        }
        let segment = own.segment
        guard segment.to > from else { return false }
        if segment.largestBytes > limits.largeBytes {
            // In order, once too many of them wait.
            guard server.large.count < RemoteServer.largeMax else { return false }
            server.large.append(LargeInterval(from: segment.from, to: segment.to))
            server.sent = max(server.sent, segment.to)
            return true
        }
        let bytes: Int
        if let section = own.section {
            bytes = append(segment, section, &pending)
        } else {
            bytes = encode(segment, &pending)
        }
        if server.inFlight.isEmpty && server.backoff == 0 { server.waitingSince = at.steady }
        server.inFlight.append(
            InFlight(
                from: segment.from, to: segment.to, at: at.steady, bytes: bytes,
                isRepeat: segment.from < server.sent || server.backoff > 0))
        server.sent = max(server.sent, segment.to)
        // A repetition alone is not repeated again.
        server.previousFrom = fresh
        server.previousBytes = fresh < server.sent ? bytes : 0
        return false
    }

    func ownSegment(from: UInt64, to: UInt64, bytesMax: Int, largeBytes: Int) -> DeltaSegment {
        var builder = SegmentBuilder(
            from: from, target: to, bytesMax: bytesMax,
            dotsMax: min(Replica.catchUpDotsMax, config.dotsPerSegmentMax), largeBytes: largeBytes)
        while !builder.isFinished { _ = builder.advance(store, budget: Replica.catchUpDotsMax, bugs: config.bugs) }
        return builder.finish(origin: own, cut: vector)
    }

    /// Encodes a section into `entryBuffer`; returns its bytes.
    @discardableResult
    func encode(_ segment: DeltaSegment, _ pending: inout [PendingBlock]) -> Int {
        let start = entryBuffer.count
        var encoder = EntryEncoder()
        for entry in segment.entries { encoder.encode(entry.record, origins, into: &entryBuffer) }
        let count = entryBuffer.count - start
        statistics.entriesSent &+= UInt64(encoder.count)
        let kind = BlockKind.section(origin: segment.origin, from: segment.from, to: segment.to)
        let block = Block(kind: kind, count: encoder.count, millisMax: encoder.millisMax)
        pending.append(PendingBlock(block: block, start: start, count: count, section: nil))
        return count + 16
    }

    /// The same for a section that is encoded already.
    private func append(_ segment: DeltaSegment, _ section: EncodedSection, _ pending: inout [PendingBlock]) -> Int {
        statistics.entriesSent &+= UInt64(section.count)
        let kind = BlockKind.section(origin: segment.origin, from: segment.from, to: segment.to)
        let block = Block(kind: kind, count: section.count, millisMax: section.millisMax)
        pending.append(PendingBlock(block: block, start: 0, count: 0, section: section))
        return section.byteCount + 16
    }

    private func answerRepairs(
        _ server: RemoteServer, _ limits: FrameLimits, _ at: Moment, _ pending: inout [PendingBlock]
    ) {
        while !server.repairs.isEmpty, entryBuffer.count < min(config.frameBytesMax / 2, limits.sectionBytes) {
            let ask = server.repairs.removeFirst()
            if ask.origin == own {
                guard ask.from + 1 >= store.journalFirstSeq, ask.from < store.ownSeq,
                    !server.isSentAgain(ask.from, at.steady)
                else { continue }
                let segment = ownSegment(
                    from: ask.from, to: min(ask.to, store.ownSeq), bytesMax: limits.sectionBytes,
                    largeBytes: limits.largeBytes)
                guard segment.to > ask.from else { continue }
                if segment.largestBytes > limits.largeBytes {
                    if server.large.count < RemoteServer.largeMax,
                        !server.large.contains(where: { $0.from == segment.from })
                    {
                        server.large.append(LargeInterval(from: segment.from, to: segment.to))
                        server.large.sort { $0.from < $1.from }
                    }
                    discard(segment)
                    continue
                }
                encode(segment, &pending)
                discard(segment)
                server.lastRepair = (ask, at.steady)
                for i in server.inFlight.indices {
                    server.inFlight[i].at = at.steady
                    server.inFlight[i].isRepeat = true
                }
                statistics.repairsAnswered += 1
            } else {
                relayRecent(ask, &pending)
            }
        }
    }

    /// Passes on another writer's interval: the keys of the segment as merged, each with its winner now.
    private func relayRecent(_ ask: RepairAsk, _ pending: inout [PendingBlock]) {
        var position = ask.from
        var limit = 64
        while position < ask.to, limit > 0, entryBuffer.count < config.frameBytesMax / 2,
            let segment = recent.first(where: { $0.origin == ask.origin && $0.from <= position && $0.to > position })
        {
            var entries = DeltaEntries()
            for entry in segment.entries {
                guard let winner = store.find(HashedKey(entry.record, hash: entry.hash)) else {
                    continue
                }
                entries.append(entry.hash, winner.retained())
                if entries.payloadBytes > config.frameBytesMax / 2 { break }
            }
            // The winners of now may be far larger than what the segment held, and it cannot be cut: leave that to a
            // scan.
            guard entries.payloadBytes <= config.frameBytesMax / 2 else {
                entries.clear()
                return
            }
            encode(
                DeltaSegment(
                    origin: segment.origin, from: segment.from, to: segment.to, isPage: false, cut: vector,
                    taking: entries.take()), &pending)
            position = segment.to
            limit -= 1
            statistics.repairsRelayed += 1
        }
    }

    private func head(for server: RemoteServer, _ index: Int, _ at: Moment) -> FrameHead {
        var head = FrameHead()
        head.sender = uid
        head.toServer = server.id
        head.steady = at.steady
        head.wall = at.wall
        if server.echo != 0 {
            head.echo = server.echo
            head.echoHold = at.steady - server.echoAt
        }
        head.vector = shown(vector, to: server)
        head.digest = digest
        head.floor =
            config.bugs.contains(.floorMissingFromBootstrap)
            ? 0 : siblings.reduce(store.gcFloor) { max($0, $1.floor) }
        head.sentTo = isConnected ? server.sentGapless : server.sent
        if let donor = server.donor, !donor.isOutgrown, donor.askerIndex == index { head.serving = donor.session }
        if config.bugs.contains(.keepAliveWithoutHead) {
            head.sentTo = 0
            head.vector.set(own, server.tops[own])
        }
        head.islands = islands
        head.rowsHash = members.hash
        if server.rowsHash != members.hash { head.rows = members.rows }
        let isReportDue = server.reportSentAt.map { at.steady - $0 >= Replica.reportEveryMillis } ?? true
        if isReportDue, let report = report(to: server, at) {
            head.report = report
            server.reportSentAt = at.steady
        }
        head.asks = asks(for: server, at)
        if asker?.donorIndex == index { head.scanAsk = scanAsk(asker, of: server.id) }
        head.isSettled = isSettled
        return head
    }
}
