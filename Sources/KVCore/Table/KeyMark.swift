// A key as a number that every client can hold: cursors of SCAN. Values: any thread; finding one again: the store's.

package import KVBase

/// Stands for one key, on every server: 38 bits of a hash that all servers share, and in which 16,384th of all keys it
/// stood, in key order, where the mark was made. The hash tells the key; the share tells where to look for it, as it is
/// nearly the same on every replica. Below 2^53, which clients that keep cursors in a double need, and never 0.
///
/// The hash needs no secret: who makes two keys of one mark on purpose can repeat or skip what lies between his own.
package struct KeyMark: Equatable, Sendable {
    package static let shares = 1 << 14
    private static let hashBits: UInt64 = 38
    private static let flag: UInt64 = 1 << 52
    private static let seed: UInt64 = 0x6B76_6420_7363_616E

    package let number: UInt64

    init(_ key: UnsafeRawBufferPointer, share: Int) {
        check(share >= 0 && share < KeyMark.shares)
        number = KeyMark.flag | UInt64(share) &<< KeyMark.hashBits | KeyMark.hash(key)
    }

    /// Nil for a number that no mark has.
    package init?(number: UInt64) {
        guard number &>> 52 == 1 else { return nil }
        self.number = number
    }

    package var share: Int { Int((number & ~KeyMark.flag) &>> KeyMark.hashBits) }

    package func isOf(_ key: UnsafeRawBufferPointer) -> Bool {
        number & ((1 &<< KeyMark.hashBits) - 1) == KeyMark.hash(key)
    }

    private static func hash(_ key: UnsafeRawBufferPointer) -> UInt64 {
        guard let start = key.baseAddress else { return 0 }
        return hashBytes(start, key.count, seed: seed) &>> (64 &- hashBits)
    }
}

extension Store {
    /// O(log n).
    package func mark(_ key: UnsafeRawBufferPointer) -> KeyMark {
        KeyMark(key, share: state.pointee.index.share(of: key))
    }

    /// A key that is not behind any of the `share`-th 16,384th of all keys; nil where that is before all keys. It need
    /// not be there any more.
    package func bound(before share: Int) -> Bytes? {
        flushIndex()
        return state.pointee.index.bound(before: share)
    }

    /// The same, not before any of them; nil where that is behind all keys.
    package func bound(behind share: Int) -> Bytes? {
        flushIndex()
        return state.pointee.index.bound(behind: share)
    }
}

extension OrderedIndex {
    /// As far as it can be told from the nodes on the way: they hold about equally many keys.
    func share(of key: UnsafeRawBufferPointer) -> Int {
        let path = descend(key)
        let within = Double(path.index) / Double(path.node.count)
        let share = (Double(path.rootIndex) + within) / Double(root.count)
        return min(KeyMark.shares - 1, Int(share * Double(KeyMark.shares)))
    }

    /// The fence of a leaf before that of the share; a whole leaf, as a listing begins behind the key it is given.
    func bound(before share: Int) -> Bytes? {
        guard share > 0 else { return nil }
        let (rootIndex, index) = leaf(at: share)
        if index > 0 { return Bytes(root.node(rootIndex).leaf(index - 1).fence) }
        guard rootIndex > 0 else { return nil }
        let before = root.node(rootIndex - 1)
        return Bytes(before.leaf(before.count - 1).fence)
    }

    func bound(behind share: Int) -> Bytes? {
        guard share < KeyMark.shares - 1 else { return nil }
        let (rootIndex, index) = leaf(at: share + 1)
        let path = Path(rootIndex: rootIndex, index: index, node: root.node(rootIndex))
        guard let following = next(path) else { return nil }
        return Bytes(following.leaf.fence)
    }

    private func leaf(at share: Int) -> (rootIndex: Int, index: Int) {
        let place = Double(share) / Double(KeyMark.shares) * Double(root.count)
        let rootIndex = min(root.count - 1, Int(place))
        let leaves = root.node(rootIndex).count
        return (rootIndex, min(leaves - 1, Int((place - Double(rootIndex)) * Double(leaves))))
    }
}
