// How far a long piece of work is, on a line of a terminal that is written over. Main task.

import KVClient

struct ProgressLine {
    /// Between two looks of a person.
    private static let spacing = Duration.milliseconds(200)

    /// Bytes of all of it, if that is known.
    private let total: Int?
    private let isShown = Terminal.isTerminal(2)
    private let start = ContinuousClock.now
    private var shownAt: ContinuousClock.Instant?

    init(total: Int?) { self.total = total }

    mutating func show(at bytes: Int, keys: Int) {
        let now = ContinuousClock.now
        guard isShown, shownAt.map({ now - $0 >= ProgressLine.spacing }) ?? true else { return }
        shownAt = now
        let seconds = max(1, (now - start).components.seconds)
        let part = total.map { $0 > 0 ? "\(min(100, bytes * 100 / $0)) %, " : "" } ?? ""
        Terminal.note("\r\u{1B}[K\(part)\(keys) keys, \(Int64(keys) / seconds) keys/s")
    }

    /// The line is gone.
    mutating func clear() { if shownAt != nil { Terminal.note("\r\u{1B}[K") } }
}
