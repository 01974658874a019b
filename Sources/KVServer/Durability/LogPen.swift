// Writes what a log has gathered on a thread of its own, so that a loop need not wait for the disk. Its log's loop, but
// for the writing itself.

import KVBase
import KVCore
import KVRuntime

final class LogPen {
    struct Done: Sendable {
        var result = LogWriting.done
        var failure: DiskError?
        var nanos: Nanos = 0
    }

    private let thread = DiskThread()
    /// What the thread found, until the loop knows: the thread's, then the loop's, and when both have ended, anybody's.
    private let last = UnsafeMutablePointer<Done>.allocate(capacity: 1)

    init() { last.initialize(to: Done()) }

    deinit {
        last.deinitialize(count: 1)
        last.deallocate()
    }

    /// Has the pieces written, each to the file of its number. `syncs`: these files, and those that were written to,
    /// too. One go at a time. `done` on the loop.
    func write(
        _ pieces: LogPieces, _ files: [UInt64: DiskFile], syncing full: [UInt64]?, _ loop: Loop,
        _ done: @escaping (Done) -> Void
    ) {
        let (box, last) = (UncheckedBox(done), UncheckedBox(last))
        thread.perform {
            let began = Machine.monotonicNanos
            var result = LogPen.write(pieces, files, syncing: full)
            result.nanos = Machine.monotonicNanos - began
            last.value.pointee = result
            loop.perform { [result] in
                last.value.pointee = Done()
                box.value(result)
            }
        }
    }

    private static func write(_ pieces: LogPieces, _ files: [UInt64: DiskFile], syncing full: [UInt64]?) -> Done {
        do throws(DiskError) {
            for index in 0..<pieces.count {
                let piece = pieces[index]
                try files[piece.file]?.write(piece.bytes, at: piece.place)
            }
        } catch { return Done(result: .notWritten, failure: error) }
        guard let full else { return Done() }
        do throws(DiskError) {
            for number in full + pieces.files { try files[number]?.sync() }
        } catch { return Done(result: .notSynced, failure: error) }
        return Done()
    }

    /// When the loop has ended: what is being written is, and then these. Waits.
    func finish(_ pieces: LogPieces, _ files: [UInt64: DiskFile]) throws(DiskError) {
        thread.finish()
        if let failure = last.pointee.failure ?? LogPen.write(pieces, files, syncing: nil).failure { throw failure }
    }
}
