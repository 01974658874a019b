// Frames from other servers: what their head says is taken at once, their entries are queued. Part of `Replica`; on its
// actor's thread.

package import KVBase

extension Replica {
    /// A frame arrived, `crc` being what a `FrameCheck` says of it if there was one. If the verdict closes the link,
    /// nothing was changed by it.
    package func receive(
        frame bytes: [UInt8], crc: UInt32? = nil, _ at: Moment, into effects: inout ReplicaEffects
    ) -> FrameVerdict {
        let decoded = bytes.withUnsafeBytes { FrameReader.decode($0, crc: crc, cluster: config.clusterId, origins) }
        let head: FrameHead
        let blocks: [Block]
        switch decoded {
        case .fault(let fault):
            return reject(fault)
        case .frame(let decodedHead, let decodedBlocks):
            (head, blocks) = (decodedHead, decodedBlocks)
        }
        if head.sender.server == uid.server { return reject(.ownServer) }
        // A greeting is for whoever is here.
        let isGreeting = head.toServer == 0
        if isGreeting ? !head.rows.contains(where: { $0.server == head.sender.server }) : head.toServer != uid.server {
            return reject(.misaddressed)
        }
        for block in blocks where block.millisMax > corrected(at) + SkewGuard.futureMillisNoted {
            statistics.futureStamps += 1
            if block.millisMax > SkewGuard.stampMax {
                statistics.clockRejects += 1
                return reject(.clock)
            }
        }
        statistics.framesReceived &+= 1
        statistics.remoteBytesReceived &+= UInt64(bytes.count)
        for row in head.rows { learn(row, at, into: &effects) }
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
        return .rejected(fault)
    }

    /// Takes over what the head says.
    private func hear(_ head: FrameHead, from server: RemoteServer, _ at: Moment, into effects: inout ReplicaEffects) {
        if server.isSuspect(at.steady, config.suspectMillis) { server.stream.restartWaiting(at.steady) }
        server.hearing.note(at.steady)
        if server.hearing.noteRows(head.rowsHash), head.rowsHash != members.hash { server.wish.want(at: at.steady) }
        if !server.isContacted { server.wish.want(at: at.steady) }
        let asksForAll = isConnected && head.scanAsk != nil && isCaughtUp
        contact(server, head.vector, scanStart: asksForAll ? shown(vector, to: server) : nil, at)
        bindAsker(head, at)
        if isConnected, !planted(.progressByMessages) { catchUp.noteServing(server.id, head.serving, at.steady) }
        server.hearing.note(head, at)
        let before = siblings.map { server.seenAtMost[$0.origin] }
        server.view.join(head.vector, atMost: head.vector)
        for island in head.islands { server.view.note(island) }
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
        for ask in head.asks { answer(ask, to: server, at) }
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
            guard origins.uid(origin).server != uid.server else { return }
            if seen.covers(origin, to) { return }
            cut = head.vector
            if planted(.acknowledgeBeforeApply) { advance(origin, from, to) }
        case .chunk(let chunk):
            guard catchUp.queue(chunk, from: head.sender, any: planted(.stalePageAccepted), at.steady) else { return }
            cut = chunk.start
        }
        let decoder = EntryDecoder(from: block.from, to: block.to, count: block.count, millisMax: block.millisMax)
        inbox.enqueue(
            .block(BlockWork(bytes: bytes, block: block, decoder: decoder, sender: head.sender, cut: cut)))
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
