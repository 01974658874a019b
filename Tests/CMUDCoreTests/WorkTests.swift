// Mining, buying and solving through the session: when a long run ends, what coins become, who is strong enough.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct WorkTests {
    @Test func aLongRunStopsBeforeTheMachinesAreGone() {
        var stopped = 0
        for seed in UInt64(1)...12 {
            let world = SimWorld(seed: 900 + seed)
            world.character("ada", cpus: 10)
            let ada = world.join("ada")
            world.waitUntilIn(ada)
            world.command(ada, "solve")
            let before = ada.session.powerNow
            world.command(ada, "solve 100")
            #expect(ada.session.powerNow * 10 >= before * 5, "seed \(seed): from \(before) to \(ada.session.powerNow)")
            guard ada.heard("You step back") else { continue }
            stopped += 1
            let said = ada.transcript.firstIndex { $0.contains("You step back") } ?? 0
            #expect(ada.transcript[said - 1].contains("smells of smoke"), "at the moment, not at the end")
            #expect(ada.heard("Stopped after") && ada.session.progress == nil)
        }
        #expect(stopped > 6, "\(stopped) of 12")
    }

    @Test func twoWhoAreStrongEnoughTogetherAreToldSo() {
        let world = SimWorld(seed: 21)
        world.character("ada", rank: .phd) { $0.total.bought[2] = 18 }
        world.character("bob", rank: .phd) { $0.total.bought[2] = 18 }
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "problem")
        #expect(ada.heard("Hint: Alone, start at a power of about 3,572"))
        let bob = world.join("bob")
        world.waitUntilIn(bob)
        world.settle()
        let before = ada.transcript.count
        world.command(ada, "problem")
        let shown = ada.transcript[before...]
        #expect(shown.contains { $0.contains("Together with bob you are strong enough") }, "\(Array(shown))")
        #expect(shown.contains { $0.contains("each with bob, at a power of 3,602 together") })
        #expect(!shown.contains { $0.contains("Alone, start") })
        world.command(ada, "stats")
        #expect(ada.transcript.last?.hasPrefix("Next: Together with bob you are strong enough: `solve`") == true)
        // In another room, and not at a whiteboard, bob is no help.
        world.command(bob, "move 9")
        world.settle()
        world.command(ada, "problem")
        #expect(ada.transcript.last?.hasPrefix("Hint: Alone, start") == true)
    }

    /// Somebody whose part is done goes mining while a partner finishes: the promotion does not wait for a question.
    @Test func aPromotionReachesWhoMinesMeanwhile() {
        let world = SimWorld(seed: 23, replicas: 2)
        for (name, work) in [("ada", Int64(200)), ("bob", 780)] {
            world.character(name, cpus: 19) { $0.total.work[Rank.undergraduate.rawValue] = [1: work] }
        }
        world.settle()
        let (ada, bob) = (world.join("ada", replica: 0), world.join("bob", replica: 1))
        for player in [ada, bob] { world.waitUntilIn(player) }
        world.settle()
        world.type(ada, "mine 100")
        world.solve(bob, atMost: 40) { bob.session.rankNow == .masters }
        #expect(world.run(atMost: 10_000) { ada.session.rankNow == .masters }, "\(ada.text.suffix(600))")
        #expect(ada.session.progress != nil && ada.heard("You are now a Masters student!"))
        #expect(ada.heard("Solved! Undergraduate problem number 1, by bob and ada."), "\(ada.text.suffix(600))")
        world.interrupt(ada)
        world.command(ada, "mine 2")
        #expect(ada.failures.isEmpty, "\(ada.failures)")
    }

    @Test func buyMaxSpendsWhereItGivesMostPower() {
        let world = SimWorld(seed: 22)
        world.character("ada", rank: .phd, cpus: 5, earned: 5_000)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "buy max")
        #expect(ada.heard("You buy") && ada.heard("ASICs") && ada.heard("GPUs"))
        let owned = ada.session.ledgerNow
        // No unit that is still affordable was left, and no single item would have given as much.
        for item in Item.allCases where item.unlockedAt <= .phd {
            #expect(Balance.standard.price(item, owned: owned.owned(item)) > ada.session.coinsNow)
            var alone = Ledger()
            alone.bought[0] = 5
            alone.bought[item.rawValue] +=
                Balance.standard.affordable(item, owned: alone.owned(item), coins: 5_000, wanted: amountMax).count
            #expect(owned.power >= alone.power)
        }
        world.command(ada, "buy max")
        #expect(ada.failures.last?.contains("The cheapest unit costs") == true)
        for balance in [Balance.standard, .classic] {
            let (items, cost) = balance.bestPurchase({ _ in 0 }, upTo: .professor, coins: amountMax)
            #expect(!items.isEmpty && cost <= amountMax)
        }
    }
}
