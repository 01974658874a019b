// Extended records as bytes: in memory, in a frame, malformed.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ExtendedRecordTests {
    static let uid = ActorUID(server: 0x1122_3344_5566_7788, index: 3)

    private func make(
        _ key: String, _ value: String, _ addition: RecordExtension, _ origins: OriginTable, seq: UInt64 = 9
    ) -> Record {
        Bytes(key).withBytes { key in
            Bytes(value).withBytes {
                Record.create(
                    key: ByteView(key), addition, value: ByteView($0), ms: 1_780_000_000_000,
                    origin: origins.intern(ExtendedRecordTests.uid)!, seq: seq)
            }
        }
    }

    @Test(arguments: [0, 1, 200, 215, 216, 249, 250, 255, 256, 983, 984, 1_017, 1_018, 1_024, 70_000])
    func anExtendedRecordHoldsValueAndDeadline(_ count: Int) {
        let origins = OriginTable()
        let value = String(repeating: "x", count: count)
        for version in [nil, Version(ms: 77, uid: ExtendedRecordTests.uid, seq: 1 << 39)] {
            let addition = RecordExtension(deadline: RecordExtension.deadlineMax, version: version)
            let record = make("some key", value, addition, origins)
            #expect(record.isExtended && !record.isTombstone && record.addition == addition)
            #expect(record.valueCount == count && String(decoding: record.value, as: UTF8.self) == value)
            #expect(record.contentCount == count + (version == nil ? 6 : 40))
            #expect(!record.isHashed || record.contentHash == record.recomputedHash)
            let copy = record.copied(ms: record.ms, origin: record.origin, seq: record.seq)
            #expect(copy.content.elementsEqual(record.content) && copy.stampWord == record.stampWord)
            copy.release()
            record.release()
        }
    }

    /// The digest tells records apart that differ in the deadline alone, however long the value is.
    @Test(arguments: [3, 300, 3_000]) func theDeadlineCountsInTheDigest(_ count: Int) {
        let origins = OriginTable()
        let digest = RecordDigest(secret: 7, own: 0, origins: origins)
        defer { digest.deallocate() }
        var seen: Set<UInt64> = []
        for deadline: Millis in [1, 2, 1 << 20, RecordExtension.deadlineMax] {
            let record = make("k", String(repeating: "x", count: count), RecordExtension(deadline: deadline), origins)
            #expect(seen.insert(digest.term(record)).inserted)
            record.release()
        }
    }

    /// Keys that share any number of first bytes, extended and not, deleted and not.
    @Test func entriesSurviveAFrame() {
        let origins = OriginTable()
        var records: [Record] = []
        var random = PRNG(seed: 3)
        for i in 0..<200 {
            let key = String(repeating: "p", count: i % 20) + "\(random.below(3))"
            let value = String(repeating: "v", count: random.below(40))
            let version =
                random.below(3) == 0 ? Version(ms: Millis(i), uid: ExtendedRecordTests.uid, seq: UInt64(i)) : nil
            if random.below(2) == 0 {
                records.append(
                    make(key, value, RecordExtension(deadline: Millis(i * 1_000), version: version), origins))
            } else {
                records.append(
                    Record.make(
                        Bytes(key), random.below(4) == 0 ? nil : Bytes(value),
                        Version(
                            ms: 1_780_000_000_000 + Millis(i), uid: ExtendedRecordTests.uid, seq: UInt64(i)), origins))
            }
        }
        var encoder = EntryEncoder()
        var out = OutputBuffer()
        defer { out.deallocate() }
        for record in records { encoder.encode(record, origins, into: &out) }
        var decoder = EntryDecoder(from: 0, to: out.count, count: records.count, millisMax: .max)
        for record in records {
            guard let got = decoder.next(out.bytes, origins) else {
                Issue.record("malformed")
                return
            }
            #expect(got.key.elementsEqual(record.key) && got.content.elementsEqual(record.content))
            #expect(got.stampWord == record.stampWord && got.seq == record.seq)
            got.release()
            record.release()
        }
        #expect(decoder.isComplete)
    }

    /// That a value has no deadline may be newer than the value. A run tells the greatest of both, or nobody can read
    /// it.
    @Test func aRunTellsTheGreatestMillisecondOfDeadlinesToo() throws {
        let origins = OriginTable()
        let later = Version(ms: 1_780_000_005_000, uid: ExtendedRecordTests.uid, seq: 9)
        let record = make("k", "v", RecordExtension(deadline: 0, version: later), origins)
        defer { record.release() }
        var encoder = EntryEncoder()
        var out = OutputBuffer()
        defer { out.deallocate() }
        encoder.encode(record, origins, into: &out)
        #expect(encoder.millisMax == Version.clockMillis(later.ms))
        var decoder = EntryDecoder(from: 0, to: out.count, count: 1, millisMax: encoder.millisMax)
        let decoded = decoder.next(out.bytes, origins)
        let got = try #require(decoded)
        defer { got.release() }
        #expect(got.keptVersion == later && decoder.isComplete)
    }

    /// What no honest server sends: an extension that is cut, has unknown bits, or a deadline beyond the year 9999.
    @Test func malformedExtensionsAreRefused() {
        func content(_ first: UInt64, kind: UInt16 = 1, _ words: [UInt64] = [], cut: Int = 0) -> [UInt8] {
            var bytes = withUnsafeBytes(of: first.littleEndian) { Array($0.prefix(6)) }
            if !words.isEmpty { bytes += withUnsafeBytes(of: kind.littleEndian) { Array($0) } }
            for word in words { bytes += withUnsafeBytes(of: word.littleEndian) { Array($0) } }
            return Array(bytes.dropLast(cut))
        }
        let long: UInt64 = 1 << 48 - 1
        let most = UInt64(RecordExtension.deadlineMax)
        let kept: [UInt64] = [5_000, 7, 9 << 16, 3]
        for bytes in [content(5_000), content(0), content(most), content(long, kept)] {
            #expect(bytes.withUnsafeBytes { RecordExtension.isValid($0) }, "\(bytes)")
        }
        let invalid: [[UInt8]] = [
            [], content(5_000, cut: 1), content(most + 1), content(long - 1), content(long),
            content(long, kept, cut: 1), content(long, kind: 0, kept), content(long, kind: 2, kept),
            content(long, [most + 1] + kept.dropFirst()), content(long, [1 << 63] + kept.dropFirst()),
            // Versions that no record can have.
            content(long, [5_000, 7, UInt64(Version.msMax + 1) << 16, 3]),
            content(long, [5_000, 7, 9 << 16, Version.seqMax + 1]),
        ]
        for bytes in invalid { #expect(!bytes.withUnsafeBytes { RecordExtension.isValid($0) }, "\(bytes)") }
    }
}
