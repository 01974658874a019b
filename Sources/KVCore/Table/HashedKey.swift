// A key with its hash, as every look-up takes it. A value; one thread.

public import KVBase

/// Made by `Store.key`, so that a key is hashed once however often it is looked up, by whichever sibling.
@usableFromInline package struct HashedKey {
    @usableFromInline package var view: ByteView
    /// That of `Store.hash`: the same in all stores with one seed.
    @usableFromInline package var hash: UInt64

    /// For whoever has the hash already.
    @inlinable @inline(__always)
    package init(_ view: ByteView, hash: UInt64) { (self.view, self.hash) = (view, hash) }

    /// The key of a record.
    @inlinable @inline(__always)
    package init(_ record: Record, hash: UInt64) { self.init(record.keyView, hash: hash) }
}

extension Store {
    /// A key and its hash. O(key).
    package func key(_ view: ByteView) -> HashedKey { HashedKey(view, hash: hash(view)) }
    package func key(_ bytes: UnsafeRawBufferPointer) -> HashedKey { key(ByteView(bytes)) }
}
