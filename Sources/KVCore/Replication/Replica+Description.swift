// A replica's state in words, for the simulator's traces and for debugging. Part of `Replica`; on its actor's thread.

extension Replica: CustomStringConvertible {
    /// Several lines; not parsed by anything.
    package var description: String {
        func text(_ vector: VersionVector) -> String {
            var parts: [String] = []
            for (i, seq) in vector.seqs.enumerated() where seq != 0 {
                let uid = origins.uid(OriginIndex(i))
                parts.append(
                    "\(uid.server % 10_000)/\(uid.index)=\(seq == VersionVector.retired ? "retired" : "\(seq)")")
            }
            return parts.joined(separator: " ")
        }
        var lines = [
            "replica \(uid.server % 10_000)/\(uid.index) \(isCaughtUp ? "caught up" : "catching up")"
                + " seen [\(text(vector))] frontier [\(text(collector.frontier))] floor \(store.gcFloor)"
                + " log \(log.first)...\(log.last) logged to \(round.logged) inbox \(inbox.count)"
        ]
        for island in seen.islands {
            lines.append("  island of \(text(single(island.origin, island.to))) from \(island.from)")
        }
        for row in members.rows { lines.append("  member \(row.server % 10_000) \(row.status) \(row.address)") }
        if let asker = catchUp.asker {
            lines.append(
                "  asks \(asker.source % 10_000) session \(asker.session) next \(asker.next) of \(asker.queued)")
        }
        if let asker = catchUp.localAsker {
            lines.append("  asks sibling \(asker.source) session \(asker.session) next \(asker.next)")
        }
        for sibling in siblings {
            lines.append(
                "  sibling \(sibling.index) acked \(sibling.stream.acked) enqueued \(sibling.stream.enqueued)"
                    + " applied \(sibling.stream.appliedTo)"
                    + " jumped \(sibling.stream.jumped) donor \(sibling.donor != nil) vector [\(text(sibling.vector))]")
        }
        for server in servers {
            lines.append(
                "  server \(server.id % 10_000) heard \(server.heardAt ?? -1) contacted \(server.isContacted)"
                    + " sent \(server.stream.sent)"
                    + " backoff \(server.stream.retries) gateway offset \(server.gateway.offset)"
                    + " in flight \(server.stream.sectionsInFlight)"
                    + " donor \(server.donor != nil) gapless [\(text(server.seenGapless))] at most \(server.seenAtMost[own])"
                    + " announced \(server.view.announcedTo.map { "\($0.origin):\($0.to)" }) repairs \(server.repairs.count)"
            )
        }
        return lines.joined(separator: "\n")
    }

    /// Bytes of a scan's chunk that is built and waits for another server to ask for it. O(members).
    package func chunkBytesWaiting(for server: UInt64) -> Int { self.server(server)?.donor?.waitingBytes ?? 0 }

    private func single(_ origin: OriginIndex, _ seq: UInt64) -> VersionVector {
        var vector = VersionVector()
        vector.set(origin, seq)
        return vector
    }
}
