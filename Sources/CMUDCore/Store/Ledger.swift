// What a character has earned, spent, bought, lost and contributed: monotone counters that sum (rules R1, R4-R6). Pure.

/// Counters of one slot, or of several added up. Every field only grows.
package struct Ledger: Equatable, Sendable {
    package static let instancesKept = 6
    package static let receiversMax = 16

    package var earned: Int64 = 0
    package var spent: Int64 = 0
    package var bought = [Int64](repeating: 0, count: Item.allCases.count)
    package var lost = [Int64](repeating: 0, count: Item.allCases.count)
    /// By rank, then by problem instance: cumulative work. Instance 0 holds what was folded from old, solved ones.
    package var work = [[Int64: Int64]](repeating: [:], count: Rank.working.count)
    /// Coins given away, by receiver.
    package var given: [String: Int64] = [:]
    package var mineAttempts: Int64 = 0
    package var solveSteps: Int64 = 0
    package var playSeconds: Int64 = 0
    package var studyTries: Int64 = 0
    /// Insight ever had; lessons are what it was spent on.
    package var insight: Int64 = 0
    package var lessons = [Int64](repeating: 0, count: Subject.allCases.count)
    /// Tries that cups were bought for, and tries made on them.
    package var cups: Int64 = 0
    package var sips: Int64 = 0

    package init() {}

    package var givenTotal: Int64 { given.values.saturatedSum }

    /// Units owned: bought minus lost, and the laptop everybody came with, which is the one CPU that never breaks.
    package func owned(_ item: Item) -> Int64 {
        max(0, bought[item.rawValue] - lost[item.rawValue]) + (item == .cpu ? Ledger.laptopCPUs : 0)
    }

    static let laptopCPUs: Int64 = 1

    package func lessons(_ subject: Subject) -> Int64 { lessons[subject.rawValue] }
    package var lessonsHad: Int64 { lessons.saturatedSum }
    /// Below zero when two terminals learnt at once.
    package var insightLeft: Int64 { insight - lessonsHad.times(Balance.lessonInsight) }
    package var cupLeft: Int64 { max(0, cups - sips) }

    package var power: Int64 { Item.allCases.map { owned($0).times($0.power) }.saturatedSum }

    package func work(_ rank: Rank) -> Int64 {
        guard rank != .retired else { return 0 }
        return work[rank.rawValue].values.saturatedSum
    }

    package mutating func addWork(_ amount: Int64, _ rank: Rank, _ instance: Int64) {
        work[rank.rawValue][instance, default: 0] = (work[rank.rawValue][instance] ?? 0).adding(amount)
    }

    /// Moves all but the newest `instancesKept` instances of a rank into instance 0, so that a record stays small
    /// however many problems somebody helps with. Only instances below `solvedBelow`, which are solved, are moved.
    package mutating func fold(_ rank: Rank, solvedBelow: Int64) {
        var instances = work[rank.rawValue]
        let old = instances.keys.filter { $0 > 0 }.sorted().dropLast(Ledger.instancesKept).filter { $0 < solvedBelow }
        for instance in old {
            instances[0, default: 0] = (instances[0] ?? 0).adding(instances.removeValue(forKey: instance) ?? 0)
        }
        work[rank.rawValue] = instances
    }

    // MARK: arithmetic

    package mutating func add(_ other: Ledger) { combine(other) { $0.adding($1) } }

    /// What this ledger has beyond `base`; never negative.
    package func minus(_ base: Ledger) -> Ledger {
        var result = self
        // A fold moves work between instances, so the difference is taken where the base had it or in instance 0.
        result.combine(base) { max(0, $0 - $1) }
        for rank in Rank.working.indices {
            let total = max(0, work(Rank.working[rank]) - base.work(Rank.working[rank]))
            let found = result.work[rank].values.saturatedSum
            if found > total {
                result.work[rank][0] = max(0, (result.work[rank][0] ?? 0) - (found - total))
            }
        }
        return result
    }

    private mutating func combine(_ other: Ledger, _ operation: (Int64, Int64) -> Int64) {
        earned = operation(earned, other.earned)
        spent = operation(spent, other.spent)
        for index in bought.indices {
            bought[index] = operation(bought[index], other.bought[index])
            lost[index] = operation(lost[index], other.lost[index])
        }
        for rank in work.indices {
            for (instance, amount) in other.work[rank] {
                work[rank][instance] = operation(work[rank][instance] ?? 0, amount)
            }
        }
        for (pid, amount) in other.given { given[pid] = operation(given[pid] ?? 0, amount) }
        mineAttempts = operation(mineAttempts, other.mineAttempts)
        solveSteps = operation(solveSteps, other.solveSteps)
        playSeconds = operation(playSeconds, other.playSeconds)
        studyTries = operation(studyTries, other.studyTries)
        insight = operation(insight, other.insight)
        for index in lessons.indices { lessons[index] = operation(lessons[index], other.lessons[index]) }
        cups = operation(cups, other.cups)
        sips = operation(sips, other.sips)
    }

    // MARK: the stored form

    package var json: [(key: String, value: JSON)] {
        var members: [(key: String, value: JSON)] = [("e", .number(earned)), ("s", .number(spent))]
        let hardware: [(key: String, value: JSON)] = Item.allCases.compactMap { item in
            let (b, l) = (bought[item.rawValue], lost[item.rawValue])
            return b == 0 && l == 0 ? nil : (item.key, .array([.number(b), .number(l)]))
        }
        members.append(("hw", .object(hardware)))
        let contributions: [(key: String, value: JSON)] = Rank.working.compactMap { rank in
            let instances = work[rank.rawValue].sorted { $0.key < $1.key }.filter { $0.value > 0 }
            return instances.isEmpty
                ? nil : (rank.key, .object(instances.map { (key: String($0.key), value: .number($0.value)) }))
        }
        members.append(("pc", .object(contributions)))
        let gifts = given.sorted { $0.key < $1.key }.filter { $0.value > 0 }
        members.append(("give", .object(gifts.map { (key: $0.key, value: .number($0.value)) })))
        members.append(("nm", .number(mineAttempts)))
        members.append(("ns", .number(solveSteps)))
        members.append(("play", .number(playSeconds)))
        for (key, value) in [("nt", studyTries), ("in", insight), ("cu", cups), ("si", sips)] where value > 0 {
            members.append((key, .number(value)))
        }
        if lessonsHad > 0 { members.append(("ls", .array(lessons.map { .number($0) }))) }
        return members
    }

    package init(json: JSON) {
        earned = json["e"]?.amount ?? 0
        spent = json["s"]?.amount ?? 0
        for item in Item.allCases {
            guard let pair = json["hw"]?[item.key]?.elements, pair.count == 2 else { continue }
            bought[item.rawValue] = pair[0].amount
            // Not clamped to what this slot bought: what breaks here may have been bought in another slot.
            lost[item.rawValue] = pair[1].amount
        }
        for rank in Rank.working {
            for (name, value) in (json["pc"]?[rank.key]?.members ?? []).prefix(64) {
                guard let instance = Int64(name), (0...Keys.instanceBase).contains(instance) else { continue }
                work[rank.rawValue][instance] = value.amount
            }
        }
        for (pid, value) in (json["give"]?.members ?? []).prefix(64) where Names.isIdentifier(pid) {
            given[pid] = value.amount
        }
        mineAttempts = json["nm"]?.amount ?? 0
        solveSteps = json["ns"]?.amount ?? 0
        playSeconds = json["play"]?.amount ?? 0
        studyTries = json["nt"]?.amount ?? 0
        insight = json["in"]?.amount ?? 0
        cups = json["cu"]?.amount ?? 0
        sips = json["si"]?.amount ?? 0
        if let had = json["ls"]?.elements, had.count == lessons.count { lessons = had.map(\.amount) }
    }
}
