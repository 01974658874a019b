// Hands connection events to everybody who listens. Any thread.

import Synchronization

final class EventHub: Sendable {
    /// Events kept for a listener that does not keep up; older ones are dropped first.
    static let keptEventsMax = 64

    private struct State {
        var listeners: [Int: AsyncStream<KVEvent>.Continuation] = [:]
        var nextListener = 0
        var isFinished = false
    }

    private let state = Mutex(State())

    func makeStream() -> AsyncStream<KVEvent> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: KVEvent.self, bufferingPolicy: .bufferingNewest(Self.keptEventsMax))
        let id: Int? = state.withLock { state in
            if state.isFinished { return nil }
            state.nextListener += 1
            state.listeners[state.nextListener] = continuation
            return state.nextListener
        }
        if let id {
            continuation.onTermination = { [weak self] _ in self?.remove(id) }
        } else {
            continuation.finish()
        }
        return stream
    }

    private func remove(_ id: Int) { _ = state.withLock { $0.listeners.removeValue(forKey: id) } }

    func emit(_ event: KVEvent) {
        for continuation in state.withLock({ Array($0.listeners.values) }) { continuation.yield(event) }
    }

    /// Ends all streams, after what they still hold.
    func finish() {
        let listeners = state.withLock { state in
            state.isFinished = true
            defer { state.listeners = [:] }
            return Array(state.listeners.values)
        }
        for continuation in listeners { continuation.finish() }
    }
}
