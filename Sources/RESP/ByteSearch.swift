// Looks for one byte, eight at a time; RESP has no C library to ask. Pure, any thread.

/// Offset of the first `byte` in the `count` bytes at `start`, or `count` if there is none. O(count), about 4 bytes
/// per ns.
func indexOfByte(_ byte: UInt8, _ start: UnsafeRawPointer, _ count: Int) -> Int {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let pattern = ones &* UInt64(byte)
    var at = 0
    while at &+ 8 <= count {
        let difference = (start + at).loadUnaligned(as: UInt64.self).littleEndian ^ pattern
        // The lowest set bit marks the first zero byte exactly; only bits above it can be false.
        let zeros = (difference &- ones) & ~difference & (ones &<< 7)
        if zeros != 0 { return at &+ zeros.trailingZeroBitCount &>> 3 }
        at &+= 8
    }
    while at < count {
        if start.load(fromByteOffset: at, as: UInt8.self) == byte { return at }
        at &+= 1
    }
    return count
}
