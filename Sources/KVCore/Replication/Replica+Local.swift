// Deltas made from own writes, and the exchange with sibling actors by reference. Part of `Replica`; on its actor's
// thread.

import KVBase

extension Replica {
    // MARK: Rounds

    /// When something is due, own writes so far are put into segments first, in slices; then everything due goes out.
    func openRound(_ at: Moment) {
        let isDue =
            siblings.contains { due($0, at) <= at.steady } || servers.contains { due($0, at) <= at.steady }
        guard isDue else { return }
        isRoundOpen = true
        roundTarget = store.ownSeq
        startSegment(at.steady)
    }

    /// The next round may bring a server own writes.
    private func mayTake(_ server: RemoteServer) -> Bool {
        server.isContacted && isLinked(server) && isFree(server, .live)
    }

    private func startSegment(_ steady: Millis) {
        let from: UInt64
        var limits = FrameLimits(config)
        if !siblings.isEmpty {
            from = loggedTo
        } else if let server = servers.first(where: { mayTake($0) && $0.sent < roundTarget }) {
            from = server.sent
            limits = self.limits(of: server)
        } else {
            return
        }
        guard from < roundTarget else { return }
        builder = SegmentBuilder(
            from: from, target: roundTarget, bytesMax: limits.sectionBytes, dotsMax: config.dotsPerSegmentMax,
            largeBytes: limits.largeBytes, encodes: servers.contains { mayTake($0) && $0.sent == from })
    }

    /// Returns the writes looked at; `builder` is nil once all segments of the round are made.
    func advanceRound(budget: Int) -> Int {
        var left = budget
        while left > 0, builder != nil {
            left -= builder!.advance(store, budget: left, bugs: config.bugs)
            guard builder!.isFinished else { continue }
            let isOverrun = builder!.isOverrun
            if builder!.reached > builder!.from {
                let segment = builder!.finish(origin: own, cut: vector)
                ownSegments.append(OwnSegment(segment: segment, section: builder!.takeSection()))
                if !siblings.isEmpty { offerToSiblings(.delta(segment)) }
                if segment.from == loggedTo { loggedTo = segment.to }
            } else {
                builder!.abandon()
            }
            builder = nil
            if isOverrun {
                statistics.journalOverruns += 1
                loggedTo = max(loggedTo, store.journalFirstSeq - 1)
            }
            if !siblings.isEmpty, loggedTo < roundTarget { startSegment(0) }
        }
        return budget - left
    }

    func closeRound(_ at: Moment, into effects: inout ReplicaEffects) {
        isRoundOpen = false
        for sibling in siblings where due(sibling, at) <= at.steady { send(to: sibling, at, into: &effects) }
        for server in servers where due(server, at) <= at.steady { send(to: server, at, into: &effects) }
        // Kept only while several servers may stand at the same position: they hold on to superseded values.
        for own in ownSegments { discard(own.segment) }
        ownSegments.removeAll()
    }

    /// Writes whose journal entries are kept although nobody needs them: a server that comes soon is told them without
    /// a scan. Half a MiB.
    static let journalKeptAlone: UInt64 = 64 * 1024

    /// Forgets the journal of a server without peers, which has nobody to send it to; a server that joins later copies
    /// everything. To be called now and then. O(entries forgotten / 1024).
    package func trimJournal() {
        guard servers.isEmpty, !isJoining, isCaughtUp else { return }
        let needed = siblings.isEmpty ? store.ownSeq : min(loggedTo, store.ownSeq)
        if needed > Replica.journalKeptAlone { store.trimJournal(through: needed - Replica.journalKeptAlone) }
    }

    // MARK: Sending

    func due(_ sibling: Sibling, _ at: Moment) -> Millis {
        let token = sibling.pacer.earliest(spacing)
        if store.ownSeq > loggedTo || log.last > sibling.acked { return token }
        if let donor = sibling.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) { return token }
        let keepAlive = sibling.pacer.lastSent.map { $0 + config.keepAliveMillis } ?? .min
        let wanted = localAsker?.source == UInt64(sibling.index) ? token : sibling.wantedAt
        return max(token, min(wanted, keepAlive))
    }

    private func send(to sibling: Sibling, _ at: Moment, into effects: inout ReplicaEffects) {
        let (first, items) = log.items(after: sibling.acked)
        var chunk: LocalChunk?
        if let donor = sibling.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) {
            let isLate = config.bugs.contains(.vectorAtScanEnd) && donor.isLast
            let start = isLate ? shown(vector, to: sibling) : donor.start
            chunk = LocalChunk(
                session: donor.session, number: donor.building, isLast: donor.isLast, start: start, frontier: frontier,
                page: DeltaSegment(
                    origin: own, from: 0, to: 0, isPage: true, cut: donor.start, taking: donor.entries.take()))
            donor.sent(at: at.steady)
        }
        let saysFlushed = isLeaving && isFlushed(at)
        if saysFlushed { hasSaidFlushed = true }
        let batch = LocalBatch(
            fromIndex: config.actorIndex, vector: shown(vector, to: sibling), digest: digest, floor: store.gcFloor,
            firstItem: first, items: items, ackedItem: sibling.applied, news: servers.map(news), rowsHash: members.hash,
            rows: sibling.rowsHash == members.hash ? [] : members.rows, asks: sibling.asks,
            scanAsk: scanAsk(localAsker, of: UInt64(sibling.index)), scanChunk: chunk,
            isFlushed: saysFlushed, isSettled: isSettled, hasGreeted: hasGreeted(at), level: levelHere(),
            retired: retiredMarks.sorted())
        sibling.asks.removeAll()
        sibling.sentTo = log.last
        sibling.pacer.sent(at.steady)
        sibling.wantedAt = .max
        statistics.batchesSent &+= 1
        statistics.localBytesSent &+= UInt64(batch.wireBytes)
        statistics.entriesSent &+= UInt64(batch.entryCount)
        effects.batches.append(OutgoingBatch(toIndex: sibling.index, batch: batch))
    }

    private func news(_ server: RemoteServer) -> ServerNews {
        ServerNews(
            server: server.id, heardAt: server.heardAt, reach: server.reach, tops: server.tops, report: server.report,
            offset: server.offset, offsetAt: server.offsetAt, roundTrip: server.roundTrip,
            announcedTo: server.announcedTo, scanStart: server.donor?.start)
    }

    // MARK: Receiving

    /// A sibling's batch arrived.
    package func receive(_ batch: LocalBatch, _ at: Moment, into effects: inout ReplicaEffects) {
        guard let sibling = sibling(batch.fromIndex) else { return }
        statistics.batchesReceived &+= 1
        sibling.isHeard = true
        sibling.isFlushed = batch.isFlushed
        sibling.hasGreeted = batch.hasGreeted
        sibling.level = batch.level
        sibling.retired = batch.retired
        sibling.floor = max(sibling.floor, batch.floor)
        for i in 0..<min(sibling.vector.count, batch.vector.count)
        where sibling.vector.seqs[i] == VersionVector.retired {
            // It may have taken a retired server up again.
            sibling.vector.set(OriginIndex(i), batch.vector.seqs[i])
        }
        sibling.vector.join(batch.vector)
        if sibling.rowsHash != batch.rowsHash {
            sibling.rowsHash = batch.rowsHash
            if batch.rowsHash != members.hash { sibling.wantedAt = min(sibling.wantedAt, at.steady) }
        }
        for row in batch.rows { learnTrusted(row, at, into: &effects) }
        if !isCaughtUp { adoptFloor(batch.floor, from: 1, at, into: &effects) }
        sibling.acked = max(sibling.acked, min(batch.ackedItem, log.last))
        log.drop(through: siblings.reduce(UInt64.max) { min($0, $1.acked) }, discard)
        for news in batch.news {
            hear(news, at)
            // Whoever heard the server took over its floor before it told of it.
            if isCaughtUp, let server = server(news.server), isNewlyMet(server, at) {
                adoptFloor(batch.floor, from: server.reach[own] + 1, at, into: &effects)
            }
        }
        for forwarded in batch.asks {
            if let server = server(forwarded.server) { answer(forwarded.ask, to: server, at) }
        }
        take(batch, from: sibling, at)
        if let ask = batch.scanAsk { serve(ask, to: sibling, at) }
        compareDigests(with: sibling, batch, at, into: &effects)
        workOnLittle(at, into: &effects)
        scheduleNext(at)
    }

    private func take(_ batch: LocalBatch, from sibling: Sibling, _ at: Moment) {
        if !batch.items.isEmpty {
            sibling.wantedAt = min(sibling.wantedAt, at.steady)
            guard inboxBytes < config.inboxBytesMax else { return }
            if batch.firstItem > sibling.enqueued + 1 {
                // Items it could not keep any longer for this slow reader: vectors tell what is missing.
                sibling.jumped = batch.firstItem
                statistics.gapsSeen += 1
                sibling.enqueued = batch.firstItem - 1
            }
            var number = batch.firstItem
            for item in batch.items {
                if number > sibling.enqueued {
                    enqueue(.local(item, from: sibling.index, number: number, done: 0, isRefused: false))
                    sibling.enqueued = number
                }
                number += 1
            }
        }
        if let chunk = batch.scanChunk, localAsker?.source == UInt64(sibling.index),
            localAsker?.session == chunk.session,
            localAsker?.queued == chunk.number
        {
            localAsker!.queued += 1
            localAsker!.lastProgress = at.steady
            enqueue(.localChunk(chunk, from: sibling.index, done: 0, isRefused: false))
        }
    }

    /// What a sibling knows about a server.
    private func hear(_ news: ServerNews, _ at: Moment) {
        guard let server = server(news.server) else { return }
        if let heard = news.heardAt {
            server.heardAt = max(server.heardAt ?? heard, heard)
            contact(server, news.reach, scanStart: news.scanStart, at)
        }
        for (origin, to) in news.announcedTo { server.announced(origin, to) }
        server.reach.join(news.reach)
        server.tops.join(news.tops)
        if let report = news.report, report.stamp > server.report?.stamp ?? .min { server.report = report }
        if news.offsetAt > server.offsetAt {
            server.offset = news.offset
            server.offsetAt = news.offsetAt
            server.roundTrip = news.roundTrip
        }
        server.acknowledged(server.tops[own], at.steady)
    }

    /// First word from a server: from where on it is sent own writes.
    func contact(
        _ server: RemoteServer, _ vector: VersionVector, scanStart: VersionVector? = nil, _ at: Moment
    ) {
        guard !server.isContacted else { return }
        server.isContacted = true
        server.contactedAt = at.steady
        server.reach.join(vector)
        server.tops.join(vector)
        let known = server.reach[own]
        if isConnected, let scanStart {
            // A scan brings it everything up to there. The latest writes go ahead: somebody may wait for them.
            let start = min(scanStart[own], store.ownSeq)
            server.sent = max(known, latest(upTo: start), server.sent)
            return
        }
        // A newcomer fetches what is old by a scan; the stream gives it what is new.
        let isNew = members.row(server.id)?.status == .joining && isLong(since: known)
        server.sent = max(isNew ? store.ownSeq : known, isConnected ? server.sent : 0)
    }

    /// The write after which the latest ones up to `start` are few and small.
    private func latest(upTo start: UInt64) -> UInt64 {
        let first = max(store.journalFirstSeq, start - min(start, Replica.latestDotsMax) + 1)
        var seq = start
        var bytes = 0
        while seq >= first {
            store.records(store.journalHash(seq)) { bytes += $0.keyCount + $0.valueCount }
            if bytes > Replica.latestBytesMax { break }
            seq -= 1
        }
        return seq
    }

    /// What was written after `known` is better fetched by the scan alone.
    private func isLong(since known: UInt64) -> Bool {
        let writes = store.ownSeq - min(known, store.ownSeq)
        if writes > Replica.historyDotsMax { return true }
        let records = store.count + store.tombstoneCount
        guard isConnected, records > 0 else { return false }
        return min(Int(writes), records) * (store.recordBytes / records) > Replica.historyBytesMax
    }

    /// Own writes that are streamed to a newcomer although a scan will bring them too: where it is not known how far a
    /// scan goes, and where it is. Bytes count only over connections, whose lines may be thin.
    static let historyDotsMax: UInt64 = 4096
    static let historyBytesMax = 64 * 1024
    static let latestDotsMax: UInt64 = 64
    static let latestBytesMax = 16 * 1024
}
