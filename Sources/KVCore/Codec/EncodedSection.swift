// A segment of own writes as the bytes that frames carry, put together in the slices in which the segment is made: to
// encode tens of thousands of entries when a frame is due would hold the loop for milliseconds. Owned by one actor.

import KVBase

/// Bytes in pieces, so that growing never copies what is there.
final class EncodedSection {
    private static let pieceBytes = 256 * 1024

    private var pieces: [OutputBuffer] = []
    private var encoder = EntryEncoder()
    private(set) var byteCount = 0

    deinit { for piece in pieces { piece.deallocate() } }

    /// The record must stay valid until the next call.
    func append(_ record: Record, _ table: OriginTable) {
        var last = pieces.count - 1
        if last < 0 || pieces[last].count >= EncodedSection.pieceBytes {
            pieces.append(OutputBuffer(capacity: EncodedSection.pieceBytes + 4096))
            last += 1
        }
        let before = pieces[last].count
        encoder.encode(record, table, into: &pieces[last])
        byteCount += pieces[last].count - before
    }

    var count: Int { encoder.count }
    var millisMax: Millis { encoder.millisMax }
    /// Valid while the section is, and nothing is appended.
    var runs: [UnsafeRawBufferPointer] { pieces.map(\.bytes) }
}
