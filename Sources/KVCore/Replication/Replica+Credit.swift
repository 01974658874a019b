// What of another server's entries is its to say. Part of `Replica`; on its actor's thread.

package import KVBase

extension Replica {
    /// For so long after others told something of a silent writer vectors prove no equal content, and digests are not
    /// compared.
    package static let unsettledMillis = Hearsay.unsettledMillis

    enum Credit {
        /// It is merged as usual.
        case due
        /// The write has taken effect here already, whatever the entry says.
        case hasTakenEffect
        /// A sibling must say first that it wrote so far.
        case unsaid
        /// Its interval does not count, and is asked for again.
        case none
    }

    /// Servers pass on what others wrote, so an entry may have any writer (docs/replication.md 5.7):
    ///
    /// - Nobody tells a writer what it wrote itself.
    /// - A write that the vector covers has taken effect: an entry that is greater than what is here is none of it.
    /// - What the vector covers on the word of others alone has perhaps not taken effect.
    /// - Only a deadline set apart may have been forgotten where its key's value is: that takes it again (15.2).
    /// - A sibling says here how far it wrote, before others can have it or soon after.
    /// - A writer whose server nobody has is nobody's.
    ///
    /// After a divergence (`force`) the vectors count for nothing, so only what cannot be is refused. O(1).
    @inline(__always)
    func credit(_ record: Record, _ hash: UInt64, force: Bool) -> Credit {
        let origin = record.origin
        if origin == own { return creditOfOwn(record, force: force) }
        if force { return origin == OriginTable.unknown ? refuse() : .due }
        if seen.covers(origin, record.seq) {
            // Of a retired server only those that agreed know the same. Planted mistakes break what this rests on.
            if seen.isRetired(origin) || planted.breaksVectors { return .due }
            if record.isCompanion, store.isAwaited(record) { return .due }
            if hearsay.isDoubtful(origin, record.seq) { return .due }
            // An interval that came before the end of the first scan may lack a delete that is collected where it came
            // from, and not where the scan does (8.6).
            if catchUp.isReturning, !catchUp.known.covers(origin, record.seq) { return .due }
            if let held = store.find(HashedKey(record, hash: hash)) {
                if held.version(origins) < record.version(origins) { statistics.entriesForged += 1 }
            } else {
                statistics.insertRefusedCovered += 1
            }
            return .hasTakenEffect
        }
        guard origin != OriginTable.unknown else { return refuse() }
        let writer = origins.uid(origin)
        if writer.server == uid.server {
            return record.seq <= sibling(Int(writer.index))?.vector[origin] ?? 0 ? .due : .unsaid
        }
        return .due
    }

    @inline(never)
    private func creditOfOwn(_ record: Record, force: Bool) -> Credit {
        if planted(.ownFromOthers) { return .due }
        guard record.seq <= store.ownSeq else { return refuse() }
        if force { return .due }
        guard record.isCompanion, store.isAwaited(record) else { return .hasTakenEffect }
        return store.mayHaveWritten(record) ? .due : refuse()
    }

    @inline(never)
    private func refuse() -> Credit {
        statistics.entriesForged += 1
        return .none
    }

    /// What a donor says that it had seen, as far as it may. Who claims more of a writer than that says itself, and can
    /// be heard, was lied to or lies: nothing of that writer counts.
    func credited(_ start: VersionVector, _ at: Moment) -> VersionVector {
        var credited = start
        for index in 0..<start.count where start.seqs[index] != 0 {
            let origin = OriginIndex(index)
            guard let said = sayOf(origin, at) else {
                if start.seqs[index] > seen[origin], origin != own { hearsay.noteTold(origin, at.steady) }
                continue
            }
            if start.seqs[index] > said { credited.set(origin, min(start.seqs[index], seen[origin])) }
        }
        return credited
    }

    /// Looks at what others said of writers that can be heard again.
    func watchHearsay(_ at: Moment) {
        hearsay.dropTold { !members.isMember(origins.uid($0).server) && origins.uid($0).server != uid.server }
        for server in servers {
            for index in 0..<server.actorCount {
                guard let origin = origins.index(of: ActorUID(server: server.id, index: UInt16(index))),
                    !seen.isRetired(origin),
                    let last = hearsay.compare(origin, seen: seen[origin], said: sayOf(origin, at), at.steady)
                else { continue }
                seen.goBack(origin, to: last)
                statistics.hearsayRefuted += 1
            }
        }
    }

    /// How far a writer says that it wrote; nil if it cannot be heard, or takes this server for gone and says nothing.
    func sayOf(_ origin: OriginIndex, _ at: Moment) -> UInt64? {
        let writer = origins.uid(origin)
        if writer.server == uid.server { return sibling(Int(writer.index)).map { $0.vector[origin] } }
        guard let server = server(writer.server), server.isContacted,
            !server.isSuspect(at.steady, config.suspectMillis),
            server.hearing.isTelling(at.steady, config.suspectMillis)
        else { return nil }
        return server.seenGapless[origin]
    }
}
