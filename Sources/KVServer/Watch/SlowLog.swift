// The commands that took longest, with their arguments: SLOWLOG. Shared by all actors; any thread.

import KVBase
import RESP
import Synchronization

final class SlowLog: Sendable {
    /// As Redis cuts them.
    static let wordsMax = 32
    static let wordBytesMax = 128
    /// Whatever `slowlog-max-len` says: some five kilobytes each at most.
    static let entriesMax = 10_000

    struct Entry: Sendable {
        var id = 0
        let seconds: Int
        let micros: Int
        let words: [Bytes]
        let client: String
        let name: Bytes
    }

    private struct State {
        /// Oldest first.
        var entries: [Entry] = []
        var nextID = 0
    }

    private let state = Mutex(State())

    /// O(1) on average.
    func add(_ entry: Entry, keeping most: Int) {
        state.withLock { state in
            var entry = entry
            entry.id = state.nextID
            state.nextID += 1
            state.entries.append(entry)
            let most = min(most, SlowLog.entriesMax)
            // Dropped in lots, so that the list is not moved for each.
            if state.entries.count > most + most / 8 { state.entries.removeFirst(state.entries.count - most) }
        }
    }

    /// The newest first, `most` at most.
    func newest(_ most: Int, keeping length: Int) -> [Entry] {
        state.withLock { Array($0.entries.suffix(min(most, length)).reversed()) }
    }

    func count(keeping length: Int) -> Int { state.withLock { min($0.entries.count, length) } }

    /// How many there were since the start.
    var total: Int { state.withLock { $0.nextID } }

    func reset() { state.withLock { $0.entries = [] } }
}

/// A command's arguments for people to read: cut, and without what nobody may read.
enum ShownWords {
    static let redacted: Bytes = "(redacted)"

    /// Whether argument `k` is a secret: passwords of AUTH and HELLO, rules of ACL SETUSER.
    static func isSecret(_ k: Int, _ x: Execution) -> Bool {
        if k == 0 { return false }
        let name = x.argument(0)
        if name.equals("AUTH") { return true }
        if name.equals("ACL") { return k >= 2 && x.argument(1).equals("SETUSER") }
        guard name.equals("HELLO"), x.count > 3 else { return false }
        for place in 2..<x.count where x.argument(place).equals("AUTH") { return k == place + 1 || k == place + 2 }
        return false
    }

    /// As the slow log keeps them. `more`: commands of the same read that are not told of.
    static func cut(_ x: Execution, more: Int = 0) -> [Bytes] {
        let isLong = x.count > SlowLog.wordsMax
        let shown = isLong ? SlowLog.wordsMax - 1 : x.count
        var words = (0..<shown).map { k in isSecret(k, x) ? redacted : cut(x.argument(k)) }
        if isLong { words.append(Bytes("... (\(x.count - shown) more arguments)")) }
        if more > 0 { words.append(Bytes("... (and \(more) more commands of one read)")) }
        return words
    }

    private static func cut(_ word: ByteView) -> Bytes {
        let most = SlowLog.wordBytesMax
        guard word.count > most else { return Bytes(word.bytes) }
        let rest = "... (\(word.count - most) more bytes)"
        return Bytes(Array(word.bytes.prefix(most)) + Array(rest.utf8))
    }
}
