// KVBase: checksums, hashing, buffers, generator and how the limits relate.

import KVTestTraits
import Testing
import KVBase

@Suite(.blocking) struct CRC32CTests {
    /// The check value that RFC 3720 and every implementation give for "123456789".
    @Test func knownAnswer() {
        #expect(Bytes("123456789").withBytes { crc32c($0) } == 0xE306_9283)
        #expect(Bytes("").withBytes { crc32c($0) } == 0)
    }

    @Test func continuesOverAnySplit() {
        let whole = Bytes((0..<100).map { UInt8($0) })
        let expected = whole.withBytes { crc32c($0) }
        for cut in 0...whole.count {
            let split = whole.withBytes { p in
                crc32c(
                    UnsafeRawBufferPointer(rebasing: p[cut...]),
                    continuing: crc32c(UnsafeRawBufferPointer(rebasing: p[..<cut])))
            }
            #expect(split == expected)
        }
    }

    @Test func joinsWhatWasSummedApart() {
        var random = PRNG(seed: 12)
        let bytes = (0..<70_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        bytes.withUnsafeBytes { bytes in
            let whole = crc32c(bytes)
            for cut in [0, 1, 5, 4_096, 65_535, 65_536, 69_999, 70_000] {
                let first = crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<cut]))
                let second = crc32c(UnsafeRawBufferPointer(rebasing: bytes[cut...]))
                #expect(crc32cJoined(first, second, bytes: bytes.count - cut) == whole)
            }
        }
    }

    /// Every length around the places where the fast path changes its step, at every alignment.
    @Test func instructionAndTablesAgree() {
        var random = PRNG(seed: 11)
        let bytes = (0..<10_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let lengths = [0, 1, 7, 8, 9, 1023, 1024, 3071, 3072, 3073, 3079, 3080, 6143, 6144, 6145, 9223, 9984]
        bytes.withUnsafeBytes { bytes in
            for from in 0..<16 {
                for length in lengths {
                    let part = UnsafeRawBufferPointer(rebasing: bytes[from..<from + length])
                    let start = UInt32(truncatingIfNeeded: random.next())
                    #expect(crc32c(part, continuing: start) == crc32cByTables(part, continuing: start))
                }
            }
        }
    }
}

@Suite(.blocking) struct HashTests {
    @Test func dependsOnEveryByteLengthAndSeed() {
        for count in 0..<70 {
            let bytes = [UInt8](repeating: 7, count: count)
            let base = bytes.withUnsafeBytes {
                hashBytes($0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, count, seed: 1)
            }
            for i in 0..<count {
                var other = bytes
                other[i] ^= 1
                #expect(other.withUnsafeBytes { hashBytes($0.baseAddress!, count, seed: 1) } != base)
            }
            let reseeded = bytes.withUnsafeBytes {
                hashBytes($0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, count, seed: 2)
            }
            #expect(reseeded != base)
        }
    }
}

@Suite(.blocking) struct OutputBufferTests {
    @Test func writesDecimalsLikeTheStandardLibrary() {
        var out = OutputBuffer()
        defer { out.deallocate() }
        for value in [0, 9, 10, 99, 100, -1, -10, Int.max, Int.min, 1_234_567] {
            out.count = 0
            out.appendDecimal(value)
            #expect(String(decoding: out.bytes, as: UTF8.self) == String(value))
        }
    }

    @Test func growsAndKeepsWhatWasWritten() {
        var out = OutputBuffer(capacity: 1)
        defer { out.deallocate() }
        var model: [UInt8] = []
        for i in 0..<10_000 {
            out.append(UInt8(truncatingIfNeeded: i))
            model.append(UInt8(truncatingIfNeeded: i))
        }
        #expect(Array(out.bytes) == model)
    }
}

@Suite(.blocking) struct PRNGTests {
    @Test func sameSeedSameSequence() {
        var a = PRNG(seed: 42)
        var b = PRNG(seed: 42)
        for _ in 0..<100 { #expect(a.next() == b.next()) }
        for _ in 0..<1000 { #expect((0..<7).contains(a.below(7))) }
    }
}

@Suite(.blocking) struct LimitsTests {
    @Test func relations() {
        #expect(Limits.outputBytesMax > Limits.valueBytesMax)
        #expect(Limits.outputBytesHigh < Limits.outputBytesMax)
        // Eleven messages of one pair span at least ten gaps, which must be longer than a second.
        #expect(10 * Limits.pairSpacingMillis > 1000)
        #expect(Limits.actorsMax < 200, "a record counts its holders in one byte")
    }
}
