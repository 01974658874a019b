// Many bulk strings written in a row, such as the keys and values of a listing. Called by the server; any thread.

public import KVBase

/// Writes into the room an OutputBuffer has reserved, without looking at the buffer until the end: where the next byte
/// goes stays in a register, which every store through the buffer itself would make the processor read again.
@usableFromInline package struct BulkWriter {
    /// Room a bulk string of `n` bytes takes is at most `n` and this.
    @usableFromInline package static let overheadBytes = 32

    @usableFromInline var at: UnsafeMutableRawPointer

    @inlinable @inline(__always)
    init(_ at: UnsafeMutableRawPointer) { self.at = at }

    /// A bulk string of `n` bytes. O(n).
    @inlinable @inline(__always)
    package mutating func bulk(_ p: UnsafeRawPointer, _ n: Int) {
        header(n)
        copyBytes(p, n)
        at.storeBytes(of: UInt16(0x0A0D).littleEndian, as: UInt16.self)
        at += 2
    }

    /// "$n\r\n"
    @inlinable @inline(__always)
    mutating func header(_ n: Int) {
        let number = UInt64(truncatingIfNeeded: n)
        if n < 10 {
            word(0x0A0D_0024 | (48 &+ number) &<< 8, 4)
        } else if n < 100 {
            let tens = (number &* 103) &>> 10
            word(0x0A_0D00_0024 | (48 &+ tens) &<< 8 | (48 &+ number &- tens &* 10) &<< 16, 5)
        } else {
            longHeader(n)
        }
    }

    @inlinable @inline(__always)
    mutating func word(_ word: UInt64, _ n: Int) {
        at.storeBytes(of: word.littleEndian, as: UInt64.self)
        at += n
    }

    @usableFromInline
    mutating func longHeader(_ n: Int) {
        var digits = 1
        var probe = n
        while probe >= 10 {
            probe /= 10
            digits += 1
        }
        at.storeBytes(of: UInt8(ascii: "$"), as: UInt8.self)
        var left = n
        for place in stride(from: digits, to: 0, by: -1) {
            at.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: left % 10), toByteOffset: place, as: UInt8.self)
            left /= 10
        }
        at += digits + 1
        at.storeBytes(of: UInt16(0x0A0D).littleEndian, as: UInt16.self)
        at += 2
    }

    /// Short strings without a call: pieces of 16 bytes, the last one overlapping.
    @inlinable @inline(__always)
    mutating func copyBytes(_ p: UnsafeRawPointer, _ n: Int) {
        if n >= 16, n <= 64 {
            piece(p, 0)
            if n > 32 {
                piece(p, 16)
                if n > 48 { piece(p, 32) }
            }
            piece(p, n &- 16)
        } else {
            at.copyMemory(from: p, byteCount: n)
        }
        at += n
    }

    @inlinable @inline(__always)
    func piece(_ p: UnsafeRawPointer, _ offset: Int) {
        at.storeBytes(
            of: p.loadUnaligned(fromByteOffset: offset, as: SIMD2<UInt64>.self), toByteOffset: offset,
            as: SIMD2<UInt64>.self)
    }
}

extension OutputBuffer {
    /// Lets `body` write bulk strings: `count` of them with `bytes` bytes together, at most.
    @inlinable @inline(__always)
    package mutating func bulks(_ count: Int, bytes: Int, _ body: (inout BulkWriter) -> Void) {
        reserve(bytes &+ count &* BulkWriter.overheadBytes)
        var writer = BulkWriter(base + self.count)
        body(&writer)
        self.count = base.distance(to: writer.at)
    }
}
