// Asking an actor from outside the system: a reference to a promise travels with the message. Any thread.

import CSupport

/// Why an ask brought no answer.
public enum AskError: Error, Equatable, Sendable {
    case timedOut
    /// The asking system was closed.
    case closed
    /// The answer was not of the expected type.
    case unexpectedAnswer
}

class PendingAsk: @unchecked Sendable {
    let deadlineNanos: Int64
    init(deadlineNanos: Int64) { self.deadlineNanos = deadlineNanos }
    func fail(_ error: any Error) {}
    func answer(wire bytes: UnsafeRawBufferPointer) {}
}

final class TypedAsk<R: WireMessage>: PendingAsk, @unchecked Sendable {
    private let continuation: CheckedContinuation<R, any Error>

    init(deadlineNanos: Int64, continuation: CheckedContinuation<R, any Error>) {
        self.continuation = continuation
        super.init(deadlineNanos: deadlineNanos)
    }

    func answer(_ value: R) { continuation.resume(returning: value) }

    override func fail(_ error: any Error) { continuation.resume(throwing: error) }

    override func answer(wire bytes: UnsafeRawBufferPointer) {
        do { continuation.resume(returning: try R.decode(bytes)) } catch { continuation.resume(throwing: error) }
    }
}

/// Asks under way. Whoever removes one from the table resumes it, so that happens exactly once.
final class AskTable: Sendable {
    private struct State {
        var pending: [UInt64: PendingAsk] = [:]
        var next: UInt64 = 0
        var isClosed = false
        var isSweeping = false
    }

    private let state = Locked(State())

    func reserve() -> UInt64 {
        state.withLock {
            $0.next += 1
            return $0.next | Delivery.askBit
        }
    }

    /// False if the system is closed. `startSweeping` is called when nobody looks at deadlines yet.
    func insert(_ counter: UInt64, _ ask: PendingAsk, startSweeping: () -> Void) -> Bool {
        let (inserted, first) = state.withLock { state in
            if state.isClosed { return (false, false) }
            state.pending[counter] = ask
            let first = !state.isSweeping
            state.isSweeping = true
            return (true, first)
        }
        if first { startSweeping() }
        return inserted
    }

    func remove(_ counter: UInt64) -> PendingAsk? { state.withLock { $0.pending.removeValue(forKey: counter) } }

    /// Fails what is overdue. False if nothing is left to watch.
    func sweep(nowNanos: Int64) -> Bool {
        let (late, more) = state.withLock { state in
            let late = state.pending.filter { $0.value.deadlineNanos <= nowNanos }
            for counter in late.keys { state.pending[counter] = nil }
            state.isSweeping = !state.pending.isEmpty
            return (Array(late.values), state.isSweeping)
        }
        for ask in late { ask.fail(AskError.timedOut) }
        return more
    }

    func close() {
        let all = state.withLock { state in
            state.isClosed = true
            defer { state.pending = [:] }
            return Array(state.pending.values)
        }
        for ask in all { ask.fail(AskError.closed) }
    }
}

extension ActorSystem {
    static let askSweepMillis: Int64 = 10

    /// Sends the message that `message` makes around a reference to answer to, and waits for that answer,
    /// `timeoutMillis` at most (seen within 10 ms). From outside of actors; they tell each other instead.
    public func ask<M, R: WireMessage>(
        _ ref: ActorRef<M>, timeoutMillis: Int64 = 5000, _ message: (ActorRef<R>) -> M
    ) async throws -> R {
        let counter = asks.reserve()
        let question = message(ActorRef<R>(addressId: addressId, counter: counter))
        let deadline = cs_monotonic_nanos() + timeoutMillis * 1_000_000
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let ask = TypedAsk<R>(deadlineNanos: deadline, continuation: continuation)
                guard asks.insert(counter, ask, startSweeping: startSweeping) else { return ask.fail(AskError.closed) }
                tell(ref, question)
                // Cancelled before the ask was in the table: nobody else will fail it.
                if Task.isCancelled { asks.remove(counter)?.fail(CancellationError()) }
            }
        } onCancel: {
            asks.remove(counter)?.fail(CancellationError())
        }
    }

    private func startSweeping() {
        loops.first?.perform { [self] in sweepAsks() }
    }

    private func sweepAsks() {
        guard asks.sweep(nowNanos: cs_monotonic_nanos()), let loop = Loop.current else { return }
        loop.schedule(afterMillis: Self.askSweepMillis) { [self] in sweepAsks() }
    }

    /// Answers an ask of this system.
    func answer<M: WireMessage>(_ counter: UInt64, _ message: M) {
        countReply()
        guard let ask = asks.remove(counter) else { return countDeadLetter() }
        guard let typed = ask as? TypedAsk<M> else { return ask.fail(AskError.unexpectedAnswer) }
        #if KV_CHECKS
            typed.answer(message.marshalled())
        #else
            typed.answer(message)
        #endif
    }
}
