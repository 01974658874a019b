// Reading and writing the integers of frames: bounds-checked, never trusting a length. Plain values, any thread.

import KVBase

extension OutputBuffer {
    /// LEB128: seven bits a byte, low first.
    @inline(__always)
    mutating func appendVarint(_ value: UInt64) {
        put(atMost: 10) { $0.putVarint(value) }
    }

    /// Small magnitudes of either sign in few bytes.
    @inline(__always)
    mutating func appendZigzag(_ value: Int64) { put(atMost: 10) { $0.putZigzag(value) } }

    mutating func appendFixed32(_ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { append($0) }
    }

    mutating func appendFixed64(_ value: UInt64) { put(atMost: 8) { $0.putFixed64(value) } }

    @inline(__always)
    private mutating func put(atMost bytes: Int, _ body: (inout BytesEnd) -> Void) {
        reserve(bytes)
        var end = BytesEnd(base + count)
        body(&end)
        count = end.at - base
    }
}

/// Where the next byte goes. Whoever puts some has seen to it that there is room.
struct BytesEnd {
    private(set) var at: UnsafeMutableRawPointer

    @inline(__always)
    init(_ at: UnsafeMutableRawPointer) { self.at = at }

    @inline(__always)
    mutating func put(_ byte: UInt8) {
        at.storeBytes(of: byte, as: UInt8.self)
        at += 1
    }

    @inline(__always)
    mutating func putVarint(_ value: UInt64) {
        var value = value
        while value >= 0x80 {
            put(UInt8(truncatingIfNeeded: value) | 0x80)
            value &>>= 7
        }
        put(UInt8(truncatingIfNeeded: value))
    }

    @inline(__always)
    mutating func putZigzag(_ value: Int64) { putVarint(UInt64(bitPattern: value &<< 1 ^ value &>> 63)) }

    @inline(__always)
    mutating func putFixed64(_ value: UInt64) {
        at.storeBytes(of: value.littleEndian, as: UInt64.self)
        at += 8
    }

    @inline(__always)
    mutating func put(_ bytes: UnsafeRawPointer, _ count: Int) {
        at.copyMemory(from: bytes, byteCount: count)
        at += count
    }
}

/// A cursor over received bytes. After the first read beyond the end, or of a malformed integer, `failed` stays set and
/// every read returns zero, so that callers check once per structure.
struct VarintReader {
    let bytes: UnsafeRawBufferPointer
    var at: Int
    let end: Int
    var failed = false

    init(_ bytes: UnsafeRawBufferPointer, from: Int = 0, to: Int? = nil) {
        self.bytes = bytes
        at = from
        end = to ?? bytes.count
    }

    var remaining: Int { end &- at }

    @inline(__always)
    mutating func byte() -> UInt8 {
        guard at < end else {
            failed = true
            return 0
        }
        defer { at &+= 1 }
        return bytes[at]
    }

    @inline(__always)
    mutating func varint() -> UInt64 {
        if at < end {
            let first = bytes[at]
            if first < 0x80 {
                at &+= 1
                return UInt64(first)
            }
        }
        let (value, next) = VarintReader.long(bytes, from: at, to: end)
        if next < 0 {
            (failed, at) = (true, end)
            return 0
        }
        at = next
        return value
    }

    /// One of any length, and where it ends; negative if it is malformed or does not end before `end`.
    @inline(never)
    private static func long(_ bytes: UnsafeRawBufferPointer, from: Int, to end: Int) -> (value: UInt64, next: Int) {
        if end &- from >= 8 {
            let word = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: from, as: UInt64.self))
            let last = ~word & 0x8080_8080_8080_8080
            if last != 0 {
                // What is behind the last byte goes, and the seven bits of each byte come together.
                var value = word & (last ^ (last &- 1)) & 0x7F7F_7F7F_7F7F_7F7F
                value = value & 0x007F_007F_007F_007F | (value & 0x7F00_7F00_7F00_7F00) &>> 1
                value = value & 0x0000_3FFF_0000_3FFF | (value & 0x3FFF_0000_3FFF_0000) &>> 2
                value = value & 0x0000_0000_0FFF_FFFF | (value & 0x0FFF_FFFF_0000_0000) &>> 4
                return (value, from &+ last.trailingZeroBitCount / 8 &+ 1)
            }
        }
        var (value, shift, at) = (UInt64(0), UInt64(0), from)
        while at < end {
            let byte = bytes[at]
            if shift == 63, byte > 1 { break }
            value |= UInt64(byte & 0x7F) &<< shift
            at &+= 1
            if byte < 0x80 { return (value, at) }
            shift &+= 7
        }
        return (0, -1)
    }

    @inline(__always)
    mutating func zigzag() -> Int64 {
        let raw = varint()
        return Int64(bitPattern: raw &>> 1) ^ -Int64(bitPattern: raw & 1)
    }

    mutating func fixed32() -> UInt32 {
        guard remaining >= 4 else {
            failed = true
            return 0
        }
        defer { at &+= 4 }
        return UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }

    mutating func fixed64() -> UInt64 {
        guard remaining >= 8 else {
            failed = true
            return 0
        }
        defer { at &+= 8 }
        return UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    }

    /// A number of things of at least `bytesEach` bytes that are said to follow: refused if they cannot.
    mutating func count(bytesEach: Int) -> Int {
        let value = varint()
        guard !failed, value <= UInt64(remaining / bytesEach) else {
            failed = true
            return 0
        }
        return Int(value)
    }

    mutating func run(_ count: Int) -> UnsafeRawBufferPointer {
        guard count >= 0, count <= remaining else {
            failed = true
            return UnsafeRawBufferPointer(start: nil, count: 0)
        }
        defer { at &+= count }
        return UnsafeRawBufferPointer(rebasing: bytes[at..<(at &+ count)])
    }
}
