// Every number of the game's economy and the arithmetic on them, in one place. Pure values, any thread.

/// The ladder of the game, in order. The raw value is the stored one.
package enum Rank: Int, CaseIterable, Comparable, Sendable {
    case undergraduate, masters, phd, postdoc, professor, retired

    package static func < (a: Rank, b: Rank) -> Bool { a.rawValue < b.rawValue }

    package var title: String {
        switch self {
        case .undergraduate: "Undergraduate"
        case .masters: "Masters"
        case .phd: "PhD"
        case .postdoc: "PostDoc"
        case .professor: "Professor"
        case .retired: "Retired"
        }
    }

    /// The rank as a component of a key and as a word in a command.
    package var key: String { title.lowercased() }

    /// With its article, for sentences such as "you are now a PhD student".
    package var role: String {
        switch self {
        case .undergraduate: "an Undergraduate"
        case .masters: "a Masters student"
        case .phd: "a PhD student"
        case .postdoc: "a PostDoc"
        case .professor: "a Professor"
        case .retired: "Retired"
        }
    }

    package var next: Rank? { Rank(rawValue: rawValue + 1) }

    /// Ranks that have a problem to solve: all but the last.
    package static var working: [Rank] { allCases.filter { $0 != .retired } }

    package init?(key: String) {
        guard let found = Rank.allCases.first(where: { $0.key == key }) else { return nil }
        self = found
    }
}

/// What the shop sells. Rank `n` unlocks item `n`; the raw value is the stored one.
package enum Item: Int, CaseIterable, Sendable {
    case cpu, gpu, asic, quantum, darkMatter

    package var key: String {
        switch self {
        case .cpu: "cpu"
        case .gpu: "gpu"
        case .asic: "asic"
        case .quantum: "quantum"
        case .darkMatter: "dark_matter"
        }
    }

    package var title: String {
        switch self {
        case .cpu: "CPU"
        case .gpu: "GPU"
        case .asic: "ASIC"
        case .quantum: "quantum computer"
        case .darkMatter: "dark matter engine"
        }
    }

    package func title(_ count: Int64) -> String { count == 1 ? title : title + "s" }

    package var power: Int64 { [1, 10, 100, 1_000, 10_000][rawValue] }
    package var basePrice: Int64 { [1, 5, 25, 125, 625][rawValue] }
    package var unlockedAt: Rank { Rank(rawValue: rawValue)! }

    /// Accepts the key, unique beginnings of it and a dash for the underscore.
    package init?(word: String) {
        let wanted = word.lowercased().map { $0 == "-" ? "_" : $0 }
        guard !wanted.isEmpty else { return nil }
        if let exact = Item.allCases.first(where: { Array($0.key) == wanted }) {
            self = exact
            return
        }
        var singular = wanted
        if singular.count > 2, singular.last == "s" { singular.removeLast() }
        let found = Item.allCases.filter { $0.key.starts(with: wanted) || $0.key.starts(with: singular) }
        guard found.count == 1 else { return nil }
        self = found[0]
    }
}

/// How fast a world turns. The operator chooses it once, in the key `world`.
package enum Pace: String, Sendable, CaseIterable { case standard, classic }

/// The most that any stored amount counts for; beyond it a record is clamped when it is read.
package let amountMax: Int64 = 1_000_000_000_000_000

extension Int64 {
    /// Sum that stops at `amountMax` instead of overflowing; both sides are amounts, so never negative.
    package func adding(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? amountMax : Swift.min(sum, amountMax)
    }

    package func times(_ other: Int64) -> Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? amountMax : Swift.min(product, amountMax)
    }
}

extension Sequence<Int64> {
    package var saturatedSum: Int64 { reduce(Int64(0)) { (sum: Int64, next: Int64) in sum.adding(next) } }
}

/// The constants of one pace. `classic` reproduces the numbers of the reference game, `standard` lasts an evening.
package struct Balance: Sendable {
    package let pace: Pace
    /// Work in the problem of each rank, by raw value.
    package let sizes: [Int64]
    /// The price of the next unit is the base price times this to the power of the units owned.
    package let priceGrowth: Double
    package let mineMillis: ClosedRange<Int64>
    package let solveMillis: ClosedRange<Int64>
    package let mineHitPercent: Int
    package let progressPercent: Int
    package let breakPercent: Int
    /// Share of a stack that a breakage takes, in percent; at least one unit always goes.
    package let brokenPercent: Int64
    /// The share of a problem's size that earns the promotion, in percent.
    package let creditPercent: Int64 = 10
    /// `priceGrowth` to the power of the index, by repeated multiplication: the same on every machine.
    private let powers: [Double]
    package let teamBonusPercentMax: Int64 = 50
    package let mentorPercent: Int64 = 20
    /// The number of steps at one's own power below which starting alone is a good plan.
    package let goodSteps: Int64 = 140

    /// What takes no more plain steps than this is finished, whatever broke: rebuilding would take longer.
    package static let finishSteps: Int64 = 20
    package let giftPercentPerDay: Int64 = 10

    private init(
        pace: Pace, sizes: [Int64], priceGrowth: Double, mineMillis: ClosedRange<Int64>,
        solveMillis: ClosedRange<Int64>, mineHitPercent: Int, progressPercent: Int, breakPercent: Int,
        brokenPercent: Int64
    ) {
        (self.pace, self.sizes, self.priceGrowth) = (pace, sizes, priceGrowth)
        (self.mineMillis, self.solveMillis, self.mineHitPercent) = (mineMillis, solveMillis, mineHitPercent)
        (self.progressPercent, self.breakPercent, self.brokenPercent) = (progressPercent, breakPercent, brokenPercent)
        var powers = [1.0]
        while powers.last! < Double(amountMax), powers.count < 400 { powers.append(powers.last! * priceGrowth) }
        self.powers = powers
    }

    package static let standard = Balance(
        pace: .standard, sizes: [1_000, 25_000, 500_000, 6_500_000, 80_000_000], priceGrowth: 1.15,
        mineMillis: 2_000...4_000, solveMillis: 2_000...4_000, mineHitPercent: 90, progressPercent: 85,
        breakPercent: 10, brokenPercent: 25)

    package static let classic = Balance(
        pace: .classic, sizes: [100, 1_000, 10_000, 500_000, 10_000_000], priceGrowth: 1,
        mineMillis: 0...4_000, solveMillis: 0...4_000, mineHitPercent: 90, progressPercent: 80,
        breakPercent: 15, brokenPercent: 75)

    package static func of(_ pace: Pace) -> Balance { pace == .standard ? .standard : .classic }

    package func size(_ rank: Rank) -> Int64 { rank == .retired ? 0 : sizes[rank.rawValue] }

    package func creditNeeded(_ rank: Rank) -> Int64 { (size(rank) * creditPercent + 99) / 100 }

    /// Price of one more unit when `owned` are owned, at most `amountMax`.
    package func price(_ item: Item, owned: Int64) -> Int64 {
        guard priceGrowth > 1 else { return item.basePrice }
        let price = Double(item.basePrice) * powers[Int(min(owned, Int64(powers.count - 1)))]
        return price >= Double(amountMax) ? amountMax : Int64(price)
    }

    /// The most units up to `wanted` that `coins` pay for, and what they cost. A flat price is a division; a growing
    /// one reaches `amountMax` within about 250 units, which bounds the loop whatever was asked for.
    package func affordable(_ item: Item, owned: Int64, coins: Int64, wanted: Int64) -> (count: Int64, cost: Int64) {
        guard coins > 0, wanted > 0 else { return (0, 0) }
        if priceGrowth <= 1 {
            let count = min(wanted, coins / item.basePrice, amountMax - min(owned, amountMax))
            return (count, count * item.basePrice)
        }
        var (count, cost): (Int64, Int64) = (0, 0)
        while count < wanted {
            let next = price(item, owned: owned + count)
            guard next < amountMax, cost + next <= coins else { break }
            cost += next
            count += 1
        }
        return (count, cost)
    }

    /// What `coins` buy when each is spent where it gives most power: a growing price makes that a mix. Bounded as
    /// `affordable` is; a flat price is spent on one item at a time.
    package func bestPurchase(_ owned: (Item) -> Int64, upTo rank: Rank, coins: Int64)
        -> (items: [(item: Item, count: Int64)], cost: Int64)
    {
        var counts = [Int64](repeating: 0, count: Item.allCases.count)
        var cost: Int64 = 0
        while true {
            let offers = Item.allCases.filter { $0.unlockedAt <= rank }
                .map { (item: $0, owned: owned($0).adding(counts[$0.rawValue])) }
                .map { (item: $0.item, owned: $0.owned, price: price($0.item, owned: $0.owned)) }
                .filter { $0.price <= coins - cost && $0.price < amountMax }
            let best = offers.max {
                Double($0.item.power) / Double($0.price) < Double($1.item.power) / Double($1.price)
            }
            guard let best else { break }
            let wanted = priceGrowth > 1 ? 1 : amountMax
            let (count, paid) = affordable(best.item, owned: best.owned, coins: coins - cost, wanted: wanted)
            guard count > 0 else { break }
            counts[best.item.rawValue] += count
            cost += paid
        }
        return (Item.allCases.reversed().map { ($0, counts[$0.rawValue]) }.filter { $0.1 > 0 }, cost)
    }

    /// Units of a stack of `count` that a breakage takes: never none, and never the last CPU.
    package func broken(_ item: Item, count: Int64) -> Int64 {
        let most = item == .cpu ? count - 1 : count
        return max(0, min(most, max(1, count.times(brokenPercent) / 100)))
    }

    /// Steps that `work` takes on average at `power`.
    package func steps(_ work: Int64, power: Int64) -> Int64 {
        guard power > 0, work > 0 else { return work > 0 ? amountMax : 0 }
        return Int64((Double(work) / (Double(power) * Double(progressPercent) / 100)).rounded(.up))
    }
}
