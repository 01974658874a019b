// CLIENT PAUSE: commands wait at their connections until a time, or CLIENT UNPAUSE. Loop thread of the shard.

import KVBase
import KVRuntime
import RESP

/// What waits, and how long, by the clock of `ShardState.nowMillis`.
struct Pause: Equatable, Sendable {
    var until: Millis
    /// Everything, or only what writes.
    var isOfAll: Bool
    static let millisMax = 1 << 40

    /// The stronger of both, until the later end.
    func joined(with other: Pause) -> Pause {
        Pause(until: max(until, other.until), isOfAll: isOfAll || other.isOfAll)
    }
}

/// Stands where a command would run, and leaves it in the input: when the pause is over, it is read again.
final class PauseHold: Continuation {
    private let statistics: ShardStatistics
    private var isCounted = true
    var isOver = false

    init(_ statistics: ShardStatistics) {
        self.statistics = statistics
        statistics.noteBlocked(1)
    }

    override var isSuspended: Bool { !isOver }
    override var isSlowable: Bool { false }
    override func step(_ x: inout Execution, outputMax: Int) -> Bool { isOver }

    override func cancel() {
        if isCounted { statistics.noteBlocked(-1) }
        isCounted = false
    }
}

extension Shard {
    func begin(_ pause: Pause) {
        state.pointee.pause = state.pointee.pause.map { $0.joined(with: pause) } ?? pause
        takeSettings()
        waitForEnd()
    }

    private func waitForEnd() {
        guard let loop, let until = state.pointee.pause?.until else { return }
        loop.schedule(afterMillis: max(1, until - state.pointee.nowMillis)) { [unowned self, unowned loop] in
            beginTurn(loop)
            guard let pause = state.pointee.pause else { return }
            // A later one may have made it longer.
            pause.until <= state.pointee.nowMillis ? endPause() : waitForEnd()
        }
    }

    /// Those who waited get their turns one after the other.
    func endPause() {
        guard state.pointee.pause != nil else { return }
        state.pointee.pause = nil
        takeSettings()
        for session in sessions {
            guard let hold = session.continuation as? PauseHold else { continue }
            hold.isOver = true
            enqueue(session)
        }
        loop?.requestTurn()
    }

    /// Whether the command has to wait.
    func isPaused(_ x: Execution, _ row: borrowing CommandRow, _ transaction: Transaction?) -> Bool {
        guard let pause = state.pointee.pause, pause.until > state.pointee.nowMillis else { return false }
        // As nobody else could end it.
        if x.argument(0).equals("CLIENT"), x.count > 1, x.argument(1).equals("UNPAUSE") { return false }
        return pause.isOfAll || row.flags.contains(.write)
            || x.argument(0).equals("EXEC") && transaction?.hasWrites ?? false
    }
}

extension Commands {
    /// CLIENT PAUSE milliseconds [WRITE|ALL], at every actor.
    static func clientPause(_ x: inout Execution) {
        guard x.count == 3 || x.count == 4 else { return x.wrongArity("client|pause") }
        var isOfAll = true
        if x.count == 4 {
            guard x.argument(3, is: "ALL") || x.argument(3, is: "WRITE") else {
                return x.error("ERR CLIENT PAUSE mode must be WRITE or ALL")
            }
            isOfAll = x.argument(3, is: "ALL")
        }
        guard let millis = x.integer(2) else { return x.error("ERR timeout is not an integer or out of range") }
        if millis < 0 { return x.error("ERR timeout is negative") }
        let pause = Pause(until: x.nowMillis + Millis(min(millis, Pause.millisMax)), isOfAll: isOfAll)
        x.shard.everywhere { $0.begin(pause) }
        x.output.pointee.ok()
    }

    static func clientUnpause(_ x: inout Execution) {
        guard x.count == 2 else { return x.wrongArity("client|unpause") }
        x.shard.everywhere { $0.endPause() }
        x.output.pointee.ok()
    }
}
