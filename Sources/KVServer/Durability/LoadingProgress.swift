// How far a server that starts has read its directory. Any thread.

import KVBase
import KVRuntime
import Synchronization

final class LoadingProgress: Sendable {
    struct Figures {
        var beganMillis: Millis
        var total: Int
        var loaded: Int
        /// As if the rest took as long; at least 1.
        var secondsLeft: Int

        var percent: Double { total == 0 ? 100 : 100 * Double(loaded) / Double(total) }
    }

    private let total = Atomic<Int>(0)
    private let loaded = Atomic<Int>(0)
    /// On the monotonic clock; 0 while nothing is read.
    private let began = Atomic<Int64>(0)

    func begin(total bytes: Int, now: Nanos = Machine.monotonicNanos) {
        total.store(bytes, ordering: .relaxed)
        loaded.store(0, ordering: .relaxed)
        began.store(now, ordering: .relaxed)
    }

    /// So many more bytes are in the stores.
    func note(_ bytes: Int) { loaded.add(bytes, ordering: .relaxed) }

    func end() { began.store(0, ordering: .relaxed) }

    /// Nil while nothing is read. `loaded` is never above `total`.
    func figures(now: Nanos = Machine.monotonicNanos) -> Figures? {
        let began = began.load(ordering: .relaxed)
        guard began != 0 else { return nil }
        let total = total.load(ordering: .relaxed)
        let loaded = min(total, loaded.load(ordering: .relaxed))
        let nanos = max(0, now - began)
        let left = loaded == 0 ? 0 : Double(nanos) * Double(total - loaded) / Double(loaded) / 1e9
        return Figures(
            beganMillis: Machine.wallMillis - nanos / 1_000_000, total: total, loaded: loaded,
            secondsLeft: max(1, Int(left.rounded(.up))))
    }
}
