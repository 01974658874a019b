// Values whose deadline has passed: counted out in slices, by this replica's own clock. Nothing is sent. Part of
// `Replica`; on its actor's thread.

package import KVBase

/// What keeps values whose deadline has passed from being forgotten, by the id of the server that does.
package enum ExpiryHold: Equatable, Sendable {
    /// It departed, and what it left has not been agreed on yet.
    case departed(UInt64)
    /// It is silent, or has not reported what it has.
    case silent(UInt64)
    /// Its last report is so many milliseconds behind this one's clock: its clock is slow, or the report late.
    case behind(UInt64, Millis)
}

extension Replica {
    /// Entries of the wheel looked at in one slice: each may wait for a key's memory twice.
    static let expiredPerStep = 128

    /// Expired values looked at in one slice: each that is forgotten leaves table and index.
    static let forgottenPerStep = 128

    /// A clock that is behind by less is nothing to speak of: reports are a second apart.
    private static let behindMillisNoted: Millis = 3_000

    /// What holds expired values up, nil if nothing does. O(servers); any time.
    package func expiryHold(_ at: Moment) -> ExpiryHold? {
        if let row = departedRows().first { return .departed(row.server) }
        for server in servers {
            guard let report = server.usableReport, !server.isSuspect(at.steady, config.suspectMillis) else {
                return .silent(server.id)
            }
            let behind = corrected(at) - report.clock
            if behind > Replica.behindMillisNoted { return .behind(server.id, behind) }
        }
        return nil
    }

    func lookForExpired(_ at: Moment) {
        store.noteClock(corrected(at))
        expiry.noteLook(at.steady)
        if store.isExpiryDue(now: corrected(at)) { expiry.begin() }
    }

    /// One slice; returns the entries looked at.
    func expire(budget: Int, _ at: Moment) -> Int {
        let slice = min(budget, Replica.expiredPerStep)
        if planted(.expiryDeletes) { store.deletesExpired(now: corrected(at)) }
        let used = store.expireDue(now: corrected(at), budget: slice)
        if used < slice { expiry.end() }
        return used
    }
}
