// Commands too long for one turn: they are carried on in slices while the connection's later commands wait. Loop
// thread.

import KVBase
import KVRuntime
import RESP

/// A command in progress. Each slice ends when its time is used up or the output is full; replies written so far stay.
class Continuation {
    /// One slice, until `Execution.sliceDeadline`; true when the command is finished. `outputMax`: stop when the output
    /// holds more than this many bytes.
    func step(_ x: inout Execution, outputMax: Int) -> Bool { true }

    /// It waits for something else, not for a turn: whoever brings that gives the session one.
    var isSuspended: Bool { false }

    /// Another actor runs it: that is over soon, whatever clients do.
    var isElsewhere: Bool { false }

    /// Whether the slow log may name it: not who only waits for others, or for a reader.
    var isSlowable: Bool { true }

    /// What INFO calls a turn with one of its slices.
    var turnWork: TurnWork { .slice }

    /// The input the command still reads from, so that the session keeps it in place: bytes held.
    var heldInputBytes: Int { 0 }

    /// Frees what the command holds, finished or not.
    func cancel() {}
}

/// MGET, MSET, DEL or EXISTS with more arguments than one turn should handle. Its arguments stay in the session's input
/// until the end. Other clients of the shard may run commands between its slices.
final class LongCommand: Continuation {
    /// Commands of more arguments than this run in slices.
    static let argumentsMin = 1024
    private static let sliceArguments = 128

    enum Kind { case mget, mset, exists, del }

    private let kind: Kind
    private var batch: CommandBatch
    private let inputBytes: Int
    private var next = 1
    private var total = 0
    /// A key is left as it was.
    private var isRefused = false
    /// The answers of MGET for the keys before `next`, while they are being copied.
    private var reply: LargeReply?
    /// Of DEL: homes that are deleting keys.
    private var ask: HomeAsk?

    /// Takes the batch over; its first command is the one to run.
    init?(batch: CommandBatch, name: String, inputBytes: Int) {
        switch name {
        case "mget": kind = .mget
        case "mset": kind = .mset
        case "exists": kind = .exists
        case "del", "delete", "unlink": kind = .del
        default: return nil
        }
        self.batch = batch
        self.inputBytes = inputBytes
    }

    override var heldInputBytes: Int { inputBytes }
    override var isSuspended: Bool { (ask?.outstanding ?? 0) > 0 }
    override var isElsewhere: Bool { isSuspended }
    override func cancel() {
        batch.deallocate()
        reply?.cancel()
        ask?.close()
    }

    override func step(_ caller: inout Execution, outputMax: Int) -> Bool {
        var x = Execution(
            session: caller.session, shard: caller.shard, store: caller.store, batch: batch, command: batch[0],
            output: caller.output)
        if next == 1 {
            guard begin(&x) else { return true }
        }
        let deadline = x.sliceDeadline
        repeat {
            if let ask {
                guard ask.outstanding == 0 else { return false }
                guard let deleted = ask.sum(&x) else { return true }
                total += deleted
                ask.close()
                self.ask = nil
            } else if let reply {
                guard reply.copy(to: &x, outputMax: outputMax, until: deadline) else { return false }
                self.reply = nil
            } else {
                let end = min(next + LongCommand.sliceArguments, x.count)
                handle(&x, batch.range(x.command, next, end))
                next = end
            }
            if reply == nil, ask == nil, next >= x.count { return finish(&x) }
        } while x.output.pointee.count <= outputMax && Machine.monotonicNanos < deadline
        return false
    }

    private func handle(_ x: inout Execution, _ range: Range<Int>) {
        x.shard.storeKeys(
            of: batch, range.lowerBound, through: range.upperBound - 1, step: kind == .mset ? 2 : 1,
            x.session.state.pointee.database)
        switch kind {
        case .mget: reply = LargeReply(Commands.records(x, range))
        case .mset: if !Commands.mset(&x, range) { isRefused = true }
        case .exists: total += Commands.exists(&x, range)
        case .del:
            let (deleted, isRefused, ask) = Commands.del(&x, range)
            total += deleted
            if isRefused { self.isRefused = true }
            self.ask = ask
        }
    }

    private func finish(_ x: inout Execution) -> Bool {
        if isRefused {
            x.error(ShardState.clockError)
            return true
        }
        switch kind {
        case .mget: break
        case .mset: x.output.pointee.ok()
        case .exists, .del: x.output.pointee.integer(total)
        }
        return true
    }

    /// Checks the whole command; false when it was answered with an error.
    private func begin(_ x: inout Execution) -> Bool {
        if kind == .mset, x.count % 2 == 0 {
            x.wrongArity("mset")
            return false
        }
        for k in stride(from: 1, to: x.count, by: kind == .mset ? 2 : 1) where x.argument(k).count > Limits.keyBytesMax
        {
            x.error("ERR key is too long: the limit is 65536 bytes")
            return false
        }
        if kind == .mget { x.output.pointee.arrayHeader(x.count - 1) }
        // Slices of MSET must begin at a key: 128 arguments are 64 pairs.
        check(LongCommand.sliceArguments % 2 == 0)
        return true
    }
}
