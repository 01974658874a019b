// Data races and lost updates that a naive stateless client suffers, by the rules of docs/cmud/design.md 3 (R1 to R11).

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct RaceTests {
    @Test func R1_concurrentHitsFromFiveServersAllCount() {
        let world = SimWorld(seed: 11, replicas: 5, network: SimNetwork(delayMillis: 200...800, dropChance: 0.2))
        for index in 0..<5 { world.character("solver\(index)", rank: .masters, cpus: 20) }
        world.settle()
        let players = (0..<5).map { world.join("solver\($0)", replica: $0) }
        for player in players { world.waitUntilIn(player) }
        for player in players { world.type(player, "solve 20") }
        world.run(for: 120_000)
        let told = players.map(\.workTold).saturatedSum
        #expect(told > 0)
        for replica in 0..<5 { #expect(world.shareSum(.masters, 1, at: replica) == told) }
        let remaining = players.map { $0.session.problemNow?.remaining }
        #expect(remaining.allSatisfy { $0 == Balance.standard.size(.masters) - told }, "\(remaining) of \(told)")
    }

    @Test func R2_andR9_aSolvedInstanceIsNeverResetByAStraggler() {
        let world = SimWorld(seed: 12, replicas: 2)
        world.character("ada", cpus: 900)
        world.character("bob", cpus: 3)
        world.settle()
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(bob)
        world.command(bob, "solve 1")
        world.store.cut(0, 1)
        let ada = world.join("ada", replica: 0)
        world.waitUntilIn(ada)
        world.command(ada, "solve 6")
        #expect(ada.session.rankNow == .masters)
        world.command(bob, "solve 3")  // still sees instance 1 as open
        world.store.heal()
        world.settle(10_000)
        let late = world.join("cyd", replica: 1)
        world.waitUntilIn(late)
        world.command(late, "problem")
        #expect(late.heard("problem number 2"))
        #expect(world.value(world.keys.solved(.undergraduate, 1), at: 1) != nil)
        #expect(world.shareSum(.undergraduate, 1, at: 0) == world.shareSum(.undergraduate, 1, at: 1))
    }

    @Test func R3_everybodyWhoContributedATenthIsPromoted() {
        let world = SimWorld(seed: 13, replicas: 2)
        world.character("ada", cpus: 60)
        world.character("bob", cpus: 60)
        world.settle()
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        for _ in 0..<6 where bob.session.ledgerNow.work(.undergraduate) < 100 { world.command(bob, "solve 2") }
        #expect(bob.session.ledgerNow.work(.undergraduate) >= 100)
        world.solve(ada, atMost: 40) { ada.session.rankNow == .masters }
        #expect(ada.session.rankNow == .masters)
        #expect(world.run(atMost: 20_000) { bob.session.rankNow == .masters }, "the one who did not hit last")
        #expect(bob.heard("You are now a Masters student"))
    }

    @Test func R3_leftoverWorkCountsForTheNextInstance() {
        let world = SimWorld(seed: 14)
        world.character("ada", cpus: 900)
        world.character("bob", cpus: 9)
        let bob = world.join("bob")
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.command(bob, "solve 2")
        world.command(ada, "solve 6")
        world.settle()
        #expect(bob.session.rankNow == .undergraduate, "less than a tenth")
        #expect(bob.heard("your own part must reach 100"))
        world.solve(bob, atMost: 30) { bob.session.rankNow == .masters }
        #expect(bob.session.rankNow == .masters, "the rest in instance 2 is enough")
    }

    @Test(arguments: [true, false])
    func R4_twoTerminalsOnOneNameLoseNothing(isCut: Bool) {
        let world = SimWorld(seed: isCut ? 15 : 16, replicas: 2)
        let pid = world.character("ada", cpus: 9)
        world.settle()
        if isCut { world.store.cut(0, 1) }
        let first = world.join("ada", replica: 0)
        let second = world.join("ada", replica: 1)
        world.waitUntilIn(second)
        world.type(first, "mine 8")
        world.type(second, "mine 8")
        world.run(for: 40_000)
        world.store.heal()
        world.settle(20_000)
        #expect(
            [first, second].filter { $0.session.ending == .refused }.count == 1, "last login wins, the other is told")
        for player in [first, second] where player.session.ending == nil { world.command(player, "quit") }
        world.settle()
        let slots = world.slots(pid, at: 1)
        #expect(slots == world.slots(pid, at: 0))
        let told = first.minedTold + second.minedTold
        #expect(slots.total.earned >= told && slots.total.earned <= told + 10, "\(slots.total.earned) of \(told)")
        if isCut { #expect(first.minedTold > 0 && second.minedTold > 0) }
    }

    @Test func R4_twoSessionsInOneSlotMoveApartWithoutCountingTwice() {
        // Both sides of a partition take the only free slot; whichever write wins it, each hit counts once.
        for seed in UInt64(1)...6 {
            let world = SimWorld(seed: seed * 100, replicas: 2)
            let pid = world.character("ada", cpus: 9, earned: 50)
            for slot in 0..<8 where slot != 3 {
                var busy = SlotRecord(sid: Names.identifier(world.random.next()))
                busy.time = world.wall
                world.store.write(world.keys.slot(pid, slot), busy.bytes, at: 0)
            }
            world.settle()
            world.store.cut(0, 1)
            let players = [world.join("ada", replica: 0), world.join("ada", replica: 1)]
            for player in players { world.waitUntilIn(player) }
            #expect(players.allSatisfy { $0.session.slotNow == 3 })
            for player in players { world.type(player, "mine 4") }
            world.run(for: 75_000)  // the busy slots fall silent meanwhile
            world.store.heal()
            world.settle(30_000)
            for player in players where !player.isOver { world.command(player, "quit") }
            world.settle()
            let told = players.map(\.minedTold).saturatedSum
            let total = world.slots(pid, at: 0).total
            #expect(world.slots(pid, at: 0) == world.slots(pid, at: 1))
            // The first record of the character sat in slot 0 and was overwritten above, so only new coins count.
            #expect(total.earned == told, "seed \(seed): \(total.earned) of \(told)")
        }
    }

    @Test(arguments: 1...6)
    func R5_aCrashAroundAPurchaseLosesNeitherCoinsNorHardware(puts: Int) {
        let world = SimWorld(seed: UInt64(20 + puts))
        let pid = world.character("ada", cpus: 2, earned: 100)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        ada.putsUntilCrash = puts
        world.type(ada, "buy cpu 3")
        world.run(for: 20_000)
        #expect(ada.isCrashed)
        let total = world.slots(pid).total
        let balance = Balance.standard
        let cost = balance.affordable(.cpu, owned: 3, coins: 100, wanted: 3).cost
        #expect((total.bought[0], total.spent) == (5, cost) || (total.bought[0], total.spent) == (2, 0))
        let again = world.join("ada")
        world.waitUntilIn(again)
        #expect(again.session.coinsNow == 100 - total.spent)
    }

    @Test func R6_breakageDoesNotTouchPurchases() {
        var ledger = Ledger()
        ledger.bought[0] = 10
        var other = Ledger()
        other.bought[0] = 5
        var broke = ledger
        broke.lost[0] += 3
        broke.add(other)  // a purchase in another slot, unseen when the breakage was decided
        #expect(broke.owned(.cpu) == 10 + 5 - 3 + 1)
        var record = SlotRecord(sid: Names.identifier(1))
        record.total = broke
        record.total.lost[1] = 4  // bought in another slot
        #expect(SlotRecord(record.bytes)?.total == record.total)
    }

    @Test(arguments: 1...8)
    func R7_aCrashDuringCreationNeverBricksTheName(puts: Int) {
        let world = SimWorld(seed: UInt64(40 + puts))
        let first = world.join("newbie")
        first.putsUntilCrash = puts
        world.run(for: 10_000)
        #expect(first.isCrashed)
        let second = world.join("newbie")
        world.waitUntilIn(second)
        for line in ["stats", "inv", "mine 1", "problem", "quit"] { world.command(second, line) }
        #expect(second.session.ending == .quit)
    }

    @Test func R8_loginElsewhereWithinTheLagResetsNothing() {
        let world = SimWorld(seed: 61, replicas: 2)
        world.store.cut(0, 1)
        let ada = world.join("ada", replica: 0)
        world.waitUntilIn(ada)
        world.command(ada, "mine 5")
        world.command(ada, "quit")
        let earned = ada.minedTold
        // The other server has never heard of ada: a new character, whose claim comes second.
        let second = world.join("ada", replica: 1)
        world.waitUntilIn(second)
        #expect(second.heard("Welcome ada!"))
        world.store.heal()
        world.run(for: 70_000)
        let again = world.join("ada", replica: 1)
        world.waitUntilIn(again)
        #expect(again.heard("Welcome back"))
        #expect(again.session.coinsNow == earned)
        #expect(second.heard("`rename NEWNAME`"))
        #expect(second.session.shownName.hasPrefix("ada~"))
    }

    @Test func R8_anUnreachableStoreAtLoginIsNotAnAbsentName() {
        let world = SimWorld(seed: 63)
        let pid = world.character("ada", cpus: 7, earned: 500)
        world.store.isDown[0] = true
        let ada = world.join("ada")
        world.run(for: 20_000)
        #expect(ada.heard("The store does not answer"))
        #expect(!ada.session.isReady)
        world.store.isDown[0] = false
        world.waitUntilIn(ada)
        #expect(ada.heard("Welcome back"))
        #expect(ada.session.identity == pid && ada.session.coinsNow == 500)
    }

    @Test func R8_aScriptGivesUpOnAnUnreachableStoreWithItsCode() {
        let world = SimWorld(seed: 64)
        world.store.isDown[0] = true
        let ada = world.join("ada") { $0.patienceMillis = 10_000 }
        world.run(for: 30_000)
        #expect(ada.session.ending == .unreachable)
    }

    @Test func R10_whatIsToldIsCommittedAndTheDiceAreNotThrownAgain() {
        for seed in UInt64(1)...5 {
            let world = SimWorld(seed: 70 + seed)
            let pid = world.character("ada", rank: .masters, cpus: 40)
            let ada = world.join("ada")
            world.waitUntilIn(ada)
            world.type(ada, "solve 100")
            let broke = world.run(atMost: 400_000) {
                ada.events.contains { if case .stepBroke = $0.event { true } else { false } }
            }
            #expect(broke)
            world.crash(ada)
            #expect(world.slots(pid).total.lost[0] > 0, "the loss was committed before it was told")
        }
        var first = Outcome(pid: "aaaaaaaaaaaaa", slot: 2, action: .solve, number: 17)
        var second = Outcome(pid: "aaaaaaaaaaaaa", slot: 2, action: .solve, number: 17)
        #expect(first.millis(0...4_000) == second.millis(0...4_000))
        #expect(first.step(.standard) == second.step(.standard))
    }

    @Test func R10_atTheMomentOfTellingTheStoreHasItAlready() {
        let world = SimWorld(seed: 79)
        let pid = world.character("ada", rank: .masters, cpus: 40)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        var broken: Int64 = 0
        var checked = 0
        world.watch = { player, event in
            let stored = world.slots(pid).total
            switch event {
            case .mined: #expect(stored.earned >= player.minedTold)
            case .stepHit: #expect(stored.work(.masters) >= player.workTold)
            case .stepBroke(_, let count, _):
                broken += count
                #expect(stored.lost[0] >= broken)
            case .bought: #expect(stored.bought[0] == player.session.ledgerNow.bought[0])
            default: return
            }
            checked += 1
        }
        for line in ["mine 10", "buy cpu"] { world.command(ada, line) }
        world.solve(ada, atMost: 60) { false }
        #expect(checked > 40 && broken > 0)
    }

    @Test func R4_slotsAreUsedAgainAndKeepWhatTheyHeld() {
        let world = SimWorld(seed: 17)
        var told: Int64 = 0
        var used: Set<Int> = []
        for _ in 0..<14 {
            let ada = world.join("ada")
            world.waitUntilIn(ada)
            #expect(ada.session.coinsNow == told)
            used.insert(ada.session.slotNow)
            world.command(ada, "mine 2")
            told += ada.minedTold
            world.command(ada, "quit")
            world.run(for: 12_000)
        }
        #expect(used.count == Keys.slotCount, "all of them were used, some twice")
    }

    @Test func R4_whatMovedOutOfASlotCountsOnceWhicheverWriteWon() {
        let (first, second) = (Names.identifier(1), Names.identifier(2))
        var shared = SlotRecord(sid: first)
        shared.base.earned = 5
        shared.total.earned = 9
        var moved = SlotRecord(sid: first)
        moved.total.earned = 4
        moved.moved = [3: first]
        var slots = CharacterSlots()
        slots.records = [3: shared, 4: moved]
        #expect(slots.total.earned == 5 + 4, "the mover's own write is still in the old slot")
        slots.records[3]?.sid = second
        slots.records[3]?.total.earned = 11
        #expect(slots.total.earned == 11 + 4, "the other session's write is there")
    }

    @Test func R11_movingToALaggingServerLosesNothing() {
        let world = SimWorld(seed: 81, replicas: 2)
        world.store.cut(0, 1)
        let ada = world.join("ada", replica: 0)
        world.waitUntilIn(ada)
        world.command(ada, "mine 3")
        let coins = ada.session.coinsNow
        ada.replica = 1  // knows nothing of ada at all
        for line in ["stats", "inv", "problem", "look", "who", "map", "mine 2", "buy cpu 1", "solve 2"] {
            world.command(ada, line)
        }
        #expect(ada.session.ending == nil)
        #expect(ada.session.ledgerNow.earned == ada.minedTold && ada.minedTold >= coins)
        world.run(for: 10_000)
        #expect(
            world.slots(ada.session.identity, at: 1).total.earned == ada.minedTold,
            "the heartbeat healed the new server")
        world.store.heal()
        world.settle(10_000)
        #expect(world.slots(ada.session.identity, at: 0).total.earned == ada.minedTold)
    }
}
