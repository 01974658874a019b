// What clocks allow: which stamps and floors are taken, and which this server gives. Part of `Replica`; on its actor's
// thread.

package import KVBase

extension Replica {
    /// Stamps that were more than a minute ahead, by the name of the server that sent them.
    package var futureStampsByName: [(name: Bytes, count: UInt64)] { futureStamps.all }

    /// The latest stamp of an entry that is merged.
    func latestStamp(_ at: Moment) -> Millis { SkewGuard.latestStamp(bounding(at)) }

    /// No clock that is roughly right has collected a tombstone of that time.
    func isImpossible(floor: Millis, _ at: Moment) -> Bool {
        let clock = bounding(at)
        guard clock >= SkewGuard.setSince, !planted(.floorAhead) else { return false }
        return floor > clock + Limits.floorAheadMillis
    }

    /// The clock that bounds what others say: the corrected one, and of a server whose clock was never set the others'
    /// that were: of one or two the latest, as one of two may be slow, of more the one in the middle. Before 2020 where
    /// nobody's is known. O(servers), where the clock was never set.
    private func bounding(_ at: Moment) -> Millis {
        if at.wall >= SkewGuard.setSince || planted(.unsetClockBounds) { return corrected(at) }
        return setClocks(at).middle ?? at.wall
    }

    private func setClocks(_ at: Moment) -> (count: Int, middle: Millis?) {
        let clocks = servers.compactMap { $0.hearing.offset(at).map { at.wall + $0 } }
            .filter { $0 >= SkewGuard.setSince }.sorted()
        return (clocks.count, clocks.count > 2 ? clocks[clocks.count / 2] : clocks.last)
    }

    /// Where a majority tells the time, nobody's floor is ahead of it. Where there is none, a newcomer whose clock is
    /// slow must take over a floor that is ahead of its own, or it would write below what others have collected.
    ///
    /// A clock that was never set says nothing. Then the others' that were decide (`bounding`); where they are more
    /// than two, a floor is within a day of the one in the middle.
    func isCredible(floor: Millis, _ at: Moment) -> Bool {
        if planted(.floorAhead) { return true }
        guard at.wall < SkewGuard.setSince else {
            return floor <= corrected(at) + (clock.isAgreed ? SkewGuard.correctMillis : Limits.floorAheadMillis)
        }
        let (count, middle) = setClocks(at)
        guard let middle else { return false }
        return floor <= middle + (count > 2 ? Limits.floorAheadMillis : SkewGuard.correctMillis)
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
