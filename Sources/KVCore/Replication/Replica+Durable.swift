// What of a replica is kept on disk, and what it begins with where something is. Part of `Replica`; on its actor's
// thread.

package import KVBase

/// Something that came from other servers and has taken effect.
package enum LearnedItem: Sendable {
    /// An interval, or a page of a scan. `proves`: that the interval has been seen; otherwise that comes later, as an
    /// interval without entries, or never.
    case segment(DeltaSegment, proves: Bool)
    /// The end of a scan: who had seen `asked` and has all its pages has now seen `start`.
    case proof(asked: VersionVector, start: VersionVector, frontier: VersionVector, floor: Millis)
}

extension VersionVector {
    /// Down to what is on a disk. Of a retired server everybody has the same, and nothing more comes.
    mutating func keep(_ durable: VersionVector) {
        for i in 0..<count where seqs[i] != VersionVector.retired && seqs[i] > durable[OriginIndex(i)] {
            set(OriginIndex(i), durable[OriginIndex(i)])
        }
    }
}

extension Replica {
    func restore(_ recovered: RecoveredState) {
        seen.restore(recovered.vector, newest: recovered.newest)
        for i in 0..<recovered.frontier.count where recovered.frontier.seqs[i] > 0 {
            collector.noteCollected(OriginIndex(i), recovered.frontier.seqs[i])
        }
        catchUp.begin(with: seen.vector)
        let writers = (0..<max(recovered.vector.count, recovered.newest.count)).map { OriginIndex($0) }.filter {
            recovered.vector[$0] > 0 || recovered.newest[$0] > 0
        }
        departures.note(onDisk: writers.sorted { origins.uid($0).index > origins.uid($1).index })
        store.raiseGCFloor(to: recovered.floor)
    }

    /// An interval has taken effect. Before the end of the first scan it proves nothing to a disk: a delete in it that
    /// was collected did not come with it. Nor does what was seen before, which may be by a scan that had to compare.
    /// Beyond a gap it may never be covered: it is logged as if it came without.
    func tell(_ segment: DeltaSegment, _ seenBefore: UInt64) {
        guard let onLearned else { return }
        if catchUp.isReturning {
            catchUp.withhold(segment.origin, segment.from, segment.to)
            onLearned(.segment(segment, proves: false))
        } else if seenBefore != segment.from {
            onLearned(.segment(segment, proves: false))
            let from = max(seenBefore, segment.from)
            prove(LogInterval(origin: segment.origin, from: from, to: segment.to))
        } else {
            onLearned(.segment(segment, proves: true))
        }
    }

    /// Whether a sibling's entry beats something here that this actor's log may have and no vector on the disk covers.
    /// The sibling's log has the entry, and may give it up while this one still has what was beaten: then this one must
    /// have it too (docs/durability.md 3).
    func beatsLoose(_ record: Record, _ hash: UInt64) -> Bool {
        guard onLearned != nil, let held = store.find(HashedKey(record, hash: hash)), held.origin != own else {
            return false
        }
        let isRetired = seen.isRetired(held.origin)
        guard held.seq > (isRetired ? retired.last(held.origin) : seen[held.origin]) else { return false }
        return store.compareStamps(record.ms, record.origin, record.seq, held) > 0 && !planted(.losersLogged)
    }

    /// Such entries go into this actor's log.
    func keep(_ entries: DeltaEntries) {
        guard entries.count > 0 else { return }
        let page = DeltaSegment(origin: own, from: 0, to: 0, isPage: true, cut: VersionVector(), taking: entries)
        onLearned?(.segment(page, proves: false))
    }

    /// What is in the log without its interval counts from now on.
    func prove(_ interval: LogInterval) {
        let segment = DeltaSegment(
            origin: interval.origin, from: interval.from, to: interval.to, isPage: false, cut: VersionVector(),
            taking: DeltaEntries())
        onLearned?(.segment(segment, proves: true))
    }

    /// What has taken effect here, in the form for a disk: retired servers' writes as far as they were seen. Before the
    /// end of the first scan: as far as the directory said.
    package var durableVector: VersionVector {
        if catchUp.isReturning {
            var known = catchUp.known
            let vector = self.vector
            for i in 0..<vector.count where origins.uid(OriginIndex(i)).server == uid.server {
                known.set(OriginIndex(i), vector.seqs[i])
            }
            return known
        }
        var vector = self.vector
        for i in 0..<vector.count where vector.seqs[i] == VersionVector.retired {
            vector.set(OriginIndex(i), retired.last(OriginIndex(i)))
        }
        return vector
    }

    /// Greatest collected write of each writer.
    package var collectedFrontier: VersionVector { collector.frontier }

    /// Of the member table; equal tables, equal hash.
    package var rowsHash: UInt64 { members.hash }

    /// A log, or whoever else was told of it, needs the segment no more.
    package func giveUp(_ segment: DeltaSegment) { discard(segment) }
}
