// SET and GET of values too large for one turn: stored and answered in slices while the connection's later commands
// wait and other clients are served. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// SET, SETEX or PSETEX of a large value, without a condition. The value stays in the session's input until it is
/// stored; the write takes its place among the others when it is complete.
final class LargeSet: Continuation {
    /// Values from this size on are handled in slices: below, copying and hashing take less than a slice.
    static let valueBytesMin = 256 * 1024
    /// Bytes copied between two looks at the clock: some 15 us, or a fresh huge page of the kernel's.
    static let pieceBytes = 64 * 1024

    private var batch: CommandBatch
    private let inputBytes: Int
    /// Which argument the value is.
    private let valuePlace: Int
    private var write: LargeWrite?
    private var store: Store?

    /// Takes the batch over; its first command is the one to run.
    init(batch: CommandBatch, inputBytes: Int) {
        self.batch = batch
        self.inputBytes = inputBytes
        let name = batch.argument(0, of: batch[0])
        valuePlace = name.equals("SETEX") || name.equals("PSETEX") ? 3 : 2
    }

    override var heldInputBytes: Int { inputBytes }

    /// Whether a SET with options is one to be carried out in slices: not one that reads first, as that runs at the
    /// key's home, nor one that deletes. `value`: which argument that is.
    static func isNeeded(_ x: Execution, value: Int, _ options: SetOptions) -> Bool {
        guard x.argument(value).count >= valueBytesMin, !x.session.isGuest, !options.isConditional else { return false }
        if case .at(let millis) = options.deadline { return millis > x.nowMillis }
        return true
    }

    /// Nothing is looked at yet. Nil when it was answered with an error, as now it is too late for the deadline.
    private func begin(_ caller: Execution) -> LargeWrite? {
        let x = Execution(
            session: caller.session, shard: caller.shard, store: caller.store, batch: batch, command: batch[0],
            output: caller.output)
        let deadline: DeadlineChoice
        if valuePlace == 3 {
            let form = TimeForm(isMillis: x.argument(0).equals("PSETEX"), isAbsolute: false)
            guard let millis = x.deadline(2, form, command: form.isMillis ? "psetex" : "setex") else { return nil }
            deadline = .at(millis)
        } else {
            guard let options = SetOptions(x) else { return nil }
            deadline = options.deadline
        }
        let key = Int(batch[0].firstArgument) + 1
        x.shard.storeKeys(of: batch, key, through: key, step: 1, x.session.state.pointee.database)
        return x.store.beginLarge(
            x.store.key(x.argument(1)), valueCount: x.argument(valuePlace).count, deadline: deadline, now: x.nowMillis)
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        let deadline = x.sliceDeadline
        let value = batch.argument(valuePlace, of: batch[0])
        guard var write = self.write ?? begin(x) else { return true }
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
