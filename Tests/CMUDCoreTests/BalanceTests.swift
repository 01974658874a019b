// How long the game lasts: the economy played by a greedy buyer in virtual time, without a session and with one.

import CMUDCore
import KVBase
import KVTestTraits
import Testing

/// How somebody plays who knows all the rules.
struct Policy {
    /// Works on the problem whenever this many plain steps would do all of it; mines otherwise, and again after
    /// breakages that took too much.
    var patience: Int64 = 140
    /// Finishes what so many steps finish, however weak; rebuilds otherwise.
    var finish = Balance.finishSteps
    /// The lesson of each rank, in order; empty for somebody who never studies.
    var lessons: [Subject] = []
    var drinksCoffee = false
    var usesPlaces = true

    static let none = Policy(usesPlaces: false)
}

/// Plays the economy alone, without a session; buys whatever gives most power per coin.
struct BestPlayer {
    let balance: Balance
    let policy: Policy
    var random: PRNG
    var ledger = Ledger()
    var coins: Int64 = 0
    var millis: Int64 = 0
    var rankMillis: [Int64] = []
    var place = Place.start
    /// Commands as they would be typed: a series of one and the same action is a single one.
    var typed: [(millis: Int64, word: GameCommand)] = []
    private var lastAction: GameCommand?
    static let millisMax: Int64 = 6 * 3_600_000

    init(_ balance: Balance, _ policy: Policy, seed: UInt64) {
        (self.balance, self.policy) = (balance, policy)
        random = PRNG(seed: seed)
    }

    mutating func play() -> Bool {
        for rank in Rank.working {
            let start = millis
            if policy.lessons.count > rank.rawValue { learn(policy.lessons[rank.rawValue]) }
            var remaining = balance.size(rank)
            while remaining > 0 {
                guard millis < BestPlayer.millisMax else { return false }
                buy(rank)
                let isNearlyDone = balance.steps(remaining, power: max(1, ledger.power)) <= policy.finish
                guard isNearlyDone || ledger.power.times(policy.patience) >= balance.size(rank) else {
                    mine()
                    continue
                }
                if policy.drinksCoffee, ledger.cupLeft == 0 {
                    guard coins >= balance.cupPrice(power: ledger.power) else {
                        mine()
                        continue
                    }
                    drink()
                }
                solve(&remaining)
            }
            rankMillis.append(millis - start)
        }
        return true
    }

    // MARK: actions

    private mutating func act(_ word: GameCommand) {
        if lastAction != word { typed.append((millis, word)) }
        lastAction = word
    }

    private mutating func go(_ wanted: Place) {
        guard policy.usesPlaces, place != wanted else { return }
        place = wanted
        act(.move)
    }

    private mutating func learn(_ subject: Subject) {
        go(.floor4)
        while ledger.insightLeft < Balance.lessonInsight {
            act(.study)
            var outcome = attempt(balance.mineMillis)
            if outcome.isInsight(balance) { ledger.insight += balance.insight(companions: 0) }
        }
        ledger.lessons[subject.rawValue] += 1
        act(.learn)
    }

    private mutating func drink() {
        go(.floor3)
        act(.coffee)
        coins -= balance.cupPrice(power: ledger.power)
        ledger.cups += Balance.cupTries
    }

    private mutating func buy(_ rank: Rank) {
        // What a round costs is kept while the next thing to do is to solve.
        if policy.drinksCoffee, ledger.power.times(policy.patience) >= balance.size(rank) { return }
        let ledger = ledger
        let (items, cost) = balance.bestPurchase({ ledger.owned($0) }, upTo: rank, coins: coins)
        guard cost > 0 else { return }
        act(.buy)
        coins -= cost
        for (item, count) in items { self.ledger.bought[item.rawValue] += count }
    }

    /// The dice of an attempt, after the time that it takes.
    private mutating func attempt(_ range: ClosedRange<Int64>) -> Outcome {
        let number = Int64(truncatingIfNeeded: random.next() >> 8)
        var outcome = Outcome(pid: "player", slot: 0, action: .mine, number: number)
        let isOnCoffee = ledger.cupLeft > 0
        millis += outcome.millis(range) * (isOnCoffee ? Balance.cupTimePercent : 100) / 100
        if isOnCoffee { ledger.sips += 1 }
        return outcome
    }

    private mutating func mine() {
        go(.floor1)
        act(.mine)
        var outcome = attempt(balance.mineMillis)
        let percent = balance.minePercent(place, tuning: ledger.lessons(.tuning))
        coins += outcome.coins(balance, power: ledger.power, percent: percent) ?? 0
    }

    private mutating func solve(_ remaining: inout Int64) {
        go(.floor8)
        act(.solve)
        let breaks = balance.breakPermille(care: ledger.lessons(.care), isOnCoffee: ledger.cupLeft > 0)
        var outcome = attempt(balance.solveMillis)
        switch outcome.step(balance, breakPermille: breaks) {
        case .progress:
            let percent = balance.solvePercent(place, partners: 0, theory: ledger.lessons(.theory))
            remaining = max(0, remaining - max(1, ledger.power.times(percent) / 100))
        case .stuck: break
        case .breakage(let choice):
            let fragile = Item.allCases.filter { balance.broken($0, count: ledger.owned($0)) > 0 }
            guard !fragile.isEmpty else { return }
            let item = fragile[Int(choice % UInt64(fragile.count))]
            ledger.lost[item.rawValue] += balance.broken(item, count: ledger.owned(item))
        }
    }
}

/// The fewest different commands that were typed in any stretch of `minutes`.
func fewestCommands(_ typed: [(millis: Int64, word: GameCommand)], until end: Int64, inMinutes minutes: Int64) -> Int {
    let stretch = minutes * 60_000
    return stride(from: typed.first?.millis ?? 0, through: max(0, end - stretch), by: 15_000).map { start in
        Set(typed.filter { $0.millis >= start && $0.millis < start + stretch }.map(\.word)).count
    }.min() ?? 0
}

@Suite(.blocking) struct BalanceTests {
    private struct Result {
        var minutes: Double
        var ranks: [Double]
        /// Different commands in the poorest ten and five minutes of all games.
        var inTen = Int.max
        var inFive = Int.max
    }

    private static func median(_ policy: Policy, _ balance: Balance = .standard, games: Int = 8) -> Result? {
        var totals: [Double] = []
        var result = Result(minutes: 0, ranks: [Double](repeating: 0, count: 5))
        for seed in 1...games {
            var player = BestPlayer(balance, policy, seed: UInt64(seed))
            guard player.play() else { return nil }
            totals.append(Double(player.millis) / 60_000)
            for (index, millis) in player.rankMillis.enumerated() {
                result.ranks[index] += Double(millis) / 60_000 / Double(games)
            }
            result.inTen = min(result.inTen, fewestCommands(player.typed, until: player.millis, inMinutes: 10))
            result.inFive = min(result.inFive, fewestCommands(player.typed, until: player.millis, inMinutes: 5))
        }
        totals.sort()
        result.minutes = (totals[games / 2 - 1] + totals[games / 2]) / 2
        return result
    }

    /// The best of several ways to play: all the orders of lessons that may come first, with and without coffee.
    private static let orders: [[Subject]] = [
        [.theory, .tuning, .care, .theory, .care], [.theory, .tuning, .theory, .care, .tuning],
        [.tuning, .theory, .care, .theory, .care], [.theory, .care, .tuning, .theory, .tuning],
        [.care, .theory, .tuning, .care, .theory],
    ]

    private static func best(_ orders: [[Subject]], coffee: Bool = true, patience: [Int64] = [120, 140, 160]) -> Result?
    {
        orders.flatMap { order in
            patience.compactMap { median(Policy(patience: $0, lessons: order, drinksCoffee: coffee)) }
        }.min { $0.minutes < $1.minutes }
    }

    /// The best game of all that are tried; worked out once.
    private static let mixed = best(orders)

    private func say(_ name: String, _ result: Result?) {
        guard let result else { return print("balance: \(name) never") }
        let ranks = result.ranks.map { ($0 * 10).rounded() / 10 }
        print(
            "balance: \(name) \((result.minutes * 10).rounded() / 10) min, ranks \(ranks), "
                + "commands \(result.inTen) in ten minutes, \(result.inFive) in five")
    }

    @Test func theBestSoloPlayTakesHalfAnHourToAnHour() throws {
        let found = try #require(BalanceTests.mixed)
        say("best", found)
        #expect((30...60).contains(found.minutes), "best solo \(found.minutes) min")
        #expect(found.ranks.min()! >= found.ranks.max()! / 2, "ranks \(found.ranks)")
    }

    /// Before there were lessons and places the poorest five minutes of a best player had no command at all.
    @Test func noTenMinutesAreTheSameThreeCommands() throws {
        let found = try #require(BalanceTests.mixed)
        #expect(found.inTen >= 6 && found.inFive >= 4, "\(found.inTen) in ten minutes, \(found.inFive) in five")
        let plain = try #require(BalanceTests.median(.none))
        say("without places, lessons and coffee", plain)
        #expect(plain.inTen <= 3 && plain.inFive <= 2)
    }

    /// A choice that does not matter is none: no subject alone is as good as a mix, and none is worthless.
    @Test func lessonsAreADecision() throws {
        let mixed = try #require(BalanceTests.mixed)
        let none = try #require(BalanceTests.best([[]]))
        say("no lessons", none)
        #expect(none.minutes > mixed.minutes * 1.15)
        for subject in Subject.allCases {
            let pure = try #require(BalanceTests.best([Array(repeating: subject, count: 5)]))
            say("only \(subject)", pure)
            #expect(pure.minutes > mixed.minutes * 1.04, "\(subject) \(pure.minutes), mixed \(mixed.minutes)")
            #expect(pure.minutes < none.minutes, "\(subject) \(pure.minutes), none \(none.minutes)")
        }
    }

    @Test func placesAndCoffeeAreWorthTheWay() throws {
        let all = try #require(BalanceTests.mixed)
        let dry = try #require(BalanceTests.best(BalanceTests.orders, coffee: false))
        say("no coffee", dry)
        #expect(dry.minutes > all.minutes * 1.02 && dry.minutes < all.minutes * 1.25)
        let stays = [Int64(120), 140, 160].compactMap { BalanceTests.median(Policy(patience: $0, usesPlaces: false)) }
        let walks = [Int64(120), 140, 160].compactMap { BalanceTests.median(Policy(patience: $0)) }
        #expect(walks.map(\.minutes).min()! < stays.map(\.minutes).min()! * 0.92)
        // Whoever finds none of it still arrives within the evening.
        #expect(stays.map(\.minutes).min()! < 75)
    }

    /// The second chapter said twenty for what is 25 times the size in one world and ten in another.
    @Test func chaptersCountNothingThatDependsOnThePace() {
        for rank in Rank.allCases {
            for line in Chapter.of(rank).lines where line.contains(" times the size") {
                #expect(line.contains("many times the size"), "\(line)")
            }
        }
        #expect(Chapter.of(.masters).lines.contains { $0.contains("times the size") })
    }

    @Test func classicIsAboutAMinute() throws {
        let result = try #require(BalanceTests.median(Policy(patience: 20, usesPlaces: false), .classic))
        say("classic", result)
        #expect(result.minutes < 8)
        for place in Place.allCases { #expect(Balance.classic.terms(place) == Terms(), "every place is the same") }
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
