// Chunks of a file, one after the other, as far as they are intact. Pure, any thread.

import KVBase

/// How a chunk begins: 4 bytes length of its body, 4 bytes CRC32C of all of it but these four, salted with the file's
/// id, 4 bytes number in the file from 0, 4 bytes checksum of the chunk before (the first: of the file's header).
package enum ChunkFormat {
    package static let headerBytes = 16
    /// Of a body; nothing longer is written or believed. A largest value with its key and what is around it fits.
    package static let bodyBytesMax = 1 << 30

    /// What the first chunk has for the checksum of the one before.
    static func first(of header: UnsafeRawBufferPointer) -> UInt32 { crc32c(header) }

    /// The checksum of a chunk that begins at `bytes` and ends with them.
    static func checksum(_ bytes: UnsafeRawBufferPointer, salt: UInt32) -> UInt32 {
        let crc = crc32c(UnsafeRawBufferPointer(rebasing: bytes[..<4]), continuing: salt)
        return crc32c(UnsafeRawBufferPointer(rebasing: bytes[8...]), continuing: crc)
    }
}

/// Why a file has no more chunks in a row.
package enum ChunkEnd: Equatable, Sendable {
    /// Nothing but zeros follows.
    case clean
    /// What follows is no whole chunk, and no other comes behind it: the writer was interrupted.
    case torn(at: Int)
    /// A damaged or missing piece, with an intact chunk behind it.
    case hole(at: Int, next: Int)
}

/// Reads a file that lies in memory. A chunk counts if its checksum is right, its number the next one, and the checksum
/// of the chunk before the one that it names.
package struct ChunkReader {
    private let bytes: UnsafeRawBufferPointer
    private let salt: UInt32
    /// Where the next chunk begins.
    package private(set) var at = DiskHeader.byteCount
    /// Its number.
    package private(set) var number: UInt32 = 0
    private var previous: UInt32
    private let planted: PlantedMistakes

    /// `bytes` stay as they are for as long as the reader is used.
    package init(_ bytes: UnsafeRawBufferPointer, _ header: DiskHeader, planted: PlantedMistakes = []) {
        (self.bytes, self.planted) = (bytes, planted)
        salt = planted(.recycledChunkBelieved) ? 0 : header.salt
        previous = ChunkFormat.first(of: UnsafeRawBufferPointer(rebasing: bytes[..<DiskHeader.byteCount]))
    }

    /// The body of the next chunk, or nil at the end of the row. O(body).
    package mutating func next() -> UnsafeRawBufferPointer? {
        guard let chunk = chunk(at: at, isTrusted: planted(.tornTailTaken)), chunk.number == number,
            chunk.previous == previous || planted(.recycledChunkBelieved)
        else { return nil }
        take(chunk)
        return chunk.body
    }

    /// What ended the row. O(bytes left).
    package func end() -> ChunkEnd {
        guard let first = nonZero(from: at) else { return .clean }
        if let next = intact(from: at) { return .hole(at: at, next: next) }
        return .torn(at: first < at + ChunkFormat.headerBytes ? at : first)
    }

    /// Goes on behind a hole, at what `end` said.
    package mutating func skip(to next: Int) {
        guard let chunk = chunk(at: next) else { preconditionFailure("no chunk is there") }
        (at, number, previous) = (next, chunk.number, chunk.previous)
    }

    private struct Chunk {
        var number: UInt32
        var previous: UInt32
        var checksum: UInt32
        var body: UnsafeRawBufferPointer
    }

    private mutating func take(_ chunk: Chunk) {
        at += ChunkFormat.headerBytes + chunk.body.count
        number = chunk.number &+ 1
        previous = chunk.checksum
    }

    private func word(_ at: Int) -> UInt32 {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
    }

    /// An intact chunk at that place, whatever its number. `isTrusted`, a planted mistake: whatever its checksum.
    private func chunk(at place: Int, isTrusted: Bool = false) -> Chunk? {
        guard bytes.count - place >= ChunkFormat.headerBytes else { return nil }
        let length = Int(word(place))
        guard length > 0, length <= min(ChunkFormat.bodyBytesMax, bytes.count - place - ChunkFormat.headerBytes) else {
            return nil
        }
        let whole = UnsafeRawBufferPointer(rebasing: bytes[place..<(place + ChunkFormat.headerBytes + length)])
        let checksum = word(place + 4)
        guard isTrusted || ChunkFormat.checksum(whole, salt: salt) == checksum else { return nil }
        return Chunk(
            number: word(place + 8), previous: word(place + 12), checksum: checksum,
            body: UnsafeRawBufferPointer(rebasing: whole[ChunkFormat.headerBytes...]))
    }

    /// How many entries the file's chunks begin with, as far as they say so: nothing is verified. A snapshot has no
    /// others. O(chunks).
    static func entries(in bytes: UnsafeRawBufferPointer) -> Int {
        func word(_ at: Int) -> Int {
            Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self)))
        }
        var (at, count) = (DiskHeader.byteCount, 0)
        // Kind and length of the section, its count.
        let content = ChunkFormat.headerBytes + 5
        while bytes.count - at > content + 4 {
            let length = word(at)
            if bytes[at + ChunkFormat.headerBytes] == SectionKind.page.rawValue { count += word(at + content) }
            at += ChunkFormat.headerBytes + length
        }
        // Hardly any entry is smaller.
        return min(count, bytes.count / 16)
    }

    /// The first byte from there on that is not 0.
    private func nonZero(from start: Int) -> Int? {
        var place = start
        // Eight words at a time, as there are megabytes of zeros behind a log.
        while place + 64 <= bytes.count {
            var any: UInt64 = 0
            for word in 0..<8 { any |= bytes.loadUnaligned(fromByteOffset: place &+ word &* 8, as: UInt64.self) }
            if any != 0 { break }
            place += 64
        }
        while place + 8 <= bytes.count, bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self) == 0 { place += 8 }
        return bytes[min(place, bytes.count)...].firstIndex { $0 != 0 }
    }

    /// The next intact chunk behind a place that has none. Its number is not smaller than what is missing, and not
    /// larger than the bytes between could hold.
    private func intact(from start: Int) -> Int? {
        var place = start
        while let first = nonZero(from: place) {
            // The length is not 0: its first byte that is not is among the first four.
            for candidate in max(place, first - 3)...first {
                guard bytes.count - candidate >= ChunkFormat.headerBytes else { return nil }
                let number = word(candidate + 8)
                guard number >= self.number, Int(number - self.number) <= candidate - start + 1 else { continue }
                if chunk(at: candidate) != nil { return candidate }
            }
            place = first + 1
        }
        return nil
    }
}
