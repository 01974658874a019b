// Lessons, coffee and places through the session: what each does, what company changes, that nothing is lost.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct StudyTests {
    @Test func aLessonTakesInsightAndLasts() {
        let world = SimWorld(seed: 1)
        world.character("ada", cpus: 19)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["study", "learn theory", "coffee"] {
            world.command(ada, line)
            #expect(ada.failures.last?.contains("`move ") == true, "\(ada.failures.last ?? "")")
        }
        for line in ["move 4", "learn theory", "study 30", "learn", "learn th", "learn care"] {
            world.command(ada, line)
        }
        #expect(ada.failures.contains { $0.hasPrefix("A lesson takes 60 insight; you lack 60") })
        #expect(ada.heard("after one more lesson 20 % more progress in a step"))
        #expect(ada.heard("You have learnt theory, lesson 1: from now on 20 % more progress in a step."))
        #expect(ada.failures.last?.hasPrefix("One lesson a rank") == true)
        #expect(ada.session.ledgerNow.lessons(.theory) == 1)
        world.command(ada, "move 5")
        world.command(ada, "solve 8")
        let steps = ada.events.compactMap { output -> Int64? in
            if case .stepHit(let work, _, _, _, _, _) = output.event { work } else { nil }
        }
        #expect(steps.first == 24, "a power of 20 and a fifth more: \(steps)")
        world.command(ada, "quit")
        world.settle(12_000)
        let again = world.join("ada")
        world.waitUntilIn(again)
        world.command(again, "stats")
        #expect(again.heard("Lessons: theory 1") && again.session.ledgerNow.lessons(.theory) == 1)
    }

    @Test func placesDifferInWhatTheyGive() {
        let balance = Balance.standard
        #expect(balance.minePercent(.floor1, tuning: 0) == 125 && balance.minePercent(.floor5, tuning: 2) == 160)
        #expect(
            balance.minePercent(.fence, tuning: 0) == 50 && balance.solvePercent(.floor1, partners: 0, theory: 0) == 75)
        // Alone it is quiet that helps, with one partner the glass, and nowhere more than the most.
        let places = { (partners: Int) in
            Place.allCases.max {
                balance.solvePercent($0, partners: partners, theory: 0)
                    < balance.solvePercent($1, partners: partners, theory: 0)
            }
        }
        #expect(places(0) == .floor8 && places(1) == .floor6)
        #expect(balance.solvePercent(.floor6, partners: 9, theory: 0) == 150)
        let world = SimWorld(seed: 2)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "map")
        for place in Place.allCases where !place.terms.tag.isEmpty {
            #expect(ada.transcript.contains { $0.hasPrefix(place.title) && $0.contains(place.terms.tag) }, "\(place)")
            world.run(for: 3_000)
            world.command(ada, "move \(place.key)")
            #expect(ada.heard(place.terms.text), "\(place)")
        }
        #expect(Place.allCases.count { !$0.terms.text.isEmpty } >= 7)
    }

    /// A quarter more of one coin is a second coin one time in four: before, it was nothing up to a block of four.
    @Test func aGoodPlaceHelpsFromTheFirstBlockOn() {
        let mined = { (percent: Int64, power: Int64) -> Int64 in
            (Int64(1)...4_000).map { number in
                var dice = Outcome(pid: "ada", slot: 0, action: .mine, number: number)
                return dice.coins(.standard, power: power, percent: percent, hitPercent: 100) ?? 0
            }.saturatedSum
        }
        #expect((4_900...5_100).contains(mined(125, 1)), "\(mined(125, 1)) of 4,000 blocks of one coin")
        #expect(mined(100, 1) == 4_000 && mined(50, 1) == 4_000, "nobody gets less than one")
        let (plain, better) = (mined(100, 7), mined(175, 7))
        #expect((plain * 172 / 100...plain * 178 / 100).contains(better), "\(better), plain \(plain)")
    }

    @Test func companyHelpsAtEveryWork() {
        let world = SimWorld(seed: 3, replicas: 2)
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        for player in [ada, bob] {
            world.waitUntilIn(player)
            world.command(player, "move 4")
        }
        world.settle()
        world.type(bob, "study 60")
        world.run(for: 3_000)
        world.command(ada, "study 10")
        let total = ada.session.ledgerNow
        #expect(total.insight % 5 == 0 && total.insight > 4 * total.studyTries * 9 / 10, "\(total.insight): 5 with bob")
        world.interrupt(bob)
        for player in [ada, bob] { world.command(player, "move 1") }
        world.settle()
        world.type(bob, "mine 100")
        world.run(for: 3_000)
        #expect(ada.session.companions(.mining) == ["bob"])
        #expect(Balance.standard.hitPercent(companions: 1) == 95 && Balance.standard.hitPercent(companions: 5) == 100)
    }

    @Test func aRoundOfCoffeeIsForEverybodyInTheRoom() {
        let world = SimWorld(seed: 4, replicas: 2)
        world.character("ada", cpus: 9, earned: 100)
        world.settle()
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        let cyd = world.join("cyd", replica: 1)
        for player in [ada, bob] {
            world.waitUntilIn(player)
            world.command(player, "move 3")
        }
        world.waitUntilIn(cyd)
        world.settle()
        world.command(ada, "coffee")
        #expect(ada.session.coinsNow == 70 && ada.heard("Coffee for you and bob: 30 coins"))
        #expect(world.run(atMost: 5_000) { bob.heard("ada buys a round of coffee for all") })
        world.settle()
        #expect([ada, bob, cyd].map(\.session.ledgerNow.cupLeft) == [60, 60, 0])
        world.command(ada, "coffee")
        #expect(ada.failures.last?.contains("not even half empty") == true && ada.session.coinsNow == 70)
        // Sixty tries of any kind, each a quarter shorter, then it is gone.
        let start = world.now
        world.command(ada, "mine 60")
        #expect(ada.session.ledgerNow.cupLeft == 0)
        #expect((60 * 2_250 - 15_000...60 * 2_250 + 15_000).contains(world.now - start), "\(world.now - start)")
        world.command(ada, "mine 1")
        #expect(ada.session.ledgerNow.sips == 60)
        // Whoever comes later finds the cups empty.
        world.command(cyd, "move 3")
        world.settle()
        #expect(cyd.session.ledgerNow.cupLeft == 0)
    }

    @Test(arguments: 1...4) func aCrashAroundALessonOrARoundLosesNeither(puts: Int) {
        let world = SimWorld(seed: UInt64(50 + puts))
        let pid = world.character("ada", cpus: 9, earned: 100) {
            $0.total.insight = 70
            $0.place = .floor4
        }
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        ada.putsUntilCrash = puts
        world.type(ada, "learn care; move 3; coffee")
        world.run(for: 20_000)
        #expect(ada.isCrashed)
        let total = world.slots(pid).total
        #expect(total.insightLeft == 70 - 60 * total.lessons(.care))
        #expect((total.spent, total.cups) == (0, 0) || (total.spent, total.cups) == (30, 60))
    }

    @Test func lessonsOfTwoSlotsAddUp() {
        var (first, second) = (Ledger(), Ledger())
        (first.insight, second.insight) = (64, 70)
        (first.lessons, second.lessons) = ([1, 0, 0], [0, 1, 0])
        (first.cups, second.sips) = (60, 12)
        var both = first
        both.add(second)
        #expect(both.lessonsHad == 2 && both.insightLeft == 14 && both.cupLeft == 48 && both.minus(first) == second)
        var record = SlotRecord(sid: Names.identifier(3))
        record.total = both
        #expect(SlotRecord(record.bytes)?.total == both)
    }

    @Test func aClassicWorldHasNoneOfIt() {
        let world = SimWorld(seed: 6)
        world.store.write(world.keys.world, Array(#"{"v":1,"pace":"classic"}"#.utf8), at: 0)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["move 4", "study", "learn care", "move 3", "coffee", "map"] { world.command(ada, line) }
        #expect(ada.failures.count == 3 && !ada.heard("+25 %") && !ada.heard("Here you can"))
    }
}
