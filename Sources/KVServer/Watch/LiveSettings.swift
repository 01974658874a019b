// Settings that CONFIG SET changes while the server runs. Any thread; a loop takes what it needs once in a tenth of a
// second, or when it is told to.

import KVBase
import Synchronization

package final class LiveSettings: Sendable {
    static let slowLogMicrosDefault = 10_000
    static let slowLogEntriesDefault = 128

    private let slowMicros = Atomic<Int>(slowLogMicrosDefault)
    private let slowEntries = Atomic<Int>(slowLogEntriesDefault)
    private let latencyThreshold = Atomic<Int>(0)
    private let clients: Atomic<Int>
    private let lagSeconds: Atomic<Int>
    private let drain: Atomic<Int>
    /// Flags that CONFIG SET has changed since the start.
    private let names = Mutex<Set<String>>([])

    package init(_ config: Config, clientsMax: Int) {
        clients = Atomic(clientsMax)
        lagSeconds = Atomic(config.maxLagSeconds ?? 0)
        drain = Atomic(config.drainSeconds)
    }

    /// Commands that take so many microseconds or more are logged; 0: all; negative: none.
    var slowLogMicros: Int {
        get { slowMicros.load(ordering: .relaxed) }
        set { slowMicros.store(newValue, ordering: .relaxed) }
    }
    var slowLogEntries: Int {
        get { slowEntries.load(ordering: .relaxed) }
        set { slowEntries.store(newValue, ordering: .relaxed) }
    }
    /// 0: off.
    var latencyMillis: Int {
        get { latencyThreshold.load(ordering: .relaxed) }
        set { latencyThreshold.store(newValue, ordering: .relaxed) }
    }
    package var clientsMax: Int {
        get { clients.load(ordering: .relaxed) }
        set { clients.store(newValue, ordering: .relaxed) }
    }
    /// nil: off.
    var maxLagSeconds: Int? {
        get {
            let seconds = lagSeconds.load(ordering: .relaxed)
            return seconds > 0 ? seconds : nil
        }
        set { lagSeconds.store(newValue ?? 0, ordering: .relaxed) }
    }
    var drainSeconds: Int {
        get { drain.load(ordering: .relaxed) }
        set { drain.store(newValue, ordering: .relaxed) }
    }

    /// Those that have a flag, by its name; Redis's others have no place in the file.
    var changed: Set<String> { names.withLock { $0 } }

    func noteChanged(_ changed: Set<String>) {
        let flags = changed.map { $0 == "loglevel" ? "log-level" : $0 }.filter { Config.names.contains($0) }
        names.withLock { $0.formUnion(flags) }
    }

    /// The shortest time that anybody wants to hear of, in nanoseconds; nil: none.
    var noticedNanos: Int? {
        let slow = slowLogMicros < 0 ? nil : slowLogMicros.multipliedReportingOverflow(by: 1000)
        let late = latencyMillis == 0 ? nil : latencyMillis.multipliedReportingOverflow(by: 1_000_000)
        return [slow, late].compactMap { $0.map { $0.overflow ? Int.max : $0.partialValue } }.min()
    }
}
