// Who wrote a value and when: actor UIDs and versions, with their total order. Plain values, any thread.

package import KVBase

/// Names one query actor of one server process for ever; a restarted process has new ones.
///
/// Ordered by server, then index; the text form has fixed width, so its byte order is the same order.
package struct ActorUID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package var server: UInt64
    package var index: UInt16

    @inlinable
    package init(server: UInt64, index: UInt16) {
        self.server = server
        self.index = index
    }

    /// Parses the text form; nil for anything but 16 hex digits, a slash and 4 hex digits.
    package init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].count == 16, parts[1].count == 4 else { return nil }
        guard parts.allSatisfy({ $0.allSatisfy { Character(UnicodeScalar($0)).isHexDigit } }),
            let server = UInt64(Substring(parts[0]), radix: 16), let index = UInt16(Substring(parts[1]), radix: 16)
        else { return nil }
        self.init(server: server, index: index)
    }

    @inlinable
    package static func < (a: ActorUID, b: ActorUID) -> Bool {
        a.server != b.server ? a.server < b.server : a.index < b.index
    }

    /// "0123456789abcdef/0001".
    package var description: String { ActorUID.hex(server, 16) + "/" + ActorUID.hex(UInt64(index), 4) }

    static func hex(_ value: UInt64, _ digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }
}

/// The version of a value: the greater wins (last writer wins).
///
/// `(ms, uid)` is what users see; `seq`, the writing actor's own write counter, only orders its writes within one
/// millisecond (docs/replication.md 3.1).
package struct Version: Hashable, Comparable, Sendable, CustomStringConvertible {
    package var ms: Millis
    package var uid: ActorUID
    package var seq: UInt64

    /// Greatest timestamp a record can hold: 44 bits, the year 2527.
    package static let msMax: Millis = 1 << 44 - 1
    /// In the timestamps of a key that was brought back under the clock (docs/replication.md 3.5): they are greater
    /// than all others. Without it, timestamps end in the year 2248.
    package static let restamped: Millis = 1 << 43
    /// Greatest write counter a record can hold: 40 bits, 35 years at 1,000 writes/s of one actor without a restart.
    package static let seqMax: UInt64 = 1 << 40 - 1

    @inlinable
    package init(ms: Millis, uid: ActorUID, seq: UInt64) {
        self.ms = ms
        self.uid = uid
        self.seq = seq
    }

    @inlinable
    package static func < (a: Version, b: Version) -> Bool {
        if a.ms != b.ms { return a.ms < b.ms }
        if a.uid != b.uid { return a.uid < b.uid }
        return a.seq < b.seq
    }

    /// The time of a clock in a timestamp.
    @inlinable
    package static func clockMillis(_ ms: Millis) -> Millis { ms & ~restamped }

    /// False for what no record can hold and no honest peer sends.
    package var isStorable: Bool { ms >= 0 && ms <= Version.msMax && seq <= Version.seqMax }

    package var description: String { "\(ms)@\(uid)#\(seq)" }
}
