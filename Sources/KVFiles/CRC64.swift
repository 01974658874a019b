// The checksum at the end of an RDB file. A value, any thread.

private let crc64Tables: [UInt64] = {
    var tables = [UInt64](repeating: 0, count: 8 * 256)
    for i in 0..<256 {
        var crc = UInt64(i)
        for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x95AC_9329_AC4B_C9B5 : crc >> 1 }
        tables[i] = crc
    }
    for i in 0..<256 {
        for k in 1..<8 {
            let previous = tables[(k - 1) * 256 + i]
            tables[k * 256 + i] = (previous >> 8) ^ tables[Int(previous & 0xFF)]
        }
    }
    return tables
}()

/// The Jones polynomial 0xAD93D23594C935A9, reflected; begins with 0 and is not inverted.
package struct CRC64: Equatable, Sendable {
    package private(set) var value: UInt64 = 0

    package init() {}

    /// O(bytes), 8 at a time.
    package mutating func add(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        crc64Tables.withUnsafeBufferPointer { t in
            var crc = value
            var at = 0
            while at + 8 <= bytes.count {
                let word = crc ^ UInt64(littleEndian: base.loadUnaligned(fromByteOffset: at, as: UInt64.self))
                crc = t[7 * 256 + Int(word & 0xFF)] ^ t[6 * 256 + Int(word >> 8 & 0xFF)]
                crc ^= t[5 * 256 + Int(word >> 16 & 0xFF)] ^ t[4 * 256 + Int(word >> 24 & 0xFF)]
                crc ^= t[3 * 256 + Int(word >> 32 & 0xFF)] ^ t[2 * 256 + Int(word >> 40 & 0xFF)]
                crc ^= t[256 + Int(word >> 48 & 0xFF)] ^ t[Int(word >> 56)]
                at += 8
            }
            while at < bytes.count {
                crc = (crc >> 8) ^ t[Int((crc ^ UInt64(base.load(fromByteOffset: at, as: UInt8.self))) & 0xFF)]
                at += 1
            }
            value = crc
        }
    }
}
