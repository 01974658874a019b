// A growable byte buffer that replies and frames are written into. Owned by one thread; freed by hand.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Plain pointer, count and capacity, so that passing it `inout` costs no reference counting and no exclusivity check.
/// Growth doubles; it is bounded by whoever appends (a connection stops executing when its output passes a limit).
@usableFromInline package struct OutputBuffer {
    @usableFromInline package private(set) var base: UnsafeMutableRawPointer
    @usableFromInline package var count: Int
    @usableFromInline package private(set) var capacity: Int

    package init(capacity: Int = 0) {
        self.capacity = max(capacity, 64)
        base = malloc(self.capacity) ?? outOfMemory(self.capacity)
        count = 0
    }

    /// Frees the storage; the buffer must not be used afterwards.
    package func deallocate() { free(base) }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Makes room for `extra` more bytes. Amortised O(1) per byte.
    @inlinable @inline(__always)
    package mutating func reserve(_ extra: Int) {
        if count &+ extra > capacity { grow(extra) }
    }

    @usableFromInline
    mutating func grow(_ extra: Int) {
        capacity = max(capacity * 2, count + extra)
        base = realloc(base, capacity) ?? outOfMemory(capacity)
    }

    /// As `reserve`. False if there is no memory: then nothing has changed.
    package mutating func tryReserve(_ extra: Int) -> Bool {
        guard count + extra > capacity else { return true }
        let wanted = max(capacity * 2, count + extra)
        guard let larger = realloc(base, wanted) else { return false }
        (base, capacity) = (larger, wanted)
        return true
    }

    /// As `append`. False if there is no memory: then nothing has changed.
    package mutating func tryAppend(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard tryReserve(bytes.count) else { return false }
        append(bytes)
        return true
    }

    /// Moves everything behind the first `n` bytes to the front. O(bytes left).
    package mutating func removeFirst(_ n: Int) {
        count -= n
        memmove(base, base + n, count)
    }

    /// Gives memory above `limit` back when the buffer is empty.
    package mutating func shrink(to limit: Int) {
        guard count == 0, capacity > limit else { return }
        free(base)
        capacity = limit
        base = malloc(limit) ?? outOfMemory(limit)
    }

    @inlinable @inline(__always)
    package mutating func append(_ p: UnsafeRawPointer, _ n: Int) {
        reserve(n)
        (base + count).copyMemory(from: p, byteCount: n)
        count &+= n
    }

    @inlinable @inline(__always)
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        if let p = bytes.baseAddress { append(p, bytes.count) }
    }

    @inlinable @inline(__always)
    package mutating func append(_ byte: UInt8) {
        reserve(1)
        base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
        count &+= 1
    }

    @inlinable
    package mutating func append(_ text: StaticString) {
        append(UnsafeRawPointer(text.utf8Start), text.utf8CodeUnitCount)
    }

    package mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    /// Decimal digits of `value`, no allocation.
    @inlinable
    package mutating func appendDecimal(_ value: Int) {
        reserve(20)
        if value >= 0 && value < 10 {
            base.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: value), toByteOffset: count, as: UInt8.self)
            count &+= 1
            return
        }
        var magnitude = value.magnitude
        if value < 0 { append(UInt8(ascii: "-")) }
        var digits = 1
        var probe = magnitude
        while probe >= 10 {
            probe /= 10
            digits &+= 1
        }
        var at = count &+ digits
        count = at
        repeat {
            at &-= 1
            base.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: magnitude % 10), toByteOffset: at, as: UInt8.self)
            magnitude /= 10
        } while magnitude > 0
    }
}
