// The store's commands for deadlines with keys as text, for the tests of expiry.

import KVBase

@testable import KVCore

extension Store {
    @discardableResult
    func set(_ key: String, _ value: String, _ deadline: DeadlineChoice = .none, now: Millis) -> Record? {
        Bytes(key).withBytes { key in
            Bytes(value).withBytes { put(self.key(key), value: ByteView($0), deadline: deadline, now: now) }
        }
    }

    @discardableResult
    func expire(_ key: String, at deadline: Millis, now: Millis) -> TouchOutcome {
        Bytes(key).withBytes { expire(self.key($0), at: deadline, now: now) }
    }

    @discardableResult
    func persist(_ key: String, now: Millis) -> TouchOutcome {
        Bytes(key).withBytes { persist(self.key($0), now: now) }
    }

    @discardableResult
    func remove(_ key: String, now: Millis) -> Bool {
        Bytes(key).withBytes { delete(self.key($0), now: now) != nil }
    }

    @discardableResult
    func increment(_ key: String, by step: Int64 = 1, now: Millis) -> IncrementOutcome {
        Bytes(key).withBytes { increment(self.key($0), by: step, now: now) }
    }

    func shown(_ key: String, now: Millis) -> String? {
        Bytes(key).withBytes {
            get(self.key($0), now: now).map { String(decoding: $0.value, as: UTF8.self) }
        }
    }

    func deadline(_ key: String, now: Millis) -> Deadline? {
        Bytes(key).withBytes { deadline(of: self.key($0), now: now) }
    }

    /// The keys shown, in pages of `limit`.
    func keys(prefix: String = "", limit: Int = 10, now: Millis) -> [String] {
        var keys: [String] = []
        var after: Bytes?
        while true {
            let page = Bytes(prefix).withBytes { prefix in
                after?.withBytes { list(prefix: prefix, after: $0, limit: limit, now: now) }
                    ?? list(prefix: prefix, limit: limit, now: now)
            }
            for i in 0..<page.count { keys.append(String(decoding: page[i].key, as: UTF8.self)) }
            if page.isLast { return keys }
            after = page.position.map { Bytes($0) }
        }
    }

    /// Everything whose deadline has passed is counted out.
    func expireAll(now: Millis, slice: Int = 64) { while expireDue(now: now, budget: slice) == slice {} }

    /// All records that are no tombstones, merged into another store as bytes would be.
    func copy(to other: Store, tombstones: Bool = true) {
        var cursor = WalkCursor()
        var records: [Record] = []
        while !cursor.isDone {
            walk(&cursor, budget: 100) { if tombstones || !$0.isTombstone { records.append($0.retained()) } }
        }
        for record in records {
            other.merge(record)
            record.release()
        }
    }
}
