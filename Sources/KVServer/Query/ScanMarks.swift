// The keys that cursors handed out lately stand for: a scan goes on at once, on whichever actor of the server its next
// call arrives, and behind a key that is gone since. Any thread.

import KVBase
import KVCore
import Synchronization

/// Each mark has one place; a later one takes it. What is not remembered is looked for (ScanSearch). The lock is taken
/// by SCAN only, for as long as a key is copied.
package final class ScanMarks: Sendable {
    private static let places = 4096
    /// Longer keys are not remembered: together at most a megabyte.
    private static let keyBytesMax = 256

    private struct Entry {
        var number: UInt64 = 0
        var key = Bytes([])
    }

    private let entries = Mutex([Entry](repeating: Entry(), count: ScanMarks.places))

    func remember(_ mark: KeyMark, _ key: UnsafeRawBufferPointer) {
        guard key.count <= ScanMarks.keyBytesMax else { return }
        let entry = Entry(number: mark.number, key: Bytes(key))
        entries.withLock { $0[ScanMarks.place(mark)] = entry }
    }

    func key(_ mark: KeyMark) -> Bytes? {
        entries.withLock {
            let entry = $0[ScanMarks.place(mark)]
            return entry.number == mark.number ? entry.key : nil
        }
    }

    private static func place(_ mark: KeyMark) -> Int { Int(mark.number % UInt64(places)) }
}
