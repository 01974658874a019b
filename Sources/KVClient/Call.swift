// One call under way: who waits for it, and the race between its answer, its timeout and its cancellation. Any thread.

import Synchronization

typealias Outcome = Result<KVReply, KVError>

extension [Outcome] {
    /// Whether one of the writes among `commands`, whose outcomes these are, was executed or may have been.
    func mayHaveWritten(_ commands: [Command]) -> Bool {
        zip(self, commands).contains { outcome, command in
            guard !command.isRead else { return false }
            if case .failure(let error) = outcome { return error.mayHaveExecuted }
            return true
        }
    }
}

/// Shared by the calling task, the connection's event loop and the cancellation handler. Whoever moves `state` to
/// `finished` first delivers the outcome; everybody else finds it finished and does nothing.
final class Call: @unchecked Sendable {
    /// `created` → `waiting` (somebody waits) → `sent` (bytes were handed to the socket) → `finished`; steps may be
    /// skipped.
    private enum Phase {
        static let created: UInt8 = 0
        static let waiting: UInt8 = 1
        static let sent: UInt8 = 2
        static let finished: UInt8 = 3
    }

    private enum Sink {
        case nobody
        case task(UnsafeContinuation<Outcome, Never>)
        case batch(PipelineBatch, index: Int)
    }

    let command: Command
    /// Uptime in nanoseconds at which the call fails.
    let deadline: UInt64
    /// Written before `state` leaves `created` (release), read after `state` became `finished` (acquire).
    private var sink: Sink = .nobody
    private let state = Atomic<UInt8>(Phase.created)
    /// The MULTI of the transaction that this call is a part of; nil for MULTI itself, and for any other call.
    private let multi: Call?
    /// Where in the answer to an EXEC the stamps of the transaction's puts are.
    let stampPlaces: [Int]
    /// Whether bytes of it were handed to the socket. Event loop only.
    private var isWritten = false

    init(_ command: Command, deadline: UInt64, in multi: Call? = nil, stampPlaces: [Int] = []) {
        (self.command, self.deadline, self.multi, self.stampPlaces) = (command, deadline, multi, stampPlaces)
    }

    /// Whether it writes what a later put of this client has to win over.
    var isStamped: Bool { command.isPut || command.isDelete || !stampPlaces.isEmpty }

    /// Submits the call and waits for the outcome. Returns at once when the task is cancelled.
    func run(on connection: ServerConnection) async -> Outcome { await run { connection.submit(self) } }

    /// The same of anything that finishes the call when it has been started.
    func run(_ start: () -> Void) async -> Outcome {
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                sink = .task(continuation)
                if begin() {
                    start()
                } else {
                    continuation.resume(returning: .failure(.cancelled(mayHaveExecuted: false)))
                }
            }
        } onCancel: {
            cancel()
        }
    }

    /// Prepares the call as one of a batch; false when it was cancelled already.
    func begin(in batch: PipelineBatch, index: Int) -> Bool {
        sink = .batch(batch, index: index)
        return begin()
    }

    private func begin() -> Bool {
        // Release: the sink is visible to whoever finishes the call.
        state.compareExchange(expected: Phase.created, desired: Phase.waiting, ordering: .releasing).exchanged
    }

    /// The event loop is about to send it; false when nobody waits any more, so that it need not be sent. A transaction
    /// is sent whole or not at all, whoever waits: what follows it on the connection would be queued with it.
    func markSent() -> Bool {
        if let multi, !multi.isWritten {
            finish(.failure(.cancelled(mayHaveExecuted: false)))
            return false
        }
        isWritten =
            state.compareExchange(expected: Phase.waiting, desired: Phase.sent, ordering: .relaxed).exchanged
            || multi != nil
        return isWritten
    }

    var isFinished: Bool { state.load(ordering: .relaxed) == Phase.finished }

    /// Whether nobody waits for it, and it is not the rest of a transaction that is on its way. Event loop only.
    var isAbandoned: Bool { isFinished && multi?.isWritten != true }

    /// Delivers `outcome` unless the call is finished. In `created` there is no sink yet: `begin` then fails and its
    /// caller answers.
    func finish(_ outcome: @autoclosure () -> Outcome) {
        // Acquire: pairs with the release in `begin`, so that the sink is seen.
        let before = state.exchange(Phase.finished, ordering: .acquiring)
        if before == Phase.waiting || before == Phase.sent { deliver(outcome()) }
    }

    /// Fails the call, telling whether it had been sent.
    func fail(_ error: (_ mayHaveExecuted: Bool) -> KVError) {
        let before = state.exchange(Phase.finished, ordering: .acquiring)
        if before == Phase.waiting || before == Phase.sent { deliver(.failure(error(before == Phase.sent))) }
    }

    func cancel() { fail { .cancelled(mayHaveExecuted: $0) } }

    private func deliver(_ outcome: Outcome) {
        switch sink {
        case .nobody: break
        case .task(let continuation): continuation.resume(returning: outcome)
        case .batch(let batch, let index): batch.finished(index, outcome)
        }
        sink = .nobody
    }
}
