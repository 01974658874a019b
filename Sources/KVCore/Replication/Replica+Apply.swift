// Merging what arrived, in slices and in order of arrival. Part of `Replica`; on its actor's thread.

import KVBase

extension Replica {
    /// What arrived just now is merged at once where it is little. Otherwise `step` does it, whose work would come on
    /// top in the same turn.
    func workOnLittle(_ at: Moment, into effects: inout ReplicaEffects) {
        if inbox.isLittle { _ = work(budget: config.entriesPerStep, at, into: &effects) }
    }

    /// Merges up to about `budget` entries; returns how many units of work that was.
    func work(budget: Int, _ at: Moment, into effects: inout ReplicaEffects) -> Int {
        var left = budget
        if !inbox.isEmpty { store.noteClock(corrected(at)) }
        while left > 0, let item = inbox.take() {
            let (rest, used) = proceed(item, left, at, into: &effects)
            left -= used + 1
            inbox.finish(rest)
        }
        inbox.compact()
        settleZeros(at, into: &effects)
        return budget - left
    }

    private func proceed(
        _ item: WorkItem, _ budget: Int, _ at: Moment, into effects: inout ReplicaEffects
    ) -> (rest: WorkItem?, used: Int) {
        switch item {
        case .block(var work):
            let used = merge(&work, budget, at)
            if used < 0 || work.decoder.left == 0 {
                finish(&work, isWhole: used >= 0 && work.decoder.isComplete, at, into: &effects)
                return (nil, max(used, 0))
            }
            return (.block(work), used)
        case .local(.delta(let segment), let from, let number, var done, var isRefused):
            if !segment.isPage, seen.covers(segment.origin, segment.to), !planted(.stalePageAccepted) {
                sibling(from)?.stream.noteMerged(number)
                return (nil, 1)
            }
            let used = merge(segment, from: &done, budget, at, force: false, &isRefused)
            guard done == segment.count else {
                return (.local(.delta(segment), from: from, number: number, done: done, isRefused: isRefused), used)
            }
            finishLocal(segment, from: from, number: number, isRefused, at)
            return (nil, used)
        case .local(.scanEnd(let end), let from, let number, _, _):
            if let sibling = sibling(from) {
                let isWhole = sibling.stream.isWhole(since: end.firstItem)
                if let keys = end.donorKeys {
                    beginReconciling(end, keys, isWhole: isWhole)
                } else if isWhole {
                    conclude(end, at)
                }
                sibling.stream.noteMerged(number)
            }
            return (nil, 1)
        case .localChunk(let chunk, let from, var done, var isRefused):
            let force = catchUp.localAsker?.everything ?? false
            let used = merge(chunk.page, from: &done, budget, at, force: force, &isRefused)
            guard done == chunk.page.count else {
                return (.localChunk(chunk, from: from, done: done, isRefused: isRefused), used)
            }
            finishLocalChunk(chunk, from: from, isRefused, at)
            discard(chunk.page)
            return (nil, used)
        case .done:
            return (nil, 0)
        }
    }

    // MARK: Entries

    /// Merges one entry. False if it was refused and the interval it belongs to must not count.
    ///
    /// An absent key is only filled if the entry's write is new here: a covered write without a record was superseded
    /// and its tombstone collected. What a third party relays must moreover come from a cut that includes every
    /// tombstone collected here (docs/replication.md 10.3), and so must a writer's own up to `doubtfulTo`.
    @inline(__always)
    private func mergeEntry(
        _ record: Record, _ hash: UInt64, sectionOrigin: OriginIndex?, isBeyondGap: Bool, cut: VersionVector,
        isCurrent: Bool, doubtfulTo: Millis, force: Bool
    ) -> Bool {
        let origin = record.origin
        var isCovered = origin == own ? true : seen.covers(origin, record.seq)
        // Beyond what a retired server's writes were seen to, nobody has agreed on anything.
        let isLate = isCovered && seen.isRetired(origin) && record.seq > retired.last(origin)
        if isLate { isCovered = false }
        if isCovered || !(isCurrent || sectionOrigin == origin && record.ms > doubtfulTo) {
            if store.find(HashedKey(record, hash: hash)) == nil, !(record.isCompanion && store.isAwaited(record)) {
                let isSurelyCovered = isCovered && !(isCurrent && hearsay.isDoubtful(origin, record.seq))
                if isSurelyCovered, !force, !planted(.reinsertCovered) {
                    statistics.insertRefusedCovered += 1
                    return true
                }
                if !isCovered, !force, !planted(.collectWithoutFrontier) {
                    statistics.insertRefusedByFrontier += 1
                    return false
                }
            }
        }
        if planted.isAny, mergeWithBugs(record, hash) { return true }
        if !isCovered, !isBeyondGap, let writer = sectionOrigin, writer != origin {
            notePassedOn(record, by: writer, cut)
        }
        switch store.merge(record, hash) {
        case .applied:
            statistics.entriesApplied &+= 1
            if isLate { takeUpAgain(origins.uid(origin).server) }
            // A departed server's entry that a live writer adopted is tied to that writer's own write, and its vector
            // does not cover it, unless that write lies beyond a gap, which may never be filled. Where the vector does,
            // the entry beat a write that others were sent before: they have the same interval without it. What was
            // here already makes nothing loose: two replicas would adopt it from each other for ever.
            if !isCovered {
                let isTied =
                    sectionOrigin != nil && sectionOrigin != origin && !isBeyondGap && !cut.covers(origin, record.seq)
                if !isTied || members.isMember(origins.uid(origin).server) { seen.noteLoose(origin, record.seq) }
            }
        case .divergent: statistics.versionCollisions &+= 1
        default: statistics.entriesIgnored &+= 1
        }
        return true
    }

    /// A sibling holds a loose entry too, and adopts it if it has not yet: it need not go twice. Only of those before
    /// this actor, so that no two leave it to each other.
    private func notePassedOn(_ record: Record, by writer: OriginIndex, _ cut: VersionVector) {
        let (sender, source) = (origins.uid(writer), origins.uid(record.origin).server)
        guard sender.server == uid.server, sender.index < config.actorIndex,
            !cut.covers(record.origin, record.seq)
        else { return }
        // Of a writer that can be heard nothing is adopted.
        if let server = server(source), server.hearing.isAudible { return }
        departures.notePassedOn(record)
    }

    /// Whether whoever stood at `cut` knew every tombstone collected here.
    private func includesCollected(_ cut: VersionVector) -> Bool { collector.isKnown(at: cut) }

    /// Own writes, stamped up to here, of a server just met are no better than relayed ones: what was collected here
    /// before it was known was collected without asking it, and may have deleted them.
    private func doubtfulTo(_ writer: OriginIndex, _ cut: VersionVector, _ at: Moment) -> Millis {
        server(origins.uid(writer).server)?.unasked.doubtfulTo(cut, at.steady) ?? .min
    }

    /// Decodes and merges; returns the entries handled, or -1 if the bytes are malformed.
    private func merge(_ work: inout BlockWork, _ budget: Int, _ at: Moment) -> Int {
        var sectionOrigin: OriginIndex?
        var isBeyondGap = false
        var force = false
        switch work.block.kind {
        case .section(let origin, let from, let to):
            if seen.covers(origin, to), !planted(.acknowledgeBeforeApply) {
                // A repetition: everything in it has taken effect.
                work.decoder = EntryDecoder(from: work.block.to, to: work.block.to, count: 0, millisMax: 0)
                return 0
            }
            // Its own writes need no cut, as long as their writer counts for collection, and did.
            if members.row(origins.uid(origin).server)?.status.isMember ?? false { sectionOrigin = origin }
            isBeyondGap = !seen.covers(origin, from)
        case .chunk(let chunk):
            force = chunk.everything
        }
        let cut = work.cut
        let isCurrent = includesCollected(cut)
        let doubtfulTo = sectionOrigin.map { self.doubtfulTo($0, cut, at) } ?? .min
        let hasher = store.hasher
        var used = 0
        let keepsEntries =
            !siblings.isEmpty || !isChunk(work.block) || onLearned != nil || catchUp.asker?.donorKeys != nil
        var isMalformed = false
        withUnsafeTemporaryAllocation(of: DeltaEntry.self, capacity: Replica.mergedTogether) { group in
            while used < budget, work.decoder.left > 0, !isMalformed {
                let count = decode(&work, into: group, max: budget - used, hasher)
                isMalformed = count < min(group.count, budget - used) && work.decoder.left > 0
                var behind = OverflowSet()
                for i in 0..<count { behind.note(i, isDone: store.prefetchRecord(group[i].hash)) }
                for i in 0..<count where behind.take(i) { store.prefetchOverflow(group[i].hash) }
                for i in 0..<count {
                    let (hash, record) = (group[i].hash, group[i].record)
                    let credit = credit(record, hash, force: force)
                    if credit == .due {
                        let isMerged = mergeEntry(
                            record, hash, sectionOrigin: sectionOrigin, isBeyondGap: isBeyondGap, cut: cut,
                            isCurrent: isCurrent, doubtfulTo: doubtfulTo, force: force)
                        if !isMerged { work.isRefused = true }
                        if keepsEntries { work.entries.append(hash, record) } else { record.release() }
                        continue
                    }
                    if credit == .none { work.isRefused = true }
                    if credit == .unsaid { work.unsaid.raise(record.origin, to: record.seq) }
                    // Siblings are told what is here.
                    if credit == .hasTakenEffect, keepsEntries, let held = store.find(HashedKey(record, hash: hash)) {
                        work.entries.append(hash, held.retained())
                    }
                    record.release()
                }
                used &+= count
            }
        }
        return isMalformed ? -1 : used
    }

    /// Entries decoded, then looked up, together, so that they wait for memory together.
    private static let mergedTogether = 16

    /// Decodes up to `max` entries, as many as fit, and starts loading their buckets. Fewer than that only at the end
    /// of the block or before an entry that is malformed.
    private func decode(
        _ work: inout BlockWork, into group: UnsafeMutableBufferPointer<DeltaEntry>, max: Int, _ hasher: KeyHasher
    ) -> Int {
        var count = 0
        let writers = knownWriters
        work.bytes.withUnsafeBytes { bytes in
            while count < min(group.count, max), work.decoder.left > 0 {
                guard let record = work.decoder.next(bytes, origins, writers: writers) else { return }
                let hash = hasher.hash(record.keyView)
                store.prefetchSlot(hash)
                group.initializeElement(at: count, to: DeltaEntry(hash: hash, record: record))
                count &+= 1
            }
        }
        return count
    }

    private func isChunk(_ block: Block) -> Bool { if case .chunk = block.kind { true } else { false } }

    /// Merges a segment's entries from `done` on, by reference.
    private func merge(
        _ segment: DeltaSegment, from done: inout Int, _ budget: Int, _ at: Moment, force: Bool,
        _ isRefused: inout Bool
    ) -> Int {
        let isCurrent = includesCollected(segment.cut)
        let isTrusted =
            !segment.isPage && (members.row(origins.uid(segment.origin).server)?.status.isMember ?? false)
        let sectionOrigin = isTrusted ? segment.origin : nil
        let doubtfulTo = isTrusted ? self.doubtfulTo(segment.origin, segment.cut, at) : .min
        let isBeyondGap = !seen.covers(segment.origin, segment.from)
        let entries = segment.entries
        let end = min(entries.count, done + budget)
        let start = done
        var kept = DeltaEntries()
        var ahead = MergeAhead()
        if start == 0 { ahead.begin(store, count: entries.count) { (entries[$0].record, entries[$0].hash) } }
        while done < end {
            ahead.step(store, done, count: entries.count) { (entries[$0].record, entries[$0].hash) }
            let entry = entries[done]
            if beatsLoose(entry.record, entry.hash) { kept.append(entry.hash, entry.record.retained()) }
            let isMerged = mergeEntry(
                entry.record, entry.hash, sectionOrigin: sectionOrigin, isBeyondGap: isBeyondGap, cut: segment.cut,
                isCurrent: isCurrent, doubtfulTo: doubtfulTo, force: force)
            if !isMerged { isRefused = true }
            done &+= 1
        }
        keep(kept)
        return end - start
    }

    // MARK: Intervals

    /// An interval's entries are all merged: the vector follows if there is no gap before it.
    func advance(_ origin: OriginIndex, _ from: UInt64, _ to: UInt64) {
        if !seen.advance(origin, from, to, leaps: planted(.advanceOverGap)) { statistics.gapsSeen += 1 }
    }

    private func finish(_ work: inout BlockWork, isWhole: Bool, _ at: Moment, into effects: inout ReplicaEffects) {
        if let server = server(work.sender.server) { server.wish.want(by: at.steady) }
        guard isWhole else {
            statistics.framesRejected += 1
            effects.events.append(.malformed(server: work.sender.server))
            work.entries.clear()
            // Without this chunk the others prove nothing.
            if case .chunk(let chunk) = work.block.kind, catchUp.asker?.session == chunk.session {
                catchUp.giveUp(at.steady)
            }
            return
        }
        switch work.block.kind {
        case .section(let origin, let from, let to):
            defer { work.entries.clear() }
            guard !work.isRefused, to > seen[origin] || planted(.acknowledgeBeforeApply) else { return }
            guard work.unsaid.count == 0 else { return hold(work, at) }
            let segment = DeltaSegment(
                origin: origin, from: planted(.relayWrongBounds) ? 0 : from, to: to, isPage: false,
                cut: work.cut, taking: work.entries.take())
            if origins.uid(origin).server != work.sender.server { hearsay.noteTold(origin, at.steady) }
            let seenBefore = seen[origin]
            advance(origin, from, to)
            tell(segment, seenBefore)
            recent.remember(segment, discard)
            offerToSiblings(.delta(segment))
        case .chunk(let chunk):
            if work.unsaid.count > 0 { work.isRefused = true }
            finishChunk(chunk, &work, at, into: &effects)
        }
    }

    private func hold(_ work: BlockWork, _ at: Moment) {
        guard !planted(.unsaidRefused), held.hold(work, at.steady) else { return statistics.sectionsUnsaid += 1 }
        statistics.sectionsHeld += 1
    }

    /// Merges what waited for what siblings have said by now.
    func releaseHeld(_ at: Moment) {
        guard !held.isEmpty else { return }
        let before = held.count
        let ready = held.takeSaid(at.steady) { origin in
            sibling(Int(origins.uid(origin).index)).map { $0.vector[origin] } ?? 0
        }
        statistics.sectionsUnsaid += UInt64(before - held.count - ready.count)
        for work in ready where inbox.hasRoom(for: work.block.to - work.block.from) { inbox.enqueue(.block(work)) }
    }

    /// Before the vector follows a sibling to `end`: its gateway may have that from others than the writer.
    private func noteTold(_ origin: OriginIndex, to end: UInt64, _ at: Moment) {
        guard origins.uid(origin).server != uid.server, end > sayOf(origin, at) ?? 0 else { return }
        hearsay.noteTold(origin, at.steady)
    }

    private func finishLocal(_ segment: DeltaSegment, from: Int, number: UInt64, _ isRefused: Bool, _ at: Moment) {
        sibling(from)?.stream.noteMerged(number)
        guard !segment.isPage else {
            if isRefused { sibling(from)?.stream.noteRefused(number) }
            return discard(segment)
        }
        guard !isRefused else { return discard(segment) }
        noteTold(segment.origin, to: segment.to, at)
        advance(segment.origin, segment.from, segment.to)
        if origins.uid(segment.origin).server != uid.server {
            recent.remember(segment, discard)
        } else {
            discard(segment)
        }
    }

    func offerToSiblings(_ item: LocalItem) {
        guard !siblings.isEmpty else { return }
        log.append(item)
        let dropped = log.enforce(entriesMax: config.localEntriesMax, bytesMax: config.localBytesMax, discard)
        if dropped > 0 { statistics.localLogOverruns += 1 }
    }

    /// Gives the segment up, in slices where it is long.
    func discard(_ segment: DeltaSegment) { discards.add(segment) }
}
