// Whether a snapshot is whole and intact, chunk by chunk. Pure. One thread.

import KVBase

/// Every checksum, and the end. Nothing is kept of what was looked at, so a snapshot need not fit into memory.
package struct SnapshotCheck {
    private let salt: UInt32
    private let origins = OriginTable()
    private var at = DiskHeader.byteCount
    private var number: UInt32 = 0
    private var previous: UInt32
    private var records: UInt64 = 0
    private var end: UInt64?

    /// `page`: the file's first 4096 bytes.
    package init(page: UnsafeRawBufferPointer, planted: PlantedMistakes = []) throws(DiskFault) {
        let header = try DiskHeader(reading: page)
        salt = planted(.recycledChunkBelieved) ? 0 : header.salt
        guard header.kind == .snapshot else { throw .header }
        previous = ChunkFormat.first(of: UnsafeRawBufferPointer(rebasing: page[..<DiskHeader.byteCount]))
    }

    /// The length of the next chunk's body, from how the chunk begins.
    package func bodyBytes(_ head: UnsafeRawBufferPointer) throws(DiskFault) -> Int {
        guard head.count >= ChunkFormat.headerBytes, end == nil else { throw .damaged(at: at) }
        let length = Int(UInt32(littleEndian: head.loadUnaligned(as: UInt32.self)))
        guard length > 0, length <= ChunkFormat.bodyBytesMax else { throw .damaged(at: at) }
        return length
    }

    /// The next chunk, from its beginning to its end. O(bytes).
    package mutating func take(_ chunk: UnsafeRawBufferPointer) throws(DiskFault) {
        func word(_ place: Int) -> UInt32 {
            UInt32(littleEndian: chunk.loadUnaligned(fromByteOffset: place, as: UInt32.self))
        }
        guard chunk.count > ChunkFormat.headerBytes, chunk.count == ChunkFormat.headerBytes + Int(word(0)),
            ChunkFormat.checksum(chunk, salt: salt) == word(4), word(8) == number, word(12) == previous
        else { throw .damaged(at: at) }
        let body = UnsafeRawBufferPointer(rebasing: chunk[ChunkFormat.headerBytes...])
        var sections = SectionReader(body, own: 0, origins)
        while let section = try sections.next() {
            if case .entries(let decoder, _) = section { records += UInt64(decoder.left) }
            if case .end(let found) = section { end = found.records }
        }
        (at, number, previous) = (at + chunk.count, number &+ 1, word(4))
    }

    /// Nothing follows.
    package func finish() throws(DiskFault) { guard let end, end == records else { throw .short } }
}

extension Recovery {
    /// The same of a snapshot in memory. O(bytes).
    package static func verify(
        snapshot bytes: UnsafeRawBufferPointer, planted: PlantedMistakes = []
    ) throws(DiskFault) {
        var check = try SnapshotCheck(page: bytes, planted: planted)
        var at = DiskHeader.byteCount
        while at < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
            let count = ChunkFormat.headerBytes + (try check.bodyBytes(rest))
            guard count <= rest.count else { throw .damaged(at: at) }
            try check.take(UnsafeRawBufferPointer(rebasing: rest[..<count]))
            at += count
        }
        try check.finish()
    }
}
