// Chunks of a file: what is not exactly as it was written is not read.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ChunkTests {
    private func log(_ keys: Int = 6) -> TestLog {
        let log = TestLog(OriginTable())
        for i in 0..<keys {
            log.store.set("key \(i)", "value \(i)", now: 1_000 + Millis(i))
            log.turn()
        }
        return log
    }

    private func read(_ bytes: [UInt8]) throws -> (bodies: [[UInt8]], end: ChunkEnd) {
        try bytes.withUnsafeBytes { bytes in
            var reader = ChunkReader(bytes, try DiskHeader(reading: bytes))
            var bodies: [[UInt8]] = []
            while let body = reader.next() { bodies.append(Array(body)) }
            return (bodies, reader.end())
        }
    }

    /// Where each chunk begins, and the end.
    private func places(_ bytes: [UInt8]) throws -> [Int] {
        try read(bytes).bodies.reduce(into: [DiskHeader.byteCount]) { $0.append($0.last! + 16 + $1.count) }
    }

    @Test func aHeaderComesBackAsItWas() throws {
        for header in [
            DiskHeader(
                kind: .log, file: 1, server: .max, actor: 127, number: .max, name: "a.b:6000", lineage: [1, .max]),
            DiskHeader(kind: .snapshot, file: .max, epoch: 7, server: 3, actor: 0, number: 1),
            DiskHeader(kind: .log, file: 2, server: 3, actor: 0, number: 2, lineage: (0..<1_000).map { UInt64($0) }),
        ] {
            let bytes = header.encoded()
            #expect(bytes.count == 4096)
            #expect(try bytes.withUnsafeBytes { try DiskHeader(reading: $0) } == header)
        }
    }

    @Test func aHeaderOfALaterReleaseSaysSo() {
        var bytes = DiskHeader(kind: .log, file: 1, server: 3, actor: 0, number: 1).encoded()
        (bytes[8], bytes[10]) = (3, 2)
        #expect(throws: DiskFault.newer(reader: 3)) { try bytes.withUnsafeBytes { try DiskHeader(reading: $0) } }
        // It may say that this release can read it: then the checksum decides.
        bytes[10] = 1
        #expect(throws: DiskFault.header) { try bytes.withUnsafeBytes { try DiskHeader(reading: $0) } }
    }

    @Test func everyFlippedBitIsFound() throws {
        let bytes = log().files[0].bytes
        let (bodies, places) = (try read(bytes).bodies, try places(bytes))
        for bit in 0..<bytes.count * 8 {
            var broken = bytes
            broken[bit / 8] ^= 1 << UInt8(bit % 8)
            // A damaged header is refused, if not by itself then because the first chunk names its checksum.
            guard let (found, end) = try? read(broken) else {
                #expect(bit / 8 < DiskHeader.byteCount)
                continue
            }
            let intact = bit / 8 < DiskHeader.byteCount ? 0 : places.lastIndex { $0 <= bit / 8 }!
            #expect(found == Array(bodies[..<intact]), "bit \(bit)")
            if intact < bodies.count - 1 {
                let next = bit / 8 < DiskHeader.byteCount ? places[0] : places[intact + 1]
                #expect(end == .hole(at: places[intact], next: next), "bit \(bit)")
            } else {
                #expect(end != .clean, "bit \(bit)")
            }
        }
    }

    @Test func aFileCutAnywhereEndsBehindItsLastWholeChunk() throws {
        let bytes = log().files[0].bytes
        let (bodies, places) = (try read(bytes).bodies, try places(bytes))
        for count in DiskHeader.byteCount...bytes.count {
            let intact = places.lastIndex { $0 <= count }!
            // As long as the file had been before, or not.
            for rest in [0, bytes.count - count + 100] {
                let (found, end) = try read(Array(bytes[..<count]) + [UInt8](repeating: 0, count: rest))
                #expect(found == Array(bodies[..<intact]), "cut at \(count)")
                #expect((end == .clean) == (places[intact] == count), "cut at \(count)")
            }
        }
    }

    @Test func whatLayInTheSamePlaceBeforeIsNotRead() throws {
        let (old, new) = (log(8), TestLog(OriginTable(), server: 10))
        new.store.set("k", "v", now: 9)
        new.turn()
        let (before, after) = (old.files[0].bytes, new.files[0].bytes)
        let recycled = after + before[after.count...]
        let (bodies, end) = try read(recycled)
        let alone = try read(after).bodies
        #expect(bodies.count == 1 && bodies == alone)
        if case .torn = end {} else { Issue.record("\(end)") }
    }

    @Test func aChunkOfAnotherPlaceInTheFileIsNotRead() throws {
        let bytes = log().files[0].bytes
        let places = try places(bytes)
        // Without the third chunk; and with the second one twice.
        for (from, next) in [(places[3], places[2]), (places[1], 2 * places[2] - places[1])] {
            let (found, end) = try read(Array(bytes[..<places[2]] + bytes[from...]))
            #expect(found.count == 2 && end == .hole(at: places[2], next: next), "\(end)")
        }
    }

    @Test func aManifestComesBackAsItWasOrNotAtAll() throws {
        var manifest = Manifest(cluster: "my cluster", name: "a:6000", isNamed: true)
        manifest.begin(Manifest.Life(server: 0x12, actors: 2, firstLogs: [3, 0]))
        manifest.begin(Manifest.Life(server: .max, actors: 1, firstLogs: [1]))
        manifest.snapshot = Manifest.Snapshot(number: 4, bytes: 5, at: 6)
        (manifest.epoch, manifest.restored) = (1_764_000_000_000, "1f new-epoch")
        let text = manifest.text
        #expect(try Manifest(parsing: text) == manifest)
        #expect(text.hasPrefix("kvd-directory 1 reader 1\ncluster my cluster\nname a:6000 given\n"))
        let bytes = Array(text.utf8)
        for i in bytes.indices {
            for bit in 0..<7 {
                var broken = bytes
                broken[i] ^= 1 << UInt8(bit)
                let parsed = try? Manifest(parsing: String(decoding: broken, as: UTF8.self))
                #expect(parsed == nil, "bit \(bit) of byte \(i): \(String(decoding: broken, as: UTF8.self))")
            }
            #expect(throws: Manifest.Fault.self, "cut at \(i)") {
                try Manifest(parsing: String(decoding: bytes[..<i], as: UTF8.self))
            }
        }
        #expect(throws: Manifest.Fault.newer(reader: 9)) { try Manifest(parsing: "kvd-directory 9 reader 2\nwhatever") }
    }

    @Test func aHeaderNamesTheClusterAndEarlierOnesDoNot() throws {
        var header = DiskHeader(
            kind: .log, file: 7, server: 9, actor: 0, number: 1, name: "n", lineage: [5, 6], cluster: "mine")
        var page = header.encoded()
        #expect(try page.withUnsafeBytes { try DiskHeader(reading: $0) } == header)
        // As it was written before there was a cluster in it: five bytes less.
        let length = page[56]
        page[56] = length - 5
        for place in (64 + Int(length) - 5)..<(64 + Int(length)) { page[place] = 0 }
        let crc = page.withUnsafeBytes { bytes in
            crc32c(
                UnsafeRawBufferPointer(rebasing: bytes[64..<(64 + Int(length) - 5)]),
                continuing: crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<60])))
        }
        for place in 0..<4 { page[60 + place] = UInt8(truncatingIfNeeded: crc >> UInt32(8 * place)) }
        header.cluster = ""
        #expect(try page.withUnsafeBytes { try DiskHeader(reading: $0) } == header)
    }

    @Test func aManifestForgetsOldLivesButNoneThatIsNeeded() {
        var manifest = Manifest(cluster: "c", name: "n", isNamed: false)
        manifest.begin(Manifest.Life(server: 1, actors: 1, firstLogs: [1]))
        for id in 2...100 { manifest.begin(Manifest.Life(server: UInt64(id), actors: 1, firstLogs: [0])) }
        #expect(manifest.lives.count == Manifest.livesMax && manifest.lives[0].server == 1)
        #expect(manifest.lives.last!.server == 99 || manifest.lives.last!.server == 100)
    }
}
