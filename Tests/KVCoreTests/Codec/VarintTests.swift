// Integers of frames and files: each length, at each distance from the end, and what is none.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite struct VarintTests {
    private func read(_ bytes: [UInt8], from: Int = 0) -> (value: UInt64, at: Int, failed: Bool) {
        bytes.withUnsafeBytes { bytes in
            var reader = VarintReader(bytes, from: from)
            return (reader.varint(), reader.at, reader.failed)
        }
    }

    @Test func whatIsWrittenIsReadWhateverFollows() {
        var values: [UInt64] = [0, .max]
        for bit in 0..<64 { values += [1 << UInt64(bit), 1 << UInt64(bit) - 1, UInt64.max >> UInt64(bit)] }
        var random = PRNG(seed: 5)
        for bit in 0..<64 { values.append(random.next() >> UInt64(bit)) }
        var out = OutputBuffer()
        defer { out.deallocate() }
        for value in values {
            for (behind, byte) in [(0, UInt8(0)), (1, 0xFF), (7, 0x80), (8, 0), (20, 0xFF)] {
                out.count = 0
                out.appendVarint(value)
                let length = out.count
                let (whole, zigzag) = (Array(out.bytes), Int64(bitPattern: value))
                let found = read(whole + [UInt8](repeating: byte, count: behind))
                #expect(found == (value, length, false), "\(value) with \(behind) behind it")
                // Each beginning of it is none.
                for count in 0..<length { #expect(read(Array(whole[..<count])).failed) }
                // More bytes than it needs.
                if length < 9 {
                    let padded = whole.dropLast() + [whole[length - 1] | 0x80, 0x80, 0]
                    #expect(read(padded + [UInt8](repeating: byte, count: behind)) == (value, length + 2, false))
                }
                out.count = 0
                out.appendZigzag(zigzag)
                var reader = VarintReader(out.bytes)
                #expect(reader.zigzag() == zigzag && !reader.failed && reader.remaining == 0)
            }
        }
    }

    @Test func whatIsLongerThanAWordIsRefusedAndSoIsWhatFollows() {
        let nine = [UInt8](repeating: 0xFF, count: 9)
        #expect(read(nine + [1]) == (.max, 10, false))
        for last: UInt8 in [2, 0x7F, 0x80, 0xFF] {
            (nine + [last, 1, 1, 1]).withUnsafeBytes { bytes in
                var reader = VarintReader(bytes)
                #expect(reader.varint() == 0 && reader.failed)
                #expect(reader.varint() == 0 && reader.byte() == 0 && reader.fixed32() == 0 && reader.failed)
            }
        }
    }
}
