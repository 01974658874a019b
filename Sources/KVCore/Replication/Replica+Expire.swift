// Values whose deadline has passed: counted out in slices, by this replica's own clock. Nothing is sent. Part of
// `Replica`; on its actor's thread.

import KVBase

/// Whether keys wait to be counted out.
struct ExpiryWork {
    private(set) var isUnderWay = false

    mutating func begin() { isUnderWay = true }
    mutating func end() { isUnderWay = false }
}

extension Replica {
    /// Entries of the wheel looked at in one slice: each may wait for a key's memory twice.
    static let expiredPerStep = 128

    /// Expired values looked at in one slice: each that is forgotten leaves table and index.
    static let forgottenPerStep = 128

    func lookForExpired(_ at: Moment) { if store.isExpiryDue(now: corrected(at)) { expiry.begin() } }

    /// One slice; returns the entries looked at.
    func expire(budget: Int, _ at: Moment) -> Int {
        let slice = min(budget, Replica.expiredPerStep)
        if planted(.expiryDeletes) { store.deletesExpired(now: corrected(at)) }
        let used = store.expireDue(now: corrected(at), budget: slice)
        if used < slice { expiry.end() }
        return used
    }
}
