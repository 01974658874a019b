// Where frames are put together. A part of `Replica`; on its actor's thread.

import KVBase

/// A block of a frame: a section encoded before, or a run of the bench's entries.
struct PendingBlock {
    let block: Block
    fileprivate let start: Int
    fileprivate let count: Int
    let section: EncodedSection?

    /// Bytes of the entries.
    var byteCount: Int { section?.byteCount ?? count }
}

/// A frame as bytes, or a large one, to be put together in slices.
enum MadeFrame {
    case bytes([UInt8])
    case seal(FrameSeal)
}

/// Two reused buffers: one for the head, one for entries. A large frame takes them along. Freed by hand.
struct FrameBench {
    private static let bufferBytes = 4096

    private let origins: OriginTable
    private let cluster: UInt64
    private var frame = OutputBuffer(capacity: FrameBench.bufferBytes)
    private var entries = OutputBuffer(capacity: FrameBench.bufferBytes)

    init(origins: OriginTable, cluster: UInt64) { (self.origins, self.cluster) = (origins, cluster) }

    func deallocate() {
        frame.deallocate()
        entries.deallocate()
    }

    /// Bytes encoded for the frame under way.
    var entryBytes: Int { entries.count }

    mutating func begin() { entries.count = 0 }

    /// Encodes a segment. O(its bytes).
    mutating func encode(_ segment: DeltaSegment) -> PendingBlock {
        let start = entries.count
        var encoder = EntryEncoder()
        for entry in segment.entries { encoder.encode(entry.record, origins, into: &entries) }
        let kind = BlockKind.section(origin: segment.origin, from: segment.from, to: segment.to)
        let block = Block(kind: kind, count: encoder.count, millisMax: encoder.millisMax)
        return PendingBlock(block: block, start: start, count: entries.count - start, section: nil)
    }

    /// The same for one that is encoded already.
    func block(_ segment: DeltaSegment, _ section: EncodedSection) -> PendingBlock {
        let kind = BlockKind.section(origin: segment.origin, from: segment.from, to: segment.to)
        let block = Block(kind: kind, count: section.count, millisMax: section.millisMax)
        return PendingBlock(block: block, start: 0, count: 0, section: section)
    }

    /// Puts the frame together: head, blocks, then the donor's chunk. One from `FrameSlice.bytes` on becomes a seal if
    /// `slices`. O(bytes), or O(blocks) for a seal.
    mutating func make(
        _ head: FrameHead, _ blocks: [PendingBlock], chunk: (block: Block, donor: ScanDonor)? = nil, slices: Bool = true
    ) -> MadeFrame {
        var writer = FrameWriter(buffer: frame, table: origins)
        writer.head(head, cluster: cluster)
        for item in blocks {
            let own = UnsafeRawBufferPointer(rebasing: entries.bytes[item.start..<(item.start + item.count)])
            writer.block(item.block, runs: item.section?.runs ?? [own])
        }
        if let chunk { writer.block(chunk.block, runs: [chunk.donor.bytes]) }
        if !slices || writer.byteCount < FrameSlice.bytes {
            let (bytes, buffer) = writer.finish()
            frame = buffer
            entries.count = 0
            return .bytes(bytes)
        }
        var buffers = [entries]
        if let chunk { buffers.append(chunk.donor.takeEncoded()) }
        let seal = writer.seal(holding: blocks.compactMap(\.section), buffers)
        frame = OutputBuffer(capacity: FrameBench.bufferBytes)
        entries = OutputBuffer(capacity: FrameBench.bufferBytes)
        return .seal(seal)
    }

    func checkInvariants() { check(entries.count == 0) }
}
