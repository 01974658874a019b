// A client without a socket: bytes in, bytes out, in process. For tests and the fuzzer. One thread.

package import KVBase
package import KVServer
import RESP

/// Owns a query actor and one session on it; time is whatever the caller says.
package final class LocalSession {
    package let actor: QueryActor
    private var session: Session
    private let output: UnsafeMutablePointer<OutputBuffer>
    /// True once the server would have closed the connection.
    package private(set) var isClosed = false

    package convenience init(now: Millis = 1_000_000, seed: UInt64 = 1) {
        var config = Config()
        config.actors = 1
        let context = ServerContext(
            config: config, serverID: seed, hashSeed: seed, digestKey: 1, inputOutput: "none")
        self.init(actor: QueryActor(index: 1, context: context, journalCapacity: 1024), now: now)
    }

    /// Another client of the same actor when `actor` is shared; the caller then closes the actor.
    package init(actor: QueryActor, now: Millis) {
        self.actor = actor
        actor.state.pointee.nowMillis = now
        session = Session(actor: actor, peer: "local", local: "local")
        output = .allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
    }

    /// Frees the session; with `actorToo`, the replica as well.
    package func close(actorToo: Bool = true) {
        session.close()
        output.pointee.deallocate()
        output.deallocate()
        if actorToo { actor.close() }
    }

    package var now: Millis {
        get { actor.state.pointee.nowMillis }
        set { actor.state.pointee.nowMillis = newValue }
    }

    /// Hands bytes over as one receive would and runs turns until the session wants more input or closes. The reply
    /// bytes are valid until the next call. `turns` counts how many it took.
    package func execute(_ bytes: UnsafeRawBufferPointer, turns: inout Int) -> UnsafeRawBufferPointer {
        output.pointee.count = 0
        guard !isClosed else { return output.pointee.bytes }
        actor.state.pointee.work = 0
        var status = session.receive(bytes, output: output, unsent: 0)
        turns = 1
        while status == .ready || status == .blocked {
            // The reader is as fast as one can be: nothing is ever unsent.
            actor.state.pointee.work = 0
            status = session.run(output: output, unsent: -output.pointee.count)
            turns += 1
        }
        if status == .closing { isClosed = true }
        return output.pointee.bytes
    }

    package func execute(_ bytes: [UInt8]) -> [UInt8] {
        var turns = 0
        return bytes.withUnsafeBytes { Array(execute($0, turns: &turns)) }
    }

    /// A request of plain arguments, its reply as text.
    package func command(_ arguments: String...) -> String {
        var request = OutputBuffer()
        defer { request.deallocate() }
        request.request(arguments.map { Bytes($0) })
        return String(decoding: execute(Array(request.bytes)), as: UTF8.self)
    }
}
