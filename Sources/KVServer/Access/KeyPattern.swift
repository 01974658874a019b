// A pattern of keys that a user may read, write, or both. Immutable; any thread.

import KVBase

/// Redis's `~pattern`, `%R~pattern` and `%W~pattern`: a glob over the key as the client names it.
final class KeyPattern: @unchecked Sendable {
    /// Longer ones could not be matched within a turn.
    static let bytesMax = 63

    let text: String
    let reads: Bool
    let writes: Bool
    private let glob: Glob

    /// Nil if the pattern is too long.
    init?(_ text: String, reads: Bool, writes: Bool) {
        guard text.utf8.count <= KeyPattern.bytesMax, let glob = Glob(text) else { return nil }
        (self.text, self.reads, self.writes, self.glob) = (text, reads, writes, glob)
    }

    deinit { glob.deallocate() }

    var isEverything: Bool { text == "*" }

    /// O(key).
    func matches(_ key: UnsafeRawBufferPointer) -> Bool { glob.matches(key) }

    /// As ACL LIST shows it.
    var rule: String { (reads && writes ? "~" : reads ? "%R~" : "%W~") + text }
}
