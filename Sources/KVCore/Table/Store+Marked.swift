// Keys that begin with the byte 0xFF: the second byte says what they belong to. Counted by it. One thread.

package import KVBase

/// How often each second byte occurs among the live keys that begin with 0xFF.
struct MarkedCounts {
    private let counts: UnsafeMutablePointer<Int>

    init() {
        counts = .allocate(capacity: 256)
        counts.initialize(repeating: 0, count: 256)
    }

    func deallocate() { counts.deallocate() }

    subscript(_ second: UInt8) -> Int {
        get { counts[Int(second)] }
        nonmutating set { counts[Int(second)] = newValue }
    }
}

extension Store {
    /// The first byte of a key that is marked: with the second one it says what the key belongs to.
    package static var mark: UInt8 { 0xFF }

    /// Live keys that begin with the mark and this byte. O(1).
    package func count(marked second: UInt8) -> Int { state.pointee.marked[second] }
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
