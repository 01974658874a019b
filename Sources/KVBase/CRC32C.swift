// CRC32C (Castagnoli) of frames and log records. Pure, any thread. Software, eight tables: about 1.5 bytes per ns.

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

/// Checksum of `bytes`, continuing from `crc` (0 to start), as in RFC 3720 appendix B.4. O(bytes).
package func crc32c(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
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
