// Chunks of a log that are written in one go, by a thread that may wait for the disk. The log's thread while they are
// gathered, then the thread that writes them.

import KVBase

/// How a go ended.
package enum LogWriting: Sendable {
    case done
    case notWritten
    /// What was written before may be lost, and no second sync would say so.
    case notSynced
}

package final class LogPieces: @unchecked Sendable {
    private struct Piece {
        var file: UInt64
        var place: Int
        /// In the buffer, or all of `own`.
        var range: Range<Int>
        var own: OutputBuffer?
    }

    /// A larger chunk keeps its own memory.
    private let copiedBytesMax: Int
    private var buffer = OutputBuffer(capacity: 4096)
    private var list: [Piece] = []
    package private(set) var chunks = 0
    package private(set) var byteCount = 0

    init(copiedBytesMax: Int) { self.copiedBytesMax = copiedBytesMax }

    deinit {
        clear()
        buffer.deallocate()
    }

    /// What lies in a row counts as one.
    package var count: Int { list.count }

    /// Valid until the next `add` or `clear`.
    package subscript(_ index: Int) -> (file: UInt64, place: Int, bytes: UnsafeRawBufferPointer) {
        let piece = list[index]
        let bytes = piece.own?.bytes ?? UnsafeRawBufferPointer(rebasing: buffer.bytes[piece.range])
        return (piece.file, piece.place, bytes)
    }

    /// Files that are written to, each once.
    package var files: [UInt64] {
        var files: [UInt64] = []
        for piece in list where files.last != piece.file { files.append(piece.file) }
        return files
    }

    /// A chunk for the end of a file. O(bytes), but not of a large one.
    func add(_ writer: inout ChunkWriter, to file: inout LogFile) {
        let chunk = writer.seal()
        let place = file.end
        file.end += chunk.count
        chunks += 1
        byteCount += chunk.count
        if chunk.count > copiedBytesMax {
            list.append(Piece(file: file.number, place: place, range: 0..<0, own: writer.detach()))
            return
        }
        let start = buffer.count
        buffer.append(chunk)
        writer.clear()
        // One call for what lies in a row.
        if let last = list.last, last.own == nil, last.file == file.number, last.place + last.range.count == place {
            list[list.count - 1].range = last.range.lowerBound..<buffer.count
        } else {
            list.append(Piece(file: file.number, place: place, range: start..<buffer.count, own: nil))
        }
    }

    /// They are written, or not wanted any more.
    func clear() {
        for piece in list { piece.own?.deallocate() }
        list.removeAll(keepingCapacity: true)
        buffer.count = 0
        buffer.shrink(to: copiedBytesMax)
        (chunks, byteCount) = (0, 0)
    }
}
