// A client without a socket: bytes in, bytes out, in process. For tests and the fuzzer. One thread.

package import KVBase
package import KVServer
import RESP

/// Owns a query actor and one session on it; time is whatever the caller says.
package final class LocalSession {
    package let shard: Shard
    package private(set) var session: Session
    private let output: UnsafeMutablePointer<OutputBuffer>
    /// Called while a command waits for another actor; false if nothing happened.
    package var whileSuspended: () -> Bool = { false }
    /// True once the server would have closed the connection.
    package private(set) var isClosed = false

    package convenience init(now: Millis = 1_000_000, seed: UInt64 = 1) {
        var config = Config()
        config.actors = 1
        let context = ServerContext(
            config: config, serverID: seed, hashSeed: seed, digestKey: 1, inputOutput: "none")
        self.init(shard: Shard(index: 1, context: context, journalCapacity: 1024), now: now)
    }

    /// Another client of the same shard when `shard` is shared; the caller then closes the shard.
    package init(shard: Shard, now: Millis) {
        self.shard = shard
        shard.state.pointee.nowMillis = now
        session = Session(shard: shard, peer: "local", local: "local")
        output = .allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
    }

    /// Frees the session; with `shardToo`, the replica as well.
    package func close(shardToo: Bool = true) {
        // It often holds this very client.
        whileSuspended = { false }
        session.close()
        output.pointee.deallocate()
        output.deallocate()
        if shardToo { shard.close() }
    }

    package var now: Millis {
        get { shard.state.pointee.nowMillis }
        set { shard.state.pointee.nowMillis = newValue }
    }

    /// Hands bytes over as one receive would and runs turns until the session wants more input or closes. The reply
    /// bytes are valid until the next call. `turns` counts how many it took.
    package func reply(to bytes: UnsafeRawBufferPointer, turns: inout Int) -> UnsafeRawBufferPointer {
        output.pointee.count = 0
        guard !isClosed else { return output.pointee.bytes }
        shard.state.pointee.budget = TurnBudget()
        var status = session.receive(bytes, output: output, unsent: 0)
        turns = 1
        while status == .ready || status == .blocked || status == .suspended {
            if status == .suspended, !whileSuspended() { break }
            // The reader is as fast as one can be: nothing is ever unsent.
            shard.state.pointee.budget = TurnBudget()
            status = session.takeTurn(output: output, unsent: -output.pointee.count)
            turns += 1
        }
        if status == .closing { isClosed = true }
        return output.pointee.bytes
    }

    package func reply(to bytes: [UInt8]) -> [UInt8] {
        var turns = 0
        return bytes.withUnsafeBytes { Array(reply(to: $0, turns: &turns)) }
    }

    /// A request of plain arguments, its reply as text.
    package func command(_ arguments: String...) -> String {
        var request = OutputBuffer()
        defer { request.deallocate() }
        request.request(arguments.map { Bytes($0) })
        return String(decoding: reply(to: Array(request.bytes)), as: UTF8.self)
    }
}
