// Bytes that lie in memory of somebody else: arguments, keys, values on the request path. A value; as long as they do.

/// Where some bytes lie: two words, passed in registers. Valid until their owner moves or frees them.
@usableFromInline package struct ByteView {
    @usableFromInline package var start: UnsafeRawPointer
    /// Below 0 where it says so: there are none.
    @usableFromInline package var count: Int

    @inlinable @inline(__always)
    package init(_ start: UnsafeRawPointer, _ count: Int) { (self.start, self.count) = (start, count) }

    /// An empty buffer may have no address: then one that is never read stands for it.
    @inlinable @inline(__always)
    package init(_ bytes: UnsafeRawBufferPointer) {
        let nowhere = UnsafeRawPointer(bitPattern: 16).unsafelyUnwrapped
        self.init(bytes.baseAddress ?? nowhere, bytes.count)
    }

    @inlinable @inline(__always)
    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }
}
