// What happens in attempt number k: a pure function of who tries, what and k, so that nobody gets a second throw of the
// same dice by killing the program (rule R10). Any thread.

import KVBase

package enum Action: String, Sendable { case mine, solve, mentor, study }

/// A committed result of one solving step.
package enum StepOutcome: Equatable, Sendable {
    case progress
    /// Which of the owned kinds breaks is chosen by this number.
    case breakage(UInt64)
    case stuck
}

package struct Outcome: Sendable {
    private var generator: PRNG

    /// The dice of attempt `number` of `action` made in `slot` of the character `pid`.
    package init(pid: String, slot: Int, action: Action, number: Int64) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325  // FNV-1a: the same on every machine, unlike Hasher
        for byte in "\(pid)/\(slot)/\(action.rawValue)/\(number)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
        }
        generator = PRNG(seed: hash)
        _ = generator.next()
    }

    /// How long the attempt takes, then its result; always asked in this order.
    package mutating func millis(_ range: ClosedRange<Int64>) -> Int64 {
        range.lowerBound + Int64(generator.below(Int(range.upperBound - range.lowerBound) + 1))
    }

    /// Coins of a mining attempt, nil when the block went to somebody else. `percent` is what the place and the
    /// character make of a block.
    package mutating func coins(_ balance: Balance, power: Int64, percent: Int64 = 100, hitPercent: Int? = nil)
        -> Int64?
    {
        guard generator.below(100) < hitPercent ?? balance.mineHitPercent else { return nil }
        let plain = 1 + Int64(generator.below(Int(max(1, min(power, amountMax)))))
        // The dice decide about the part of a coin, so that a good place is worth going to from the first block on.
        let part = Int64(generator.below(100))
        return max(1, plain.times(percent).adding(part) / 100)
    }

    /// Whether a try at the books brought anything.
    package mutating func isInsight(_ balance: Balance) -> Bool { generator.below(100) < balance.mineHitPercent }

    /// One step: what cannot break brings progress; being stuck is nobody's fault.
    package mutating func step(_ balance: Balance, breakPermille: Int64? = nil) -> StepOutcome {
        let throwOfDice = Int64(generator.below(1_000))
        let breaks = breakPermille ?? Int64(balance.breakPercent) * 10
        let stuck = 1_000 - Int64(balance.progressPercent + balance.breakPercent) * 10
        if throwOfDice < 1_000 - stuck - breaks { return .progress }
        return throwOfDice < 1_000 - stuck ? .breakage(generator.next()) : .stuck
    }
}
