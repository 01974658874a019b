// What clocks allow: which stamps and floors are taken, and which this server gives. Part of `Replica`; on its actor's
// thread.

package import KVBase

extension Replica {
    /// Stamps that were more than a minute ahead, by the name of the server that sent them.
    package var futureStampsByName: [(name: Bytes, count: UInt64)] { futureStamps.all }

    /// The latest stamp of an entry that is merged.
    func latestStamp(_ at: Moment) -> Millis { SkewGuard.latestStamp(corrected(at)) }

    /// No clock that is roughly right has collected a tombstone of that time.
    func isImpossible(floor: Millis, _ at: Moment) -> Bool {
        guard corrected(at) >= SkewGuard.setSince, !planted(.floorAhead) else { return false }
        return floor > corrected(at) + Limits.floorAheadMillis
    }

    /// Where a majority tells the time, nobody's floor is ahead of it. Where there is none, a newcomer whose clock is
    /// slow must take over a floor that is ahead of its own, or it would write below what others have collected.
    ///
    /// A clock that was never set says nothing: then the latest of the others' clocks that were decides.
    func isCredible(floor: Millis, _ at: Moment) -> Bool {
        if planted(.floorAhead) { return true }
        if at.wall < SkewGuard.setSince {
            let clocks = servers.compactMap { $0.hearing.offset(at).map { at.wall + $0 } }
            return clocks.contains { $0 >= SkewGuard.setSince && floor <= $0 + SkewGuard.correctMillis }
        }
        return floor <= corrected(at) + (clock.isAgreed ? SkewGuard.correctMillis : Limits.floorAheadMillis)
    }

    /// Whatever is written now would be stamped later than others take.
    package func isAheadOfOthers(_ at: Moment) -> Bool { corrected(at) > store.stampMax }

    /// Whether there is a stamp for a write to the key that others take. O(1).
    package func mayOverwrite(key: UnsafeRawBufferPointer, _ at: Moment) -> Bool {
        store.stamp(over: store.find(store.key(key)), now: corrected(at), floor: 0) != nil
    }

    /// Writes get no stamp that others refuse.
    func boundStamps(_ at: Moment) { store.boundStamps(to: SkewGuard.latestOwnStamp(at.wall, clock.offsets)) }
}
