// The shares of records in the digest: the same on every processor, another for everything that differs by a bit.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct RecordDigestTests {
    static let uid = ActorUID(server: 0x0123_4567_89AB_CDEF, index: 7)

    /// What a record says, to be changed in one place.
    struct Content {
        var key: [UInt8]
        var value: [UInt8]?
        var version: Version

        func term(secret: UInt64 = 5, isSoftware: Bool = false) -> UInt64 {
            let origins = OriginTable()
            let own = origins.intern(ActorUID(server: 1, index: 1))!
            let digest = RecordDigest(
                secret: secret, own: own, origins: origins,
                isSoftware: isSoftware || !RecordDigest.isHardwareAble)
            defer { digest.deallocate() }
            let record = Record.make(Bytes(key), value.map { Bytes($0) }, version, origins)
            defer { record.release() }
            return digest.term(record)
        }
    }

    static func bytes(_ count: Int, _ random: inout PRNG) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    static func content(_ key: Int, _ value: Int, _ random: inout PRNG) -> Content {
        Content(
            key: bytes(key, &random), value: bytes(value, &random),
            version: Version(
                ms: Millis(random.below(Int(Version.msMax))),
                uid: ActorUID(server: random.next(), index: UInt16(truncatingIfNeeded: random.next())),
                seq: UInt64(random.below(Int(Version.seqMax)))))
    }

    @Test func theInstructionAndItsReplacementAgree() {
        var random = PRNG(seed: 1)
        for length in 0...200 {
            for content in [
                RecordDigestTests.content(length, random.below(201), &random),
                RecordDigestTests.content(random.below(201), length, &random),
            ] {
                #expect(content.term() == content.term(isSoftware: true))
            }
        }
        for (key, value) in [(256, 3), (5000, 300), (16, 1023), (16, 1024), (300, 5000)] {
            let content = RecordDigestTests.content(key, value, &random)
            #expect(content.term() == content.term(isSoftware: true), "\(key) \(value)")
        }
        var dead = RecordDigestTests.content(20, 0, &random)
        dead.value = nil
        #expect(dead.term() == dead.term(isSoftware: true))
    }

    /// As found on x86-64, with the instruction and without: other processors have to find the same.
    @Test(arguments: [false, true]) func sharesAreTheSameOnEveryProcessor(isSoftware: Bool) {
        let version = Version(ms: 1_790_000_000_000, uid: RecordDigestTests.uid, seq: 1234)
        let shapes: [(Int, Int?, UInt64)] = [
            (0, 0, 0xBFE3_7DA8_38D4_84DB), (5, 3, 0xF246_BBEC_84C0_EA2C),
            (16, 64, 0x2F88_AF79_640D_550A), (40, 17, 0xCAE8_34D5_81D6_71AC),
            (16, nil, 0x6B00_2A98_208B_B40E), (300, 900, 0x1BCC_6394_53EB_F057),
            (16, 2000, 0x85E6_334E_A351_3969),
        ]
        for (key, value, expected) in shapes {
            let content = Content(
                key: (0..<key).map { UInt8(truncatingIfNeeded: $0 &* 7) },
                value: value.map { (0..<$0).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ 1) } }, version: version)
            #expect(content.term(isSoftware: isSoftware) == expected, "\(key) \(value ?? -1)")
        }
    }

    /// Writing in place returns what the share changes by, whichever way it is computed, and leaves the same record.
    @Test(arguments: [false, true]) func overwritingChangesTheShareByWhatIsReturned(isSoftware: Bool) {
        var random = PRNG(seed: 2)
        let origins = OriginTable()
        let own = origins.intern(RecordDigestTests.uid)!
        let other = origins.intern(ActorUID(server: 2, index: 2))!
        let digest = RecordDigest(
            secret: 5, own: own, origins: origins, isSoftware: isSoftware || !RecordDigest.isHardwareAble)
        defer { digest.deallocate() }
        for length in 0...255 {
            for (keyCount, valueCount) in [(length, random.below(256)), (random.below(256), length)] {
                let writer = random.chance(0.5) ? own : other
                var content = RecordDigestTests.content(keyCount, valueCount, &random)
                content.version.uid = origins.uid(writer)
                let record = Record.make(Bytes(content.key), Bytes(content.value!), content.version, origins)
                let before = digest.term(record)
                let value = RecordDigestTests.bytes(valueCount, &random)
                let version = Version(
                    ms: content.version.ms / 2, uid: content.version.uid, seq: content.version.seq / 3)
                let change = (value + [0]).withUnsafeBytes {
                    digest.overwrite(record, value: $0.baseAddress!, ms: version.ms, origin: writer, seq: version.seq)
                }
                #expect(digest.term(record) &- before == change, "\(keyCount) \(valueCount)")
                #expect(Bytes(record.key).array == content.key && Bytes(record.value).array == value)
                #expect(record.version(origins) == version && record.referenceCount == 1)
                record.release()
            }
        }
    }

    @Test(arguments: [(0, 0), (1, 1), (7, 15), (16, 16), (17, 33), (16, 64), (40, 200), (300, 1000), (16, 1025)])
    func everyBitCounts(_ lengths: (Int, Int)) {
        var random = PRNG(seed: 3)
        let content = RecordDigestTests.content(lengths.0, lengths.1, &random)
        var seen: Set<UInt64> = [content.term()]
        func expectNew(_ what: String, _ change: (inout Content) -> Void) {
            var other = content
            change(&other)
            #expect(seen.insert(other.term()).inserted, "\(what)")
        }
        for bit in 0..<(content.key.count * 8) {
            expectNew("key \(bit)") { $0.key[bit / 8] ^= 1 << UInt8(bit % 8) }
        }
        for bit in 0..<(content.value!.count * 8) {
            expectNew("value \(bit)") { $0.value![bit / 8] ^= 1 << UInt8(bit % 8) }
        }
        for bit in 0..<44 { expectNew("ms \(bit)") { $0.version.ms ^= 1 << Millis(bit) } }
        for bit in 0..<40 { expectNew("seq \(bit)") { $0.version.seq ^= 1 << UInt64(bit) } }
        for bit in 0..<64 { expectNew("server \(bit)") { $0.version.uid.server ^= 1 << UInt64(bit) } }
        for bit in 0..<16 { expectNew("actor \(bit)") { $0.version.uid.index ^= 1 << UInt16(bit) } }
        expectNew("tombstone") { $0.value = nil }
        if lengths.1 > 0 { expectNew("no value") { $0.value = [] } }
        for more in 1...40 { expectNew("longer key \(more)") { $0.key += [UInt8](repeating: 0, count: more) } }
        for more in 1...40 { expectNew("longer value \(more)") { $0.value! += [UInt8](repeating: 0, count: more) } }
        #expect(seen.insert(content.term(secret: 6)).inserted, "the secret")
    }

    /// What one and the same byte or block everywhere could hide.
    @Test func uniformContentIsToldApart() {
        var seen: Set<UInt64> = []
        let version = Version(ms: 1000, uid: RecordDigestTests.uid, seq: 1)
        for length in 0...200 {
            for byte: UInt8 in [0, 1, 255] where length > 0 || byte == 0 {
                let same = [UInt8](repeating: byte, count: length)
                #expect(seen.insert(Content(key: same, value: same, version: version).term()).inserted, "key = value")
                if length > 0 {
                    #expect(seen.insert(Content(key: same, value: [], version: version).term()).inserted)
                    #expect(seen.insert(Content(key: [], value: same, version: version).term()).inserted)
                }
            }
        }
        var random = PRNG(seed: 4)
        let blocks = (0..<4).map { _ in RecordDigestTests.bytes(16, &random) }
        for a in blocks {
            for b in blocks {
                for c in blocks {
                    #expect(seen.insert(Content(key: a, value: b + c + b, version: version).term()).inserted)
                }
            }
        }
    }

    /// Each bit of the share changes with about half of all changes of one bit, of whatever part.
    @Test func sharesAreSpreadEvenly() {
        var random = PRNG(seed: 5)
        var flips = [Int](repeating: 0, count: 64)
        var ones = [Int](repeating: 0, count: 64)
        var rounds = 0
        for _ in 0..<400 {
            let content = RecordDigestTests.content(16, 64, &random)
            let term = content.term()
            for part in 0..<5 {
                var other = content
                switch part {
                case 0: other.key[random.below(16)] ^= 1 << UInt8(random.below(8))
                case 1: other.value![random.below(64)] ^= 1 << UInt8(random.below(8))
                case 2: other.version.ms ^= 1 << Millis(random.below(43))
                case 3: other.version.seq ^= 1 << UInt64(random.below(39))
                default: other.version.uid.server ^= 1 << UInt64(random.below(64))
                }
                let next = other.term()
                for bit in 0..<64 {
                    flips[bit] += Int((term ^ next) >> UInt64(bit) & 1)
                    ones[bit] += Int(next >> UInt64(bit) & 1)
                }
                rounds += 1
            }
        }
        // Five standard deviations of 2,000 coins are 112.
        for bit in 0..<64 {
            #expect(abs(flips[bit] - rounds / 2) < 112 && abs(ones[bit] - rounds / 2) < 112, "bit \(bit)")
        }
    }

    /// Stores that count up keys, values and versions: no pattern of theirs is left in the shares.
    @Test func countingUpLeavesNoPattern() {
        var low = [Int](repeating: 0, count: 256)
        var high = [Int](repeating: 0, count: 256)
        let count = 25_600
        let origins = OriginTable()
        let own = origins.intern(RecordDigestTests.uid)!
        let digest = RecordDigest(secret: 5, own: own, origins: origins)
        defer { digest.deallocate() }
        for i in 0..<count {
            let text = Bytes("key:\(100_000_000_000 + i)")
            let version = Version(ms: 1_790_000_000_000 + Millis(i), uid: RecordDigestTests.uid, seq: UInt64(i))
            let record = Record.make(text, text, version, origins)
            let term = digest.term(record)
            record.release()
            low[Int(term & 255)] += 1
            high[Int(term >> 56)] += 1
        }
        // Chi squared of 255 degrees of freedom: 255 on average, with a deviation of 22.6.
        for counts in [low, high] {
            let chi = counts.reduce(0.0) { $0 + Double(($1 - 100) * ($1 - 100)) / 100 }
            #expect(chi > 160 && chi < 370)
        }
    }
}
