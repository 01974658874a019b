// CRC32C (Castagnoli) of frames and log records. Pure, any thread. The processor's instruction where it has one (about
// 15 bytes per ns), else eight tables (about 1.5).

import CIntrinsics

private let tables: [UInt32] = {
    var t = [UInt32](repeating: 0, count: 8 * 256)
    for i in 0..<256 {
        var crc = UInt32(i)
        for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
        t[i] = crc
    }
    for i in 0..<256 {
        for k in 1..<8 {
            let previous = t[(k - 1) * 256 + i]
            t[k * 256 + i] = (previous >> 8) ^ t[Int(previous & 0xFF)]
        }
    }
    return t
}()

/// Moves a register over `CI_CRC_LANE` zero bytes: the map is linear, so 32 single bits determine it.
private let laneShift: [UInt32] = {
    let bits = (0..<32).map { bit in
        (0..<Int(CI_CRC_LANE)).reduce(UInt32(1) << UInt32(bit)) { crc, _ in (crc >> 8) ^ tables[Int(crc & 0xFF)] }
    }
    var shift = [UInt32](repeating: 0, count: 4 * 256)
    for i in 0..<4 * 256 {
        for bit in 0..<8 where i >> bit & 1 == 1 { shift[i] ^= bits[i / 256 * 8 + bit] }
    }
    return shift
}()

private let hasInstruction = ci_crc32c_is_hardware() != 0

/// Checksum of `bytes`, continuing from `crc` (0 to start), as in RFC 3720 appendix B.4. O(bytes).
package func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
    guard hasInstruction else { return crc32cByTables(bytes, continuing: crc) }
    guard let base = bytes.baseAddress else { return crc }
    return laneShift.withUnsafeBufferPointer { shift in
        ~ci_crc32c_hardware(base, UInt(bytes.count), ~crc, shift.baseAddress)
    }
}

/// The checksum of what has the first one, followed by so many bytes that have the second one: a message may be summed
/// from the middle on, and its beginning later. O(log bytes).
package func crc32cJoined(_ first: UInt32, _ second: UInt32, bytes: Int) -> UInt32 {
    // Bytes behind multiply by a power of x, modulo the polynomial; the highest bit stands for x to the power of 0.
    func product(_ a: UInt32, _ b: UInt32) -> UInt32 {
        var (sum, b) = (UInt32(0), b)
        for bit in 0..<32 {
            if a >> UInt32(31 - bit) & 1 == 1 { sum ^= b }
            b = b & 1 == 1 ? b >> 1 ^ 0x82F6_3B78 : b >> 1
        }
        return sum
    }
    var (power, square, left) = (UInt32(1) << 31, UInt32(1) << 23, bytes)
    while left > 0 {
        if left & 1 == 1 { power = product(power, square) }
        square = product(square, square)
        left >>= 1
    }
    return product(power, first) ^ second
}

/// The same on a processor without the instruction; the tests compare the two.
package func crc32cByTables(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    return tables.withUnsafeBufferPointer { t in
        var c = ~crc
        var i = 0
        while i + 8 <= bytes.count {
            let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: i, as: UInt64.self)) ^ UInt64(c)
            c = t[7 * 256 + Int(word & 0xFF)] ^ t[6 * 256 + Int(word >> 8 & 0xFF)]
            c ^= t[5 * 256 + Int(word >> 16 & 0xFF)] ^ t[4 * 256 + Int(word >> 24 & 0xFF)]
            c ^= t[3 * 256 + Int(word >> 32 & 0xFF)] ^ t[2 * 256 + Int(word >> 40 & 0xFF)]
            c ^= t[256 + Int(word >> 48 & 0xFF)] ^ t[Int(word >> 56)]
            i += 8
        }
        while i < bytes.count {
            c = (c >> 8) ^ t[Int((c ^ UInt32(base.load(fromByteOffset: i, as: UInt8.self))) & 0xFF)]
            i += 1
        }
        return ~c
    }
}
