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

    func mayCarryData(_ server: RemoteServer, _ at: Moment) -> Bool {
        server.isContacted && !server.isSuspect(at.steady, config.suspectMillis)
            && server.bytesInFlight < config.unackedBytesMax
    }

    func due(_ server: RemoteServer, _ at: Moment) -> Millis {
        let token = server.pacer.earliest(spacing)
        guard let last = server.pacer.lastSent else { return token }
        if mayCarryData(server, at) {
            if store.ownSeq > server.sent || !server.repairs.isEmpty { return token }
            // While anything is not acknowledged, empty frames tell how far the stream goes.
            if server.sent > server.tops[own] { return token }
        }
        if let donor = server.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) { return token }
        if let asker, asker.source == server.id { return token }
        var wanted = min(server.wantedAt, last + config.keepAliveMillis)
        if hasHole(server) { wanted = min(wanted, last + Replica.holeRepeatMillis) }
        return max(token, wanted)
    }

    func send(to server: RemoteServer, _ at: Moment, into effects: inout ReplicaEffects) {
        checkTimeout(server, at)
        var blocks: [(Block, [UnsafeRawBufferPointer])] = []
        entryBuffer.count = 0
        var pending: [PendingBlock] = []
        let index = gateway(of: server, at)
        let donor = server.donor
        let hasChunk = donor.map {
            $0.isReady(unackedBytesMax: config.unackedBytesMax) && $0.askerIndex == index
        } ?? false
        if mayCarryData(server, at), !(hasChunk && server.isChunkNext) {
            ownSection(server, at, &pending)
            answerRepairs(server, at, &pending)
        }
        var entryBytes = 0
        for item in pending {
            let own = UnsafeRawBufferPointer(rebasing: entryBuffer.bytes[item.start..<(item.start + item.count)])
            blocks.append((item.block, item.section?.runs ?? [own]))
            entryBytes += item.section?.byteCount ?? item.count
        }
        // Large deltas and a chunk take turns, so that neither starves and the frame keeps its bound.
        let fits = entryBytes == 0 || entryBytes + (donor?.encoded.count ?? 0) <= config.frameBytesMax
        let carriesChunk = hasChunk && fits
        server.isChunkNext = hasChunk && !fits
        if let donor, carriesChunk {
            let isLate = config.bugs.contains(.vectorAtScanEnd) && donor.isLast
            let start = isLate ? shown(vector, to: server) : donor.start
            let head = ChunkHead(
                session: donor.session, number: donor.building, isLast: donor.isLast, everything: donor.everything,
                start: start, frontier: donor.isLast ? frontier : VersionVector())
            let block = Block(kind: .chunk(head), count: donor.encoder.count, millisMax: donor.encoder.millisMax)
            blocks.append((block, [donor.encoded.bytes]))
            statistics.entriesSent &+= UInt64(donor.encoder.count)
        }
        var writer = FrameWriter(buffer: frameBuffer, table: origins)
        writer.head(head(for: server, index, at), cluster: config.clusterId)
        for (block, runs) in blocks { writer.block(block, runs: runs) }
        let to = ActorUID(server: server.id, index: UInt16(index))
        let frame: OutgoingFrame
        if writer.byteCount < FrameSlice.bytes {
            let (bytes, buffer) = writer.finish()
            frame = OutgoingFrame(to: to, bytes: bytes)
            frameBuffer = buffer
        } else {
            var buffers = [entryBuffer]
            if let donor, carriesChunk { buffers.append(donor.takeEncoded()) }
            frame = OutgoingFrame(to: to, seal: writer.seal(holding: pending.compactMap(\.section), buffers))
            frameBuffer = OutputBuffer(capacity: Replica.bufferBytes)
            entryBuffer = OutputBuffer(capacity: Replica.bufferBytes)
        }
        entryBuffer.count = 0
        if let donor, carriesChunk { donor.sent(at: at.steady) }
        server.pacer.sent(at.steady)
        server.wantedAt = .max
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(frame.byteCount)
        effects.frames.append(frame)
        if isLeaving, members.row(uid.server)?.status == .left {
            leftFramesSent += 1
            if leftFramesSent >= servers.count { noteLeft() }
        }
    }

    /// The one actor of a server that frames go to: who asked for a scan while it asks, else one by our own index.
    private func gateway(of server: RemoteServer, _ at: Moment) -> Int {
        var asker: Int?
        if let donor = server.donor, at.steady - donor.lastAskAt < config.keepAliveMillis {
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

    private func ownSection(_ server: RemoteServer, _ at: Moment, _ pending: inout [PendingBlock]) {
        let fresh = server.sent
        var from = fresh
        if let loss = server.lossSeenAt, at.steady - loss < RemoteServer.lossMemoryMillis, server.previousBytes > 0,
            server.previousBytes < RemoteServer.redundantBytesMax, server.previousFrom < from,
            server.previousFrom >= server.tops[own]
        {
            from = server.previousFrom
            statistics.redundantSections += 1
        }
        server.previousBytes = 0
        guard from < roundTarget else { return }
        if from + 1 < store.journalFirstSeq, !config.bugs.contains(.journalCutPastAck) {
            statistics.journalOverruns += 1
            from = store.journalFirstSeq - 1
            server.sent = max(server.sent, from)
            guard from < roundTarget else { return }
        }
        let own: OwnSegment
        if let shared = ownSegments.first(where: { $0.segment.from == from }) {
            own = shared
        } else {
            own = OwnSegment(segment: ownSegment(from: from, to: roundTarget), section: nil)
            discard(own.segment)
        }
        let segment = own.segment
        guard segment.to > from else { return }
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
    }

    private func ownSegment(from: UInt64, to: UInt64) -> DeltaSegment {
        var builder = SegmentBuilder(
            from: from, target: to, bytesMax: config.frameBytesMax / 4 * 3,
            dotsMax: min(Replica.catchUpDotsMax, config.dotsPerSegmentMax))
        while !builder.isFinished { _ = builder.advance(store, budget: Replica.catchUpDotsMax, bugs: config.bugs) }
        return builder.finish(origin: own, cut: vector)
    }

    /// Encodes a section into `entryBuffer`; returns its bytes.
    @discardableResult
    private func encode(_ segment: DeltaSegment, _ pending: inout [PendingBlock]) -> Int {
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

    private func answerRepairs(_ server: RemoteServer, _ at: Moment, _ pending: inout [PendingBlock]) {
        while !server.repairs.isEmpty, entryBuffer.count < config.frameBytesMax / 2 {
            let ask = server.repairs.removeFirst()
            if ask.origin == own {
                guard ask.from + 1 >= store.journalFirstSeq, ask.from < store.ownSeq,
                    !server.isSentAgain(ask.from, at.steady)
                else { continue }
                let segment = ownSegment(from: ask.from, to: min(ask.to, store.ownSeq))
                guard segment.to > ask.from else { continue }
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
                guard let winner = store.find(entry.record.keyPointer, entry.record.keyCount, entry.hash) else {
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
        head.sentTo = server.sent
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
