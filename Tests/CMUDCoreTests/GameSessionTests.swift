// The life of a session apart from play: pauses, unreachable stores, worlds, stories, settings, leaving.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct SessionTests {
    @Test(arguments: [UInt64(1), 2, 3, 4]) func aSessionStoppedForMinutesLooksBeforeItWrites(seed: UInt64) {
        let world = SimWorld(seed: 500 + seed, replicas: 2)
        let pid = world.character("ada", cpus: 9)
        world.settle()
        let first = world.join("ada", replica: 0)
        world.waitUntilIn(first)
        world.type(first, "mine 50")
        world.run(for: 10_000 + Millis(seed) * 700)
        first.isFrozen = true
        world.run(for: 120_000)
        let second = world.join("ada", replica: 1)
        world.waitUntilIn(second)
        world.command(second, "mine 4")
        let before = world.slots(pid, at: 1).total.earned
        world.thaw(first)
        world.run(for: 20_000)
        #expect(first.session.ending == .refused && first.heard("logged in elsewhere"))
        world.command(second, "quit")
        world.settle()
        let total = world.slots(pid, at: 1).total
        #expect(total.earned >= before && total.earned >= first.minedTold + second.minedTold)
        #expect(total.earned <= first.minedTold + second.minedTold + 10, "at most the attempt that was being committed")
        #expect(world.slots(pid, at: 0) == world.slots(pid, at: 1))
    }

    @Test func aSessionStoppedForMinutesAloneGoesOn() {
        let world = SimWorld(seed: 510)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.type(ada, "mine 5")
        world.run(for: 4_000)
        ada.isFrozen = true
        world.run(for: 300_000)
        world.thaw(ada)
        #expect(world.run(atMost: 60_000) { ada.heard("5 tries") })
        #expect(world.slots(ada.session.identity).total.earned == ada.minedTold)
    }

    @Test func anUnreachableStoreIsSaidOnceAndNothingTypedIsLost() {
        let world = SimWorld(seed: 520)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.type(ada, "mine 3")
        world.run(for: 1_000)
        world.store.isDown[0] = true
        world.run(for: 30_000)
        world.type(ada, "say are you there")
        world.run(for: 10_000)
        #expect(ada.transcript.filter { $0.contains("does not answer") }.count == 1)
        world.store.isDown[0] = false
        world.run(for: 30_000)
        #expect(ada.heard("* The store is back.") && ada.heard("3 tries"))
        let bob = world.join("bob")
        world.waitUntilIn(bob)
        world.command(bob, "history")
        #expect(bob.heard("ada says: are you there"))
    }

    @Test func leavingWithoutAStoreSaysThatItIsNotSaved() {
        let world = SimWorld(seed: 530)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.store.isDown[0] = true
        world.type(ada, "quit")
        world.run(for: 20_000)
        #expect(ada.session.ending == .unreachable && ada.heard("Not saved") && !ada.heard("Saved."))
    }

    @Test func allSlotsBusyAsksForPatience() {
        let world = SimWorld(seed: 540)
        let pid = world.character("ada")
        for slot in 0..<Keys.slotCount {
            var record = SlotRecord(sid: Names.identifier(UInt64(slot + 1)))
            record.time = world.wall
            world.store.write(world.keys.slot(pid, slot), record.bytes, at: 0)
        }
        let ada = world.join("ada")
        world.run(for: 5_000)
        #expect(ada.session.ending == .refused && ada.failures.last?.contains("a minute") == true)
        world.run(for: 61_000)
        let later = world.join("ada")
        world.waitUntilIn(later)
        #expect(later.session.ending == nil)
    }

    @Test func theOperatorSetsPaceAndMessage() {
        let world = SimWorld(seed: 550)
        world.store.write(world.keys.world, Array(#"{"v":1,"pace":"classic","motd":"Exam\u001b[2J week"}"#.utf8), at: 0)
        let ada = world.join("ada") { $0.newWorldPace = .standard }
        world.waitUntilIn(ada)
        #expect(ada.session.balanceNow.pace == .classic && ada.heard("From the operator: Exam[2J week"))
        let other = world.join("ada") {
            $0.world = "fresh"
            $0.newWorldPace = .classic
        }
        world.waitUntilIn(other)
        world.settle()
        #expect(world.store.replicas[0]["cmud/1/fresh/world"] != nil && other.session.balanceNow.pace == .classic)
    }

    @Test func aChapterIsToldLineByLineAndCutShortByAKey() {
        let world = SimWorld(seed: 560)
        let ada = world.join("ada") { $0.story = .full }
        #expect(world.run(atMost: 5_000) { ada.session.isTelling })
        #expect(!ada.heard("Type `mine`"))
        world.run(for: 3_000)
        #expect(ada.heard("Pittsburgh") && !ada.heard("Type `mine`"))
        world.type(ada, "mine 2")  // typing ahead ends the chapter, the rest of it appears, the command runs
        world.run(for: 15_000)
        #expect(ada.heard("Type `mine`") && ada.heard("2 tries"))
        world.command(ada, "story", atMost: 5_000)
        #expect(world.run(atMost: 30_000) { ada.session.isReady })
    }

    @Test func hintsCanBeSilencedForGood() {
        let world = SimWorld(seed: 570)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "hints off")
        world.command(ada, "brief on")
        for line in ["mine 3", "buy cpu", "problem", "solve", "say x"] { world.command(ada, line) }
        #expect(!ada.heard("Hint:"))
        world.command(ada, "quit")
        world.settle(12_000)
        let again = world.join("ada")
        world.waitUntilIn(again)
        for line in ["mine 3", "set"] { world.command(again, line) }
        #expect(!again.heard("Hint:") && again.heard("brief: on"))
    }

    @Test func commandsTypedAheadWaitTheirTurnInLineMode() {
        let world = SimWorld(seed: 580)
        let ada = world.join("ada") { $0.isBackground = false }
        world.waitUntilIn(ada)
        world.type(ada, "mine 2; buy cpu 1; inv")
        #expect(!ada.session.isReady)
        world.command(ada, "stats")
        let order = ["2 tries", "You buy 1 CPU", "Power in all: 2", "Hardware: 2 CPUs"].map { text in
            ada.transcript.firstIndex { $0.contains(text) } ?? -1
        }
        #expect(order == order.sorted() && !order.contains(-1), "\(ada.text)")
    }

    @Test func abbreviationsPlacesAndSemicolons() {
        #expect(
            GameCommand.match("inv") == .one(.inv) && GameCommand.match("i") == .one(.inv)
                && GameCommand.match("PROB") == .one(.problem))
        #expect(GameCommand.match("sh") == .several([.shop, .shout]) && GameCommand.match("m") == .one(.mine))
        #expect(GameCommand.match("slove") == .none(.solve) && GameCommand.match("xyzzyplugh") == .none(nil))
        #expect(GameCommand.split("a ;; b; c ;;;d;") == ["a ; b", "c ;", "d"])
        #expect(Place(words: "the Fence") == .fence && Place(words: "floor 9") == .floor9 && Place(words: "10") == nil)
        #expect(
            Item(word: "GPUs") == .gpu && Item(word: "dark-matter") == .darkMatter && Item(word: "d") == .darkMatter)
        #expect(Item(word: "") == nil && Item(word: "xyz") == nil)
        let world = SimWorld(seed: 590)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "9")
        #expect(ada.session.currentPlace == .floor9)
        world.command(ada, "say see you ;)")
        #expect(ada.failures.last?.contains("`;;` writes a semicolon") == true)
    }
}
