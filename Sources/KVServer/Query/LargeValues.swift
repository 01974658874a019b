// SET and GET of values too large for one turn: stored and answered in slices while the connection's later commands
// wait and other clients are served. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// SET of a large value. The value stays in the session's input until it is stored; the write takes its place among the
/// others when it is complete.
final class LargeSet: Continuation {
    /// Values from this size on are handled in slices: below, copying and hashing take less than a slice.
    static let valueBytesMin = 256 * 1024
    /// Bytes copied between two looks at the clock: some 15 us, or a fresh huge page of the kernel's.
    static let pieceBytes = 64 * 1024

    private var batch: CommandBatch
    private let inputBytes: Int
    private var write: LargeWrite?
    private var store: Store?

    /// Takes the batch over; its first command is the one to run.
    init(batch: CommandBatch, inputBytes: Int) {
        self.batch = batch
        self.inputBytes = inputBytes
    }

    override var heldInputBytes: Int { inputBytes }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        let deadline = x.sliceDeadline
        let value = batch.argument(2, of: batch[0])
        if write == nil {
            let key = Int(batch[0].firstArgument) + 1
            x.shard.storeKeys(of: batch, key, through: key, step: 1, x.session.state.pointee.database)
        }
        var write =
            write
            ?? x.store.beginLarge(
                x.store.key(batch.argument(1, of: batch[0])), valueCount: value.count, now: x.nowMillis)
        store = x.store
        Loop.willFill(write.place, value.count - write.filled)
        repeat {
            x.store.advance(&write, from: value.start, bytes: LargeSet.pieceBytes)
        } while !write.isReady && Machine.monotonicNanos < deadline
        guard write.isReady else {
            self.write = write
            return false
        }
        self.write = nil
        let record = x.store.finish(write, now: x.nowMillis)
        record == nil ? x.error(ShardState.clockError) : x.output.pointee.ok()
        return true
    }

    override func cancel() {
        batch.deallocate()
        if let write { store?.abandon(write) }
        write = nil
    }
}

/// The reply to GET of a large value, or to MGET where all values together are large. Holds the records, so the values
/// are those of the moment of the command.
final class LargeReply: Continuation {
    private let records: [Record?]
    /// The record being copied, and how many bytes of its value were.
    private var next = 0
    private var copied = 0

    /// Takes the references over; nil is the reply for a key that is not there.
    init(_ records: [Record?]) { self.records = records }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        copy(to: &x, outputMax: outputMax, until: x.sliceDeadline)
    }

    /// A slice; whether it was the last.
    func copy(to x: inout Execution, outputMax: Int, until deadline: Nanos) -> Bool {
        while next < records.count {
            copyPiece(x.output, resp3: x.resp3)
            if x.output.pointee.count > outputMax || Machine.monotonicNanos > deadline { break }
        }
        return next == records.count
    }

    private func copyPiece(_ output: UnsafeMutablePointer<OutputBuffer>, resp3: Bool) {
        guard let record = records[next] else {
            output.pointee.null(resp3: resp3)
            next += 1
            return
        }
        let value = record.value
        if copied == 0 { output.pointee.bulkHeader(value.count) }
        let end = min(copied + LargeSet.pieceBytes, value.count)
        output.pointee.append(UnsafeRawBufferPointer(rebasing: value[copied..<end]))
        copied = end
        guard copied == value.count else { return }
        output.pointee.append("\r\n")
        record.release()
        copied = 0
        next += 1
    }

    override func cancel() {
        for record in records[next...] { record?.release() }
        next = records.count
    }
}
