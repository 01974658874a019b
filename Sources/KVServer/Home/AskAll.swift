// A question to every query actor of the process, for commands that speak of all of it. Loop thread of the session's
// shard; each actor answers on its own thread.

import KVBase
import KVRuntime
import RESP

/// Waits for the answers of all actors, and makes one reply of them.
final class AskAll: Continuation {
    /// Told to by every actor, on the thread of the session's shard.
    private final class Ask: @unchecked Sendable {
        weak var session: Session?
        var outstanding = 0
        var answers: [Int: [UInt8]] = [:]
    }

    private let ask = Ask()
    private let finish: (inout Execution, [[UInt8]]) -> Void

    private init(_ session: Session, _ finish: @escaping (inout Execution, [[UInt8]]) -> Void) {
        self.finish = finish
        ask.session = session
    }

    override var isSuspended: Bool { ask.outstanding > 0 }
    override var isElsewhere: Bool { isSuspended }
    override var isSlowable: Bool { false }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard ask.outstanding == 0 else { return false }
        finish(&x, ask.answers.sorted { $0.key < $1.key }.map(\.value))
        return true
    }

    override func cancel() { ask.session = nil }

    /// Asks all actors and replies with `finish`, given the answers in the actors' order. Within a transaction only the
    /// client's actor is asked. An actor that has stopped does not answer.
    static func run(
        _ x: inout Execution, _ question: @escaping @Sendable (Shard) -> [UInt8],
        _ finish: @escaping (inout Execution, [[UInt8]]) -> Void
    ) {
        let own = question(x.shard)
        guard let homes = x.shard.homes, !x.session.isGuest else { return finish(&x, [own]) }
        let all = AskAll(x.session, finish)
        let (ask, index) = (all.ask, x.shard.index)
        ask.answers[index] = own
        for actor in 1...homes.actorCount where actor != index {
            let isTold = homes.tell(actor) { shard in
                let answer = question(shard)
                _ = shard.homes?.tell(index) { _ in
                    ask.answers[actor] = answer
                    ask.outstanding -= 1
                    if ask.outstanding == 0 { ask.session?.owner?.sessionShouldRun() }
                }
            }
            if isTold { ask.outstanding += 1 }
        }
        guard ask.outstanding > 0 else { return finish(&x, all.ask.answers.sorted { $0.key < $1.key }.map(\.value)) }
        x.session.continuation = all
    }
}

extension Shard {
    /// Runs `body` with every actor of the process: here at once, elsewhere in its next turn.
    func everywhere(_ body: @escaping @Sendable (Shard) -> Void) {
        body(self)
        guard let homes else { return }
        for other in 1...homes.actorCount where other != index { _ = homes.tell(other, body) }
    }
}
