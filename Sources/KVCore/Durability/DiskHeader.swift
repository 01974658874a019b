// How every file of a data directory begins: what it is, whose, and who may read it. Pure, any thread.

package import KVBase

/// Why bytes of a data directory cannot be used.
package enum DiskFault: Error, Equatable, Sendable, CustomStringConvertible {
    /// Not the beginning of such a file, or a damaged one.
    case header
    /// Written by a later release, which says that readers of `reader` on may read it.
    case newer(reader: Int)
    /// A piece of it is damaged, at this offset.
    case damaged(at: Int)
    /// It ends before its end.
    case short

    package var description: String {
        switch self {
        case .header: "its first 4096 bytes are damaged, or are no file of kvd"
        case .newer(let reader): "a later release of kvd wrote it (format \(reader)); use that release"
        case .damaged(let at): "it is damaged at offset \(at)"
        case .short: "its end is missing"
        }
    }
}

/// The first page of a log or a snapshot.
///
///     0  8  "kvd-data"          24 8  epoch            56 4  bytes of what follows from 64 on
///     8  2  format              32 8  server id        60 4  CRC32C of 0…59 and of these bytes
///     10 2  least reader        40 4  actor            64    name (length, bytes), ids of its earlier lives, cluster
///     12 1  kind                48 8  number
///     16 8  random id of the file
///
/// Little-endian; lengths as LEB128. The file's id salts every checksum in it, so that nothing of a file that lay in
/// the same place before is taken for a part of this one.
package struct DiskHeader: Equatable, Sendable {
    package enum Kind: UInt8, Sendable { case log = 1, snapshot = 2 }

    package static let byteCount = 4096
    /// What this release writes, and the least that a reader must know of it.
    package static let version = 1
    package static let reader = 1
    static let magic: UInt64 = 0x6174_6164_2D64_766B
    private static let fixedBytes = 64
    private static let nameBytesMax = 255
    /// Earlier lives that a file names: the latest ones.
    package static let lineageMax = 256

    package var kind: Kind
    /// Random, never 0.
    package var file: UInt64
    package var epoch: UInt64
    package var server: UInt64
    package var actor: Int
    /// Files of one kind and actor are numbered from 1.
    package var number: UInt64
    package var name: Bytes
    /// Ids of the server's earlier lives, oldest first.
    package var lineage: [UInt64]
    /// Name of the cluster; empty in files of earlier releases.
    package var cluster: Bytes

    package init(
        kind: Kind, file: UInt64, epoch: UInt64 = 1, server: UInt64, actor: Int, number: UInt64, name: Bytes = "",
        lineage: [UInt64] = [], cluster: Bytes = ""
    ) {
        (self.kind, self.file, self.epoch, self.server, self.actor) = (kind, file, epoch, server, actor)
        (self.number, self.name, self.cluster) = (number, name, cluster)
        self.lineage = lineage.suffix(DiskHeader.lineageMax)
    }

    /// Where the checksums of the file's chunks begin.
    var salt: UInt32 { withUnsafeBytes(of: file.littleEndian) { crc32c($0) } }

    /// The page as bytes. O(1).
    package func encoded() -> [UInt8] {
        var out = OutputBuffer(capacity: DiskHeader.byteCount)
        defer { out.deallocate() }
        out.appendFixed64(DiskHeader.magic)
        out.appendFixed32(UInt32(DiskHeader.version) | UInt32(DiskHeader.reader) << 16)
        out.appendFixed32(UInt32(kind.rawValue))
        for word in [file, epoch, server, UInt64(actor), number] { out.appendFixed64(word) }
        var body = OutputBuffer()
        defer { body.deallocate() }
        body.appendVarint(UInt64(name.count))
        name.withBytes { body.append($0) }
        body.appendVarint(UInt64(lineage.count))
        for id in lineage { body.appendFixed64(id) }
        body.appendVarint(UInt64(cluster.count))
        cluster.withBytes { body.append($0) }
        out.appendFixed32(UInt32(body.count))
        out.appendFixed32(crc32c(body.bytes, continuing: crc32c(out.bytes)))
        out.append(body.bytes)
        precondition(out.count <= DiskHeader.byteCount)
        return Array(out.bytes) + [UInt8](repeating: 0, count: DiskHeader.byteCount - out.count)
    }

    package init(reading bytes: UnsafeRawBufferPointer) throws(DiskFault) {
        guard bytes.count >= DiskHeader.byteCount else { throw .header }
        var reader = VarintReader(bytes, to: DiskHeader.fixedBytes)
        guard reader.fixed64() == DiskHeader.magic else { throw .header }
        let versions = reader.fixed32()
        guard Int(versions >> 16) <= DiskHeader.version else { throw .newer(reader: Int(versions & 0xFFFF)) }
        let kind = Kind(rawValue: UInt8(truncatingIfNeeded: reader.fixed32()))
        let words = (0..<5).map { _ in reader.fixed64() }
        let count = Int(reader.fixed32())
        let crc = reader.fixed32()
        guard let kind, count <= DiskHeader.byteCount - DiskHeader.fixedBytes else { throw .header }
        let body = UnsafeRawBufferPointer(rebasing: bytes[DiskHeader.fixedBytes..<(DiskHeader.fixedBytes + count)])
        let fixed = UnsafeRawBufferPointer(rebasing: bytes[..<(DiskHeader.fixedBytes - 4)])
        guard crc32c(body, continuing: crc32c(fixed)) == crc else { throw .header }
        var rest = VarintReader(body)
        let name = Bytes(rest.run(min(rest.count(bytesEach: 1), DiskHeader.nameBytesMax)))
        let lineage = (0..<min(rest.count(bytesEach: 8), DiskHeader.lineageMax)).map { _ in rest.fixed64() }
        let cluster = rest.remaining > 0 ? Bytes(rest.run(min(rest.count(bytesEach: 1), DiskHeader.nameBytesMax))) : ""
        guard !rest.failed, words[0] != 0, words[3] < UInt64(Limits.actorsMax) else { throw .header }
        self.init(
            kind: kind, file: words[0], epoch: words[1], server: words[2], actor: Int(words[3]), number: words[4],
            name: name, lineage: lineage, cluster: cluster)
    }
}
