// RDB files: those that others wrote, those that we write, and damaged ones. In process.

import Foundation
import FuzzSupport
import KVBase
import KVFiles
import KVTestSupport
import KVTestTraits
import Testing

@Suite(.blocking) struct RDBTests {
    /// Files of github.com/redis/librdb, test/dumps, beside the checkout; nil where they are missing.
    private static let samples: String? = {
        let path = "../shared/samples/rdb"
        return FileManager.default.fileExists(atPath: path) ? path : nil
    }()

    private func read(_ bytes: [UInt8]) throws -> [FileItem] {
        let cursor = try ImportCursor(InputFile(bytes))
        var items: [FileItem] = []
        while let item = try cursor.next() { items.append(item) }
        return items
    }

    private func sample(_ name: String) throws -> [UInt8]? {
        guard let samples = Self.samples else {
            print("skipped: the samples of librdb are not beside the checkout")
            return nil
        }
        return Array(try Data(contentsOf: URL(fileURLWithPath: "\(samples)/\(name)")))
    }

    @Test func stringsOfOthersAreRead() throws {
        guard let integers = try sample("string_int_encoded.rdb"), let packed = try sample("string_lzf.rdb"),
            let one = try sample("single_key.rdb"), let several = try sample("multiple_dbs.rdb")
        else { return }
        for item in try read(integers) {
            guard case .pair(let pair) = item else { Issue.record("\(item)"); continue }
            #expect(Double(pair.value.description) != nil, "\(pair)")
        }
        #expect(try read(integers).count > 10)
        guard case .pair(let pair) = try read(packed).first else { return #expect(Bool(false), "no pair") }
        #expect(pair.value.count == 116 && packed.count < 9 + 142 + 1, "it was compressed")
        #expect(Set(pair.value.array).count < 4)
        #expect(try read(one).count == 1)
        let databases = try read(several).compactMap { if case .pair(let pair) = $0 { pair.database } else { nil } }
        #expect(Set(databases).count > 1, "\(databases)")
    }

    /// Every other type is passed over, and the file read to its end.
    @Test func otherTypesAreCountedByName() throws {
        guard let samples = Self.samples else { return print("skipped: no samples") }
        var types: Set<String> = []
        let refused = ["future_v19.rdb", "invalid_chksum_v8.rdb"]
        for name in try FileManager.default.contentsOfDirectory(atPath: samples).sorted()
        where name.hasSuffix(".rdb") && !refused.contains(name) {
            do {
                for case .other(let type) in try read(try sample(name)!) { types.insert(type) }
            } catch { Issue.record("\(name): \(error)") }
        }
        #expect(types.isSuperset(of: ["list", "set", "zset", "hash", "stream", "module", "function"]), "\(types)")
    }

    @Test func whatCannotBeReadIsRefusedWithItsPlace() throws {
        guard let future = try sample("future_v19.rdb"), let damaged = try sample("invalid_chksum_v8.rdb") else {
            return
        }
        #expect(throws: FileFault("bytes", at: 5, "version 99 of RDB; this release reads 2 to 12")) { try read(future) }
        #expect(throws: FileFault("bytes", at: damaged.count - 8, "the checksum is wrong: the file is damaged")) {
            try read(damaged)
        }
        for text in ["", "REDIS", "REDIS00x9", "REDIS0001\u{FF}", "REDIS0013"] {
            if text.isEmpty { continue }
            #expect(throws: FileFault.self, "\(text)") { try read(Array(text.utf8)) }
        }
    }

    private static let pairs = [
        FilePair(database: 0, key: "k", value: "v"),
        FilePair(database: 0, key: Bytes([0, 255, 13, 10]), value: ""),
        FilePair(
            database: 0, key: Bytes([UInt8](repeating: 65, count: 63)), value: Bytes([UInt8](repeating: 1, count: 64))),
        FilePair(
            database: 3, key: "later", value: Bytes([UInt8](repeating: 7, count: 16_383)), deadline: 4_000_000_000_000),
        FilePair(database: 15, key: "large", value: Bytes([UInt8](repeating: 9, count: 70_000)), deadline: 1),
    ]

    static func written(_ pairs: [FilePair] = pairs) -> [UInt8] {
        var writer = RDBWriter(nowMillis: 1_700_000_000_000)
        defer { writer.deallocate() }
        var bytes: [UInt8] = []
        for pair in pairs {
            writer.add(pair)
            bytes += Array(writer.output.bytes)
            writer.taken()
        }
        writer.finish()
        return bytes + Array(writer.output.bytes)
    }

    @Test func whatIsWrittenIsReadAgain() throws {
        #expect(try read(Self.written()) == Self.pairs.map { .pair($0) })
        #expect(try read(Self.written([])) == [])
    }

    @Test func everyBitOfAFileIsWatched() throws {
        let bytes = Self.written(Array(Self.pairs.prefix(3)))
        let right = try read(bytes)
        for place in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[place] ^= 1 << UInt8(bit)
                // All zeros for a checksum would say that there is none; no single bit does.
                #expect(throws: FileFault.self, "byte \(place), bit \(bit)") { try read(damaged) }
            }
        }
        #expect(right.count == 3)
        for end in 0..<bytes.count {
            #expect(throws: FileFault.self, "\(end) bytes") {
                _ = try read(Array(bytes[..<end]) + (end == 0 ? [82] : []))
            }
        }
    }

    @Test func lengthsAreNotBelieved() throws {
        let head = Array("REDIS0009".utf8)
        let huge: [[UInt8]] = [
            [0, 0x80, 0xFF, 0xFF, 0xFF, 0xFF], [0, 0x81, 0x7F, 255, 255, 255, 255, 255, 255, 255],
            [0, 1, 65, 0xC3, 1, 0x80, 0x1F, 255, 255, 255, 0], [1, 1, 65, 0x80, 255, 255, 255, 255],
            [0xFE, 0x81, 255, 255, 255, 255, 255, 255, 255, 255], [0, 0xC4], [0, 0x82], [99, 1, 65],
        ]
        for body in huge { #expect(throws: FileFault.self, "\(body)") { try read(head + body) } }
    }

    @Test func compressedStringsAreWhatRedisMeans() {
        // "aaaaaaaaaa": one literal, then nine bytes from one back.
        #expect(LZF.expanded([0, 97, 0xE0, 0, 0], count: 10) == [UInt8](repeating: 97, count: 10))
        #expect(LZF.expanded([2, 97, 98, 99, 0x20, 2], count: 6) == Array("abcabc".utf8))
        #expect(LZF.expanded([2, 97, 98, 99, 0x20, 3], count: 6) == nil, "before the beginning")
        #expect(LZF.expanded([0, 97, 0xE0, 0, 0], count: 9) == nil)
        #expect(LZF.expanded([5, 97], count: 6) == nil)
        #expect(LZF.expanded([0xE0], count: 9) == nil)
        #expect(LZF.expanded([], count: 1 << 40) == nil)
    }

    @Test func theChecksumIsTheOneOfRedis() {
        var crc = CRC64()
        Array("123456789".utf8).withUnsafeBytes { crc.add($0) }
        #expect(crc.value == 0xE9C6_D914_C4B8_D9CA)
        var parts = CRC64()
        for byte in "123456789".utf8 { [byte].withUnsafeBytes { parts.add($0) } }
        #expect(parts == crc)
    }

    @Test func damagedFilesDoNoHarm() {
        let failure = FuzzTarget.databases.run(seed: 1, inputs: 3_000)
        #expect(
            failure == nil,
            "kv-fuzz databases --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }
}
