// DEL of keys whose homes are other actors: each deletes its own and says how many were there. Loop thread of the
// connection's shard.

import KVBase
import KVCore
import RESP

final class HomeDelete: Continuation {
    let ask: HomeAsk
    private let deleted: Int
    private let isRefused: Bool

    /// `deleted`: how many were deleted here. `isRefused`: one could not be.
    init(_ ask: HomeAsk, _ deleted: Int, isRefused: Bool) {
        (self.ask, self.deleted, self.isRefused) = (ask, deleted, isRefused)
    }

    /// Asks each home to delete keys, as they are stored.
    static func ask(_ x: Execution, _ homes: Homes, _ keys: [Int: [Bytes]]) -> HomeAsk {
        let ask = HomeAsk(x.session)
        for (home, keys) in keys {
            let queue = CommandQueue()
            queue.append(["DEL"] + keys)
            let request = HomeRequest(ask, from: x.shard.index, keys: keys, queue: queue)
            request.client = x.session.traits
            ask.send(request, to: home, homes)
        }
        return ask
    }

    override var isSuspended: Bool { ask.outstanding > 0 }
    override var isElsewhere: Bool { isSuspended }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard ask.outstanding == 0 else { return false }
        guard let others = ask.sum(&x) else { return true }
        isRefused ? x.error(ShardState.clockError) : x.output.pointee.integer(deleted + others)
        return true
    }

    override func cancel() { ask.close() }
}

extension HomeAsk {
    /// What the homes counted; nil when it was answered with the error of one of them.
    func sum(_ x: inout Execution) -> Int? {
        if hasFailed {
            x.error(HomeAsk.failure)
            return nil
        }
        if isLate {
            x.error("BUSY an actor that runs this command is busy; perhaps not all keys were deleted, try again")
            return nil
        }
        var sum = 0
        for answer in answers {
            x.session.noteWritten(answer)
            let reply = answer.output.bytes
            guard reply.count > 3, reply[0] == UInt8(ascii: ":"),
                let count = ByteView(UnsafeRawBufferPointer(rebasing: reply[1..<reply.count - 2])).integer
            else {
                x.output.pointee.append(reply)
                return nil
            }
            sum += count
        }
        return sum
    }
}
