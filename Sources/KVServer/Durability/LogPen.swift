// Writes chunks of a log on a thread of its own, so that a loop need not wait for the disk. Its log's loop, but for the
// writing itself.

import KVBase
import KVCore
import KVRuntime

/// Two buffers: one is gathered while the other is written.
final class LogPen {
    /// With more gathered than this, writers wait.
    static let gatheredBytesMax = 64 * 1024 * 1024
    /// A larger chunk keeps its own memory.
    private static let copiedBytesMax = 256 * 1024

    struct Done: Sendable {
        var failure: DiskError?
        var chunks: Int
        var nanos: Nanos
    }

    private struct Piece {
        var file: DiskFile
        var place: Int
        /// In the buffer, or all of `own`.
        var range: Range<Int>
        var own: OutputBuffer?
    }

    private struct Pieces {
        var bytes = OutputBuffer(capacity: 64 * 1024)
        var list: [Piece] = []
        var chunks = 0
        var byteCount = 0
        var failure: DiskError?

        mutating func clear() {
            for piece in list { piece.own?.deallocate() }
            list.removeAll(keepingCapacity: true)
            bytes.count = 0
            bytes.shrink(to: LogPen.copiedBytesMax)
            (chunks, byteCount, failure) = (0, 0, nil)
        }
    }

    private let thread = DiskThread()
    private var gathered = Pieces()
    /// The thread's while `isBusy`.
    private let written = UnsafeMutablePointer<Pieces>.allocate(capacity: 1)
    private(set) var isBusy = false

    init() { written.initialize(to: Pieces()) }

    deinit {
        gathered.clear()
        gathered.bytes.deallocate()
        written.pointee.clear()
        written.pointee.bytes.deallocate()
        written.deinitialize(count: 1)
        written.deallocate()
    }

    var gatheredBytes: Int { gathered.byteCount }
    var isEmpty: Bool { !isBusy && gathered.chunks == 0 }

    /// A chunk for the end of a file. O(bytes), but not of a large one.
    func add(_ writer: inout ChunkWriter, to file: DiskFile) {
        let chunk = writer.seal()
        let place = file.end
        file.end += chunk.count
        gathered.chunks += 1
        gathered.byteCount += chunk.count
        if chunk.count > LogPen.copiedBytesMax {
            gathered.list.append(Piece(file: file, place: place, range: 0..<0, own: writer.detach()))
            return
        }
        let start = gathered.bytes.count
        gathered.bytes.append(chunk)
        writer.clear()
        // One call for what lies in a row.
        if let last = gathered.list.last, last.own == nil, last.file === file,
            last.place + last.range.count == place
        {
            gathered.list[gathered.list.count - 1].range = last.range.lowerBound..<gathered.bytes.count
        } else {
            gathered.list.append(Piece(file: file, place: place, range: start..<gathered.bytes.count))
        }
    }

    /// Has what was gathered written, if nothing is being written. `syncs`: these files, and those that were written
    /// to, too. `done` on the loop.
    func go(_ loop: Loop, syncing files: [DiskFile]?, _ done: @escaping (Done) -> Void) {
        guard !isBusy, gathered.chunks > 0 else { return }
        isBusy = true
        swap(&gathered, &written.pointee)
        let (box, pieces, pen) = (UncheckedBox(done), UncheckedBox(written), UncheckedBox(self))
        thread.perform {
            let result = LogPen.write(pieces.value.pointee, files)
            pieces.value.pointee.failure = result.failure
            loop.perform {
                pen.value.isBusy = false
                pieces.value.pointee.clear()
                box.value(result)
            }
        }
    }

    private static func write(_ pieces: Pieces, _ files: [DiskFile]?) -> Done {
        let began = Machine.monotonicNanos
        var failure: DiskError?
        do throws(DiskError) {
            for piece in pieces.list {
                let bytes = piece.own?.bytes ?? UnsafeRawBufferPointer(rebasing: pieces.bytes.bytes[piece.range])
                try piece.file.write(bytes, at: piece.place)
            }
            if let files {
                for file in files { try file.sync() }
                var last: DiskFile?
                for piece in pieces.list where piece.file !== last {
                    last = piece.file
                    try piece.file.sync()
                }
            }
        } catch { failure = error }
        return Done(failure: failure, chunks: pieces.chunks, nanos: Machine.monotonicNanos - began)
    }

    /// Nothing of what was gathered is wanted any more.
    func drop() { gathered.clear() }

    /// What is gathered is written. When the loop has ended; waits.
    func finish() throws(DiskError) {
        thread.finish()
        if let failure = written.pointee.failure { throw failure }
        let result = LogPen.write(gathered, nil)
        gathered.clear()
        if let failure = result.failure { throw failure }
    }
}
