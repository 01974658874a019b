// What happens in attempt number k: a pure function of who tries, what and k, so that nobody gets a second throw of the
// same dice by killing the program (rule R10). Any thread.

import KVBase

package enum Action: String, Sendable { case mine, solve, mentor }

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

    /// Coins of a mining attempt, nil when the block went to somebody else.
    package mutating func coins(_ balance: Balance, power: Int64) -> Int64? {
        guard generator.below(100) < balance.mineHitPercent else { return nil }
        return 1 + Int64(generator.below(Int(max(1, min(power, amountMax)))))
    }

    package mutating func step(_ balance: Balance) -> StepOutcome {
        let throwOfDice = generator.below(100)
        if throwOfDice < balance.progressPercent { return .progress }
        if throwOfDice < balance.progressPercent + balance.breakPercent { return .breakage(generator.next()) }
        return .stuck
    }
}
