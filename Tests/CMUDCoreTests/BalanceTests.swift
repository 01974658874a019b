// How long the game lasts: the economy played by a greedy buyer in virtual time, without a session and with one.

import CMUDCore
import KVBase
import KVTestTraits
import Testing

/// A player who buys whatever gives most power per coin and works on the problem whenever `patience` steps would do all
/// of it; otherwise, and after breakages that took too much, mines.
struct GreedyPlayer {
    let balance: Balance
    let patience: Int64
    var random: PRNG
    var ledger = Ledger()
    var coins: Int64 = 0
    var millis: Int64 = 0
    var rankMillis: [Int64] = []
    static let millisMax: Int64 = 6 * 3_600_000

    init(_ balance: Balance, patience: Int64, seed: UInt64) {
        (self.balance, self.patience) = (balance, patience)
        random = PRNG(seed: seed)
    }

    mutating func play() -> Bool {
        for rank in Rank.working {
            let start = millis
            var remaining = balance.size(rank)
            while remaining > 0 {
                guard millis < GreedyPlayer.millisMax else { return false }
                buy(rank)
                if ledger.power.times(patience) >= balance.size(rank) { solve(&remaining) } else { mine() }
            }
            rankMillis.append(millis - start)
        }
        return true
    }

    private mutating func buy(_ rank: Rank) {
        while true {
            let offers = Item.allCases.filter { $0.unlockedAt <= rank }
                .map { (item: $0, price: balance.price($0, owned: ledger.owned($0))) }.filter { $0.price <= coins }
            guard let best = offers.max(by: { $0.item.power * $1.price < $1.item.power * $0.price }) else { return }
            coins -= best.price
            ledger.bought[best.item.rawValue] += 1
        }
    }

    private mutating func dice() -> Outcome {
        Outcome(pid: "player", slot: 0, action: .mine, number: Int64(truncatingIfNeeded: random.next() >> 8))
    }

    private mutating func mine() {
        var outcome = dice()
        millis += outcome.millis(balance.mineMillis)
        coins += outcome.coins(balance, power: ledger.power) ?? 0
    }

    private mutating func solve(_ remaining: inout Int64) {
        var outcome = dice()
        millis += outcome.millis(balance.solveMillis)
        switch outcome.step(balance) {
        case .progress: remaining = max(0, remaining - ledger.power)
        case .stuck: break
        case .breakage(let choice):
            let fragile = Item.allCases.filter { balance.broken($0, count: ledger.owned($0)) > 0 }
            guard !fragile.isEmpty else { return }
            let item = fragile[Int(choice % UInt64(fragile.count))]
            ledger.lost[item.rawValue] += balance.broken(item, count: ledger.owned(item))
        }
    }
}

@Suite(.blocking) struct BalanceTests {
    private func median(_ patience: Int64, _ balance: Balance = .standard) -> (minutes: Double, ranks: [Double])? {
        var totals: [Double] = []
        var ranks = [Double](repeating: 0, count: 5)
        for seed in 1...16 {
            var player = GreedyPlayer(balance, patience: patience, seed: UInt64(seed))
            guard player.play() else { return nil }
            totals.append(Double(player.millis) / 60_000)
            for (index, millis) in player.rankMillis.enumerated() { ranks[index] += Double(millis) / 60_000 / 16 }
        }
        totals.sort()
        return ((totals[7] + totals[8]) / 2, ranks)
    }

    @Test func theBestSoloPlayTakesHalfAnHourToAnHour() throws {
        var best: (patience: Int64, minutes: Double, ranks: [Double])?
        for patience in [Int64(60), 80, 120, 160, 240] {
            guard let result = median(patience) else { continue }
            let ranks = result.ranks.map { ($0 * 10).rounded() / 10 }
            print("balance: k=\(patience) median \(result.minutes) min, ranks \(ranks)")
            if result.minutes < best?.minutes ?? .infinity { best = (patience, result.minutes, result.ranks) }
        }
        let found = try #require(best)
        #expect((30...60).contains(found.minutes), "best solo \(found.minutes) min at k=\(found.patience)")
        #expect(found.ranks.min()! >= found.ranks.max()! / 2, "ranks \(found.ranks)")
    }

    @Test func classicIsAboutAMinute() throws {
        let result = try #require(median(20, .classic))
        print("balance: classic median \(result.minutes) min")
        #expect(result.minutes < 8)
    }

    @Test func bulkPricesEndSoonWhateverIsAskedFor() {
        for balance in [Balance.standard, .classic] {
            for item in Item.allCases {
                let (count, cost) = balance.affordable(item, owned: 0, coins: amountMax, wanted: amountMax)
                #expect(count > 0 && cost > 0 && cost <= amountMax)
                #expect(balance.affordable(item, owned: amountMax, coins: amountMax, wanted: amountMax).count >= 0)
            }
        }
    }

    @Test func powerAndBreakageNeverOverflow() {
        var ledger = Ledger()
        for item in Item.allCases { ledger.bought[item.rawValue] = amountMax }
        #expect(ledger.power == amountMax)
        for item in Item.allCases {
            for count in [Int64(0), 1, 2, 3, 4, 5, amountMax] {
                let broken = Balance.standard.broken(item, count: count)
                #expect((0...count).contains(broken))
                if item == .cpu, count > 0 { #expect(broken < count) }
            }
        }
        var outcome = Outcome(pid: "a", slot: 0, action: .mine, number: 1)
        #expect((outcome.coins(.standard, power: amountMax) ?? 1) > 0)
    }
}
