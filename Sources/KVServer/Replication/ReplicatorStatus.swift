// What the main thread wants to know of the replicators. Any thread.

import Synchronization

package final class ReplicatorStatus: Sendable {
    private let left = Atomic<Int>(0)
    private let progress = Atomic<Int>(0)
    private let caughtUp = Atomic<Int>(0)
    /// Writes that no other server has, by actor.
    private let owed = Mutex<[Int: UInt64]>([:])
    private let forgotten = Mutex<[String]?>(nil)
    private let onForgotten: @Sendable () -> Void

    /// `onForgotten` is called at most once, on a loop's thread.
    package init(onForgotten: @escaping @Sendable () -> Void) { self.onForgotten = onForgotten }

    /// Actors that have told the others good-bye, each counted once.
    package var leftCount: Int { left.load(ordering: .relaxed) }
    func noteLeft() { left.add(1, ordering: .relaxed) }

    /// How much of what a newcomer fetches it has; the actor that fetches it for all knows.
    var caughtUpPercent: Int { caughtUp.load(ordering: .relaxed) }
    func noteCaughtUp(_ percent: Int) { caughtUp.store(percent, ordering: .relaxed) }

    /// Counts frames that left or arrived: while it grows, handing over goes on.
    package var progressCount: Int { progress.load(ordering: .relaxed) }
    func noteProgress() { progress.add(1, ordering: .relaxed) }

    /// Writes that no other server is known to have.
    package var owedWrites: UInt64 { owed.withLock { $0.values.reduce(0, +) } }

    func noteOwed(_ writes: UInt64, by actor: Int) {
        let isLess = owed.withLock { owed in
            defer { owed[actor] = writes }
            return writes < owed[actor] ?? 0
        }
        if isLess { noteProgress() }
    }

    /// Addresses to join under the new id; nil as long as this server is a member.
    package var forgottenAddresses: [String]? { forgotten.withLock { $0 } }

    func noteForgotten(_ addresses: [String]) {
        let isFirst = forgotten.withLock { known in
            defer { known = addresses.sorted() }
            return known == nil
        }
        if isFirst { onForgotten() }
    }
}
