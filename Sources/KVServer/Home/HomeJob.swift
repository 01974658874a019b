// What a home has to run for a client of a sibling: one request, or a trip of several commands. The home's thread.

import KVBase
import RESP

protocol HomeJob: AnyObject, Sendable {
    /// False if it is not wanted any more.
    func mayRun() -> Bool
    /// It waits for another turn.
    func putOff()
    /// As much as this turn has time for, or until `deadline`; true if there is nothing left to run.
    func run(at shard: Shard, until deadline: Nanos) -> Bool
    /// What it did must be in the log before it is answered.
    var hasWritten: Bool { get }
    /// It is answered with this error: what was done may be lost.
    func refuse(_ reply: StaticString)
    /// The asking actor gets the answer.
    func giveBack(from shard: Shard)
}

extension HomeRequest: HomeJob {
    func mayRun() -> Bool { begin() }

    func putOff() {}

    func run(at shard: Shard, until deadline: Nanos) -> Bool {
        shard.run(self)
        shard.state.pointee.budget.spend(4 + TurnBudget.units(bytes: queue?.byteCount ?? 0))
        return true
    }

    var hasWritten: Bool { ranAt != nil }

    func refuse(_ reply: StaticString) {
        output.count = 0
        output.error(reply)
    }

    func giveBack(from shard: Shard) { _ = shard.homes?.tell(from) { $0.answered(self) } }
}
