// What of a replica is kept on disk, and what it begins with where something is. Part of `Replica`; on its actor's
// thread.

package import KVBase

/// Something that came from other servers and has taken effect.
package enum LearnedItem: Sendable {
    /// An interval, or a page of a scan.
    case segment(DeltaSegment)
    /// The end of a scan: who had seen `asked` and has all its pages has now seen `start`.
    case proof(asked: VersionVector, start: VersionVector, frontier: VersionVector, floor: Millis)
}

extension Replica {
    func restore(_ recovered: RecoveredState) {
        seen.restore(recovered.vector, newest: recovered.newest)
        for i in 0..<recovered.frontier.count where recovered.frontier.seqs[i] > 0 {
            collector.noteCollected(OriginIndex(i), recovered.frontier.seqs[i])
        }
        catchUp.begin(with: seen.vector)
        store.raiseGCFloor(to: recovered.floor)
    }

    /// What has taken effect here, in the form for a disk: retired servers' writes as far as they were seen.
    package var durableVector: VersionVector {
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
