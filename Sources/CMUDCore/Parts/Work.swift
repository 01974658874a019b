// A running action: mining, studying, solving or mentoring, try by try. A part of `GameSession`; on its thread.

import KVBase

struct Work {
    private let kind: Activity
    private let tries: Int64
    private let problem: Rank
    private let holdsCommands: Bool
    private let power: Int64
    private var made: Int64 = 0
    private var gains = WorkSummary()
    private var isLast = false
    /// The attempt under way: when it began, how long it takes, the alarm that ends it (nil while it commits), and
    /// whether it is made on coffee.
    private var began: Millis = 0
    private var takes: Millis = 0
    private var alarm: UInt64?
    private var hasCoffee = false

    /// `rank` is whose problem it is, `power` what the player has at the beginning. `isForeground` holds the next
    /// command back.
    init(_ activity: Activity, tries: Int64, rank: Rank, isForeground: Bool, power: Int64) {
        (kind, self.tries, problem, holdsCommands, self.power) = (activity, tries, rank, isForeground, power)
    }

    var activity: Activity { kind }
    var total: Int64 { tries }
    var done: Int64 { made }
    var rank: Rank { problem }
    var isForeground: Bool { holdsCommands }
    var powerAtStart: Int64 { power }
    var isOnCoffee: Bool { hasCoffee }
    /// It ends after the attempt under way.
    var isStopping: Bool { isLast }
    /// The alarm that decides the attempt under way; nil while the store has it.
    var undecided: UInt64? { alarm }
    var isOver: Bool { isLast || made >= tries }
    /// Whether another attempt follows the one under way.
    var goesOn: Bool { !isLast && made + 1 < tries }
    /// A quarter of the tries is made with the last one: worth a line for those who see no bar.
    var isAtQuarter: Bool { tries >= 4 && made * 4 / tries != (made - 1) * 4 / tries }

    var summary: WorkSummary {
        var summary = gains
        summary.wasStopped = made < tries
        return summary
    }

    mutating func beginAttempt(_ alarm: UInt64, now: Millis, takes millis: Millis, isOnCoffee: Bool) {
        (self.alarm, began, takes, hasCoffee) = (alarm, now, millis, isOnCoffee)
    }

    /// The dice are thrown: from here on the attempt cannot be taken back.
    mutating func decide() { alarm = nil }

    mutating func gain(_ amount: Int64) {
        gains.hits += 1
        gains.gained = gains.gained.adding(amount)
    }

    mutating func lose(_ units: Int64) { gains.broken += units }

    mutating func finishAttempt() {
        made += 1
        gains.tries += 1
    }

    mutating func stop() { isLast = true }

    /// `mean` is what an attempt takes on average.
    func progress(now: Millis, mean: Millis) -> ProgressView {
        let elapsed = alarm == nil ? takes : min(takes, max(0, now - began))
        let part = takes > 0 ? elapsed * 1_000 / takes : 1_000
        let permille = (made * 1_000 + part) / max(1, tries)
        let left = takes - elapsed + (tries - made - 1) * mean
        return ProgressView(
            activity: kind, done: made, total: tries, permille: Int(min(1_000, permille)),
            secondsLeft: max(0, (left + 999) / 1_000))
    }

    func checkInvariants() {
        check(tries >= 1 && 0...tries ~= made)
        check(gains.tries == made && gains.hits <= made + 1)
        check(takes >= 0)
    }
}
