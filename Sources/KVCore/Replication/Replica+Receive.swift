// Frames from other servers: what their head says is taken at once, their entries are queued. Part of `Replica`; on its
// actor's thread.

package import KVBase

extension Replica {
    /// A frame arrived, `crc` being what a `FrameCheck` says of it if there was one. `from` is the server at the other
    /// end of the connection, 0 where that is not known. If the verdict closes the link, nothing was changed by it.
    package func receive(
        frame bytes: [UInt8], crc: UInt32? = nil, from peer: UInt64 = 0, _ at: Moment,
        into effects: inout ReplicaEffects
    ) -> FrameVerdict {
        let head: FrameHead
        let blocks: [Block]
        switch decode(bytes, crc) {
        case .fault(let fault):
            return reject(fault)
        case .frame(let decodedHead, let decodedBlocks, _):
            (head, blocks) = (decodedHead, decodedBlocks)
        }
        if let fault = fault(of: head, blocks, from: peer, at) {
            if planted(.resetOfOldId), fault == .misaddressed { takeReset(of: head, at, into: &effects) }
            return reject(fault)
        }
        for block in blocks where block.millisMax > corrected(at) + SkewGuard.futureMillisNoted {
            statistics.futureStamps += 1
            futureStamps.note(nameOf(head))
        }
        statistics.framesReceived &+= 1
        statistics.remoteBytesReceived &+= UInt64(bytes.count)
        for row in head.rows { learn(row, from: head.sender.server, at, into: &effects) }
        if let row = members.row(head.sender.server), row.status >= .forgotten {
            answerOutcast(head.sender, at, into: &effects)
            return .forgotten
        }
        let server = server(head.sender.server)
        if let server { hear(head, from: server, at, into: &effects) }
        var verdict = FrameVerdict.accepted
        // One frame always fits, for a single value may be larger than the bound.
        if members.row(head.sender.server)?.status == .left {
            // It handed everything over before it left; a late frame must not teach one actor what the others never
            // learn.
        } else if !inbox.hasRoom(for: bytes.count) {
            statistics.framesOverloaded += 1
            verdict = .overloaded
        } else {
            for block in blocks { take(block, bytes, head, at) }
        }
        if !blocks.isEmpty { server?.wish.want(at: at.steady) }
        workOnLittle(at, into: &effects)
        if let server {
            if hasHole(server) { server.wish.want(by: at.steady) }
            compareDigests(with: server, head, at, into: &effects)
        }
        scheduleNext(at)
        return verdict
    }

    private func reject(_ fault: FrameFault) -> FrameVerdict {
        statistics.framesRejected += 1
        if fault == .clock || fault == .floor { statistics.clockRejects += 1 }
        return .rejected(fault)
    }

    /// Writers of servers that are not members yet count only if the frame's own rows make them members.
    private func decode(_ bytes: [UInt8], _ crc: UInt32?) -> FrameReader.Result {
        bytes.withUnsafeBytes { bytes in
            let first = FrameReader.decode(bytes, crc: crc, cluster: config.clusterId, origins, writers: knownWriters)
            guard case .frame(let head, _, isPartial: true) = first else { return first }
            let rows = head.rows.filter {
                members.row($0.server) == nil && members.hasRoom(forHearsay: $0, by: head.sender.server)
            }
            guard !rows.isEmpty || head.sender.server != 0 else { return first }
            let known = KnownWriters(sender: head.sender.server) { id in
                self.knownActors(id, else: rows.first { $0.server == id })
            }
            return FrameReader.decode(bytes, crc: crc, cluster: config.clusterId, origins, writers: known)
        }
    }

    /// Everybody whose row is here.
    var knownWriters: KnownWriters { KnownWriters(sender: 0) { self.knownActors($0, else: nil) } }

    private func knownActors(_ id: UInt64, else row: MemberRow?) -> Int {
        id == uid.server ? config.actorCount : (members.row(id) ?? row)?.actorCount ?? 0
    }

    /// What must not be believed, as a whole.
    private func fault(of head: FrameHead, _ blocks: [Block], from peer: UInt64, _ at: Moment) -> FrameFault? {
        if head.sender.server == uid.server { return .ownServer }
        if peer != 0, head.sender.server != peer { return .borrowed }
        // A greeting is for whoever is here.
        let isGreeting = head.toServer == 0
        if isGreeting ? !head.rows.contains(where: { $0.server == head.sender.server }) : head.toServer != uid.server {
            return .misaddressed
        }
        let latest = latestStamp(at)
        if blocks.contains(where: { $0.millisMax > latest }) { return .clock }
        return isImpossible(floor: head.floor, at) ? .floor : nil
    }

    /// How a server is called in what is counted.
    private func nameOf(_ head: FrameHead) -> Bytes {
        let id = head.sender.server
        guard let row = members.row(id) ?? head.rows.first(where: { $0.server == id }), row.name.count > 0 else {
            return Bytes(ActorUID.hex(id, 16))
        }
        return row.name
    }

    /// Takes over what the head says.
    private func hear(_ head: FrameHead, from server: RemoteServer, _ at: Moment, into effects: inout ReplicaEffects) {
        if server.isSuspect(at.steady, config.suspectMillis) { server.stream.restartWaiting(at.steady) }
        server.hearing.note(at.steady)
        if !head.rows.contains(where: { $0.server == uid.server && $0.status >= .forgotten }) {
            server.hearing.note(tellingAt: at.steady)
        }
        if server.hearing.noteRows(head.rowsHash), head.rowsHash != members.hash { server.wish.want(at: at.steady) }
        if !server.isContacted { server.wish.want(at: at.steady) }
        let asksForAll = isConnected && head.scanAsk != nil && isCaughtUp
        var its = head.vector
        // Nobody has more of this actor's writes than it made.
        if its[own] > store.ownSeq { its.set(own, store.ownSeq) }
        contact(server, its, scanStart: asksForAll ? shown(vector, to: server) : nil, at)
        bindAsker(head, at)
        if isConnected, !planted(.progressByMessages) { catchUp.noteServing(server.id, head.serving, at.steady) }
        server.hearing.note(head, at)
        let before = siblings.map { server.seenAtMost[$0.origin] }
        server.view.join(its, atMost: its)
        for island in head.islands where island.origin != own || island.to <= store.ownSeq { server.view.note(island) }
        for (sibling, top) in zip(siblings, before) where server.seenAtMost[sibling.origin] > top {
            sibling.wish.want(by: at.steady)
        }
        server.stream.acknowledge(server.seenAtMost[own], at.steady)
        if !isCaughtUp {
            adoptFloor(head.floor, from: 1, at, into: &effects)
        } else if isNewlyMet(server, at) {
            adoptFloor(head.floor, from: server.seenGapless[own] + 1, at, into: &effects)
        }
        server.view.take(head.report)
        if let origin = origins.intern(head.sender) { server.view.announce(origin, head.sentTo) }
        for ask in head.asks {
            // What it says that it has, it does not lack.
            if ask.from < head.vector[ask.origin] { statistics.asksRefused += 1 } else { answer(ask, to: server, at) }
        }
        // A newcomer that greets another one looks for somebody better first.
        if let ask = head.scanAsk, isCaughtUp || head.toServer != 0 {
            serve(ask, to: server, from: Int(head.sender.index), at)
        }
    }

    /// Queues a block for merging, if it can be of use.
    private func take(_ block: Block, _ bytes: [UInt8], _ head: FrameHead, _ at: Moment) {
        let cut: VersionVector
        switch block.kind {
        case .section(let origin, let from, let to):
            guard origin != OriginTable.unknown, origins.uid(origin).server != uid.server else { return }
            if seen.covers(origin, to) { return }
            let writer = origins.uid(origin).server
            // Its own vector says how far a server wrote.
            let isSaid = writer != head.sender.server || to <= head.vector[origin] || planted.breaksVectors
            guard isSaid, mayTell(head.sender.server, of: writer, at) else {
                statistics.relaysRefused += 1
                return
            }
            cut = head.vector
            if planted(.acknowledgeBeforeApply) { advance(origin, from, to) }
        case .chunk(let chunk):
            guard catchUp.queue(chunk, from: head.sender, any: planted(.stalePageAccepted), at.steady) else { return }
            cut = chunk.start
        }
        inbox.enqueue(.block(BlockWork(bytes: bytes, block: block, sender: head.sender, cut: cut)))
    }

    /// A server's writes come from itself. Others pass on those of a member that is silent here, which is asked for.
    private func mayTell(_ sender: UInt64, of writer: UInt64, _ at: Moment) -> Bool {
        if sender == writer { return true }
        guard let server = server(writer) else { return false }
        return server.isSuspect(at.steady, config.suspectMillis)
    }

    /// A server that was removed still talks: it is told so, at most once per keep-alive.
    private func answerOutcast(_ sender: ActorUID, _ at: Moment, into effects: inout ReplicaEffects) {
        guard outcasts.tell(sender.server, at: at.steady, every: config.keepAliveMillis) else { return }
        var head = FrameHead()
        head.sender = uid
        head.toServer = sender.server
        head.steady = at.steady
        head.wall = at.wall
        head.rowsHash = members.hash
        head.rows = members.rows
        guard case .bytes(let bytes) = bench.make(head, [], slices: false) else { return }
        statistics.framesSent &+= 1
        statistics.remoteBytesSent &+= UInt64(bytes.count)
        effects.frames.append(OutgoingFrame(to: sender, bytes: bytes))
    }
}
