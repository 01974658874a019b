// What was denied of late, for ACL LOG and INFO. A value; its owner guards it.

import KVBase

struct AccessLog {
    static let entriesMax = 128
    /// The same denial within this time is the same entry.
    static let sameMillis: Millis = 60_000

    enum Reason: String { case command, key, channel, auth }

    struct Entry {
        var id = 0
        var count = 1
        let reason: Reason
        /// `toplevel` or `multi`.
        let context: String
        /// The command or the key; of a failed login `AUTH`, never the password.
        let object: String
        let user: String
        /// As CLIENT INFO describes the client.
        let client: String
        var createdMillis: Millis = 0
        var updatedMillis: Millis = 0

        init(_ reason: Reason, context: String, object: String, user: String, client: String) {
            (self.reason, self.context, self.object) = (reason, context, object)
            (self.user, self.client) = (user, client)
        }
    }

    struct Counts: Sendable {
        var auth = 0
        var commands = 0
        var keys = 0
    }

    private(set) var entries: [Entry] = []
    private(set) var counts = Counts()
    private var nextId = 0

    mutating func add(_ entry: Entry, _ now: Millis) {
        switch entry.reason {
        case .auth: counts.auth += 1
        case .command: counts.commands += 1
        case .key, .channel: counts.keys += 1
        }
        var entry = entry
        let same = entries.firstIndex {
            $0.reason == entry.reason && $0.context == entry.context && $0.object == entry.object
                && $0.user == entry.user && now - $0.createdMillis < AccessLog.sameMillis
        }
        if let same {
            let before = entries.remove(at: same)
            (entry.id, entry.count, entry.createdMillis) = (before.id, before.count + 1, before.createdMillis)
        } else {
            (entry.id, entry.createdMillis) = (nextId, now)
            nextId += 1
        }
        entry.updatedMillis = now
        entries.insert(entry, at: 0)
        if entries.count > AccessLog.entriesMax { entries.removeLast() }
    }

    mutating func reset() { entries = [] }
}
