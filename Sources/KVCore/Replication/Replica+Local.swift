// Deltas made from own writes, and the exchange with sibling actors by reference. Part of `Replica`; on its actor's
// thread.

package import KVBase

extension Replica {
    // MARK: Rounds

    /// When something is due, own writes so far are put into segments first, in slices; then everything due goes out.
    func openRound(_ at: Moment) {
        let isDue =
            siblings.contains { due($0, at) <= at.steady } || servers.contains { due($0, at) <= at.steady }
        guard isDue else { return }
        round.open(through: store.ownSeq)
        startSegment(at)
    }

    /// The next round may bring a server own writes.
    private func mayTake(_ server: RemoteServer) -> Bool {
        server.isContacted && isLinked(server) && isFree(server, .live)
    }

    /// The round's next segment is for the siblings.
    private var isForSiblings: Bool { !siblings.isEmpty && round.isLogBehind }

    /// The round brings this server own writes, and none of its segments begins where the server stands.
    private func lacksSegment(_ server: RemoteServer, _ at: Moment) -> Bool {
        let from = server.stream.sent
        return from < round.end && mayTake(server) && mayCarryData(server, at) && due(server, at) <= at.steady
            && !round.hasBegun(for: server.id) && round.segment(from: from, limits(of: server)) == nil
    }

    /// Begins the next segment of the round: for the siblings, then for servers that stand elsewhere. Few keys may
    /// stand for many writes, and only a segment over all of these brings each key once.
    private func startSegment(_ at: Moment) {
        if isForSiblings {
            let from = round.logged
            round.begin(
                from: from, FrameLimits(config), dotsMax: config.dotsPerSegmentMax,
                encodes: servers.contains { mayTake($0) && $0.stream.sent == from })
        } else if let server = servers.first(where: { lacksSegment($0, at) }) {
            skipLost(server, after: server.stream.sent)
            round.begin(
                from: server.stream.sent, limits(of: server), dotsMax: config.dotsPerSegmentMax, encodes: true,
                for: server.id)
        }
    }

    /// Returns the writes looked at; the round builds nothing more once all its segments are made.
    func advanceRound(budget: Int, _ at: Moment) -> Int {
        var left = budget
        while left > 0, round.isBuilding {
            let (looked, isFinished) = round.advance(store, budget: left, planted: planted)
            left -= looked
            guard isFinished else { continue }
            let wasForSiblings = isForSiblings
            let (segment, isOverrun) = round.take(store, cut: vector)
            if let segment, wasForSiblings { offerToSiblings(.delta(segment)) }
            if isOverrun { statistics.journalOverruns += 1 }
            startSegment(at)
        }
        return budget - left
    }

    func closeRound(_ at: Moment, into effects: inout ReplicaEffects) {
        round.close()
        for sibling in siblings where due(sibling, at) <= at.steady { send(to: sibling, at, into: &effects) }
        for server in servers where due(server, at) <= at.steady { send(to: server, at, into: &effects) }
        // Kept only while several servers may stand at the same position: they hold on to superseded values.
        for own in round.takeMade() { discard(own.segment) }
    }

    /// Writes whose journal entries are kept although nobody needs them: a server that comes soon is told them without
    /// a scan. Half a MiB.
    static let journalKeptAlone: UInt64 = 64 * 1024

    /// Forgets the journal of a server without peers, which has nobody to send it to; a server that joins later copies
    /// everything. What is behind own write `logged` a log on the disk still lacks. To be called now and then.
    /// O(entries forgotten / 1024).
    package func trimJournal(logged: UInt64 = .max) {
        guard servers.isEmpty, !isJoining, isCaughtUp else { return }
        let needed = min(logged, siblings.isEmpty ? store.ownSeq : min(round.logged, store.ownSeq))
        if needed > Replica.journalKeptAlone { store.trimJournal(through: needed - Replica.journalKeptAlone) }
    }

    // MARK: Sending

    func due(_ sibling: Sibling, _ at: Moment) -> Millis {
        let token = sibling.pacer.earliest(spacing)
        if store.ownSeq > round.logged || log.last > sibling.stream.acked { return token }
        if let donor = sibling.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) { return token }
        let keepAlive = sibling.pacer.lastSent.map { $0 + config.keepAliveMillis } ?? .min
        let wanted = catchUp.asks(sibling: sibling.index) ? token : sibling.wish.at
        return max(token, min(wanted, keepAlive))
    }

    private func send(to sibling: Sibling, _ at: Moment, into effects: inout ReplicaEffects) {
        let (first, items) = log.items(after: sibling.stream.acked)
        var chunk: LocalChunk?
        if let donor = sibling.donor, donor.isReady(unackedBytesMax: config.unackedBytesMax) {
            let isLate = planted(.vectorAtScanEnd) && donor.isLast
            let start = isLate ? shown(vector, to: sibling) : donor.start
            chunk = LocalChunk(
                session: donor.session, number: donor.building, isLast: donor.isLast, start: start,
                frontier: collector.frontier,
                page: DeltaSegment(
                    origin: own, from: 0, to: 0, isPage: true, cut: donor.start, taking: donor.takeEntries()))
            donor.sent(at: at.steady)
        }
        let saysFlushed = leaving.hasBegun && isFlushed(at)
        if saysFlushed { leaving.noteSaidFlushed() }
        let batch = LocalBatch(
            fromIndex: config.actorIndex, vector: shown(vector, to: sibling), digest: comparedDigest,
            floor: store.gcFloor,
            firstItem: first, items: items, ackedItem: sibling.stream.appliedTo, news: servers.map(news),
            rowsHash: members.hash,
            rows: sibling.rowsHash == members.hash ? [] : members.rows,
            tellers: sibling.rowsHash == members.hash ? [] : members.tellers, votes: votes.all,
            asks: sibling.takeAsks(),
            scanAsk: scanAsk(catchUp.localAsker, of: UInt64(sibling.index)), scanChunk: chunk,
            isFlushed: saysFlushed, isSettled: isSettled(at), hasGreeted: links.isHoldingCollection(at.steady),
            isAdopting: departures.isAtIt(round.logged), level: levelHere(), retired: retired.sortedMarks,
            clock: corrected(at), sure: shown(sureVector, to: sibling), durable: durableSource?())
        sibling.pacer.sent(at.steady)
        sibling.wish.fulfil()
        statistics.batchesSent &+= 1
        statistics.localBytesSent &+= UInt64(batch.wireBytes)
        statistics.entriesSent &+= UInt64(batch.entryCount)
        effects.batches.append(OutgoingBatch(toIndex: sibling.index, batch: batch))
    }

    private func news(_ server: RemoteServer) -> ServerNews {
        ServerNews(
            server: server.id, heardAt: server.heardAt, tellingAt: server.hearing.tellingAt,
            seenGapless: server.seenGapless, seenAtMost: server.seenAtMost, report: server.report,
            offset: server.hearing.steadyOffset, offsetAt: server.hearing.offsetAt, roundTrip: server.hearing.roundTrip,
            announcedTo: server.view.announcedTo, scanStart: server.donor?.start)
    }

    // MARK: Receiving

    /// A sibling's batch arrived.
    package func receive(_ batch: LocalBatch, _ at: Moment, into effects: inout ReplicaEffects) {
        guard let sibling = sibling(batch.fromIndex) else { return }
        statistics.batchesReceived &+= 1
        if sibling.view.take(batch), batch.rowsHash != members.hash { sibling.wish.want(by: at.steady) }
        for (row, teller) in zip(batch.rows, batch.tellers) {
            learn(row, toldBy: teller, at, into: &effects)
        }
        for vote in batch.votes { votes.note(vote) }
        if !isCaughtUp { adoptFloor(batch.floor, from: 1, isOfSibling: true, at, into: &effects) }
        sibling.stream.acknowledge(batch.ackedItem, of: log.last)
        log.drop(through: siblings.reduce(UInt64.max) { min($0, $1.stream.acked) }, discard)
        for news in batch.news {
            hear(news, at)
            // Whoever heard the server took over its floor before it told of it.
            if isCaughtUp, let server = server(news.server), isNewlyMet(server, at) {
                adoptFloor(
                    batch.floor, from: server.seenGapless[own] + 1, isOfSibling: true, at, into: &effects)
            }
        }
        for forwarded in batch.asks {
            if let server = server(forwarded.server) { answer(forwarded.ask, to: server, at) }
        }
        take(batch, from: sibling, at)
        releaseHeld(at)
        if let ask = batch.scanAsk { serve(ask, to: sibling, at) }
        compareDigests(with: sibling, batch, at, into: &effects)
        workOnLittle(at, into: &effects)
        scheduleNext(at)
    }

    private func take(_ batch: LocalBatch, from sibling: Sibling, _ at: Moment) {
        if !batch.items.isEmpty {
            sibling.wish.want(by: at.steady)
            guard !inbox.isFull else { return }
            if sibling.stream.receive(from: batch.firstItem) { statistics.gapsSeen += 1 }
            var number = batch.firstItem
            for item in batch.items {
                if sibling.stream.queue(number) {
                    inbox.enqueue(.local(item, from: sibling.index, number: number, done: 0, isRefused: false))
                }
                number += 1
            }
        }
        if let chunk = batch.scanChunk, catchUp.queueLocal(chunk, from: sibling.index, at.steady) {
            inbox.enqueue(.localChunk(chunk, from: sibling.index, done: 0, isRefused: false))
        }
    }

    /// What a sibling knows about a server.
    private func hear(_ news: ServerNews, _ at: Moment) {
        guard let server = server(news.server) else { return }
        if let heard = news.heardAt {
            server.hearing.note(bySibling: heard)
            var its = news.seenGapless
            if its[own] > store.ownSeq { its.set(own, store.ownSeq) }
            contact(server, its, scanStart: news.scanStart, at)
        }
        for (origin, to) in news.announcedTo { server.view.announce(origin, to) }
        server.view.join(news.seenGapless, atMost: news.seenAtMost, own, atMost: store.ownSeq)
        server.view.take(news.report)
        server.hearing.note(news)
        server.stream.acknowledge(server.seenAtMost[own], at.steady)
    }

    /// First word from a server: from where on it is sent own writes.
    func contact(
        _ server: RemoteServer, _ vector: VersionVector, scanStart: VersionVector? = nil, _ at: Moment
    ) {
        guard !server.isContacted else { return }
        server.hearing.noteContact(at.steady)
        server.view.join(vector, atMost: vector)
        let known = server.seenGapless[own]
        if isConnected, let scanStart {
            // A scan brings it everything up to there. The latest writes go ahead: somebody may wait for them.
            let start = min(scanStart[own], store.ownSeq)
            return server.stream.begin(after: max(known, latest(upTo: start), server.stream.sent))
        }
        // A newcomer fetches what is old by a scan; the stream gives it what is new.
        let isNew = members.row(server.id)?.status == .joining && isLong(since: known)
        server.stream.begin(after: max(isNew ? store.ownSeq : known, isConnected ? server.stream.sent : 0))
    }

    /// The write after which the latest ones up to `start` are few and small.
    private func latest(upTo start: UInt64) -> UInt64 {
        let first = max(store.journalFirstSeq, start - min(start, Replica.latestDotsMax) + 1)
        var seq = start
        var bytes = 0
        while seq >= first {
            store.records(store.journalHash(seq)) { bytes += $0.keyCount + $0.contentCount }
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
