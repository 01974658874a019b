// Keys that begin with the byte 0xFF: the second byte says what they belong to. Counted by it. One thread.

import KVBase

/// How often each second byte occurs among the shown keys that begin with 0xFF, and among those with a deadline.
struct MarkedCounts {
    private let counts: UnsafeMutablePointer<Int>

    init() {
        counts = .allocate(capacity: 512)
        counts.initialize(repeating: 0, count: 512)
    }

    func deallocate() { counts.deallocate() }

    subscript(_ second: UInt8) -> Int { counts[Int(second)] }
    func volatile(_ second: UInt8) -> Int { counts[256 + Int(second)] }

    func note(_ record: Record, _ sign: Int, isVolatile: Bool) {
        counts[Int(record.secondByte)] &+= sign
        if isVolatile { counts[256 + Int(record.secondByte)] &+= sign }
    }
}

extension Store {
    /// The first byte of a key that is marked: with the second one it says what the key belongs to.
    package static var mark: UInt8 { 0xFF }

    /// Shown keys that begin with the mark and this byte, and those of them with a deadline. O(1).
    package func count(marked second: UInt8) -> Int { state.pointee.marked[second] }
    package func volatileCount(marked second: UInt8) -> Int { state.pointee.marked.volatile(second) }

    /// Whatever belongs to a key here: its record, deleted or expired too, its deadline where that was set apart, and
    /// what actors have added to it, each with the hash of its own key. O(key), and O(parts).
    package func eachRecord(of key: HashedKey, _ visit: (Record, UInt64) -> Void) {
        guard let record = find(key) else { return }
        visit(record, key.hash)
        if let companion = escort(record, key.hash) { visit(companion.record, companion.hash) }
        if hasCompanions { forEachPart(key.view, key.hash) { _, part, hash in visit(part.record, hash) } }
    }

    /// Whether a key has this very record here, and none beside it. O(1).
    package func hasAlone(_ record: Record, _ hash: UInt64) -> Bool {
        state.pointee.table.findUnmarked(record.keyView, place(hash))?.record == record
    }
}

extension Record {
    /// Whether the key begins with `Store.mark`.
    @inline(__always)
    var isMarked: Bool {
        let start = keyPointer
        return keyCount > 1 && start.load(as: UInt8.self) == Store.mark
    }

    var secondByte: UInt8 { keyPointer.load(fromByteOffset: 1, as: UInt8.self) }
}
