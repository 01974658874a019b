// How long a turn of a loop may be: what it has done, and when each kind of work in it ends. A value; one thread, which
// passes the clock in.

/// Begun once a turn. A turn is measured in two ways: by units of work, which need no clock, and by nanoseconds,
/// because memory may be far slower than the units suppose. Whichever is used up first ends it. What arrives then waits
/// for the next turn.
///
/// One unit is about a quarter of a microsecond, by the cache misses at 10 M keys. Reading and overwriting single keys
/// costs none.
///
/// All kinds of work of one turn together stay below a millisecond (`turnNanosMax`): see `Share`.
@usableFromInline package struct TurnBudget: Sendable {
    /// Kinds of work that one turn does, in their order.
    @usableFromInline package enum Share: CaseIterable, Sendable {
        /// Commands just received, in batches.
        case received
        /// Sessions with more to do from earlier turns. A busy turn gives them less time, but always runs one.
        case waiting
        /// One slice of a long command, inside one of the two above.
        case slice
        /// Replication while clients wait for the end of the turn, and while none does.
        case replicationServing, replication
        /// Giving freed memory back.
        case tending
    }

    /// When one kind of work ends.
    @usableFromInline package struct Limit: Sendable {
        /// From its own beginning; in a turn that is spent.
        @usableFromInline var most, mostSpent: Nanos
        /// From the turn's beginning; where keys are added, since the shares behind this one are larger then.
        @usableFromInline var end, endAdding: Nanos
        /// From its own beginning, in any case.
        @usableFromInline var least: Nanos

        @inlinable @inline(__always)
        init(most: Nanos, spent: Nanos, end: Nanos, adding: Nanos, least: Nanos) {
            (self.most, mostSpent, self.end, endAdding, self.least) = (most, spent, end, adding, least)
        }
    }

    /// The one table. `none`: not limited in this way.
    @inlinable @inline(__always)
    package static func limit(_ share: Share) -> Limit {
        switch share {
        case .received: Limit(most: none, spent: none, end: 600_000, adding: 250_000, least: 0)
        case .waiting: Limit(most: 300_000, spent: 100_000, end: 600_000, adding: 350_000, least: 0)
        case .slice: Limit(most: 300_000, spent: 300_000, end: none, adding: none, least: 0)
        case .replicationServing: Limit(most: 100_000, spent: 100_000, end: 550_000, adding: 550_000, least: 50_000)
        case .replication: Limit(most: 350_000, spent: 350_000, end: 550_000, adding: 550_000, least: 50_000)
        case .tending: Limit(most: none, spent: none, end: 300_000, adding: 300_000, least: 0)
        }
    }

    @inlinable package static var none: Nanos { .max }

    /// What no turn should take.
    package static let turnNanosMax: Nanos = 1_000_000

    /// The latest end of the shares one after the other: the last waiting session begins a slice just before its share
    /// is over, then replication has its least. Tending is not in it: it waits for a shorter turn.
    package static var latestEnd: Nanos {
        let begun = max(limit(.received).end, limit(.waiting).end) + limit(.slice).most
        return max(begun + limit(.replication).least, limit(.replication).end)
    }

    // Units.

    @inlinable package static var unitsMax: Int { 2048 }
    @inlinable package static var unitsPerNewKey: Int { 4 }
    /// Three entries are two units.
    @inlinable package static func units(entries: Int) -> Int { entries &* 2 / 3 }
    /// A KiB copied is one.
    @inlinable package static func units(bytes: Int) -> Int { bytes &>> 10 }

    /// Why a turn takes no more, whatever its units say.
    @usableFromInline package enum Stop: Sendable {
        case time
        /// None is ready that a new key could take.
        case memory
    }

    /// Below 0 once the budget is spent.
    @usableFromInline var left = TurnBudget.unitsMax
    /// On the monotonic clock.
    @usableFromInline var began: Nanos
    /// Of this turn, the first.
    package private(set) var stopped: Stop?

    /// Of no turn: without an end by the clock until `begin`.
    package init() { began = .max / 2 }

    /// The turn that began at `now`, with all of its budget, or, if that has begun already, no change. O(1).
    @inlinable @inline(__always)
    package mutating func begin(at now: Nanos) {
        if now != began { renew(at: now) }
    }

    @usableFromInline
    mutating func renew(at now: Nanos) {
        (left, stopped, began) = (TurnBudget.unitsMax, nil, now)
    }

    @inlinable @inline(__always)
    package mutating func spend(_ units: Int) { left &-= units }

    @inlinable @inline(__always)
    package var isSpent: Bool { left < 0 }

    /// Spends what is left.
    package mutating func stop(_ reason: Stop) {
        left = min(left, -1)
        stopped = stopped ?? reason
    }

    /// When a share that begins at `now` is over, on the monotonic clock. `adding`: keys are added in it.
    @inlinable @inline(__always)
    package func deadline(for share: Share, adding: Bool = false, now: Nanos) -> Nanos {
        let limit = TurnBudget.limit(share)
        let end = adding ? limit.endAdding : limit.end
        let most = isSpent ? limit.mostSpent : limit.most
        var deadline = end == TurnBudget.none ? TurnBudget.none : began &+ end
        if most != TurnBudget.none { deadline = min(deadline, now &+ most) }
        if limit.least > 0 { deadline = max(deadline, now &+ limit.least) }
        return deadline
    }
}
